"""How the training commands say no: one sentence, and nothing that was trained is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
import typer
from safetensors import SafetensorError

from training.core.fingerprint import OtherDataError
from training.core.lock import only_run_in
from training.core.state import STATE_FILE


@contextmanager
def options_refused() -> Iterator[None]:
    """Turns what is wrong with the options into the command line's own kind of error."""
    try:
        yield
    except OtherDataError as error:  # a command is no use in a frame
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(2) from error
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


@contextmanager
def stopped_in_one_sentence(folder: Path) -> Iterator[None]:
    """Ends the program with a sentence when the loss runs away or there is no room."""
    try:
        yield
    except (FloatingPointError, OSError, SafetensorError, torch.OutOfMemoryError) as error:
        kept = (folder / STATE_FILE).is_file()
        hint = "the state that was saved last is kept" if kept else "no state was saved yet"
        reason = str(error).splitlines()[0]
        typer.echo(f"Training stopped: {reason}; {hint}.", err=True)
        raise typer.Exit(1) from error


@contextmanager
def one_process_in(folder: Path) -> Iterator[None]:
    """Holds the folder of a run, and refuses in one sentence if another process trains there."""
    with ExitStack() as held:
        with stopped_in_one_sentence(folder), options_refused():
            held.enter_context(only_run_in(folder))
        yield
