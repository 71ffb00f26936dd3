"""What a diffusion model sees in noise: pictures to make a CLIP robust against.

Guidance shows the CLIP the clean picture that a network predicts in the middle of a run: blurred,
washed out, with things only half there. A CLIP that never saw such pictures misreads them and is
easily fooled (GLIDE trained a noised CLIP for that reason, Nichol et al. 2021, arXiv:2112.10741).
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from pipelines.core import images
from pipelines.diffusion.denoisers import predict_x0
from pipelines.diffusion.schedules import alphas_cumprod
from pipelines.models import checkpoints

FILE = "half_formed.safetensors"
LEAST_T, MOST_T = 100, 900
_BATCH = 64


def load_or_make(folder: Path, pixels: Tensor, model: str, seed: int = 0) -> Tensor:
    """Half-formed versions of pictures `(n, 3, h, w)` uint8, made once and kept in `folder`."""
    path = folder / f"{model}-{seed}-{FILE}"
    if path.is_file():
        kept = load_file(path)["pixels"]
        if kept.shape == pixels.shape:
            return kept
    made = make(pixels, model, seed)
    temporary = path.with_suffix(".tmp")
    save_file({"pixels": made}, temporary)
    os.replace(temporary, path)
    return made


@torch.no_grad()
def make(pixels: Tensor, model: str, seed: int = 0) -> Tensor:
    """Each picture's x0 as `model` predicts it from some random level of noise.

    Args:
        pixels: `(n, 3, h, w)` uint8.
        model: key of an unconditional checkpoint.
        seed: of levels and noise.

    Returns:
        `(n, 3, h, w)` uint8.
    """
    loaded = checkpoints.load(model)
    device = next(loaded.unet.parameters()).device
    size = loaded.checkpoint.size_px
    generator = torch.Generator().manual_seed(seed)
    prediction = loaded.scheduler_config["prediction_type"]
    alpha_bar = alphas_cumprod(loaded.scheduler_config)
    made = []
    for part in tqdm(pixels.split(_BATCH), desc="half-formed pictures"):
        t = torch.randint(LEAST_T, MOST_T, (len(part),), generator=generator)
        alpha = alpha_bar[t].sqrt().view(-1, 1, 1, 1).to(device)
        sigma = (1 - alpha**2).sqrt()
        x0 = F.interpolate(images.from_uint8(part), size=size, mode="area").to(device)
        noise = torch.randn(x0.shape, generator=generator).to(device)
        x_t = alpha * x0 + sigma * noise
        with torch.autocast(device.type, torch.bfloat16):
            output = loaded.unet(x_t, t.to(device)).sample.float()
        found = predict_x0(output, x_t, alpha, sigma, prediction)
        large = F.interpolate(found, size=part.shape[-2:], mode="bilinear", align_corners=False)
        made.append(images.to_uint8(large).cpu())
    return torch.cat(made)
