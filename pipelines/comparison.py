"""The guided and the unguided run of the same noise, side by side; what guidance does, seen."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image
from torch import Tensor

from pipelines import checkpoints, guidance, images, losses, sampling
from pipelines.settings import OFF

_REMEMBERED_BYTES = 256 * 2**20


class Settings(Protocol):
    """What the settings of a guided run have in common; see `pipelines.settings`."""

    @property
    def guidance_scale(self) -> float: ...
    @property
    def num_inference_steps(self) -> int: ...
    @property
    def num_images(self) -> int: ...
    @property
    def seed(self) -> int: ...
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
        unguided: the same of the same seeds without guidance.
        step: steps done, from 1.
        total_steps: steps of the run.
        seconds: since the run began.
        settings: as checked, with the seed that was drawn.
        model: key of the checkpoint.
        revision: of its weights.
        failed_steps: steps in which guidance left an image alone: its gradient was not finite.
    """

    pictures: list[Image.Image]
    unguided: list[Image.Image]
    step: int
    total_steps: int
    seconds: float
    settings: Any
    model: str
    revision: str
    failed_steps: list[int]

    @property
    def finished(self) -> bool:
        return self.step == self.total_steps


class Comparison:
    """Both runs of one set of settings.

    Args:
        settings: as checked.
        loaded: the checkpoint that draws.
        method: how it is guided.
        terms: towards what.
    """

    def __init__(
        self,
        settings: Settings,
        loaded: checkpoints.Loaded,
        method: guidance.Method,
        terms: Sequence[losses.Term],
    ):
        self.settings, self.loaded, self.method, self.terms = settings, loaded, method, terms
        self.eta = method.eta if settings.eta == OFF else settings.eta

    def steps(self) -> Iterator[tuple[sampling.SampleStep, Plain, Preview]]:
        """Step by step: guided, unguided, and what there is to show of both."""
        began, failed = time.monotonic(), []
        for guided, unguided in zip(self.guided(), self.unguided(), strict=True):
            if guided.failed is not None and bool(guided.failed.any()):
                failed.append(guided.index + 1)
            preview = Preview(
                pictures=images.to_pil(guided.shown),
                unguided=images.to_pil(unguided.x0),
                step=guided.index + 1,
                total_steps=guided.total,
                seconds=time.monotonic() - began,
                settings=self.settings,
                model=self.loaded.checkpoint.key,
                revision=self.loaded.revision,
                failed_steps=list(failed),
            )
            yield guided, unguided, preview

    def guided(self) -> Iterator[sampling.SampleStep]:
        settings = self.settings
        return self._sample(
            guidance.Guide(
                self.method,
                self.terms,
                settings.guidance_scale,
                start=settings.start,
                stop=settings.stop,
                every=settings.every,
                repeats=settings.repeats or None,
            )
        )

    def unguided(self) -> Iterator[Plain]:
        """From memory if a run of the same seed and settings was finished before."""
        settings = self.settings
        key = (
            self.loaded.revision,
            self.method.solver,
            self.eta,
            settings.seed,
            settings.num_images,
            settings.num_inference_steps,
        )
        remembered = memory.get(key)
        if remembered is not None:
            yield from remembered
            return
        steps: list[Plain] = []
        for step in self._sample(None):
            steps.append(Plain(step.shown, step.x0_network))
            if step.index + 1 == step.total:
                memory.put(key, steps)
            yield steps[-1]

    def _sample(self, guide: guidance.Guide | None) -> Iterator[sampling.SampleStep]:
        settings, loaded = self.settings, self.loaded
        size_px = loaded.checkpoint.size_px
        device = next(loaded.unet.parameters()).device
        generators = sampling.image_generators(settings.seed, settings.num_images)
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
            eta=self.eta,
            generators=generators,
            guide=guide,
        )


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
