"""Saves and reads the state of a run, so that a kill at any moment loses little."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch

STATE_FILE = "state.pt"


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Writes the training state so that a kill at any moment leaves the old or the new one whole.

    Raises:
        OSError: if the disk is full, for instance; the old state is still there.
    """
    buffer = io.BytesIO()  # writing to the file itself, torch hides a full disk in a RuntimeError
    torch.save(state, buffer)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{STATE_FILE}.tmp"
    try:
        with temporary.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, folder / STATE_FILE)
    finally:
        temporary.unlink(missing_ok=True)


def load_state(folder: Path) -> dict[str, Any] | None:
    """The state that `save_state` wrote last, or None if there is none.

    Raises:
        ValueError: if the file is damaged, or holds pickled code, which is never run.
        OSError: if it cannot be read.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # unpickling what is no state raises all kinds
        raise ValueError(
            f"{path} must be a training state, got a damaged file; delete it to start again"
        ) from error


def begun_state(folder: Path) -> dict[str, Any] | None:
    """The state of a run that has done a step, or None: without a step nothing is lost.

    So a run that stopped before its first step can begin again with other options.

    Raises:
        ValueError: as `load_state`.
        OSError: likewise.
    """
    state = load_state(folder)
    return state if state is not None and state["step"] else None
