"""Begins a run of pictures, or goes on with the one that was saved, on one process or many."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import typer
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin, broadcast_object_list
from diffusers import DDPMScheduler, UNet2DModel

from pipelines.diffusion.unets import WordsUNet2DModel
from training.core.fingerprint import check_unchanged
from training.core.folders import counted
from training.core.options import Given
from training.core.recipe import Precision
from training.core.state import load_state
from training.pictures import start_models
from training.pictures.data import Pictures, load_pictures
from training.pictures.recipe import Recipe, channels_to_read, num_held_out
from training.pictures.trainer import Trainer
from training.words.runs import take_clip
from training.words.trainer import WordsTrainer


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


def precision_of(folder: Path, given: Given, resume: bool) -> Precision:
    """Returns the arithmetic of a run: that of the saved one, unless the command line sets it.

    Raises:
        ValueError: if the saved state is damaged.
    """
    state = load_state(folder) if resume and "mixed_precision" not in given.explicit else None
    return (state or {"recipe": given})["recipe"]["mixed_precision"]


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
            f"{state['step']:,} steps; add --resume to go on with it, or give the new run another "
            "name with --model-save-name",
        ]
    if state is None and resume:
        typer.echo(f"{folder} holds no saved state to resume: the run begins at its first step")
    return [state, ""]


BEST_START = "paintings"
"""What a few pictures are learned from best: `docs/training.md` has the figures."""


def recipe_of(
    given: Given, from_scratch: bool, num_processes: int, *, planned: bool = False
) -> Recipe:
    """Returns the recipe of a new run, as far as the command line decides it.

    Args:
        given: options of the recipe.
        from_scratch: whether there is no start model.
        num_processes: processes that share a step.
        planned: whether the program chooses what is not written.

    Raises:
        ValueError: one sentence on the first value that is wrong.
    """
    chosen = planned and "start_model" not in given.explicit
    start_model = BEST_START if chosen else given["start_model"]
    return Recipe.from_options(
        given,
        start_model="" if from_scratch else start_model,
        max_steps=given["max_steps"] or 1,  # until the data has been counted
        num_processes=num_processes,
        prediction=given["prediction"] or "v_prediction",
    )


def saved_recipe(
    given: Given, from_scratch: bool, num_processes: int, state: dict[str, Any]
) -> Recipe:
    """Returns the recipe of a saved run, with what the command line says in other words.

    A finished run may go on, so a larger `max_steps` is no contradiction.

    Raises:
        ValueError: if the command line says otherwise.
    """
    saved = Recipe.from_saved(state["recipe"])
    written = given.written | ({"start_model": ""} if from_scratch else {})
    finished = state["step"] == saved.max_steps
    if not given["max_steps"] or (finished and given["max_steps"] > saved.max_steps):
        written.pop("max_steps", None)
    if "batch_size" not in written:
        passes = saved.grad_accumulation_steps
        if "grad_accumulation_steps" in written:
            passes = given["grad_accumulation_steps"]
        written["batch_size"] = max(1, saved.pictures_per_step // (passes * num_processes))
    return replace(saved, **written, num_processes=num_processes)


def prepare(
    recipe: Recipe,
    state: dict[str, Any] | None,
    accelerator: Accelerator,
    folder: Path,
    *,
    written: Collection[str] = (),
) -> Trainer:
    """Makes a new run, or restores the one that was saved.

    Args:
        recipe: as far as the options decide it.
        state: of the saved run, None for a new one.
        accelerator: what it runs on.
        folder: of the run.
        written: names of the options that were set by hand; where `prediction` is not, the start
            model's is taken, and where `batch_size` is not, no larger one than there are pictures.

    Raises:
        OtherDataError: if the data have changed since the run was saved.
        ValueError: if start model or data cannot be used, or the saved run has another recipe.
    """
    unet, scheduler = start_models.network_of(recipe, state)
    predicted = scheduler.config["prediction_type"]
    if "prediction" in written and predicted != recipe.prediction:
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
    if state is not None:  # before anything else that fewer pictures may lead to
        found = data.fingerprint(with_facts=bool(recipe.conditions))
        check_unchanged(state.get("data"), found)
    if state is None and isinstance(unet, WordsUNet2DModel):
        recipe = replace(recipe, **_read_as_before(recipe, unet, written))
    if state is None and "batch_size" not in written:
        recipe = replace(recipe, batch_size=_batch_size(recipe, len(data)))
    recipe = replace(recipe, prediction=predicted)
    begins = state is None
    trainer = trainer_of(recipe, unet, scheduler, data, accelerator, folder, begins=begins)
    if accelerator.is_main_process:
        typer.echo("\n".join(describe(trainer, data)))
    if state is not None:
        trainer.restore(state)
    return trainer


def trainer_of(
    recipe: Recipe,
    unet: UNet2DModel,
    scheduler: DDPMScheduler,
    data: Pictures,
    accelerator: Accelerator,
    folder: Path,
    *,
    begins: bool = False,
) -> Trainer:
    """Returns the trainer of a recipe: of an unconditional model, or of one that is told words.

    Args:
        recipe: of the run.
        unet: its network.
        scheduler: its schedule.
        data: what it learns from.
        accelerator: what it runs on.
        folder: of the run.
        begins: whether it is a new run, which takes the CLIP of its recipe.

    Raises:
        ValueError: if the CLIP cannot be read, or network or data do not fit.
    """
    if not recipe.conditions:
        return Trainer(recipe, unet, scheduler, data, accelerator)
    with accelerator.main_process_first():
        anew = begins and accelerator.is_main_process
        clip = take_clip(folder, recipe.clip_model, anew=anew)
    if not isinstance(unet, WordsUNet2DModel):
        unet = start_models.with_words(unet, clip, recipe.seed)
    start_models.check_clip(unet, clip, recipe.clip_model)
    return WordsTrainer(recipe, unet, scheduler, data, accelerator, clip, folder)


def _read_as_before(
    recipe: Recipe, unet: WordsUNet2DModel, written: Collection[str]
) -> dict[str, Any]:
    """Returns what a run that goes on from a conditional model takes from it, unless written.

    Raises:
        ValueError: if the word embeddings are to be others than the network reads.
    """
    features = unet.config["features"]
    if "features" in written and recipe.features != features:
        raise ValueError(
            f"features must be those of the start model, {features}, got {recipe.features}"
        )
    clip_model = recipe.clip_model if "clip_model" in written else recipe.start_model
    return {"features": features, "clip_model": clip_model}


def _batch_size(recipe: Recipe, num_pictures: int) -> int:
    """The recipe's batch, or a smaller one that so many pictures fill."""
    others = recipe.grad_accumulation_steps * recipe.num_processes
    most = (num_pictures - num_held_out(num_pictures)) // others
    return min(recipe.batch_size, max(1, most))


def describe(trainer: Trainer, data: Pictures) -> Iterator[str]:
    """Says what data were found and what is not used, in one line per fact."""
    for folder in data.folders:
        yield from folder.lines()
    if isinstance(trainer, WordsTrainer) and "words" in trainer.recipe.conditions:
        yield f"{counted(trainer.num_told, 'picture')} with a sentence to learn from"
    elif data.num_captions:
        yield (
            f"{counted(data.num_captions, 'picture')} with a caption or metadata text, which this "
            "trainer does not learn from; --focus and --exclude can choose by it"
        )
    if data.skipped:
        yield f"{data.skipped:,} pictures cannot be read and are skipped"
    if data.enlarged:
        yield f"{data.enlarged:,} pictures are smaller and are scaled up"
    yield (
        f"{counted(len(trainer.train), 'picture')} of {trainer.recipe.image_size} px to train on, "
        f"{len(trainer.validation)} held out"
    )


def describe_steps(trainer: Trainer) -> str:
    """Says what is about to happen."""
    recipe = trainer.recipe
    return (
        f"steps {trainer.step:,} to {recipe.max_steps:,}, {recipe.pictures_per_step} pictures each"
    )
