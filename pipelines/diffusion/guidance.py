"""How to pull: every guidance method as a setting of one rule.

In each step the network predicts the clean picture x0, and a guide moves it towards lower loss
before the solver goes on. Notation: `x_t = alpha * x0 + sigma * eps`.

    g  = dL/dx0                    (through_network: alpha * dL/dx_t, a backward pass)
    x0 <- x0 - step(g)             polyak: to the minimum, but no further than a trust region
    eps                            re-derived from the moved x0, or kept (keep_eps)
    x_prev <- x_prev - push(dL/dx_t)     the older methods, which move the noisy picture instead

The methods stand in `methods`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
    """A method, what it pulls towards, and when; what `sampling.sample` takes.

    Attributes:
        method: how.
        terms: towards what; later terms build on what earlier ones did.
        scale: how strongly; 0 is off.
        start: share of the steps after which guidance begins.
        stop: share of the steps after which it ends.
        every: guide every so many steps, each that much more strongly.
        repeats: how often each middle step is done; None is as the method says.
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

    def recurrence(self, index: int, total_steps: int) -> int:
        """How often step `index` is done."""
        method, share = self.method, index / total_steps
        inside = method.recurrence_from <= share < method.recurrence_to
        wanted = method.recurrence if self.repeats is None else self.repeats
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
