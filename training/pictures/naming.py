"""Names of runs of pictures, and the commands that such a run tells its user."""

from __future__ import annotations

import re
import shlex
import unicodedata
from pathlib import Path

from pipelines.models.names import bundled_names
from training.core.commands import command_with, from_here, new_name, python
from training.core.data import dataset_names, folder_name, is_local

ROOT = Path(__file__).resolve().parents[2]
_MOST_LETTERS = 40


def safe_name(text: str) -> str:
    """Returns a name of 1 to 40 letters, digits, dots, _ or -, as near to a text as can be."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-.")[:_MOST_LETTERS].strip("-.")
    return name or "pictures"


def name_of_data(dataset_name: str, otherwise: str) -> str:
    """Returns the name of a run on a folder: the folder's. Of data of the Hub, `otherwise`."""
    first = dataset_names(dataset_name)[0]
    return safe_name(folder_name(first)) if is_local(first) else otherwise


def open_command(checkpoint: Path) -> str:
    """Returns the command that opens the app with a checkpoint."""
    name = safe_name(checkpoint.resolve().parent.name)
    if name in bundled_names():
        name = f"my-{name}"[:_MOST_LETTERS]
    own = shlex.quote(f"{name}={from_here(checkpoint)}")
    return f"STUDIO_CHECKPOINTS={own} {python()} {shlex.quote(str(from_here(ROOT / 'app.py')))}"


def new_run_command(folder: Path, **options: object) -> str:
    """Returns the command that begins a run with what another one has learned.

    Args:
        folder: of the other run.
        options: of the new run besides start model and name.
    """
    checkpoint = folder / "checkpoint"
    begin = command_with(
        "training.finetune_model",
        start_model=checkpoint,
        model_save_name=new_name(folder),
        **options,
    )
    if (checkpoint / "unet").is_dir():
        return begin
    places = f"{shlex.quote(str(folder))} {shlex.quote(str(checkpoint))}"
    return f"{python()} -m training.export_pictures {places}\n{begin}"
