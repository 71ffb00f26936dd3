"""What a method of guidance is: how far it moves x0, and everything else it does differently.

A step of guidance is a function `(pull, context, scale)` to a displacement. Notation as in
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
"""The largest strength that makes sense, in units of the trust region: see `trust_radius`."""

Step = Callable[["Pull", StepContext, float], Tensor]
"""`(pull, context, scale)` to a displacement `(b, c, h, w)` that is subtracted."""


@dataclass(frozen=True)
class Pull:
    """Where a loss pulls in one step.

    Attributes:
        loss: `(b,)`.
        gradient: `(b, c, h, w)`, of x0 (or what stands for it), or of x_t for a push.
        slope: `(b,)`, how fast the loss falls when what is moved goes against `gradient`.
        polyak: see `losses.Loss`.
    """

    loss: Tensor
    gradient: Tensor
    slope: Tensor
    polyak: float


def trust_radius(context: StepContext, scale: float) -> Tensor:
    """How far x0 may be moved in one step, root mean square per image `(b, 1, 1, 1)`.

    `scale * sigma / alpha * rms(eps)`: a share of how uncertain x0 still is. It makes a strength
    mean the same for every loss, size, batch and number of steps.
    """
    return scale * context.sigma / context.alpha * rms(context.eps)


def polyak(pull: Pull, context: StepContext, scale: float) -> Tensor:
    """As far as brings a linear loss to zero (Polyak 1969), but inside the trust region."""
    size = rms(pull.gradient)
    times = pull.polyak * pull.loss / pull.slope.clamp(min=1e-30)  # (b,)
    wanted = times.view(-1, 1, 1, 1) * size
    return torch.minimum(wanted, trust_radius(context, scale)) * pull.gradient / size


def normalized(pull: Pull, context: StepContext, scale: float) -> Tensor:
    """Always to the edge of the trust region, however small the loss."""
    return trust_radius(context, scale) * pull.gradient / rms(pull.gradient)


def raw(pull: Pull, context: StepContext, scale: float) -> Tensor:
    """The gradient times the scale."""
    return scale * pull.gradient


def over_alpha_bar(pull: Pull, context: StepContext, scale: float) -> Tensor:
    """What moving x_t by `-scale * dL/dx_t` and predicting again with the old eps comes to."""
    return scale / context.alpha**2 * pull.gradient


def over_snr(pull: Pull, context: StepContext, scale: float) -> Tensor:
    """What adding `scale * sigma * dL/dx_t` to eps comes to (universal guidance)."""
    return scale * (context.sigma / context.alpha) ** 2 * pull.gradient


def by_alpha_step(pull: Pull, context: StepContext, scale: float) -> Tensor:
    """The gradient times the scale and alpha_bar's part in the step: less where it is long."""
    return scale * (context.alpha / context.alpha_prev) ** 2 * pull.gradient


def by_root_alpha_step(pull: Pull, context: StepContext, scale: float) -> Tensor:
    """The same for x_prev, in whose units x_t counts more by the root of that."""
    return scale * context.alpha / context.alpha_prev * pull.gradient


def by_root_loss(pull: Pull, context: StepContext, scale: float) -> Tensor:
    """The gradient over the root of the loss, as posterior sampling divides by the residual."""
    return scale * pull.gradient / pull.loss.clamp(min=1e-12).sqrt().view(-1, 1, 1, 1)


def _weight_of_x0(context: StepContext) -> Tensor:
    """What x0 counts for in the mean of DDPM's step (Ho et al. 2020, eq. 7), `()`."""
    kept = (context.alpha / context.alpha_prev) ** 2
    return context.alpha_prev * (1 - kept) / context.sigma**2


def normalized_by_weight(pull: Pull, context: StepContext, scale: float) -> Tensor:
    """`normalized`, less the shorter the step."""
    return _weight_of_x0(context) / context.alpha_prev * normalized(pull, context, scale)


def normalized_on_x_prev(pull: Pull, context: StepContext, scale: float) -> Tensor:
    """`normalized`, as far as x0 counts for x_prev."""
    return _weight_of_x0(context) * normalized(pull, context, scale)


@dataclass(frozen=True)
class Method:
    """One way to guide.

    Attributes:
        summary: what it is, in a few words.
        solver: key of `solvers.SOLVERS`.
        eta: fresh noise per step; 0 none, 1 as much as DDPM.
        step: how far x0 is moved; None leaves it.
        push: how far x_prev is moved along dL/dx_t; None leaves it.
        through_network: whether x0's gradient is taken through the network.
        keep_eps: whether the solver goes on with the network's eps, not one that fits the moved x0.
        exact: whether losses that can be solved in closed form are.
        recurrence: how often each step is done; more than once, noise is added in between.
        recurrence_from: share of the steps after which that begins.
        recurrence_to: share of the steps after which it ends.
        clamped: whether the gradient is that of the clamped x0, hence 0 where it saturates.
        batch_mean: whether the loss is averaged over the batch, hence weaker in larger ones.
        max_scale: the largest strength that makes sense.
        default_scale: a good one to begin with.
        takes_noise: whether it can work with more fresh noise, or steps done more than once.
        is_bare: whether it knows one loss alone, the colour of every pixel or words.
        views: how words look at the picture; None is as the product says.
        shows_signed_range: whether CLIP is shown pictures in [-1, 1], though its statistics are
            those of pictures in [0, 1].
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
        """Whether its strength is in units of its own, not of the trust region."""
        return self.max_scale > MAX_LAMBDA
