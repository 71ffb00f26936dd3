"""A CLIP's training run, new or resumed, with the data that belongs to it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor

from pipelines.core import images
from pipelines.models.own_clips import CONFIG_FILE, WEIGHTS_FILE
from pipelines.models.table import CLIPS
from training.cards.parts import FACTS_FILE
from training.clip import half_formed, vocabulary
from training.clip.pairs import SOURCES, Pairs, joined, load_pairs
from training.clip.recipe import Recipe
from training.clip.towers import model_config
from training.clip.trainer import Start, Trainer
from training.core.batches import batch_indices
from training.core.commands import command_with, new_name, python
from training.core.fingerprint import OtherDataError
from training.core.state import begun_state

DATA = Path("../shared/data")
_PART = 1000


def prepare(
    recipe: Recipe, folder: Path, data_folder: Path, *, any_data: bool = False
) -> tuple[Trainer, dict[str, Pairs]]:
    """Makes or restores the run of a folder; returns it and the pairs that are held out.

    Args:
        recipe: of the run.
        folder: of the run.
        data_folder: where the data sets lie.
        any_data: whether the data may have changed, for a run that is not trained on.

    Raises:
        OtherDataError: if the data have changed since the run was saved.
        ValueError: if the folder holds a run of another recipe, the data cannot be read, or a step
            wants more pairs than there are.
    """
    state = begun_state(folder)
    if state is not None:
        recipe.check_same(state["recipe"])
    folder.mkdir(parents=True, exist_ok=True)
    parts = {name: load_pairs(data_folder, name) for name in recipe.datasets}
    data = joined([train for train, _ in parts.values()])
    batch_indices(len(data), recipe.batch_size, recipe.seed, 0)  # refuses too large a batch
    made = half_formed_pictures(recipe, data, folder) if recipe.formers else None
    texts = (text for of_picture in data.sentences for text in of_picture)
    start = None
    if state is not None:
        tokenizer = vocabulary.load_tokenizer(folder)
    elif recipe.start_model:
        start_folder = folder_of(recipe.start_model)
        start = read_start(start_folder, recipe)
        tokenizer = vocabulary.take_tokenizer(start_folder, texts, folder)
    else:
        tokenizer = vocabulary.make_tokenizer(texts, folder)
    accelerator = Accelerator(mixed_precision=recipe.mixed_precision)
    trainer = Trainer(recipe, data, made, tokenizer, folder, accelerator, start)
    try:
        if state is not None:
            trainer.restore(state, any_data=any_data)
    except OtherDataError as error:
        command = new_run_command(folder, recipe, data_folder)
        raise OtherDataError(error.saved, error.got, command) from error
    return trainer, {name: held for name, (_, held) in parts.items() if len(held)}


def new_run_command(folder: Path, recipe: Recipe, data_folder: Path) -> str:
    """Returns the command that begins a run with what another one has learned."""
    checkpoint = folder / "checkpoint"
    begin = command_with(
        "training.train_clip",
        start_model=checkpoint,
        data_folder=data_folder,
        datasets=",".join(recipe.datasets),
        architecture=recipe.architecture,
        model_save_name=new_name(folder),
    )
    if checkpoint.is_dir():
        return begin
    places = f"{shlex.quote(str(folder))} {shlex.quote(str(checkpoint))}"
    data = f"--data-folder {shlex.quote(str(data_folder))}"
    return f"{python()} -m training.export_clip {places} {data}\n{begin}"


def as_seen(data: Pairs, seed: int) -> Tensor:
    """Returns all pictures `(n, 3, h, w)` uint8, transparent ones on some background."""
    generator = torch.Generator().manual_seed(seed)
    parts = torch.arange(len(data)).split(_PART)
    return torch.cat([images.to_uint8(data.on_backgrounds(part, generator)) for part in parts])


def half_formed_pictures(recipe: Recipe, data: Pairs, folder: Path) -> Tensor:
    """Returns all pictures as the recipe's checkpoints predict them, `(n, 3, h, w)` uint8.

    Those of a data set are formed by the checkpoint of its name or of its kind, the others by the
    first.
    """
    seen = as_seen(data, recipe.seed)
    models = recipe.formers
    of_origin = {origin: former_of(origin, models) for origin in set(data.origins)}
    formers = [of_origin[origin] for origin in data.origins]
    for model in dict.fromkeys(formers):
        rows = torch.tensor([former == model for former in formers])
        seen[rows] = half_formed.load_or_make(folder, seen[rows], model, recipe.seed)
    return seen


def former_of(origin: str, models: Sequence[str]) -> str:
    """Returns the checkpoint, one of `models`, that forms the pictures of a data set."""
    source = SOURCES.get(origin)
    kin = source.former if source else ""
    return next((name for name in (origin, kin) if name in models), models[0])


def folder_of(start_model: str) -> Path:
    """Returns where a CLIP to go on from lies: a bundled one, or a folder of its own."""
    row = CLIPS.get(start_model)
    return row.folder if row and not row.repo_id else Path(start_model)


def read_start(folder: Path, recipe: Recipe) -> Start:
    """Reads what a checkpoint that `export_clip` wrote has learned.

    Raises:
        ValueError: if there is none, or it has other towers than the recipe.
    """
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))["model_cfg"]
        weights = load_file(folder / WEIGHTS_FILE)
        facts = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
    except Exception as error:  # JSON and safetensors have errors of their own
        raise ValueError(
            f"start_model must be a bundled CLIP or a folder that train_clip wrote, got {folder}"
        ) from error
    if config != model_config(recipe.architecture, config["text_cfg"]["vocab_size"]):
        raise ValueError(
            f"start_model must have towers of the architecture {recipe.architecture!r}, "
            f"got others in {folder}"
        )
    run = {key: facts[key] for key in ("recipe", "steps", "seconds", "device")}
    if facts.get("blended"):
        run["blended"] = facts["blended"]
    full = {
        name: value.float() if value.is_floating_point() else value
        for name, value in weights.items()
    }
    return Start(full, [*facts.get("earlier", []), run])
