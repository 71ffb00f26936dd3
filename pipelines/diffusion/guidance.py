"""How to pull: every guidance method as a setting of one rule.

In each step the network predicts the clean picture x0, and a guide moves it towards lower loss
before the solver goes on. Notation as in `sampling`: `x_t = alpha * x0 + sigma * eps`.

    g  = dL/dx0                    (through_network: alpha * dL/dx_t, a backward pass)
    x0 <- x0 - step(g)             polyak: to the minimum, but no further than a trust region
    eps                            re-derived from the moved x0, or kept (keep_eps)
    x_prev <- x_prev - push(dL/dx_t)     the older methods, which move the noisy picture instead

`METHODS` are what the studio offers. `PUBLISHED` are methods from the literature, written as
settings of the same rule, to compare with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipelines.diffusion.losses import Loss, Projectable, Term
from pipelines.diffusion.sampling import Correction, StepContext, length, rms

_LEAST_COSINE = 0.1

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


@dataclass(frozen=True)
class Differentiated:
    """A loss `(b,)` and its gradient `(b, c, h, w)`."""

    loss: Tensor
    gradient: Tensor


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


def over_alpha_of_step(pull: Pull, context: StepContext, scale: float) -> Tensor:
    """What adding `-scale * alpha * dL/dx_t` to x_t comes to in the course's CLIP notebook.

    It reads alpha from the schedule by the number of the step, not by its timestep, so that the
    first steps, which should be the weakest, are the strongest by far.
    """
    return scale * context.alpha_of_step / context.alpha**2 * pull.gradient


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
        solver: of `sampling.make_scheduler`.
        eta: fresh noise per step; 0 none, 1 as much as DDPM.
        step: how far x0 is moved; None leaves it.
        push: how far x_prev is moved along dL/dx_t; None leaves it.
        through_network: whether x0's gradient is taken through the network.
        keep_eps: whether the solver goes on with the network's eps, not one that fits the moved x0.
        exact: whether losses that can be solved in closed form are.
        repeats: how often each step is done; more than once, noise is added in between.
        repeats_from: share of the steps after which that begins.
        repeats_to: share of the steps after which it ends.
        clamped: whether the gradient is that of the clamped x0, hence 0 where it saturates.
        batch_mean: whether the loss is averaged over the batch, hence weaker in larger ones.
        max_scale: the largest strength that makes sense.
        default_scale: a good one to begin with.
    """

    summary: str
    solver: str = "ddim"
    eta: float = 1.0
    step: Step | None = polyak
    push: Step | None = None
    through_network: bool = False
    keep_eps: bool = False
    exact: bool = True
    repeats: int = 1
    repeats_from: float = 0.1
    repeats_to: float = 0.8
    clamped: bool = False
    batch_mean: bool = False
    max_scale: float = 0.5
    default_scale: float = 0.2

    @property
    def differentiates(self) -> bool:
        """Whether it needs backward passes through the network."""
        return self.through_network or self.push is not None


METHODS: dict[str, Method] = {
    "fast": Method(
        "exact or x0 steps with a fast solver, 10-12 steps", solver="dpm++-logsnr", eta=0
    ),
    "balanced": Method("exact or x0 steps, some fresh noise", solver="dpm++-3m", eta=0.25),
    "thorough": Method(
        "gradients through the network, middle steps done twice",
        solver="dpm++-guided",
        eta=0.4,
        through_network=True,
        exact=False,
        repeats=2,
    ),
    "course": Method(
        "the notebook of the course as it is, faults included",
        solver="ddim-leading",
        eta=0,
        step=over_alpha_bar,
        keep_eps=True,
        exact=False,
        clamped=True,
        batch_mean=True,
        max_scale=1000.0,
        default_scale=40.0,
    ),
}

TEXT_METHODS: dict[str, Method] = METHODS | {
    "fast": replace(METHODS["fast"], solver="dpm++"),
    "course": replace(METHODS["course"], step=over_alpha_of_step, default_scale=8.0),
}
"""The same for CLIP guidance.

With few steps, words need them at middle noise, where things take shape; a colour can be reached
at any level, which leaves more to detail. The course's notebook does something else with CLIP.
"""

_NOT_OURS = {"exact": False, "max_scale": 1e6}

