"""Times the row 0-9: the product at default settings, and the course's 1,000-step loop."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks import course
from benchmarks.scoring import cycled_labels
from pipelines.models import checkpoints
from pipelines.products.digits import generate
from pipelines.products.settings import DigitsSettings

ROW = "0123456789"


@dataclass(frozen=True)
class Timing:
    """Seconds for the row 0-9 on one network, ours and the course's.

    Attributes:
        conditioning: of the network.
        seconds: median of ours at default settings.
        course_seconds: of the course's full loop.
        course_steps_timed: how many of its steps were timed; fewer than all are scaled up.
        course_steps: number of its steps.
    """

    conditioning: str
    seconds: float
    course_seconds: float
    course_steps_timed: int
    course_steps: int

    @property
    def ratio(self) -> float:
        return self.course_seconds / self.seconds

    @property
    def method(self) -> str:
        """How the course's seconds were measured, as text."""
        if self.course_steps_timed == self.course_steps:
            return f"all {self.course_steps} steps timed"
        return f"scaled up from {self.course_steps_timed} steps"


class CourseLoop:
    """The course's loop on the row 0-9, run piece by piece."""

    def __init__(self, conditioning: str):
        self.loaded = checkpoints.load(f"digits-{conditioning}")
        device = next(self.loaded.unet.parameters()).device
        size_px = self.loaded.checkpoint.size_px
        self.scheduler = course.scheduler_of(self.loaded)
        self.labels = cycled_labels(len(ROW)).to(device)
        self.x_t = torch.randn(len(ROW), 1, size_px, size_px).to(device)

    def advance(self, timesteps: Tensor) -> None:
        self.x_t = course.denoise(
            self.loaded, self.x_t, self.labels, timesteps, scheduler=self.scheduler
        )
        self.x_t.sum().item()  # waits for a GPU to finish


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def time_row(conditioning: str, *, repeats: int, course_steps_timed: int) -> Timing:
    """Times both in turns after a warm-up, so that a busy machine slows both equally.

    Ours is the median of `repeats`. The course's loop is cut into as many pieces; their times are
    summed if they make up the full loop, else the median time of a step is scaled up.
    """
    settings = DigitsSettings(digits=ROW, conditioning=conditioning)
    warm_up, loop = CourseLoop(conditioning), CourseLoop(conditioning)
    timesteps = loop.scheduler.timesteps
    warm_up.advance(timesteps[:5])
    list(generate(settings, compare=False))
    ours, course_seconds, per_step = [], [], []
    pieces = timesteps[:course_steps_timed].chunk(repeats)
    for piece in tqdm(pieces, unit="repeat", desc=f"time {conditioning}"):
        ours.append(_seconds(lambda: list(generate(settings, compare=False))))
        course_seconds.append(_seconds(lambda piece=piece: loop.advance(piece)))
        per_step.append(course_seconds[-1] / len(piece))
    timed, total = min(course_steps_timed, len(timesteps)), len(timesteps)
    course_total = sum(course_seconds) if timed == total else statistics.median(per_step) * total
    return Timing(conditioning, statistics.median(ours), course_total, timed, total)
