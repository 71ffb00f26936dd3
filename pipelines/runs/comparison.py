"""The guided and the unguided run of the same noise, side by side; what guidance does, seen."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image
from torch import Tensor

from pipelines.core import images
from pipelines.core.rules import OFF
from pipelines.diffusion import guidance, losses, sampling
from pipelines.models import checkpoints
from pipelines.runs import seed_search
from pipelines.runs.history import Trace
from pipelines.runs.timing import Work

_REMEMBERED_BYTES = 256 * 2**20
_BACKWARD = 2.0  # what a backward pass costs, in evaluations of the network


class Settings(Protocol):
    """What the settings of a guided run have in common; see `pipelines.core.rules`."""

    @property
    def guidance_scale(self) -> float: ...
    @property
    def num_inference_steps(self) -> int: ...
    @property
    def num_images(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def model(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def start(self) -> float: ...
    @property
    def stop(self) -> float: ...
    @property
    def every(self) -> int: ...
    @property
    def repeats(self) -> int: ...
    @property
    def eta(self) -> float: ...


@dataclass(frozen=True)
class Plain:
    """One step of an unguided run, as it is remembered.

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
        trace: what the run went through so far; it goes on growing with the run.
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
    trace: Trace

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return self.times[-1]

    @property
    def finished(self) -> bool:
        return self.step == self.total_steps


Pair = tuple[sampling.SampleStep, Plain | None, Preview]


