"""One sampler for everything: predict, guide, advance, one `SampleStep` per denoising step.

Solvers and guides are told x0, whatever the network predicts: then clamping and guiding x0 need no
way back into the network's terms, which at high noise would lose all digits.

The sampler knows no model. It is given a function that predicts and a `Schedule` that was made for
this run. Notation as in `schedules`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pipelines.core import devices
from pipelines.diffusion.denoisers import CfgOutput, Predictor, predict_x0
from pipelines.diffusion.noise import draw_noise, spawn
from pipelines.diffusion.schedules import Schedule
from pipelines.diffusion.solvers import SOLVERS, Estimate, SolverStep
from pipelines.diffusion.tensors import length


@dataclass(frozen=True)
class StepContext:
    """What a guide may know of the step it corrects.

    Attributes:
        schedule: of the run.
        index: 0 for the first step, `len(schedule) - 1` for the last.
        x_t: `(b, c, h, w)`.
        x0: `(b, c, h, w)`, what the network predicts from `x_t`, not clamped.
        graph: the same `(x_t, x0)` with the network's graph between them, where the guide asked
            for it with `differentiates`.
    """

    schedule: Schedule
    index: int
    x_t: Tensor
    x0: Tensor
    graph: tuple[Tensor, Tensor] | None = None

    @property
    def total(self) -> int:
        """Number of steps of the run."""
        return len(self.schedule)

    @property
    def alpha(self) -> Tensor:
        """Signal level `()`; `alpha**2` is alpha_bar."""
        return self.schedule.alpha[self.index]

    @property
    def sigma(self) -> Tensor:
        """Noise level `()`; `alpha**2 + sigma**2 = 1`."""
        return self.schedule.sigma[self.index]

    @property
    def alpha_prev(self) -> Tensor:
        """Signal level `()` after the step; 1 after the last."""
        return self.schedule.alpha[self.index + 1]

    @property
    def eps(self) -> Tensor:
        """The noise `(b, c, h, w)` that the network's x0 leaves."""
        return (self.x_t - self.alpha * self.x0) / self.sigma


@dataclass(frozen=True)
class Correction:
    """What a guide asks for in one step.

    Attributes:
        x0: `(b, c, h, w)`, to be used instead of the network's.
        push: `(b, c, h, w)`, to be subtracted from the step's result; None is nothing.
        keep_eps: whether the solver goes on with the network's eps; else with one that fits `x0`.
        loss: `(b,)` of the network's x0.
        gradient: `(b,)`, the length of the gradient that was followed.
        failed: `(b,)`, images whose gradient was not finite and that were left alone.
    """

    x0: Tensor
    push: Tensor | None
    keep_eps: bool
    loss: Tensor
    gradient: Tensor
    failed: Tensor


class Guide(Protocol):
    """Corrects the predicted x0 before the solver uses it; see `guidance.Guide`."""

    def recurrence(self, index: int, total_steps: int) -> int:
        """How often step `index` is done; more than once, noise is added in between.

        Also called time travel: FreeDoM (arXiv:2303.09833), universal guidance (arXiv:2302.07121).
        """
        ...

    def differentiates(self, index: int, total_steps: int) -> bool:
        """Whether step `index` needs gradients through the network, which take time and memory."""
        ...

    def __call__(self, context: StepContext) -> Correction | None:
        """What to do in this step; None is nothing."""
        ...


