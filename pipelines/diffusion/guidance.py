"""Loss guidance: every method is a setting of one rule.

In each step the network predicts the clean picture x0, and a guide moves it towards lower loss
before the solver uses it. Notation: `x_t = alpha * x0 + sigma * eps`.

    g  = dL/dx0                    (through_network: alpha * dL/dx_t, a backward pass)
    x0 <- x0 - step(g)             polyak: to the minimum, but no further than a trust region
    eps                            derived anew from the moved x0, or kept (keep_eps)
    x_prev <- x_prev - push(dL/dx_t)     the older methods, which move the noisy picture instead

The methods are in `methods`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipelines.diffusion.losses import Loss, Projectable, Term
from pipelines.diffusion.methods import Method, Pull, trust_radius
from pipelines.diffusion.sampling import Correction, StepContext
from pipelines.diffusion.tensors import length, rms

_LEAST_COSINE = 0.1


@dataclass(frozen=True)
class Differentiated:
    """A loss `(b,)` and its gradient `(b, c, h, w)`."""

    loss: Tensor
    gradient: Tensor


@dataclass(frozen=True)
class Guide:
    """A guidance method, its losses, and the steps that it guides; see `sampling.Guide`.

    Attributes:
        method: how x0 is moved.
        terms: the losses, each a `Term` or what `Term` takes; each moves the x0 that the ones
            before it have moved.
        scale: strength, in units of the method (see `Method.max_scale`); 0 is off.
        start: share of the steps after which guidance begins.
        stop: share of the steps after which it ends.
        every: guide only every n-th step, n times as strongly; 1 is every step.
        repeats: how often each middle step is done (recurrence); None is the method's own number.

    Raises:
        ValueError: if the scale is below 0 or not finite, or for losses that `Term` refuses.
    """

    method: Method
    terms: Sequence[Term]
    scale: float
    start: float = 0.0
    stop: float = 1.0
    every: int = 1
    repeats: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.scale < math.inf:
            raise ValueError(f"scale must be 0 or more and finite, got {self.scale}")
        terms = tuple(t if isinstance(t, Term) else Term(t) for t in self.terms)
        object.__setattr__(self, "terms", terms)

    def active(self, index: int, total_steps: int) -> bool:
        """Returns whether step `index` is guided."""
        first, end = guided_steps(self.start, self.stop, total_steps)
        inside = first <= index < end and (index - first) % self.every == 0
        return inside and self.scale > 0 and bool(self.terms)

    def recurrence(self, index: int, total_steps: int) -> int:
        """Returns how often step `index` is done."""
        method, share = self.method, index / total_steps
        inside = method.recurrence_from <= share < method.recurrence_to
        recurrence = method.recurrence if self.repeats is None else self.repeats
        return recurrence if inside and self.active(index, total_steps) else 1

    def differentiates(self, index: int, total_steps: int) -> bool:
        """Returns whether step `index` needs a backward pass through the network."""
        return self.method.differentiates and self.active(index, total_steps)

    def __call__(self, context: StepContext) -> Correction | None:
        """Returns the correction of one step; None if the step is not guided.

        Args:
            context: of the step, with the network's graph if `differentiates`.
        """
        if not self.active(context.index, context.total):
            return None
        through_network = None
        if self.method.differentiates:
            through_network = self._differentiated_through_network(context)
        x0_guided, losses, gradient = self._guided_x0(context, through_network)
        push = None if self.method.push is None else self._push(context, through_network)
        failed = ~torch.isfinite(x0_guided).flatten(1).all(dim=1)
        if push is not None:
            failed |= ~torch.isfinite(push).flatten(1).all(dim=1)
            push = _where(failed, torch.zeros_like(push), push)
        weights = torch.tensor([term.weight for term in self.terms]).to(losses)
        return Correction(
            x0=_where(failed, context.x0, x0_guided),
            push=push,
            keep_eps=self.method.keep_eps,
            loss=weights @ losses,
            gradient=length(gradient),
            failed=failed,
        )

    @property
    def strength(self) -> float:
        """The scale of a guided step."""
        return self.scale * self.every

    def _guided_x0(
        self, context: StepContext, through_network: list[Differentiated] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns x0 after all terms have moved it, the losses and their summed gradient.

        The terms together move x0 by at most one trust radius. The losses, `(number of terms, b)`,
        are those of the network's x0; the gradient is `(b, c, h, w)`.
        """
        weights = [term.weight for term in self.terms]
        if self.method.step is None:
            assert through_network is not None
            weighted = [w * d.gradient for w, d in zip(weights, through_network, strict=True)]
            losses = torch.stack([d.loss for d in through_network])
            return context.x0, losses, torch.stack(weighted).sum(dim=0)
        x0, losses, gradient = context.x0, [], torch.zeros_like(context.x0)
        for i, term in enumerate(self.terms):
            network = None
            if through_network is not None and self.method.through_network:
                of_x_t = through_network[i]
                network = Differentiated(of_x_t.loss, of_x_t.gradient * context.alpha)
            displacement, differentiated = self._displacement(term.loss, x0, network, context)
            # After the first term x0 has moved, so the loss of the network's x0 is computed again.
            losses.append(term.loss(context.x0) if i else differentiated.loss)
            gradient = gradient + term.weight * differentiated.gradient
            x0 = x0 - term.weight * displacement
        if len(self.terms) > 1:
            total = x0 - context.x0
            limit = trust_radius(context, self.strength) / rms(total)
            x0 = context.x0 + total * limit.clamp(max=1.0)
        return x0, torch.stack(losses), gradient

    def _displacement(
        self, loss: Loss, x0: Tensor, network: Differentiated | None, context: StepContext
    ) -> tuple[Tensor, Differentiated]:
        """Returns the displacement of x0, `(b, c, h, w)`, and the loss and gradient before it.

        The displacement is to be subtracted.

        Args:
            loss: the loss to lower.
            x0: `(b, c, h, w)`.
            network: loss and gradient through the network; None follows the loss's own gradient.
            context: of the step.
        """
        method, strength = self.method, self.strength
        if method.exact and network is None and isinstance(loss, Projectable):
            full = x0 - loss.project(x0)
            limit = (trust_radius(context, strength) / rms(full)).clamp(max=1.0)
            return full * limit, self._differentiated(loss, x0)
        # An infinite Polyak factor always steps to the trust radius, so the second gradient is
        # skipped.
        skip = network is not None and math.isinf(loss.polyak)
        direct = network if network and skip else self._differentiated(loss, x0)
        gradient = direct.gradient if network is None else network.gradient
        slope = _slope(direct.gradient, gradient)
        if method.batch_mean:
            gradient = gradient / len(x0)
        assert method.step is not None
        pull = Pull(direct.loss, gradient, slope, loss.polyak)
        return method.step(pull, context, strength), Differentiated(direct.loss, gradient)

    def _differentiated(self, loss: Loss, x0: Tensor) -> Differentiated:
        """Returns a loss and its gradient dL/dx0, not through the network."""
        with torch.enable_grad():
            x0 = x0.detach().requires_grad_()
            values = loss(self._loss_input(x0))
            return Differentiated(values.detach(), torch.autograd.grad(values.sum(), x0)[0])

    def _loss_input(self, x0: Tensor) -> Tensor:
        """Returns x0, clamped if the method clamps it for the loss."""
        return x0.clamp(-1, 1) if self.method.clamped else x0

    def _differentiated_through_network(self, context: StepContext) -> list[Differentiated]:
        """Returns each term's loss and its gradient dL/dx_t, through the network."""
        assert context.graph is not None
        x_t, x0 = context.graph
        with torch.enable_grad():
            losses = [term.loss(self._loss_input(x0)) for term in self.terms]
            return [
                Differentiated(
                    loss.detach(),
                    torch.autograd.grad(loss.sum(), x_t, retain_graph=i + 1 < len(losses))[0],
                )
                for i, loss in enumerate(losses)
            ]

    def _push(self, context: StepContext, through_network: list[Differentiated] | None) -> Tensor:
        assert through_network is not None
        assert self.method.push is not None
        parts = []
        for term, of_x_t in zip(self.terms, through_network, strict=True):
            slope = of_x_t.gradient.square().sum(dim=(1, 2, 3))  # (b,)
            pull = Pull(of_x_t.loss, of_x_t.gradient, slope, term.loss.polyak)
            parts.append(term.weight * self.method.push(pull, context, self.strength))
        return torch.stack(parts).sum(dim=0)


