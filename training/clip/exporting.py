"""From a training run of a CLIP to an open_clip folder with a model card.

    python -m training.export_clip runs/clip-small assets/checkpoints/clip-small

works on an unfinished run too: it takes the averaged weights that were saved last.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from open_clip import CLIP
from safetensors.torch import save_file
from torch import Tensor

from pipelines.models.table import CLIPS
from training.cards import model_card
from training.clip.judging import judge_trainer
from training.clip.runs import DATA, folder_of, prepare, read_start
from training.clip.trainer import (
    CONFIG_FILE,
    FOCUS_SHARE,
    HALF_FORMED_SHARE,
    IMAGE_PX,
    MEAN,
    STD,
    WEIGHTS_FILE,
    Recipe,
    Trainer,
)
from training.clip.vocabulary import MERGES_FILE, WORDS_FILE
from training.core import loop
from training.core.refusals import options_refused

CHECKPOINT = "checkpoint"


def export(
    trainer: Trainer, folder: Path, name: str, figures: Mapping[str, Mapping[str, float]]
) -> None:
    """Writes what the run has learned so far in the layout that open_clip loads.

    Args:
        trainer: the run.
        folder: to write to; figures in it are deleted if they measured other weights.
        name: of the model, for its card.
        figures: what `clip_judging.judge` found.

    Raises:
        OSError: if the disk is full, for instance.
        SafetensorError: likewise, while the weights are written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / WEIGHTS_FILE
    before = weights.read_bytes() if weights.is_file() else b""
    save_weights(trainer.averaged(), folder)
    if weights.read_bytes() != before:
        (folder / model_card.FIGURES_FILE).unlink(missing_ok=True)
    config = {
        "model_cfg": trainer.config,
        "preprocess_cfg": {
            "size": IMAGE_PX,
            "mode": "RGB",
            "mean": list(MEAN),
            "std": list(STD),
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for file in (MERGES_FILE, WORDS_FILE):
        shutil.copyfile(trainer.vocabulary / file, folder / file)
    places = {"name": name, "folder": folder.as_posix()}
    text = json.dumps(places | facts(trainer, figures), indent=2) + "\n"
    (folder / model_card.FACTS_FILE).write_text(text, encoding="utf-8")
    model_card.write_card(folder)


def save_weights(model: CLIP, folder: Path) -> None:
    """Writes the weights; tables and matrices in half precision, gains and statistics in full."""
    kept = {name: _stored(value) for name, value in model.state_dict().items()}
    path = folder / WEIGHTS_FILE
    save_file(kept, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors lets nobody else read them


def _stored(value: Tensor) -> Tensor:
    half = value.is_floating_point() and value.ndim >= 2
    return (value.half() if half else value).cpu().contiguous()


def _public(start_model: str) -> str:
    """What a card tells of a folder to go on from: the run that it is a checkpoint of."""
    known = not start_model or start_model in CLIPS
    return start_model if known else Path(start_model).resolve().parent.name


def facts(trainer: Trainer, figures: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Everything that the model card says of these weights, as plain data."""
    model, recipe = trainer.averaged(), trainer.recipe
    image = sum(p.numel() for p in model.visual.parameters())
    whole = sum(p.numel() for p in model.parameters())
    return {
        "recipe": asdict(recipe) | {"start_model": _public(recipe.start_model)},
        "earlier": trainer.earlier,
        "blended": trainer.blended,
        "image_parameters": image,
        "text_parameters": whole - image,
        "vocabulary": trainer.tokenizer.vocab_size,
        "context_length": trainer.config["text_cfg"]["context_length"],
        "pairs": dict(Counter(trainer.data.origins)),
        "half_formed_share": HALF_FORMED_SHARE if recipe.formers else 0.0,
        "focus_share": FOCUS_SHARE if recipe.focus else 0.0,
        "steps": trainer.step,
        "seconds": round(trainer.seconds, 1),
        "device": trainer.trained_on,
        "figures": figures,
    }


def main(
    run_folder: Annotated[Path, typer.Argument(help="folder of a training run")],
    folder: Annotated[Path, typer.Argument(help="checkpoint folder to write")],
    data_folder: Annotated[Path, typer.Option(help="where the data sets lie")] = DATA,
    blend_with: Annotated[
        str, typer.Option(help="bundled CLIP or folder that the run went on from, to mix in")
    ] = "",
    blend_share: Annotated[
        float, typer.Option(min=0, max=1, help="of its weights in the mixture")
    ] = 0.2,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 is PyTorch's choice")] = 0,
) -> None:
    """Writes the checkpoint folder of a training run, finished or not."""
    if threads:
        torch.set_num_threads(threads)
    with options_refused():
        state = loop.load_state(run_folder)
        if state is None or "architecture" not in state["recipe"]:
            raise ValueError(f"run_folder must be a run of train_clip, got {run_folder}")
        trainer, held_out = prepare(Recipe(**state["recipe"]), run_folder, data_folder)
        if blend_with:
            start = read_start(folder_of(blend_with), trainer.recipe)
            trainer.blend(start.weights, blend_share, _public(blend_with))
    export(trainer, folder, folder.name, judge_trainer(trainer, held_out))
    typer.echo(f"step {trainer.step} of {trainer.recipe.max_steps}: {folder}")
