"""How long runs take on this device, learned from those that it has finished.

A run's seconds are its network evaluations times seconds per evaluation. These are measured per
kind of run and number of images, and carried over to what was never measured from what is most
like it.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, linear_regression, median

_REMEMBERED = 8
_LEAST_IN_COMMON = 2
_FIXED_SHARE = 0.35  # a guess, in force until a kind was measured at two numbers of images
_LAST_STEPS = 8


@dataclass(frozen=True)
class Work:
    """What a run computes.

    Attributes:
        kind: from general to particular, such as `("text", "paintings", "balanced",
            "clip-small", "1 cutouts")`.
        evaluations: network evaluations of one picture: a step counts 1 and a backward pass 2
            more; the unguided run counts its steps, unless it is remembered. Above 0.
        num_images: drawn at once, 1 or more.
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
    """One finished run: `num_images` at once took that many seconds per evaluation."""

    num_images: int
    seconds: float


class Estimator:
    """The last runs of each kind, and what they say of the next; safe from several threads.

    Attributes:
        measuring: whether runs go on that are only there to be learned from.
    """

    def __init__(self) -> None:
        self.measuring = False
        self._runs: dict[tuple[str, ...], deque[Measured]] = {}
        self._lock = threading.Lock()

    def note(self, work: Work, seconds: float) -> None:
        """Learns from a finished run.

        Args:
            work: what it computed.
            seconds: of its steps alone, without loading; 0 or more.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"seconds must be 0 or more and finite, got {seconds}")
        measured = Measured(work.num_images, seconds / work.evaluations)
        with self._lock:
            self._runs.setdefault(work.kind, deque(maxlen=_REMEMBERED)).append(measured)

    def estimate(self, work: Work) -> float | None:
        """Seconds that a run will take; None if nothing comparable was ever finished.

        Of runs of the same kind, else of the kinds that have most in common with it, from the
        first entry on, and at least two entries.
        """
        found = [_per_evaluation(runs, work.num_images) for runs in self._nearest(work.kind)]
        return work.evaluations * median(found) if found else None

    def _nearest(self, kind: tuple[str, ...]) -> list[list[Measured]]:
        """The runs of every kind that is as near as any."""
        with self._lock:
            if kind in self._runs:
                return [list(self._runs[kind])]
            shared = {other: _in_common(kind, other) for other in self._runs}
            most = max([_LEAST_IN_COMMON, *shared.values()])
            return [list(runs) for other, runs in self._runs.items() if shared[other] == most]


def _in_common(kind: tuple[str, ...], other: tuple[str, ...]) -> int:
    """How many entries two kinds share before they first differ."""
    differs = (i for i, (a, b) in enumerate(zip(kind, other, strict=False)) if a != b)
    return next(differs, min(len(kind), len(other)))


def _per_evaluation(runs: Iterable[Measured], num_images: int) -> float:
    """Seconds per evaluation of a number of images, of runs of one kind."""
    of: dict[int, list[float]] = {}
    for run in runs:
        of.setdefault(run.num_images, []).append(run.seconds)
    medians = {number: median(seconds) for number, seconds in of.items()}
    if num_images in medians:
        return medians[num_images]
    if len(medians) == 1:
        ((number, seconds),) = medians.items()
        return seconds * _guessed_share(num_images) / _guessed_share(number)
    return _on_the_line(medians, num_images)


def _guessed_share(num_images: int) -> float:
    """What a number of images takes beside a single one, before two numbers were measured."""
    return _FIXED_SHARE + (1 - _FIXED_SHARE) * num_images


def _on_the_line(seconds: dict[int, float], num_images: int) -> float:
    """`fixed + per_image * num_images`, fitted to two numbers or more, neither below 0."""
    numbers, values = list(seconds), list(seconds.values())
    per_image, fixed = linear_regression(numbers, values)
    if per_image < 0:
        return fmean(values)
    if fixed < 0:
        return linear_regression(numbers, values, proportional=True).slope * num_images
    return fixed + per_image * num_images


estimator = Estimator()
"""What this process has learned."""


def rounded(seconds: float) -> float:
    """Seconds to two significant digits, which is all that an estimate knows: 0.43, 1.5, 12, 95."""
    return float(f"{seconds:.2g}")


def remaining(times: Sequence[float], total: int) -> float:
    """Seconds that a run still takes, from the median of its last steps.

    The first step counts only while there is no other, for it warms the device up.

    Args:
        times: per step done, at least one: seconds since the run began.
        total: steps of the run.
    """
    if not times:
        raise ValueError("times must be those of at least one step, got none")
    recent = times[-_LAST_STEPS - 1 :]
    durations = [after - before for before, after in pairwise(recent)]
    return median(durations or times) * max(total - len(times), 0)
