"""A model that is told words and pictures, small enough for tests, with the CLIP that reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler
from huggingface_hub import save_torch_state_dict
from safetensors.torch import load_file

from pipelines.diffusion.unets import WordsUNet2DModel
from tests.fakes import tiny_clip
from tests.fakes.tiny_pictures import folded_unet

ONE_FILE = "open_clip_model.safetensors"


def told_unet(**changes: Any) -> WordsUNet2DModel:
    """A network that reads the tiny CLIP; what it is told changes what it predicts."""
    options: dict[str, Any] = {"word_dim": 16, "vector_dim": 33} | changes
    unet = WordsUNet2DModel.from_unconditional(folded_unet(sample_size=32), **options)
    torch.manual_seed(1)
    with torch.no_grad():
        for weights in unet.new_parameters():
            weights.add_(torch.randn_like(weights), alpha=0.2)
    return unet.eval()


def save_clip(folder: Path, *, in_parts: bool = True) -> Path:
    """The tiny CLIP as a checkpoint carries it, its weights in several files or in one."""
    tiny_clip.save(folder)
    if in_parts:
        weights = load_file(folder / ONE_FILE)
        (folder / ONE_FILE).unlink()
        pattern = "model{suffix}.safetensors"
        save_torch_state_dict(weights, folder, filename_pattern=pattern, max_shard_size="20KB")
    return folder


def save_told(folder: Path, *, in_parts: bool = True, **changes: Any) -> Path:
    """A checkpoint folder: `unet/`, `scheduler/` and `clip/`."""
    told_unet(**changes).save_pretrained(folder / "unet")
    DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction"
    ).save_pretrained(folder / "scheduler")
    save_clip(folder / "clip", in_parts=in_parts)
    return folder
