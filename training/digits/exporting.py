"""From a training run to a checkpoint folder: weights, scheduler, samples, figures, model card.

    python -m training.export runs/digits-embedding assets/checkpoints/digits-embedding

works on an unfinished run too: it takes the averaged weights that were saved last.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from accelerate import Accelerator

from pipelines.products.settings import DigitsSettings
from training.cards.checkpoint import save_model, write_checkpoint
from training.cards.parts import CARD_FILE
from training.core.exporting import CheckpointFolder, RunFolder, Threads, saved_state
from training.core.options import set_threads
from training.core.refusals import options_refused
from training.core.trainer import ADAM_BETAS, MAX_GRADIENT_NORM
from training.digits.data import load_digits, public_name
from training.digits.recipe import Recipe
from training.digits.trainer import NUM_CLASSES, SAMPLE_ROWS, Trainer


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
        facts(trainer),
        trainer.draw_samples(),
    )


def facts(trainer: Trainer) -> dict[str, Any]:
    """Returns everything that the model card says of these weights, as plain data."""
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
    """Loads the run that was saved in a folder, as far as it came.

    Args:
        run_folder: where `state.pt` lies.
        dataset_name: where to read the data for the errors; empty is where the run read it.

    Raises:
        ValueError: if there is no such run, or its state or data cannot be read.
    """
    state = saved_state(run_folder)
    recipe = Recipe.from_saved(state["recipe"])
    data = load_digits(dataset_name or recipe.dataset_name, "train")
    trainer = Trainer(recipe, data, Accelerator())
    trainer.restore(state, any_data=True)
    return trainer


def main(
    run_folder: RunFolder,
    folder: CheckpointFolder,
    dataset_name: Annotated[str, typer.Option(help="Hub id or folder; without: the run's")] = "",
    threads: Threads = 0,
) -> None:
    """Writes the checkpoint folder of a training run, finished or not."""
    set_threads(threads)
    with options_refused():
        trainer = load_run(run_folder, dataset_name)
    export(trainer, folder)
    card = folder / CARD_FILE
    typer.echo(f"step {trainer.step} of {trainer.recipe.max_steps}: {card}")