@dataclass(frozen=True)
class SampleStep:
    """One denoising step.

    Attributes:
        index: 0 for the first step, `total - 1` for the last.
        total: number of steps of this run.
        t: training timestep that the step started from (999 is pure noise, 0 is clean).
        x_t: `(b, c, h, w)`, the noisy images the step started from.
        x0: `(b, c, h, w)`, the clean images predicted from `x_t` and guided, about [-1, 1].
        x0_network: `(b, c, h, w)`, what the network alone predicted.
        x0_unguided: `(b, c, h, w)`, what it would predict from the same `x_t` without guidance;
            another one than `x0_network` only under classifier-free guidance.
        x_prev: `(b, c, h, w)`, the less noisy images after the step; after the last, the result.
        loss: `(b,)` of `x0_network`; None where the step was not guided.
        gradient: `(b,)`, the length of what guidance follows: of the loss's gradient, or of the
            difference that the class makes to x0; None where the step was not guided.
        failed: `(b,)`, images that guidance left alone since its gradient was not finite.
    """

    index: int
    total: int
    t: int
    x_t: Tensor
    x0: Tensor
    x0_network: Tensor
    x0_unguided: Tensor
    x_prev: Tensor
    loss: Tensor | None = None
    gradient: Tensor | None = None
    failed: Tensor | None = None

    @property
    def preview(self) -> Tensor:
        """`(b, c, h, w)`, what to look at: what the network predicts, at the end the result.

        Not what guidance has just moved it to, in which its last crop stands out.
        """
        last = self.index + 1 == self.total
        return self.x_prev if last else self.x0_network.clamp(-1, 1)

    @property
    def change(self) -> Tensor:
        """What guidance changed in the predicted picture, `(b, c, h, w)`."""
        return self.x0.clamp(-1, 1) - self.x0_unguided.clamp(-1, 1)


def sample(
    predict: Predictor,
    noise: Tensor,
    schedule: Schedule,
    *,
    prediction_type: str,
    eta: float = 0.0,
    generators: Sequence[torch.Generator] | None = None,
    fresh_noise: Callable[[Schedule, int], Tensor] | None = None,
    clip: bool = True,
    guide: Guide | None = None,
) -> Iterator[SampleStep]:
    """Denoises step by step; the last `SampleStep.x_prev` is the result.

    Each step opens and closes its own `no_grad`, since a consumer may resume this generator from
    another thread.

    Args:
        predict: the network, see `Predictor`.
        noise: `(b, c, h, w)`, standard normal, on the device of the run.
        schedule: from `solvers.make_schedule`.
        prediction_type: what `predict` answers, see `predict_x0`.
        eta: fresh noise, 0 for none, 1 as much as DDPM.
        generators: one CPU generator per image for that noise; needed when `eta` is above 0, or a
            step is done more than once.
        fresh_noise: what gives that of a step, `(b, c, h, w)`, instead of the generators.
        clip: clamp the predicted x0 to [-1, 1] in every step.
        guide: corrects the predicted x0 before the solver uses it; None is unguided.

    Raises:
        ValueError: if `eta` is above 0 without generators, or with a solver that adds no noise.
    """
    _check_noise(schedule, eta, generators is not None or fresh_noise is not None)
    look = _Look(predict, schedule, prediction_type, clip, guide)
    own, shape = generators or [], noise.shape[1:]
    # Noise of recurrence has generators of its own, so that it does not change that of the steps.
    recurrence_generators = [spawn(generator) for generator in own]
    drawn = fresh_noise or (lambda schedule, index: draw_noise(own, shape))

    def steps() -> Iterator[SampleStep]:
        x_t, before = noise, ()
        for index in range(len(schedule)):
            with devices.device_lock(x_t.device), torch.no_grad():
                for _ in range(look.recurrence(index) - 1):
                    fresh = draw_noise(recurrence_generators, shape) if eta else None
                    passed = _advance(look, look(x_t, index), before, eta, fresh)
                    again = draw_noise(recurrence_generators, shape)
                    x_t, before = _noised_back(schedule, index, passed.x_prev, again), ()
                seen = look(x_t, index)  # predict and guide
                fresh = drawn(schedule, index) if eta else None
                step = _advance(look, seen, before, eta, fresh)
            yield step
            x_t, before = step.x_prev, (seen.estimate, *before[:1])

    return steps()


def _check_noise(schedule: Schedule, eta: float, can_draw: bool) -> None:
    if eta > 0 and not can_draw:
        raise ValueError("generators must be given when eta is above 0")
    if eta > 0 and not SOLVERS[schedule.solver].takes_noise:
        raise ValueError(f"eta must be 0 with {schedule.solver}, which adds no noise, got {eta:g}")


