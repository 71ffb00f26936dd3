"""From a training run of pictures to a diffusers pipeline folder with samples and a model card.

    python -m training.export_pictures runs/paintings assets/checkpoints/paintings

works on an unfinished run too: it takes the averaged weights that were saved last.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import diffusers
import typer
from accelerate import Accelerator
from diffusers import DDPMPipeline, UNet2DModel

from training.cards.checkpoint import MAX_SHARD_SIZE, save_model, write_checkpoint
from training.core.data import dataset_names, folder_name, is_local, joined_folder_names
from training.core.exporting import CheckpointFolder, RunFolder, Threads, saved_state
from training.core.options import set_threads
from training.core.refusals import options_refused
from training.core.trainer import ADAM_BETAS, MAX_GRADIENT_NORM
from training.pictures import start_models
from training.pictures.data import load_pictures
from training.pictures.recipe import Recipe, channels_to_read
from training.pictures.runs import trainer_of
from training.pictures.trainer import SAMPLE_SOLVER, SAMPLE_STEPS, Trainer
from training.words.conditions import shares_of
from training.words.runs import origin_of, save_clip
from training.words.trainer import SAMPLE_CFG, WordsTrainer

NUM_SAMPLES = 64


def export(
    trainer: Trainer, folder: Path, name: str, repo_id: str = "", num_samples: int = 0
) -> None:
    """Writes what the run has learned so far, with samples and a model card.

    A stock `UNet2DModel` gives a folder that `DDPMPipeline.from_pretrained` loads.

    Args:
        trainer: the run.
        folder: to write to; figures in it are deleted if they measured other weights.
        name: what the card calls the model.
        repo_id: where the card says that it can be loaded from; empty is the folder.
        num_samples: pictures to draw; 0 is `NUM_SAMPLES`.

    Raises:
        OSError: if the disk is full, for instance.
        SafetensorError: likewise, while the weights are written.
    """
    num_samples = num_samples or NUM_SAMPLES
    write_checkpoint(
        folder,
        lambda: _save(trainer, folder),
        facts(trainer, name, repo_id or _public(folder), num_samples),
        trainer.draw_samples(num_samples),
    )


def _save(trainer: Trainer, folder: Path) -> None:
    unet, scheduler = trainer.averaged(), trainer.scheduler
    if type(unet) is UNet2DModel:
        DDPMPipeline(unet, scheduler).save_pretrained(folder, max_shard_size=MAX_SHARD_SIZE)
    else:
        save_model(unet, scheduler, folder)
    if isinstance(trainer, WordsTrainer):
        save_clip(trainer.reader.clip, trainer.folder, folder)


def _public(folder: Path) -> str:
    """Returns the folder as a card may name it."""
    return folder.name if folder.is_absolute() else folder.as_posix()


def facts(trainer: Trainer, name: str, source: str, num_samples: int) -> dict[str, Any]:
    """Returns everything that the model card says of these weights, as plain data.

    Args:
        trainer: the run.
        name: of the model.
        source: folder or Hub id to load it from.
        num_samples: pictures that it draws for the card.
    """
    recipe, unet = trainer.recipe, trainer.averaged()
    names = dataset_names(recipe.dataset_name)
    public = {
        "start_model": recipe.start_model and start_models.public_name(recipe.start_model),
        "dataset_name": joined_folder_names(recipe.dataset_name),
        "clip_model": start_models.public_name(recipe.clip_model),
    }
    return {
        "name": name,
        "source": source,
        "network": type(unet).__name__,
        "parameters": sum(p.numel() for p in unet.parameters()),
        "channels": unet.config["in_channels"],
        "diffusers": diffusers.__version__,
        "recipe": asdict(recipe) | public,
        "data_is_local": all(map(is_local, names)),
        "datasets": list(map(folder_name, names)),
        "schedule": trainer.scheduler.config["beta_schedule"],
        "num_timesteps": len(trainer.objective.alpha_bar),
        "optimizer": f"betas {ADAM_BETAS}, gradients clipped to norm {MAX_GRADIENT_NORM:g}",
        "steps": trainer.step,
        "seconds": round(trainer.seconds, 1),
        "device": trainer.trained_on,
        "extended_at": trainer.extended_at,
        "num_pictures": len(trainer.train),
        "held_out": len(trainer.validation),
        "skipped": trainer.skipped,
        "left_out": trainer.left_out,
        "captions": trainer.num_captions,
        "enlarged": trainer.enlarged,
        "validation_x0_error": {str(t): error for t, error in trainer.validate().items()},
        "samples": {
            "num_inference_steps": SAMPLE_STEPS,
            "solver": SAMPLE_SOLVER,
            "num_images": num_samples,
        },
        "started_from": trainer.started_from,
        **_told(trainer),
    }


def _told(trainer: Trainer) -> dict[str, Any]:
    """Returns what the card says of a condition; nothing without one."""
    if not isinstance(trainer, WordsTrainer):
        return {}
    recipe = trainer.recipe
    return {
        "told": {
            "pictures": trainer.num_told,
            "shares": shares_of(recipe.conditions),
            "cfg_scale": SAMPLE_CFG,
            "clip": origin_of(trainer.folder, recipe.clip_model),
        }
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
    if "image_size" not in state["recipe"]:
        raise ValueError(f"run_folder must be a run of pictures, got {run_folder} with another")
    recipe = Recipe.from_saved(state["recipe"])
    unet, scheduler = start_models.network_of(recipe, state)
    data = load_pictures(
        dataset_name or recipe.dataset_name,
        image_size=recipe.image_size,
        channels=channels_to_read(recipe, unet.config["in_channels"]),
        image_column=recipe.image_column,
        exclude=recipe.exclude,
        focus=recipe.focus,
    )
    trainer = trainer_of(recipe, unet, scheduler, data, Accelerator(), run_folder)
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
    export(trainer, folder, run_folder.resolve().name)
    typer.echo(f"step {trainer.step} of {trainer.recipe.max_steps}: {folder}")
