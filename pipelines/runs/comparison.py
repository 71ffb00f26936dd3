"""The guided and the unguided run from the same noise, side by side."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from PIL import Image
from torch import Tensor

from pipelines.core import images
from pipelines.core.cache import Cache
from pipelines.core.later import Later
from pipelines.diffusion import sampling
from pipelines.models import checkpoints
from pipelines.runs.history import History
from pipelines.runs.run import Plan, Run

NOT_STORED = {"stored": False}
"""Metadata of a field of a preview that the file of an example does not hold."""

_CACHED_BYTES = 256 * 2**20


@dataclass(frozen=True)
class UnguidedStep:
    """One step of an unguided run, as the cache stores it.

    Attributes:
        x0: `(b, c, h, w)`, the predicted clean images; after the last step, the result.
        x0_network: `(b, c, h, w)`, not clamped.
    """

    x0: Tensor
    x0_network: Tensor


@dataclass(frozen=True)
class Preview:
    """The state of both runs after one step.

    Attributes:
        pictures: one per image: the predicted clean picture, after the last step the result.
        unguided: the same from the same seeds without guidance; empty if not drawn.
        step: number of finished steps, from 1; 0 during a seed search.
        total_steps: number of steps of the run.
        times: per finished step, the seconds since the run began.
        settings: checked, with the actual seed instead of -1.
        model: key of the checkpoint.
        revision: of its weights.
        failed_steps: steps, from 1, in which an image was not guided: its gradient was not finite.
        history: of the run so far; later steps add to the same object.
    """

    pictures: Sequence[Image.Image]
    unguided: Sequence[Image.Image]
    step: int
    total_steps: int
    times: list[float]
    settings: Any
    model: str
    revision: str
    failed_steps: list[int]
    history: History

    @property
    def revisions(self) -> dict[str, str]:
        """The revision of every checkpoint that took part, by key; the one that draws first."""
        return {self.model: self.revision}

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return self.times[-1]

    @property
    def finished(self) -> bool:
        return self.step == self.total_steps

    def at_full_size(self) -> Self:
        """Returns the preview with pictures as the last one would have them, to be taken away."""
        return self

    @property
    def num_bytes(self) -> int:
        """The memory of all pictures, those of the history too."""
        shown = sum(images.num_bytes(picture) for picture in [*self.pictures, *self.unguided])
        return shown + self.history.num_bytes


Pair = tuple[sampling.SampleStep, UnguidedStep | None, Preview]


def side_by_side(
    guided: Iterator[sampling.SampleStep],
    unguided: Iterator[UnguidedStep] | None,
    settings: Any,
    loaded: checkpoints.Loaded,
) -> Iterator[Pair]:
    """Yields per step: the guided step, the unguided step, and a preview of both.

    Args:
        guided: steps of the guided run.
        unguided: as many steps of the unguided run; None without one.
        settings: checked.
        loaded: the checkpoint of the run.
    """
    began, times, failed, history = time.monotonic(), [], [], History()
    for step in guided:
        unguided_step = None if unguided is None else next(unguided)
        if step.failed is not None and bool(step.failed.any()):
            failed.append(step.index + 1)
        history.add(step)
        times.append(time.monotonic() - began)
        preview = Preview(
            pictures=_pictures(step.preview),
            unguided=_pictures(unguided_step.x0) if unguided_step else [],
            step=step.index + 1,
            total_steps=step.total,
            times=list(times),
            settings=settings,
            model=loaded.checkpoint.key,
            revision=loaded.revision,
            failed_steps=list(failed),
            history=history,
        )
        yield step, unguided_step, preview


def _pictures(shown: Tensor) -> Sequence[Image.Image]:
    """Returns the pictures of a batch; a run does not wait for those that nobody looks at."""
    return Later(lambda: images.to_pil(shown))


def compared(run: Run, settings: Any, *, compare: bool = True) -> Iterator[Pair]:
    """Draws a run and the unguided run from the same noise; see `side_by_side`.

    Args:
        run: the guided run.
        settings: checked.
        compare: whether to draw the unguided run too.
    """
    unguided = unguided_steps(run) if compare else None
    return side_by_side(run.steps(), unguided, settings, run.loaded)


def unguided_steps(run: Run) -> Iterator[UnguidedStep]:
    """Yields the steps of a run without guidance; cached per plan once it has finished."""
    key = run.plan.key(run.loaded.revision)
    cached = unguided_runs.get(key)
    if cached is not None:
        yield from cached
        return
    steps: list[UnguidedStep] = []
    for step in run.unguided().steps():
        unguided = UnguidedStep(step.preview, step.x0_network)
        if _bytes([unguided]) * step.total <= _CACHED_BYTES:  # else the cache would not take it
            steps.append(unguided)
        if step.index + 1 == step.total and steps:
            unguided_runs.put(key, steps)
        yield unguided


def is_cached(plan: Plan) -> bool:
    """Returns whether the unguided run of a plan is in the cache."""
    revision = checkpoints.loaded_revision(plan.model)
    return bool(revision) and unguided_runs.get(plan.key(revision)) is not None


def _bytes(steps: list[UnguidedStep]) -> int:
    return sum(step.x0.nbytes + step.x0_network.nbytes for step in steps)


unguided_runs: Cache[list[UnguidedStep]] = Cache(_CACHED_BYTES, _bytes)
"""Recent unguided runs, so that a new guidance setting draws only the guided run again."""