def guided_steps(start: float, stop: float, total_steps: int) -> tuple[int, int]:
    """Returns the index of the first guided step, and of the first one after the guided ones."""
    return round(start * total_steps), round(stop * total_steps)


def switched_off_by(settings: Any) -> str:
    """Returns the name of the setting that leaves every step of a run unguided; empty if none does.

    Args:
        settings: checked, with `guidance_scale`, `start`, `stop` and `num_inference_steps`.
    """
    if settings.guidance_scale == 0:
        return "guidance_scale"
    first, end = guided_steps(settings.start, settings.stop, settings.num_inference_steps)
    if first < end:
        return ""
    return "start" if settings.start > 0 else "stop"


def _slope(direct: Tensor, gradient: Tensor) -> Tensor:
    """Returns how fast a loss with gradient `direct` falls against `gradient`, `(b,)`.

    At high noise, the gradient through the network can be almost orthogonal to the direct one. The
    cosine is therefore at least `_LEAST_COSINE`; otherwise steps would be unbounded.
    """
    least = _LEAST_COSINE * direct.square().sum(dim=(1, 2, 3)).sqrt()
    least = least * gradient.square().sum(dim=(1, 2, 3)).sqrt()
    return torch.maximum((direct * gradient).sum(dim=(1, 2, 3)), least)


def _where(condition: Tensor, chosen: Tensor, otherwise: Tensor) -> Tensor:
    """Returns `chosen` for images whose `condition` `(b,)` is true, `otherwise` for the rest."""
    return torch.where(condition.view(-1, 1, 1, 1), chosen, otherwise)
