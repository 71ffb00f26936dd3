"""Commands that a run tells its user, as they are typed in the working directory."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from training.core.loop import RUNS


def python() -> str:
    """Returns how the Python at work is called from here."""
    return shlex.quote(str(from_here(Path(sys.executable))))


def command_with(module: str, **options: object) -> str:
    """Returns a command that runs a module with options, quoted for a shell."""
    written = (
        f"--{name.replace('_', '-')} {shlex.quote(str(value))}" for name, value in options.items()
    )
    return " ".join([python(), "-m", module, *written])


def new_name(folder: Path, *, path: bool = False) -> str:
    """Returns the first free name beside a run: its own with a number.

    Args:
        folder: of the run.
        path: whether the folder is to be returned, also for a run in `runs`.
    """
    number = 2
    while (other := folder.with_name(f"{folder.name}-{number}")).exists():
        number += 1
    return other.name if folder.parent == RUNS and not path else str(other)


def from_here(path: Path) -> Path:
    """Returns a path below the working directory as it is written there, another one in full."""
    absolute = Path.cwd() / path
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute
