"""One sampler for all models: predict, guide, advance; one `SampleStep` per denoising step.

Solvers and guides get x0, whatever the network predicts. So a clamped or guided x0 is never
converted back to eps or v, which would lose all precision at high noise.

The sampler knows no model. It takes a function that predicts and a `Schedule` made for this run.
Notation as in `schedules`.
"""

from __future__ import annotations

import math
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
    """The state that a guide gets for the step that it corrects.

    Attributes:
        schedule: of the run.
        index: 0 for the first step, `len(schedule) - 1` for the last.
        x_t: `(b, c, h, w)`.
        x0: `(b, c, h, w)`, the network's prediction from `x_t`, not clamped.
        graph: the same `(x_t, x0)` connected by the autograd graph of the network; None unless the
            guide's `differentiates` is true for the step.
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
        """The noise `(b, c, h, w)` that corresponds to the network's x0."""
        return (self.x_t - self.alpha * self.x0) / self.sigma


@dataclass(frozen=True)
class Correction:
    """A guide's changes to one step.

    Attributes:
        x0: `(b, c, h, w)`, replaces the network's x0.
        push: `(b, c, h, w)`, to be subtracted from the step's result; None is off.
        keep_eps: whether the solver uses the network's eps, and not the one of the new `x0`.
        loss: `(b,)` of the network's x0.
        gradient: `(b,)`, length of the gradient that guidance followed.
        failed: `(b,)`, true for images that were not guided because their gradient is not finite.
        after: function from the step's result `(b, c, h, w)` to another one; None leaves it.
    """

    x0: Tensor
    push: Tensor | None
    keep_eps: bool
    loss: Tensor
    gradient: Tensor
    failed: Tensor
    after: Callable[[Tensor], Tensor] | None = None


class Guide(Protocol):
    """Corrects the predicted x0 before the solver uses it; see `guidance.Guide`."""

    def recurrence(self, index: int, total_steps: int) -> int:
        """Returns how often step `index` is done, with noise added in between; 1 is off.

        FreeDoM (arXiv:2303.09833) calls it time travel, UGD (arXiv:2302.07121) self-recurrence.
        """
        ...

    def differentiates(self, index: int, total_steps: int) -> bool:
        """Returns whether step `index` needs gradients through the network (slow, large)."""
        ...

    def __call__(self, context: StepContext) -> Correction | None:
        """Returns the correction of a step; None if the step is not guided."""
        ...


class NotFiniteError(ArithmeticError):
    """A step gave NaN or infinite numbers, which all later steps would keep.

    Attributes:
        index: of the step, 0 for the first.
        total: number of steps of the run.
    """

    def __init__(self, index: int, total: int) -> None:
        super().__init__(f"the images of step {index + 1} of {total} are not finite")
        self.index, self.total = index, total


