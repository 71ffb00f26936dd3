"""The guided and the unguided run of the same noise, side by side; what guidance does, seen."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from PIL import Image
from torch import Tensor

from pipelines.core import images
from pipelines.core.cache import Cache
from pipelines.diffusion import sampling
from pipelines.models import checkpoints
from pipelines.runs.history import History
from pipelines.runs.run import Plan, Run

_CACHED_BYTES = 256 * 2**20


@dataclass(frozen=True)
class UnguidedStep:
    """One step of an unguided run, as it is kept.

    Attributes:
        x0: `(b, c, h, w)`, the predicted clean images; after the last step the result.
        x0_network: `(b, c, h, w)`, not clamped.
    """

    x0: Tensor
    x0_network: Tensor


@dataclass(frozen=True)
class Preview:
    """The state of both runs after one step.

    Attributes:
        pictures: one per image; the predicted clean picture, after the last step the result.
        unguided: the same of the same seeds without guidance; empty where that is not drawn.
        step: steps done, from 1; 0 while seeds are tried.
        total_steps: steps of the run.
        times: seconds since the run began, at the end of every step.
        settings: as checked, with the seed that was drawn.
        model: key of the checkpoint.
        revision: of its weights.
        failed_steps: steps in which guidance left an image alone: its gradient was not finite.
        history: what the run went through so far; it goes on growing with the run.
    """

    pictures: list[Image.Image]
    unguided: list[Image.Image]
    step: int
    total_steps: int
    times: list[float]
    settings: Any
    model: str
    revision: str
    failed_steps: list[int]
    history: History

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return self.times[-1]

    @property
    def finished(self) -> bool:
        return self.step == self.total_steps


Pair = tuple[sampling.SampleStep, UnguidedStep | None, Preview]


def side_by_side(
    guided: Iterator[sampling.SampleStep],
    unguided: Iterator[UnguidedStep] | None,
    settings: Any,
    loaded: checkpoints.Loaded,
) -> Iterator[Pair]:
    """Step by step: guided, unguided, and what there is to show of both.

    Args:
        guided: a run.
        unguided: the same number of steps; None where there is nothing to compare with.
        settings: as checked.
        loaded: the checkpoint that draws.
    """
    began, times, failed, history = time.monotonic(), [], [], History()
    for step in guided:
        plain = None if unguided is None else next(unguided)
        if step.failed is not None and bool(step.failed.any()):
            failed.append(step.index + 1)
        history.add(step)
        times.append(time.monotonic() - began)
        preview = Preview(
            pictures=images.to_pil(step.preview),
            unguided=images.to_pil(plain.x0) if plain else [],
            step=step.index + 1,
            total_steps=step.total,
            times=list(times),
            settings=settings,
            model=loaded.checkpoint.key,
            revision=loaded.revision,
            failed_steps=list(failed),
            history=history,
        )
        yield step, plain, preview


def compared(run: Run, settings: Any, *, compare: bool = True) -> Iterator[Pair]:
    """A run beside the unguided one of the same noise; see `side_by_side`.

    Args:
        run: guided.
        settings: as checked.
        compare: whether the unguided run is drawn too.
    """
    unguided = unguided_steps(run) if compare else None
    return side_by_side(run.steps(), unguided, settings, run.loaded)


def unguided_steps(run: Run) -> Iterator[UnguidedStep]:
    """The run without guidance, from the cache if one of the same plan was finished before."""
    key = run.plan.key(run.loaded.revision)
    cached = unguided_runs.get(key)
    if cached is not None:
        yield from cached
        return
    steps: list[UnguidedStep] = []
    for step in run.unguided().steps():
        steps.append(UnguidedStep(step.preview, step.x0_network))
        if step.index + 1 == step.total:
            unguided_runs.put(key, steps)
        yield steps[-1]


def is_cached(plan: Plan) -> bool:
    """Whether the unguided run of a plan is there already."""
    revision = checkpoints.loaded_revision(plan.model)
    return bool(revision) and unguided_runs.get(plan.key(revision)) is not None


def _bytes(steps: list[UnguidedStep]) -> int:
    return sum(step.x0.nbytes + step.x0_network.nbytes for step in steps)


unguided_runs: Cache[list[UnguidedStep]] = Cache(_CACHED_BYTES, _bytes)
"""The last unguided runs, so that moving a slider draws only the guided ones anew."""
