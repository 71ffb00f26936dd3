"""From a training run to a checkpoint folder: weights, scheduler, samples, figures, model card.

    python -m training.export runs/digits-embedding assets/checkpoints/digits-embedding

works on an unfinished run too: it takes the averaged weights that were saved last.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from accelerate import Accelerator
from diffusers import DDPMScheduler, ModelMixin
from PIL import Image

from pipelines.products.settings import DigitsSettings
from training.cards import model_card
from training.core import loop
from training.core.data import load_digits, public_name
from training.core.loop import ADAM_BETAS, MAX_GRADIENT_NORM
from training.digits.trainer import NUM_CLASSES, SAMPLE_ROWS, Recipe, Trainer

# Files stay under 9 MB, header included.
MAX_SHARD_SIZE = "8MB"
_WEIGHTS = "*.safetensors"


def export(trainer: Trainer, folder: Path) -> None:
    """Writes what the run has learned so far as a checkpoint folder.

    Benchmark figures that lie in the folder are deleted if they measured other weights.

    Raises:
        OSError: if the disk is full, for instance.
        SafetensorError: likewise, while the weights are written.
    """
    write_checkpoint(
        folder,
        lambda: save_model(trainer.averaged(), trainer.scheduler, folder),
        trainer.draw_samples(),
        facts(trainer),
    )


def save_model(unet: ModelMixin, scheduler: DDPMScheduler, folder: Path) -> None:
    """Writes network and schedule in diffusers' layout."""
    unet.save_pretrained(folder / "unet", max_shard_size=MAX_SHARD_SIZE)
    scheduler.save_pretrained(folder / "scheduler")


def write_checkpoint(
    folder: Path, save: Callable[[], object], samples: Image.Image, facts: Mapping[str, Any]
) -> None:
    """Writes weights, samples, facts and card; figures that measured other weights are deleted.

    Args:
        folder: to write to.
        save: writes `unet/` and `scheduler/` in there.
        samples: a sheet of pictures.
        facts: what the card says.

    Raises:
        OSError: if the disk is full, for instance.
        SafetensorError: likewise, while the weights are written.
    """
    before = _weights(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save()
    samples.save(folder / model_card.SAMPLES_FILE)
    text = json.dumps(facts, indent=2) + "\n"
    (folder / model_card.FACTS_FILE).write_text(text, encoding="utf-8")
    for path in (folder / "unet").glob(_WEIGHTS):
        path.chmod(0o644)  # safetensors lets nobody else read them
    if _weights(folder) != before:
        (folder / model_card.FIGURES_FILE).unlink(missing_ok=True)
    model_card.write_card(folder)


def _weights(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((folder / "unet").glob(_WEIGHTS))}


def facts(trainer: Trainer) -> dict[str, Any]:
    """Everything that the model card says of these weights, as plain data."""
    recipe, settings = trainer.recipe, DigitsSettings()
    unet = trainer.averaged()
    return {
        "name": f"digits-{recipe.conditioning}",
        "network": type(unet).__name__,
        "parameters": sum(p.numel() for p in unet.parameters()),
        "recipe": asdict(recipe) | {"dataset_name": public_name(recipe.dataset_name)},
        "optimizer": f"betas {ADAM_BETAS}, gradients clipped to norm {MAX_GRADIENT_NORM:g}",
        "steps": trainer.step,
        "seconds": round(trainer.seconds, 1),
        "device": trainer.trained_on,
        "held_out": len(trainer.validation),
        "validation_x0_error": {str(t): error for t, error in trainer.validate().items()},
        "samples": {
            "cfg_scale": settings.cfg_scale,
            "num_inference_steps": settings.num_inference_steps,
            "solver": settings.solver,
            "num_images": SAMPLE_ROWS * NUM_CLASSES,
        },
    }


def load_run(run_folder: Path, dataset_name: str = "") -> Trainer:
    """The run that was saved in a folder, as far as it came.

    Args:
        run_folder: where `state.pt` lies.
        dataset_name: where to read the data for the errors; empty is where the run read it.

    Raises:
        ValueError: if there is no such run, or its state or data cannot be read.
    """
    state = loop.load_state(run_folder)
    if state is None:
        raise ValueError(f"run_folder must hold a {loop.STATE_FILE}, got {run_folder} without one")
    recipe = Recipe(**state["recipe"])
    data = load_digits(dataset_name or recipe.dataset_name, "train")
    trainer = Trainer(recipe, data, Accelerator())
    trainer.restore(state)
    return trainer


def main(
    run_folder: Annotated[Path, typer.Argument(help="folder of a training run")],
    folder: Annotated[Path, typer.Argument(help="checkpoint folder to write")],
    dataset_name: Annotated[str, typer.Option(help="Hub id or folder; without: the run's")] = "",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 is PyTorch's choice")] = 0,
) -> None:
    """Writes the checkpoint folder of a training run, finished or not."""
    if threads:
        torch.set_num_threads(threads)
    try:
        trainer = load_run(run_folder, dataset_name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    export(trainer, folder)
    typer.echo(
        f"step {trainer.step} of {trainer.recipe.max_steps}: {folder / model_card.CARD_FILE}"
    )