PUBLISHED: dict[str, Method] = {
    "course, through the network": Method(
        "the course's second variant",
        solver="ddim-leading",
        eta=0,
        step=over_alpha_bar,
        through_network=True,
        keep_eps=True,
        clamped=True,
        batch_mean=True,
        default_scale=40.0,
        **_NOT_OURS,
    ),
    "DPS": Method("Chung et al. 2023, arXiv:2209.14687", step=None, push=by_root_loss, **_NOT_OURS),
    "FreeDoM": Method(
        "Yu et al. 2023, arXiv:2303.09833", step=None, push=normalized_on_x_prev, **_NOT_OURS
    ),
    "UGD": Method(
        "Bansal et al. 2023, arXiv:2302.07121", step=over_snr, through_network=True, **_NOT_OURS
    ),
    "MPGD": Method("He et al. 2024, arXiv:2311.16424", step=normalized_by_weight, **_NOT_OURS),
    "TFG": Method(
        "Ye et al. 2024, arXiv:2409.15761",
        step=by_alpha_step,
        push=by_root_alpha_step,
        keep_eps=True,
        **_NOT_OURS,
    ),
}


@dataclass(frozen=True)
class Guide:
    """A method, what it pulls towards, and when; what `sampling.sample` takes.

    Attributes:
        method: how.
        terms: towards what; later terms build on what earlier ones did.
        scale: how strongly; 0 is off.
        start: share of the steps after which guidance begins.
        stop: share of the steps after which it ends.
        every: guide every so many steps, each that much more strongly.
        repeats: how often each step is done; None is as the method says.
    """

    method: Method
    terms: Sequence[Term]
    scale: float
    start: float = 0.0
    stop: float = 1.0
    every: int = 1
    repeats: int | None = None

    def active(self, index: int, total_steps: int) -> bool:
        """Whether step `index` is guided."""
        first, end = round(self.start * total_steps), round(self.stop * total_steps)
        inside = first <= index < end and (index - first) % self.every == 0
        return inside and self.scale > 0 and bool(self.terms)

    def times(self, index: int, total_steps: int) -> int:
        """How often step `index` is done."""
        method, share = self.method, index / total_steps
        inside = method.repeats_from <= share < method.repeats_to
        wanted = method.repeats if self.repeats is None else self.repeats
        return wanted if inside and self.active(index, total_steps) else 1

    def differentiates(self, index: int, total_steps: int) -> bool:
        """Whether step `index` needs a backward pass through the network."""
        return self.method.differentiates and self.active(index, total_steps)

    def __call__(self, context: StepContext) -> Correction | None:
        """What to do in one step; None is nothing.

        Args:
            context: of the step, with the network's graph if `differentiates`.
        """
        if not self.active(context.index, context.total):
            return None
        through = self._through(context) if self.method.differentiates else None
        moved, losses, gradient = self._moved(context, through)
        push = None if self.method.push is None else self._pushed(context, through)
        failed = ~torch.isfinite(moved).flatten(1).all(dim=1)
        if push is not None:
            failed |= ~torch.isfinite(push).flatten(1).all(dim=1)
            push = _where(failed, torch.zeros_like(push), push)
        weights = torch.tensor([term.weight for term in self.terms]).to(losses)
        return Correction(
            x0=_where(failed, context.x0, moved),
            push=push,
            keep_eps=self.method.keep_eps,
            loss=weights @ losses,
            gradient=length(gradient),
            failed=failed,
        )

    def _strength(self) -> float:
        return self.scale * self.every

    def _moved(
        self, context: StepContext, through: list[Differentiated] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x0 after every term has moved it, inside the trust region of all together.

        Also every term's loss of the network's x0, `(number of terms, b)`, and the sum of their
        gradients, `(b, c, h, w)`.
        """
        weights = [term.weight for term in self.terms]
        if self.method.step is None:
            assert through is not None
            followed = [w * found.gradient for w, found in zip(weights, through, strict=True)]
            losses = torch.stack([found.loss for found in through])
            return context.x0, losses, torch.stack(followed).sum(dim=0)
        x0, losses, gradient = context.x0, [], torch.zeros_like(context.x0)
        for i, term in enumerate(self.terms):
            along = None
            if through is not None and self.method.through_network:
                found = through[i]
                along = Differentiated(found.loss, found.gradient * context.alpha)
            displacement, found = self._displacement(term.loss, x0, along, context)
            # What an earlier term has moved is no longer what the network predicted.
            losses.append(term.loss(context.x0) if i else found.loss)
            gradient = gradient + term.weight * found.gradient
            x0 = x0 - term.weight * displacement
        if len(self.terms) > 1:
            moved = x0 - context.x0
            limit = trust_radius(context, self._strength()) / rms(moved)
            x0 = context.x0 + moved * limit.clamp(max=1.0)
        return x0, torch.stack(losses), gradient

    def _displacement(
        self, loss: Loss, x0: Tensor, along: Differentiated | None, context: StepContext
    ) -> tuple[Tensor, Differentiated]:
        """How far a loss moves x0, `(b, c, h, w)`, and its value and gradient before.

        Args:
            loss: what to lower.
            x0: `(b, c, h, w)`.
            along: the gradient to follow, through the network; None is the loss's own.
            context: of the step.
        """
        method, strength = self.method, self._strength()
        if method.exact and along is None and isinstance(loss, Projectable):
            whole = x0 - loss.project(x0)
            limit = (trust_radius(context, strength) / rms(whole)).clamp(max=1.0)
            return whole * limit, self._differentiated(loss, x0)
        # Without an end to reach, nobody asks how far it is, and one look is enough.
        endless = along is not None and math.isinf(loss.polyak)
        found = along if along and endless else self._differentiated(loss, x0)
        gradient = found.gradient if along is None else along.gradient
        slope = _slope(found.gradient, gradient)
        if method.batch_mean:
            gradient = gradient / len(x0)
        assert method.step is not None
        pull = Pull(found.loss, gradient, slope, loss.polyak)
        return method.step(pull, context, strength), Differentiated(found.loss, gradient)

    def _differentiated(self, loss: Loss, x0: Tensor) -> Differentiated:
        """A loss and dL/dx0, without the network."""
        with torch.enable_grad():
            x0 = x0.detach().requires_grad_()
            values = loss(self._seen(x0))
            return Differentiated(values.detach(), torch.autograd.grad(values.sum(), x0)[0])

    def _seen(self, x0: Tensor) -> Tensor:
        """x0 as this method shows it to the loss."""
        return x0.clamp(-1, 1) if self.method.clamped else x0

    def _through(self, context: StepContext) -> list[Differentiated]:
        """Every term's loss and dL/dx_t, through the network."""
        assert context.graph is not None
        x_t, x0 = context.graph
        with torch.enable_grad():
            losses = [term.loss(self._seen(x0)) for term in self.terms]
            return [
                Differentiated(
                    loss.detach(),
                    torch.autograd.grad(loss.sum(), x_t, retain_graph=i + 1 < len(losses))[0],
                )
                for i, loss in enumerate(losses)
            ]

    def _pushed(self, context: StepContext, through: list[Differentiated] | None) -> Tensor:
        assert through is not None
        assert self.method.push is not None
        parts = []
        for term, found in zip(self.terms, through, strict=True):
            slope = found.gradient.square().sum(dim=(1, 2, 3))  # (b,)
            pull = Pull(found.loss, found.gradient, slope, term.loss.polyak)
            parts.append(term.weight * self.method.push(pull, context, self._strength()))
        return torch.stack(parts).sum(dim=0)


def _slope(direct: Tensor, gradient: Tensor) -> Tensor:
    """How fast a loss with gradient `direct` falls against `gradient`, `(b,)`.

    A network's gradient can be almost across the direct one where there is almost only noise; the
    angle then counts as no more than `_LEAST_COSINE` says, or steps would know no bounds.
    """
    least = _LEAST_COSINE * direct.square().sum(dim=(1, 2, 3)).sqrt()
    least = least * gradient.square().sum(dim=(1, 2, 3)).sqrt()
    return torch.maximum((direct * gradient).sum(dim=(1, 2, 3)), least)


def _where(rows: Tensor, chosen: Tensor, otherwise: Tensor) -> Tensor:
    """`chosen` for the images `rows` `(b,)` names, `otherwise` for the rest."""
    return torch.where(rows.view(-1, 1, 1, 1), chosen, otherwise)
