"""What the commands share that write the checkpoint of a saved run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from training.core.state import STATE_FILE, load_state

RunFolder = Annotated[Path, typer.Argument(help="folder of a training run")]
CheckpointFolder = Annotated[Path, typer.Argument(help="checkpoint folder to write")]
Threads = Annotated[int, typer.Option(min=0, help="CPU threads; 0 is PyTorch's choice")]


def saved_state(run_folder: Path) -> dict[str, Any]:
    """Returns the state that was saved in a run's folder.

    Raises:
        ValueError: if there is none, or it cannot be read.
    """
    state = load_state(run_folder)
    if state is None:
        raise ValueError(f"run_folder must hold a {STATE_FILE}, got {run_folder} without one")
    return state