@dataclass(frozen=True)
class _Seen:
    """Noisy images, and what network and guide take them for, each `(b, c, h, w)`.

    Attributes:
        context: what the guide was told, the network's own x0 included.
        x0: guided, clamped if asked.
        x0_unguided: see `SampleStep`.
        gradient: `(b,)` of classifier-free guidance; None without.
        correction: of the guide; None where it does nothing.
        estimate: what the solver is told.
    """

    context: StepContext
    x0: Tensor
    x0_unguided: Tensor
    gradient: Tensor | None
    correction: Correction | None
    estimate: Estimate

    @property
    def start(self) -> Tensor:
        """Where the solver starts, `(b, c, h, w)`.

        Moving x_t along with x0 makes the solver find the network's own eps.
        """
        asked, context = self.correction, self.context
        if asked is None or not asked.keep_eps:
            return context.x_t
        kept = context.alpha * self.x0 + context.sigma * context.eps
        return torch.where(asked.failed.view(-1, 1, 1, 1), context.x_t, kept)


@dataclass(frozen=True)
class _Look:
    """Network and guide together: noisy images to what they are taken for."""

    predict: Predictor
    schedule: Schedule
    prediction_type: str
    clip: bool
    guide: Guide | None

    def __call__(self, x_t: Tensor, index: int) -> _Seen:
        graph = None
        if self.guide is not None and self.guide.differentiates(index, len(self.schedule)):
            with torch.enable_grad():
                leaf = x_t.detach().requires_grad_()
                x0, x0_unguided, gradient = self._predicted(leaf, index)
                graph = (leaf, x0)
        else:
            x0, x0_unguided, gradient = self._predicted(x_t, index)
        x0 = x0.detach()
        context = StepContext(self.schedule, index, x_t, x0, graph)
        asked = self.guide(context) if self.guide is not None else None
        x0_guided = self._clipped(asked.x0 if asked else x0)
        return _Seen(
            context=context,
            x0=x0_guided,
            x0_unguided=x0 if x0_unguided is None else x0_unguided,
            gradient=gradient,
            correction=asked,
            estimate=Estimate(x0_guided, self._clipped(x0)),
        )

    def recurrence(self, index: int) -> int:
        return self.guide.recurrence(index, len(self.schedule)) if self.guide else 1

    def _clipped(self, x0: Tensor) -> Tensor:
        return x0.clamp(-1, 1) if self.clip else x0

    def _predicted(self, x_t: Tensor, index: int) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """x0; under classifier-free guidance also the unguided one and the gradient's length."""
        alpha, sigma = self.schedule.alpha[index], self.schedule.sigma[index]

        def x0_of(output: Tensor) -> Tensor:
            return predict_x0(output, x_t, alpha, sigma, self.prediction_type)

        answer = self.predict(x_t, self.schedule.timesteps[index])
        if not isinstance(answer, CfgOutput):
            return x0_of(answer), None, None
        cond, uncond = x0_of(answer.conditional), x0_of(answer.unconditional)
        return x0_of(answer.output), cond.detach(), length(cond - uncond).detach()


def _advance(
    look: _Look, seen: _Seen, before: Sequence[Estimate], eta: float, fresh: Tensor | None
) -> SampleStep:
    """The step from one noise level to the next."""
    context, asked = seen.context, seen.correction
    step = SolverStep(
        schedule=context.schedule,
        index=context.index,
        x_t=seen.start,
        now=seen.estimate,
        before=before,
        eta=eta,
        fresh=fresh,
        estimate=lambda x_t, index: look(x_t, index).estimate,
    )
    x_prev = SOLVERS[context.schedule.solver].advance(step)
    if asked and asked.push is not None:
        x_prev = x_prev - asked.push
    return SampleStep(
        index=context.index,
        total=context.total,
        t=int(context.schedule.timesteps[context.index]),
        x_t=context.x_t,
        x0=seen.x0,
        x0_network=context.x0,
        x0_unguided=seen.x0_unguided,
        x_prev=x_prev,
        loss=asked.loss if asked else None,
        gradient=asked.gradient if asked else seen.gradient,
        failed=asked.failed if asked else None,
    )


def _noised_back(schedule: Schedule, index: int, x_prev: Tensor, noise: Tensor) -> Tensor:
    """The images after step `index` with noise added, so that they lie where it began."""
    ratio = schedule.alpha[index] / schedule.alpha[index + 1]
    return ratio * x_prev + (1 - ratio**2).sqrt() * noise.to(x_prev)