@dataclass(frozen=True)
class SampleStep:
    """One denoising step.

    Attributes:
        index: 0 for the first step, `total - 1` for the last.
        total: number of steps of this run.
        t: training timestep at the start of the step (999 is pure noise, 0 is clean).
        x_t: `(b, c, h, w)`, the noisy images at the start of the step.
        x0: `(b, c, h, w)`, the clean images predicted from `x_t` and guided, about [-1, 1].
        x0_network: `(b, c, h, w)`, the network's prediction, before loss guidance.
        x0_unguided: `(b, c, h, w)`, the prediction from the same `x_t` without any guidance;
            differs from `x0_network` only under classifier-free guidance.
        x_prev: `(b, c, h, w)`, the less noisy images after the step; the last one is the result.
        loss: `(b,)` of `x0_network`; None where the step was not guided.
        gradient: `(b,)`, length of the direction that guidance follows: of the loss's gradient, or
            of the difference between conditional and unconditional x0; None if not guided.
        failed: `(b,)`, true for images that were not guided because their gradient is not finite.
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
        """The pictures to show, `(b, c, h, w)`: the network's prediction, at the end the result.

        Not the guided x0, in which the last crop of CLIP guidance is visible.
        """
        last = self.index + 1 == self.total
        return self.x_prev if last else self.x0_network.clamp(-1, 1)

    @property
    def change(self) -> Tensor:
        """The change of the predicted picture by guidance, `(b, c, h, w)`."""
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
    jump: int = 1,
) -> Iterator[SampleStep]:
    """Denoises and yields one `SampleStep` per step; the last `x_prev` is the result.

    Each step opens and closes its own `no_grad`, since a consumer may resume this generator from
    another thread.

    Args:
        predict: the network; see `denoisers.Predictor`.
        noise: `(b, c, h, w)`, standard normal, on the device of the run.
        schedule: from `solvers.make_schedule`.
        prediction_type: meaning of the network's output; see `denoisers.predict_x0`.
        eta: fresh noise; 0 is none, 1 as much as DDPM.
        generators: one CPU generator per image for fresh noise; needed when `eta` is above 0, or a
            step is done more than once.
        fresh_noise: `(schedule, index)` to the fresh noise of a step, `(b, c, h, w)`, instead of
            noise from the generators.
        clip: whether the predicted x0 is clamped to [-1, 1] in every step.
        guide: corrects the predicted x0 before the solver uses it; None is unguided.
        jump: number of steps that are done again together, as RePaint does (arXiv:2201.09865).

    Raises:
        ValueError: if `eta` is above 0 without generators, or with a solver that adds no noise.
        NotFiniteError: after the first step that gives NaN or infinite numbers.
    """
    _check_noise(schedule, eta, generators is not None or fresh_noise is not None)
    denoise = _GuidedDenoiser(predict, schedule, prediction_type, clip, guide)
    step_generators, shape = generators or [], noise.shape[1:]
    # Noise of recurrence has its own generators, so that it does not change that of the steps.
    again_generators = [spawn(generator) for generator in step_generators]

    def draw_fresh(visit: Visit) -> Tensor:
        if fresh_noise and not visit.is_again:
            return fresh_noise(schedule, visit.index)
        return draw_noise(again_generators if visit.is_again else step_generators, shape)

    def steps() -> Iterator[SampleStep]:
        x_t, before = noise, ()
        for visit in visits(len(schedule), denoise.recurrence, jump):
            index = visit.index
            with devices.device_lock(x_t.device), torch.no_grad():
                prediction = denoise(x_t, index)  # predict and guide
                fresh = draw_fresh(visit) if eta else None
                step = _advance(denoise, prediction, before, eta, fresh)
                x_t, before = step.x_prev, (prediction.estimate, *before[:1])
                if visit.back_to is not None:
                    renoise = draw_noise(again_generators, shape)
                    x_t, before = _noised_back(schedule, visit, step.x_prev, renoise), ()
            if not visit.is_again:
                _check_finite(step, schedule)
                yield step

    return steps()


def _check_noise(schedule: Schedule, eta: float, can_draw: bool) -> None:
    if eta > 0 and not can_draw:
        raise ValueError("generators must be given when eta is above 0")
    if eta > 0 and not SOLVERS[schedule.solver].takes_noise:
        raise ValueError(f"eta must be 0 with {schedule.solver}, which adds no noise, got {eta:g}")


def _check_finite(step: SampleStep, schedule: Schedule) -> None:
    """Raises an error for NaN or infinite images; where no signal is left, x0 may be infinite."""
    if math.isfinite(float(step.x0_network.sum() + step.x_prev.sum())):
        return  # a sum is finite only if all are, and is faster than to look at each
    x0, no_signal = step.x0_network, schedule.alpha[step.index] <= 0
    is_sound = x0.isfinite() | (no_signal & ~x0.isnan())
    if not bool(is_sound.all() & step.x_prev.isfinite().all()):
        raise NotFiniteError(step.index, step.total)


@dataclass(frozen=True)
class _Prediction:
    """The clean images predicted from noisy ones, guided.

    Attributes:
        context: the input of the guide, with the network's own x0.
        x0: `(b, c, h, w)`, guided, clamped if `clip`.
        x0_unguided: `(b, c, h, w)`; see `SampleStep`.
        gradient: `(b,)`, of classifier-free guidance; None without it.
        correction: of the guide; None if the step is not guided.
        estimate: the input of the solver.
    """

    context: StepContext
    x0: Tensor
    x0_unguided: Tensor
    gradient: Tensor | None
    correction: Correction | None
    estimate: Estimate

    @property
    def start(self) -> Tensor:
        """The noisy images that the solver starts from, `(b, c, h, w)`.

        To keep eps, x_t moves along with x0, so that the solver derives the network's own eps.
        """
        correction, context = self.correction, self.context
        if correction is None or not correction.keep_eps:
            return context.x_t
        moved = context.alpha * self.x0 + context.sigma * context.eps
        return torch.where(correction.failed.view(-1, 1, 1, 1), context.x_t, moved)


@dataclass(frozen=True)
class _GuidedDenoiser:
    """Network and guide together: noisy images to a prediction."""

    predict: Predictor
    schedule: Schedule
    prediction_type: str
    clip: bool
    guide: Guide | None

    def __call__(self, x_t: Tensor, index: int) -> _Prediction:
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
        correction = self.guide(context) if self.guide is not None else None
        x0_guided = self._clipped(correction.x0 if correction else x0)
        return _Prediction(
            context=context,
            x0=x0_guided,
            x0_unguided=x0 if x0_unguided is None else x0_unguided,
            gradient=gradient,
            correction=correction,
            estimate=Estimate(x0_guided, self._clipped(x0)),
        )

    def recurrence(self, index: int) -> int:
        return self.guide.recurrence(index, len(self.schedule)) if self.guide else 1

    def _clipped(self, x0: Tensor) -> Tensor:
        return x0.clamp(-1, 1) if self.clip else x0

    def _predicted(self, x_t: Tensor, index: int) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Returns x0, and under CFG also the unguided x0 and the length of the gradient."""
        alpha, sigma = self.schedule.alpha[index], self.schedule.sigma[index]

        def x0_of(output: Tensor) -> Tensor:
            return predict_x0(output, x_t, alpha, sigma, self.prediction_type)

        output = self.predict(x_t, self.schedule.timesteps[index])
        if not isinstance(output, CfgOutput):
            return x0_of(output), None, None
        cond, uncond = x0_of(output.conditional), x0_of(output.unconditional)
        return x0_of(output.output), cond.detach(), length(cond - uncond).detach()


