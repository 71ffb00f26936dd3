"""The guided and the unguided run of the same noise, side by side; what guidance does, seen."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from pipelines import checkpoints, guidance, losses, sampling
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

    def steps(self) -> Iterator[tuple[sampling.SampleStep, Plain]]:
        """Step by step, the guided one first."""
        yield from zip(self.guided(), self.unguided(), strict=True)

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
