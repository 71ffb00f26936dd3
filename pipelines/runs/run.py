"""A run: everything that determines its pictures, and its steps.

Every picture of every product comes from a `Run`, which combines noise, a denoiser (model,
condition, classifier-free guidance) and a sampler (solver, guide). So a conditional model can also
be guided by a loss.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from pipelines.core.errors import UserError
from pipelines.diffusion import denoisers, sampling
from pipelines.diffusion.denoisers import NO_CONDITION, Cfg, Condition
from pipelines.diffusion.guidance import guided_steps
from pipelines.diffusion.noise import draw_noise, seeded
from pipelines.diffusion.schedules import Schedule
from pipelines.diffusion.solvers import make_schedule
from pipelines.models import ways
from pipelines.models.checkpoints import Loaded


class RunError(UserError):
    """A run cannot go on; the message is one sentence for people."""


@dataclass(frozen=True)
class Plan:
    """Everything that determines the pictures of an unguided run, besides the weights.

    Attributes:
        model: key of the checkpoint; two may have the same weights but different schedules.
        seeds: one per image.
        num_inference_steps: number of denoising steps.
        solver: key of `solvers.SOLVERS`.
        eta: fresh noise per step; 0 is none, 1 as much as DDPM.
        condition: of the network, on any device.
        timesteps: of the steps, strictly falling, instead of the solver's own; empty are those.
        computed_by: name of `ways.CHOICES`.
    """

    model: str
    seeds: tuple[int, ...]
    num_inference_steps: int
    solver: str
    eta: float
    condition: Condition = NO_CONDITION
    timesteps: tuple[int, ...] = ()
    computed_by: str = ways.MEASURED

    def key(self, revision: str) -> Hashable:
        """Returns the cache key of the unguided run; it does not depend on guidance.

        Args:
            revision: of the weights.
        """
        condition = tuple((name, _digest(value)) for name, value in self.condition.inputs.items())
        steps = (self.num_inference_steps, self.solver, self.eta, self.timesteps)
        return (self.model, revision, self.seeds, *steps, condition, self.computed_by)


@dataclass(frozen=True)
class Run:
    """A run that is ready to draw.

    Attributes:
        plan: everything that determines its pictures without guidance.
        loaded: the checkpoint.
        guide: loss guidance; None is off.
        cfg_scale: scale of classifier-free guidance; 1 is off.
        cfg_start: share of the steps after which classifier-free guidance begins.
        cfg_stop: share of the steps after which classifier-free guidance ends.
        begin: function from the noise `(b, c, h, w)` of the seeds and the schedule to the noisy
            images that the run begins with; None begins with the noise.
    """

    plan: Plan
    loaded: Loaded
    guide: sampling.Guide | None = None
    cfg_scale: float = 1.0
    cfg_start: float = 0.0
    cfg_stop: float = 1.0
    begin: Callable[[Tensor, Schedule], Tensor] | None = None

    def unguided(self) -> Run:
        """Returns the same run without any guidance."""
        return replace(self, guide=None, cfg_scale=1.0)

    def steps(self) -> Iterator[sampling.SampleStep]:
        """Draws the pictures; yields once per denoising step.

        Raises:
            RunError: after the first step that gives NaN or infinite numbers.
        """
        plan, loaded = self.plan, self.loaded
        row, config = loaded.checkpoint, loaded.scheduler_config
        generators, schedule = seeded(plan.seeds), self.schedule()
        noise = draw_noise(generators, (row.channels, row.size_px, row.size_px))  # (b, c, h, w)
        noise = noise.to(loaded.device)
        condition = plan.condition.to(loaded.device)
        way = ways.asked(plan.computed_by, loaded.device)
        steps = sampling.sample(
            denoisers.denoiser(loaded.denoise.by(way), condition, self._cfg(schedule)),
            self.begin(noise, schedule) if self.begin else noise,
            schedule,
            prediction_type=config["prediction_type"],
            eta=plan.eta,
            generators=generators,
            guide=self.guide,
        )
        return _finite(steps, row.key)

    def schedule(self) -> Schedule:
        """Returns the noise levels of the run."""
        plan = self.plan
        return make_schedule(
            self.loaded.scheduler_config,
            solver=plan.solver,
            num_inference_steps=plan.num_inference_steps,
            device=self.loaded.device,
            timesteps=plan.timesteps,
        )

    def _cfg(self, schedule: Schedule) -> Cfg:
        """Returns classifier-free guidance with its interval in timesteps."""
        first, end = cfg_interval(len(schedule), self.cfg_start, self.cfg_stop)
        if first >= end:
            return Cfg()
        timesteps = schedule.timesteps.tolist()
        return Cfg(self.cfg_scale, first_t=timesteps[first], last_t=timesteps[end - 1])


def cfg_interval(num_steps: int, start: float, stop: float) -> tuple[int, int]:
    """Returns the index of the first step with CFG, and of the first step after its interval."""
    return guided_steps(start, stop, num_steps)


def _finite(steps: Iterator[sampling.SampleStep], model: str) -> Iterator[sampling.SampleStep]:
    """Yields the steps of a run; an error of the sampler names the model."""
    try:
        yield from steps
    except sampling.NotFiniteError as error:
        step, total = error.index + 1, error.total
        raise RunError("not_finite", model=model, step=step, total=total) from error


def _digest(values: Tensor) -> str:
    return hashlib.sha256(values.cpu().numpy().tobytes()).hexdigest()
