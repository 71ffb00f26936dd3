"""One way to draw: everything that decides the pictures of a run, and its steps.

Every picture of every product comes from a `Run`: noise, a denoiser (model, condition,
classifier-free guidance), a sampler (solver, guide). Conditions and guidance meet here: a
conditional model can be steered by a loss.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from pipelines.diffusion import denoisers, sampling
from pipelines.diffusion.denoisers import NO_CONDITION, Cfg, Condition
from pipelines.diffusion.noise import draw_noise, seeded
from pipelines.diffusion.schedules import Schedule
from pipelines.diffusion.solvers import make_schedule
from pipelines.models.checkpoints import Loaded


@dataclass(frozen=True)
class Plan:
    """What decides the pictures of an unguided run, besides the weights.

    Attributes:
        model: key of the checkpoint; two may have the same weights, and another schedule.
        seeds: one per image.
        num_inference_steps: denoising steps.
        solver: key of `solvers.SOLVERS`.
        eta: fresh noise per step, 0 for none, 1 as much as DDPM.
        condition: what the network is told, on any device.
    """

    model: str
    seeds: tuple[int, ...]
    num_inference_steps: int
    solver: str
    eta: float
    condition: Condition = NO_CONDITION

    def key(self, revision: str) -> Hashable:
        """What an unguided run is known by; guidance may be whatever it is.

        Args:
            revision: of the weights.
        """
        told = tuple((name, _digest(value)) for name, value in self.condition.inputs.items())
        steps = (self.num_inference_steps, self.solver, self.eta)
        return (self.model, revision, self.seeds, *steps, told)


@dataclass(frozen=True)
class Run:
    """A run, ready to draw.

    Attributes:
        plan: what decides its pictures without guidance.
        loaded: the checkpoint that draws.
        guide: what moves the predicted picture; None is nothing.
        cfg_scale: classifier-free guidance; 1 is off.
        cfg_start: share of the steps after which that begins.
        cfg_stop: share of the steps after which it ends.
    """

    plan: Plan
    loaded: Loaded
    guide: sampling.Guide | None = None
    cfg_scale: float = 1.0
    cfg_start: float = 0.0
    cfg_stop: float = 1.0

    def unguided(self) -> Run:
        """The same run without any guidance."""
        return replace(self, guide=None, cfg_scale=1.0)

    def steps(self) -> Iterator[sampling.SampleStep]:
        """Draws, yielding once per denoising step."""
        plan, loaded = self.plan, self.loaded
        row, config = loaded.checkpoint, loaded.scheduler_config
        generators = seeded(plan.seeds)
        noise = draw_noise(generators, (row.channels, row.size_px, row.size_px))  # (b, c, h, w)
        schedule = make_schedule(
            config,
            solver=plan.solver,
            num_inference_steps=plan.num_inference_steps,
            device=loaded.device,
        )
        condition = plan.condition.to(loaded.device)
        return sampling.sample(
            denoisers.denoiser(loaded.unet, condition, self._cfg(schedule)),
            noise.to(loaded.device),
            schedule,
            prediction_type=config["prediction_type"],
            eta=plan.eta,
            generators=generators,
            guide=self.guide,
        )

    def _cfg(self, schedule: Schedule) -> Cfg:
        """Classifier-free guidance between the timesteps where it begins and ends."""
        first, end = cfg_interval(len(schedule), self.cfg_start, self.cfg_stop)
        if first >= end:
            return Cfg()
        timesteps = schedule.timesteps.tolist()
        return Cfg(self.cfg_scale, first_t=timesteps[first], last_t=timesteps[end - 1])


def cfg_interval(num_steps: int, start: float, stop: float) -> tuple[int, int]:
    """The first step with classifier-free guidance, and the first after it without."""
    return round(start * num_steps), round(stop * num_steps)


def _digest(values: Tensor) -> str:
    return hashlib.sha256(values.cpu().numpy().tobytes()).hexdigest()