def side_by_side(
    guided: Iterator[sampling.SampleStep],
    unguided: Iterator[Plain] | None,
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
    began, times, failed, trace = time.monotonic(), [], [], Trace()
    for step in guided:
        plain = None if unguided is None else next(unguided)
        if step.failed is not None and bool(step.failed.any()):
            failed.append(step.index + 1)
        trace.add(step)
        times.append(time.monotonic() - began)
        preview = Preview(
            pictures=images.to_pil(step.shown),
            unguided=images.to_pil(plain.x0) if plain else [],
            step=step.index + 1,
            total_steps=step.total,
            times=list(times),
            settings=settings,
            model=loaded.checkpoint.key,
            revision=loaded.revision,
            failed_steps=list(failed),
            trace=trace,
        )
        yield step, plain, preview


def remembered(key: tuple, run: Callable[[], Iterator[sampling.SampleStep]]) -> Iterator[Plain]:
    """An unguided run, from memory if one of the same key was finished before."""
    known = memory.get(key)
    if known is not None:
        yield from known
        return
    steps: list[Plain] = []
    for step in run():
        steps.append(Plain(step.shown, step.x0_network))
        if step.index + 1 == step.total:
            memory.put(key, steps)
        yield steps[-1]


def guide_of(
    settings: Settings, method: guidance.Method, terms: Sequence[losses.Term]
) -> guidance.Guide:
    """How a run is guided, as its settings say."""
    return guidance.Guide(
        method,
        terms,
        settings.guidance_scale,
        start=settings.start,
        stop=settings.stop,
        every=settings.every,
        repeats=settings.repeats or None,
    )


def eta_of(settings: Settings, method: guidance.Method) -> float:
    """Fresh noise per step, as the settings or else the method say."""
    return method.eta if settings.eta == OFF else settings.eta


class Comparison:
    """Both runs of one set of settings, of a network that knows no condition.

    Args:
        settings: as checked.
        loaded: the checkpoint that draws.
        method: how it is guided.
        terms: towards what.
        seeds: of the pictures; None is as the settings say, from `seed` on.
    """

    def __init__(
        self,
        settings: Settings,
        loaded: checkpoints.Loaded,
        method: guidance.Method,
        terms: Sequence[losses.Term],
        seeds: Sequence[int] | None = None,
    ):
        self.settings, self.loaded, self.method, self.terms = settings, loaded, method, terms
        self.seeds = seeds_of(settings) if seeds is None else tuple(seeds)

    def steps(self, *, compare: bool = True) -> Iterator[Pair]:
        """See `side_by_side`; without `compare` the guided run alone."""
        unguided = self.unguided() if compare else None
        return side_by_side(self.guided(), unguided, self.settings, self.loaded)

    def guided(self) -> Iterator[sampling.SampleStep]:
        return self._sample(guide_of(self.settings, self.method, self.terms))

    def unguided(self) -> Iterator[Plain]:
        """From memory if a run of the same seed and settings was finished before."""
        key = unguided_key(self.settings, self.loaded.revision, self.method, self.seeds)
        return remembered(key, lambda: self._sample(None))

    def _sample(self, guide: guidance.Guide | None) -> Iterator[sampling.SampleStep]:
        settings, loaded = self.settings, self.loaded
        size_px = loaded.checkpoint.size_px
        device = next(loaded.unet.parameters()).device
        generators = sampling.seeded(self.seeds)
        noise = sampling.draw_noise(generators, (3, size_px, size_px))  # (b, 3, h, w)
        return sampling.sample(
            sampling.unconditional(loaded.unet),
            noise.to(device),
            sampling.make_scheduler(
                loaded.scheduler_config,
                solver=self.method.solver,
                num_inference_steps=settings.num_inference_steps,
                device=device,
            ),
            prediction_type=loaded.scheduler_config["prediction_type"],
            eta=eta_of(settings, self.method),
            generators=generators,
            guide=guide,
        )


def seeds_of(settings: Settings) -> tuple[int, ...]:
    """The seed of every picture, unless several are tried for each."""
    return tuple(settings.seed + i for i in range(settings.num_images))


def unguided_key(
    settings: Settings, revision: str, method: guidance.Method, seeds: Sequence[int]
) -> tuple:
    """What decides an unguided run; guidance may be whatever it is."""
    return (
        settings.model,  # two may have the same weights, and another schedule
        revision,
        method.solver,
        eta_of(settings, method),
        tuple(seeds),
        settings.num_inference_steps,
    )


def work_of(
    settings: Settings,
    method: guidance.Method,
    kind: Sequence[str],
    terms: Sequence[losses.Term],
    tries: int = 1,
) -> Work:
    """What a run will compute, to tell how long it takes.

    Args:
        settings: as checked.
        method: how it is guided.
        kind: of the run, from general to particular.
        terms: towards what; how many, and none if guidance is off.
        tries: seeds of each picture.
    """
    guide, total = guide_of(settings, method, terms), settings.num_inference_steps
    costs = [
        guide.times(i, total) * (1 + _BACKWARD * guide.differentiates(i, total))
        for i in range(total)
    ]
    evaluations = sum(costs)
    if tries > 1:
        evaluations += tries * sum(costs[: seed_search.steps_of(total)])
    if tries > 1 or not _is_remembered(settings, method):
        evaluations += total
    return Work(tuple(kind), evaluations, settings.num_images)


def _is_remembered(settings: Settings, method: guidance.Method) -> bool:
    """Whether the unguided run of the settings' own seeds is."""
    revision = checkpoints.loaded_revision(settings.model)
    if not revision:
        return False
    return memory.get(unguided_key(settings, revision, method, seeds_of(settings))) is not None


class Memory:
    """The last unguided runs, so that moving a slider draws only the guided ones anew."""

    def __init__(self, max_bytes: int = _REMEMBERED_BYTES):
        self._max_bytes = max_bytes
        self._runs: OrderedDict[tuple, list[Plain]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple) -> list[Plain] | None:
        with self._lock:
            if key in self._runs:
                self._runs.move_to_end(key)
            return self._runs.get(key)

    def put(self, key: tuple, steps: list[Plain]) -> None:
        with self._lock:
            self._runs[key] = steps
            while len(self._runs) > 1 and self._bytes() > self._max_bytes:
                self._runs.popitem(last=False)

    def _bytes(self) -> int:
        return sum(step.x0.nbytes * 2 for steps in self._runs.values() for step in steps)


memory = Memory()