def _advance(
    denoise: _GuidedDenoiser,
    prediction: _Prediction,
    before: Sequence[Estimate],
    eta: float,
    fresh: Tensor | None,
) -> SampleStep:
    """Goes one step, from one noise level to the next."""
    context, correction = prediction.context, prediction.correction
    step = SolverStep(
        schedule=context.schedule,
        index=context.index,
        x_t=prediction.start,
        now=prediction.estimate,
        before=before,
        eta=eta,
        fresh=fresh,
        estimate=lambda x_t, index: denoise(x_t, index).estimate,
    )
    x_prev = SOLVERS[context.schedule.solver].advance(step)
    if correction and correction.push is not None:
        x_prev = x_prev - correction.push
    if correction and correction.after:
        x_prev = correction.after(x_prev)
    return SampleStep(
        index=context.index,
        total=context.total,
        t=int(context.schedule.timesteps[context.index]),
        x_t=context.x_t,
        x0=prediction.x0,
        x0_network=context.x0,
        x0_unguided=prediction.x0_unguided,
        x_prev=x_prev,
        loss=correction.loss if correction else None,
        gradient=correction.gradient if correction else prediction.gradient,
        failed=correction.failed if correction else None,
    )


@dataclass(frozen=True)
class Visit:
    """One visit of a step.

    Attributes:
        index: of the step.
        is_again: whether the step will be visited again; only its last result counts.
        back_to: index of the step to which noise is added after this visit; None goes on.
    """

    index: int
    is_again: bool = False
    back_to: int | None = None


def visits(total: int, recurrence: Callable[[int], int], jump: int = 1) -> Iterator[Visit]:
    """Yields the visits of all steps, with those that are done again.

    Args:
        total: number of steps.
        recurrence: how often a step is done, by its index; of several together, that of the first.
        jump: number of steps that are done again together.
    """
    for first in range(0, total, jump):
        last = min(first + jump, total) - 1
        for _ in range(recurrence(first) - 1):
            for index in range(first, last + 1):
                yield Visit(index, True, first if index == last else None)
        yield from (Visit(index) for index in range(first, last + 1))


def _noised_back(schedule: Schedule, visit: Visit, x_prev: Tensor, noise: Tensor) -> Tensor:
    """Adds noise to the images after a visit, back to the noise level before an earlier step."""
    ratio = schedule.alpha[visit.back_to or 0] / schedule.alpha[visit.index + 1]
    return ratio * x_prev + (1 - ratio**2).sqrt() * noise.to(x_prev)
