"""Options of a training command that do not decide the weights."""

from __future__ import annotations

from typing import Any

from training.core.options import option


def model_save_name(default: str) -> Any:
    """Declares the name of a run."""
    return option(default, "the run lies in runs/NAME; a path is taken as it is")


def threads() -> Any:
    """Declares how many CPU threads compute."""
    return option(0, "CPU threads; 0 is PyTorch's choice", minimum=0)


def push_to_hub() -> Any:
    """Declares where the result is uploaded to."""
    return option("", "Hub id of a model repository to upload the result to")


def save_minutes() -> Any:
    """Declares after how many minutes the state is saved at the latest."""
    return option(5, "minutes between saves, if they come first", minimum=0.01)


def every(default: int, help_text: str) -> Any:
    """Declares a number of steps after which something is done."""
    return option(default, help_text, minimum=1)
