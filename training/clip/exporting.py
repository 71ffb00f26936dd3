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

import typer
from open_clip import CLIP
from safetensors.torch import save_file

from pipelines.models.own_clips import CONFIG_FILE, MERGES_FILE, WEIGHTS_FILE, WORDS_FILE
from pipelines.models.table import CLIPS
from training.cards.checkpoint import write_checkpoint
from training.clip.judging import judge_trainer
from training.clip.recipe import Recipe
from training.clip.runs import DATA, folder_of, prepare, read_start
from training.clip.towers import IMAGE_PX, MEAN, STD, stored
from training.clip.trainer import FOCUS_SHARE, HALF_FORMED_SHARE, Trainer
from training.core.exporting import CheckpointFolder, RunFolder, Threads
from training.core.options import set_threads
from training.core.refusals import options_refused
from training.core.state import load_state

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
    places = {"name": name, "folder": folder.as_posix()}
    write_checkpoint(folder, lambda: _save(trainer, folder), places | facts(trainer, figures))


def _save(trainer: Trainer, folder: Path) -> None:
    """Writes weights, configuration and vocabulary."""
    save_weights(trainer.averaged(), folder)
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


def save_weights(model: CLIP, folder: Path) -> None:
    """Writes the weights; tables and matrices in half precision, gains and statistics in full."""
    weights = {name: stored(value) for name, value in model.state_dict().items()}
    save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})


def _public(start_model: str) -> str:
    """Returns how a card names a folder to go on from: the run that it is a checkpoint of."""
    known = not start_model or start_model in CLIPS
    return start_model if known else Path(start_model).resolve().parent.name


def facts(trainer: Trainer, figures: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Returns everything that the model card says of these weights, as plain data."""
    model, recipe = trainer.averaged(), trainer.recipe
    image = sum(p.numel() for p in model.visual.parameters())
    total = sum(p.numel() for p in model.parameters())
    return {
        "recipe": asdict(recipe) | {"start_model": _public(recipe.start_model)},
        "earlier": trainer.earlier,
        "blended": trainer.blended,
        "image_parameters": image,
        "text_parameters": total - image,
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
    run_folder: RunFolder,
    folder: CheckpointFolder,
    data_folder: Annotated[Path, typer.Option(help="where the data sets lie")] = DATA,
    blend_with: Annotated[
        str, typer.Option(help="bundled CLIP or folder that the run went on from, to mix in")
    ] = "",
    blend_share: Annotated[
        float, typer.Option(min=0, max=1, help="of its weights in the mixture")
    ] = 0.2,
    threads: Threads = 0,
) -> None:
    """Writes the checkpoint folder of a training run, finished or not."""
    set_threads(threads)
    with options_refused():
        state = load_state(run_folder)
        if state is None or "architecture" not in state["recipe"]:
            raise ValueError(f"run_folder must be a run of train_clip, got {run_folder}")
        recipe = Recipe.from_saved(state["recipe"])
        trainer, held_out = prepare(recipe, run_folder, data_folder, any_data=True)
        if blend_with:
            start = read_start(folder_of(blend_with), trainer.recipe)
            trainer.blend(start.weights, blend_share, _public(blend_with))
    export(trainer, folder, folder.name, judge_trainer(trainer, held_out))
    typer.echo(f"step {trainer.step} of {trainer.recipe.max_steps}: {folder}")
