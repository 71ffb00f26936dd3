"""Begins a run of digits, or goes on with the one that was saved."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import typer
from accelerate import Accelerator

from training.core.commands import command_with, new_name
from training.core.data import is_local
from training.core.fingerprint import OtherDataError
from training.core.folders import picture_folder
from training.core.state import begun_state
from training.digits.data import load_digits
from training.digits.recipe import Recipe
from training.digits.trainer import Trainer


def prepare(recipe: Recipe, folder: Path, accelerator: Accelerator) -> Trainer:
    """Makes a new run, or restores the one that was saved in the folder.

    Raises:
        OtherDataError: if the data have changed since the run was saved.
        ValueError: if the folder holds a run of another recipe, or the data cannot be read.
    """
    state = begun_state(folder)
    if state is not None:
        recipe.check_same(state["recipe"], moved=True)
    for line in _folder_lines(recipe.dataset_name):
        typer.echo(line)
    trainer = Trainer(recipe, load_digits(recipe.dataset_name, "train"), accelerator)
    try:
        if state is not None:
            trainer.restore(state)
    except OtherDataError as error:
        command = command_with(
            "training.train_digits",
            conditioning=recipe.conditioning,
            dataset_name=recipe.dataset_name,
            output=new_name(folder, path=True),
        )
        raise OtherDataError(error.saved, error.got, command) from error
    return trainer


def _folder_lines(dataset_name: str) -> Iterable[str]:
    """What lies in a folder of pictures; nothing for other data."""
    path = Path(dataset_name).expanduser()
    folder = picture_folder(path) if is_local(dataset_name) and path.is_dir() else None
    return folder.lines() if folder is not None else ()
