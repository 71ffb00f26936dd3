"""Names of runs, and the commands that a run tells its user."""

from __future__ import annotations

import re
import shlex
import sys
import unicodedata
from pathlib import Path

from pipelines.models.names import bundled_names
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


def new_name(folder: Path) -> str:
    """Returns the first free name beside a run: its own with a number; a path if it is one."""
    number = 2
    while (other := folder.with_name(f"{folder.name}-{number}")).exists():
        number += 1
    return other.name if folder.parent == Path("runs") else str(other)


def open_command(checkpoint: Path) -> str:
    """Returns the command that opens the app with a checkpoint."""
    name = safe_name(checkpoint.resolve().parent.name)
    if name in bundled_names():
        name = f"my-{name}"[:_MOST_LETTERS]
    own = shlex.quote(f"{name}={_from_here(checkpoint)}")
    python, app = _from_here(Path(sys.executable)), _from_here(ROOT / "app.py")
    return f"STUDIO_CHECKPOINTS={own} {shlex.quote(str(python))} {shlex.quote(str(app))}"


def new_run_command(folder: Path, dataset_name: str, options: list[str]) -> str:
    """Returns the command that begins a run of pictures with what another one has learned."""
    checkpoint, name = folder / "checkpoint", new_name(folder)
    python = shlex.quote(str(_from_here(Path(sys.executable))))
    command = [
        *(python, "-m", "training.finetune_model", "--start-model", shlex.quote(str(checkpoint))),
        *("--dataset-name", shlex.quote(dataset_name), "--model-save-name", shlex.quote(name)),
        *options,
    ]
    if (checkpoint / "unet").is_dir():
        return " ".join(command)
    export = f"{python} -m training.export_pictures"
    return (
        f"{export} {shlex.quote(str(folder))} {shlex.quote(str(checkpoint))}\n{' '.join(command)}"
    )


def _from_here(path: Path) -> Path:
    """Returns a path below the working directory as it is written there."""
    absolute = Path.cwd() / path
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute
