"""Where a training run's curves and sample sheets go: TensorBoard, Weights & Biases, or nowhere."""

from __future__ import annotations

import importlib
import threading
import uuid
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from PIL import Image

Report = Literal["tensorboard", "wandb", "none"]

WANDB_PROJECT = "guided-diffusion-studio"
WANDB_ID_FILE = "wandb-id.txt"


class Reporter:
    """Takes figures and pictures and keeps none; the base of those that do."""

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Notes some figures of one step."""

    def picture(self, name: str, picture: Image.Image, step: int) -> None:
        """Notes a picture of one step."""

    def flush(self) -> None:
        """Writes out what was noted so far."""

    def close(self) -> None:
        """Ends the report."""

    def __enter__(self) -> Reporter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class TensorBoardReporter(Reporter):
    """Event files in a folder; what was logged after `first_step` before is logged anew."""

    def __init__(self, folder: Path, first_step: int):
        from torch.utils.tensorboard import SummaryWriter

        _let_the_next_call_tell()
        self._writer = SummaryWriter(str(folder), purge_step=first_step)

    def scalars(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, name: str, picture: Image.Image, step: int) -> None:
        pixels = np.asarray(picture.convert("RGB"))  # (h, w, 3)
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


@cache
def _let_the_next_call_tell() -> None:
    """Keeps TensorBoard's writing thread from printing an error that the next call raises."""
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if not type(args.thread).__module__.startswith("tensorboard."):
            before(args)

    threading.excepthook = hook


class WandbReporter(Reporter):
    """A run at Weights & Biases; a resumed training goes on with the same one."""

    def __init__(self, folder: Path, first_step: int, config: dict[str, Any]):
        self._wandb = importlib.import_module("wandb")  # not among the project's requirements
        self._run = self._wandb.init(
            project=WANDB_PROJECT,
            name=folder.resolve().name,
            id=_wandb_id(folder, first_step),
            resume="allow",
            dir=str(folder),
            config=config,
        )

    def scalars(self, values: dict[str, float], step: int) -> None:
        self._run.log(values, step=step)

    def picture(self, name: str, picture: Image.Image, step: int) -> None:
        self._run.log({name: self._wandb.Image(picture)}, step=step)

    def close(self) -> None:
        self._run.finish()


def _wandb_id(folder: Path, first_step: int) -> str:
    """A new id for a new training, that of the first start for a resumed one."""
    path = folder / WANDB_ID_FILE
    if first_step > 1 and path.is_file():
        return path.read_text(encoding="utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    new = uuid.uuid4().hex[:8]
    path.write_text(new, encoding="utf-8")
    return new


def make_reporter(
    report_to: Report, folder: Path, first_step: int, config: dict[str, Any]
) -> Reporter:
    """The reporter of that name for a run in that folder.

    Args:
        report_to: "tensorboard", "wandb" or "none".
        folder: of the run.
        first_step: the first step that will be reported.
        config: the recipe.

    Raises:
        ValueError: if wandb was asked for and is not installed or nobody is logged in.
        OSError: if the log cannot be written.
    """
    if report_to == "tensorboard":
        return TensorBoardReporter(folder / "logs", first_step)
    if report_to == "wandb":
        return _wandb_reporter(folder, first_step, config)
    return Reporter()


def _wandb_reporter(folder: Path, first_step: int, config: dict[str, Any]) -> Reporter:
    try:
        return WandbReporter(folder, first_step, config)
    except OSError:
        raise
    except Exception as error:  # not installed, not logged in, offline: each has its own error
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            "report_to must be tensorboard or none unless wandb is installed (`pip install wandb`) "
            f"and logged in (`wandb login`), got wandb: {reason}"
        ) from error
