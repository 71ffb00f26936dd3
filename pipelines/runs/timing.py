"""Estimates how long runs take on this device, from the runs that it has finished.

The seconds of a run are its network evaluations times the seconds per evaluation. The latter are
measured per kind of run and number of images; kinds without measurements use the most similar ones.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, linear_regression, median

_RUNS_PER_KIND = 8
_LEAST_IN_COMMON = 2
_FIXED_SHARE = 0.35  # a guess, used until a kind was measured with two numbers of images
_LAST_STEPS = 8


@dataclass(frozen=True)
class Work:
    """The computational work of a run.

    Attributes:
        kind: from general to specific, such as `("text", "paintings", "balanced",
            "clip-small", "1 cutouts")`.
        evaluations: network evaluations of one picture, above 0: a step counts 1 and a backward
            pass 2 more; the unguided run counts its steps, unless it is cached.
        num_images: images drawn at once, 1 or more.
    """

    kind: tuple[str, ...]
    evaluations: float
    num_images: int

    def __post_init__(self) -> None:
        if not 0 < self.evaluations < math.inf:
            raise ValueError(f"evaluations must be above 0 and finite, got {self.evaluations}")
        if self.num_images < 1:
            raise ValueError(f"num_images must be 1 or more, got {self.num_images}")


@dataclass(frozen=True)
class Measured:
    """One finished run: its number of images, and seconds per evaluation of all of them."""

    num_images: int
    seconds: float


class Estimator:
    """Estimates from the last runs of each kind; safe to use from several threads.

    Attributes:
        measuring: whether runs are in progress that serve only for measurement.
    """

    def __init__(self) -> None:
        self.measuring = False
        self._runs: dict[tuple[str, ...], deque[Measured]] = {}
        self._lock = threading.Lock()

    def note(self, work: Work, seconds: float) -> None:
        """Learns from a finished run.

        Args:
            work: of the run.
            seconds: of its steps, without loading; 0 or more.

        Raises:
            ValueError: for negative or infinite seconds.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"seconds must be 0 or more and finite, got {seconds}")
        measured = Measured(work.num_images, seconds / work.evaluations)
        with self._lock:
            self._runs.setdefault(work.kind, deque(maxlen=_RUNS_PER_KIND)).append(measured)

    def estimate(self, work: Work) -> float | None:
        """Returns the estimated seconds of a run; None without comparable finished runs.

        It uses runs of the same kind, else of the kinds that share the most leading entries with
        it, at least two.
        """
        seconds = [_per_evaluation(runs, work.num_images) for runs in self._nearest(work.kind)]
        return work.evaluations * median(seconds) if seconds else None

    def has_measured(self, kind: tuple[str, ...], num_images: int) -> bool:
        """Returns whether a run of exactly that kind and number of images has finished."""
        with self._lock:
            return any(run.num_images == num_images for run in self._runs.get(kind, ()))

    def _nearest(self, kind: tuple[str, ...]) -> list[list[Measured]]:
        """Returns the runs of that kind, or of all the most similar kinds."""
        with self._lock:
            if kind in self._runs:
                return [list(self._runs[kind])]
            shared = {other: _in_common(kind, other) for other in self._runs}
            most = max([_LEAST_IN_COMMON, *shared.values()])
            return [list(runs) for other, runs in self._runs.items() if shared[other] == most]


def _in_common(kind: tuple[str, ...], other: tuple[str, ...]) -> int:
    """Returns how many leading entries two kinds share."""
    differs = (i for i, (a, b) in enumerate(zip(kind, other, strict=False)) if a != b)
    return next(differs, min(len(kind), len(other)))


def _per_evaluation(runs: Iterable[Measured], num_images: int) -> float:
    """Returns the seconds per evaluation of a number of images, from runs of one kind."""
    by_number: dict[int, list[float]] = {}
    for run in runs:
        by_number.setdefault(run.num_images, []).append(run.seconds)
    medians = {number: median(seconds) for number, seconds in by_number.items()}
    if num_images in medians:
        return medians[num_images]
    if len(medians) == 1:
        ((number, seconds),) = medians.items()
        return seconds * _guessed_share(num_images) / _guessed_share(number)
    return _on_the_line(medians, num_images)


def _guessed_share(num_images: int) -> float:
    """Returns the guessed time of a number of images, relative to that of one image."""
    return _FIXED_SHARE + (1 - _FIXED_SHARE) * num_images


def _on_the_line(seconds: dict[int, float], num_images: int) -> float:
    """Returns `fixed + per_image * num_images`, fitted to the measurements, neither below 0."""
    numbers, values = list(seconds), list(seconds.values())
    per_image, fixed = linear_regression(numbers, values)
    if per_image < 0:
        return fmean(values)
    if fixed < 0:
        return linear_regression(numbers, values, proportional=True).slope * num_images
    return fixed + per_image * num_images


estimator = Estimator()
"""The estimator of this process."""


def rounded(seconds: float) -> float:
    """Returns seconds with two significant digits, the precision of an estimate: 0.43, 1.5, 12."""
    return float(f"{seconds:.2g}")


def remaining(times: Sequence[float], total: int) -> float:
    """Returns the remaining seconds of a run, from the median of its last steps.

    The first step counts only while it is the only one, because it includes warm-up.

    Args:
        times: per finished step, at least one: seconds since the run began.
        total: number of steps of the run.

    Raises:
        ValueError: if `times` is empty.
    """
    if not times:
        raise ValueError("times must be those of at least one step, got none")
    recent = times[-_LAST_STEPS - 1 :]
    durations = [after - before for before, after in pairwise(recent)]
    return median(durations or times) * max(total - len(times), 0)
