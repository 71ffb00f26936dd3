"""The type of a guidance method: how far it moves x0, and all its other settings.

A guidance step is a function `(pull, context, scale)` to a displacement. Notation as in
`guidance`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.diffusion.sampling import StepContext
from pipelines.diffusion.tensors import rms
from pipelines.diffusion.views import Views

MAX_LAMBDA = 0.5
"""The largest useful scale, in units of the trust region; see `trust_radius`."""

Step = Callable[["Pull", StepContext, float], Tensor]
"""`(pull, context, scale)` to a displacement `(b, c, h, w)` that is subtracted."""


@dataclass(frozen=True)
class Pull:
    """Loss, gradient and slope in one step.

    Attributes:
        loss: `(b,)`.
        gradient: `(b, c, h, w)`, with respect to x0; for a push, with respect to x_t.
        slope: `(b,)`, how fast the loss falls when the images move against `gradient`.
        polyak: see `losses.Loss`.
    """

    loss: Tensor
    gradient: Tensor
    slope: Tensor
    polyak: float


def trust_radius(context: StepContext, scale: float) -> Tensor:
    """Returns how far x0 may move in one step, as the root mean square per image `(b, 1, 1, 1)`.

    It is `scale * sigma / alpha * rms(eps)`, a share of the remaining uncertainty of x0. So a scale
    means the same for every loss, size, batch and number of steps.
    """
    return scale * context.sigma / context.alpha * rms(context.eps)


def polyak(pull: Pull, context: StepContext, scale: float) -> Tensor:
    """Returns the step that takes a linear loss to 0 (Polyak 1969), inside the trust region."""
    size = rms(pull.gradient)
    factor = pull.polyak * pull.loss / pull.slope.clamp(min=1e-30)  # (b,)
    distance = factor.view(-1, 1, 1, 1) * size
    moved_rms = torch.minimum(distance, trust_radius(context, scale))
    return moved_rms * pull.gradient / size


def normalized(pull: Pull, context: StepContext, scale: float) -> Tensor:
    """Returns the step to the edge of the trust region, however small the loss."""
    return trust_radius(context, scale) * pull.gradient / rms(pull.gradient)


def raw(pull: Pull, context: StepContext, scale: float) -> Tensor:
    """Returns the gradient times the scale."""
    return scale * pull.gradient


def over_alpha_bar(pull: Pull, context: StepContext, scale: float) -> Tensor:
    """Returns x0's displacement if x_t moves by `-scale * dL/dx_t` and eps stays the same."""
    return scale / context.alpha**2 * pull.gradient


def over_snr(pull: Pull, context: StepContext, scale: float) -> Tensor:
    """Returns x0's displacement if `scale * sigma * dL/dx_t` is added to eps, as in UGD."""
    return scale * (context.sigma / context.alpha) ** 2 * pull.gradient


def by_alpha_step(pull: Pull, context: StepContext, scale: float) -> Tensor:
    """Returns `scale * alpha_bar_t / alpha_bar_prev * gradient`: less in longer steps."""
    return scale * (context.alpha / context.alpha_prev) ** 2 * pull.gradient


def by_root_alpha_step(pull: Pull, context: StepContext, scale: float) -> Tensor:
    """Returns `scale * sqrt(alpha_bar_t / alpha_bar_prev) * gradient`, as TFG for x_prev."""
    return scale * context.alpha / context.alpha_prev * pull.gradient


def by_root_loss(pull: Pull, context: StepContext, scale: float) -> Tensor:
    """Returns `scale * gradient / sqrt(loss)`; DPS divides by the norm of the residual."""
    return scale * pull.gradient / pull.loss.clamp(min=1e-12).sqrt().view(-1, 1, 1, 1)


def _weight_of_x0(context: StepContext) -> Tensor:
    """Returns the weight of x0 in the mean of DDPM's step (Ho et al. 2020, eq. 7), `()`."""
    alpha_of_step = (context.alpha / context.alpha_prev) ** 2
    return context.alpha_prev * (1 - alpha_of_step) / context.sigma**2


def normalized_by_weight(pull: Pull, context: StepContext, scale: float) -> Tensor:
    """Returns `normalized` times the weight of x0 over alpha_prev: less in shorter steps."""
    return _weight_of_x0(context) / context.alpha_prev * normalized(pull, context, scale)


def normalized_on_x_prev(pull: Pull, context: StepContext, scale: float) -> Tensor:
    """Returns `normalized` times the weight of x0, as a displacement of x_prev."""
    return _weight_of_x0(context) * normalized(pull, context, scale)


@dataclass(frozen=True)
class Method:
    """A guidance method.

    Attributes:
        summary: a description in a few words.
        solver: key of `solvers.SOLVERS`.
        eta: fresh noise per step; 0 is none, 1 as much as DDPM.
        step: the displacement of x0; None does not move it.
        push: the displacement of x_prev along dL/dx_t; None does not move it.
        through_network: whether x0's gradient is taken through the network.
        keep_eps: whether the solver uses the network's eps, and not the one of the moved x0.
        exact: whether losses with a closed form minimum are solved in closed form.
        recurrence: how often each step is done, with noise added in between; 1 is off.
        recurrence_from: share of the steps after which recurrence begins.
        recurrence_to: share of the steps after which recurrence ends.
        clamped: whether the loss takes the clamped x0, whose saturated pixels have gradient 0.
        batch_mean: whether the loss is averaged over the batch, so that larger ones weaken it.
        max_scale: the largest useful scale; above `MAX_LAMBDA`, the scale has its own units.
        default_scale: a good scale to begin with.
        takes_noise: whether it allows a higher eta, and steps done more than once.
        is_bare: whether it has only one loss: the colour of every pixel, or words.
        views: the crops that CLIP sees; None is the product's default.
        shows_signed_range: whether CLIP gets pictures in [-1, 1], although it normalises with the
            statistics of pictures in [0, 1].
    """

    summary: str
    solver: str = "ddim"
    eta: float = 1.0
    step: Step | None = polyak
    push: Step | None = None
    through_network: bool = False
    keep_eps: bool = False
    exact: bool = True
    recurrence: int = 1
    recurrence_from: float = 0.1
    recurrence_to: float = 0.8
    clamped: bool = False
    batch_mean: bool = False
    max_scale: float = MAX_LAMBDA
    default_scale: float = 0.2
    takes_noise: bool = True
    is_bare: bool = False
    views: Views | None = None
    shows_signed_range: bool = False

    @property
    def differentiates(self) -> bool:
        """Whether it needs backward passes through the network."""
        return self.through_network or self.push is not None

    @property
    def has_own_scale(self) -> bool:
        """Whether its scale has units of its own, not those of the trust region."""
        return self.max_scale > MAX_LAMBDA
