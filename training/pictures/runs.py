"""Begins a run of pictures, or goes on with the one that was saved, on one process or many."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import typer
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin, broadcast_object_list

from training.core.recipe import Precision
from training.core.state import load_state
from training.pictures import start_models
from training.pictures.data import Pictures, load_pictures
from training.pictures.recipe import Recipe, channels_to_read, steps_per_epoch
from training.pictures.trainer import Trainer


def make_accelerator(mixed_precision: Precision) -> Accelerator:
    """Makes what spreads the work over processes and devices.

    Passes are counted here and the loss is divided here, whatever `accelerate launch` was told.

    Raises:
        ValueError: if the device has no such arithmetic.
    """
    torch.backends.cudnn.benchmark = True  # all batches are of one shape
    return Accelerator(
        mixed_precision=mixed_precision,
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
    )


def saved_state(folder: Path, resume: bool, accelerator: Accelerator) -> dict[str, Any] | None:
    """Returns the state to go on from, the same for every process; None is a new run.

    Only the main process reads it, so the other machines need no copy of the folder. A run that was
    killed before it saved anything has none, and begins again.

    Raises:
        ValueError: if there is a run and `resume` was not asked for, or it is damaged.
    """
    answer: list[Any] = [None, ""]
    if accelerator.is_main_process:
        answer = _read_state(folder, resume)
    if accelerator.num_processes > 1:
        broadcast_object_list(answer)
    state, problem = answer
    if problem:
        raise ValueError(problem)
    return state


def _read_state(folder: Path, resume: bool) -> list[Any]:
    """Returns a saved state, and what speaks against going on with it."""
    try:
        state = load_state(folder)
    except ValueError as error:
        return [None, str(error)]
    if state is not None and not state["step"] and not resume:
        return [None, ""]  # killed before its first step, so there is nothing to lose
    if state is not None and not resume:
        return [
            None,
            f"model_save_name must be a new name, got {str(folder)!r} with a run of "
            f"{state['step']:,} steps; add --resume to go on with it",
        ]
    if state is None and resume:
        typer.echo(f"{folder} holds no saved state to resume: the run begins at its first step")
    return [state, ""]


def prepare(
    recipe: Recipe,
    state: dict[str, Any] | None,
    accelerator: Accelerator,
    *,
    num_epochs: int,
    any_prediction: bool,
) -> Trainer:
    """Makes a new run, or restores the one that was saved.

    Args:
        recipe: as far as the options decide it.
        state: of the saved run, None for a new one.
        accelerator: what it runs on.
        num_epochs: replaces the recipe's `max_steps`; 0 is off.
        any_prediction: whether to take whatever the start model predicts for the recipe's.

    Raises:
        ValueError: if start model or data cannot be used, or the saved run has another recipe.
    """
    unet, scheduler = start_models.network_of(recipe, state)
    predicted = scheduler.config["prediction_type"]
    if not any_prediction and predicted != recipe.prediction:
        raise ValueError(
            f"prediction must be that of the start model, {predicted}, got {recipe.prediction}"
        )
    with accelerator.main_process_first():
        data = load_pictures(
            recipe.dataset_name,
            image_size=recipe.image_size,
            channels=channels_to_read(recipe, unet.config["in_channels"]),
            image_column=recipe.image_column,
            exclude=recipe.exclude,
            focus=recipe.focus,
        )
    if num_epochs:
        recipe = replace(recipe, max_steps=num_epochs * steps_per_epoch(recipe, len(data)))
    trainer = Trainer(replace(recipe, prediction=predicted), unet, scheduler, data, accelerator)
    if state is not None:
        trainer.restore(state)
    if accelerator.is_main_process:
        typer.echo(describe(trainer, data))
    return trainer


def describe(trainer: Trainer, data: Pictures) -> str:
    """Says what is about to happen, in one line per fact."""
    recipe = trainer.recipe
    lines = [
        f"{len(trainer.train):,} pictures of {recipe.image_size} px to train on, "
        f"{len(trainer.validation)} held out",
        f"steps {trainer.step:,} to {recipe.max_steps:,}, {recipe.pictures_per_step} pictures each",
    ]
    if data.skipped:
        lines.append(f"{data.skipped:,} pictures cannot be read and are skipped")
    if data.enlarged:
        lines.append(f"{data.enlarged:,} pictures are smaller and are scaled up")
    return "\n".join(lines)
