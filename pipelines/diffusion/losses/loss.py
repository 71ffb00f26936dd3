"""The interface of a loss: predicted clean pictures to one value per image.

Every loss takes `x0` `(b, c, h, w)` in about [-1, 1] and returns `(b,)`, a mean over pixels. So the
strength of guidance depends neither on the batch nor on the size. A loss with a minimum in closed
form also has a method `project`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


class Loss(Protocol):
    """A loss that guidance can follow.

    Attributes:
        polyak: length of a step of Newton's method, in units of `loss / |gradient|`: 2 for squared
            residuals, at most 1 for others; infinite for a loss that cannot reach 0, whose steps
            always go to the edge of the trust region.
    """

    @property
    def polyak(self) -> float: ...

    def __call__(self, x0: Tensor) -> Tensor:
        """Returns the loss of each image, `(b,)`, 0 or more; `x0` is `(b, c, h, w)`."""
        ...


@runtime_checkable
class Projectable(Protocol):
    """A loss whose nearest minimum is known in closed form."""

    def project(self, x0: Tensor) -> Tensor:
        """Returns the nearest pictures `(b, c, h, w)` with the least loss, 0 if possible."""
        ...


@dataclass(frozen=True)
class PlainLoss:
    """A plain function as a loss; see `of`."""

    function: Callable[[Tensor], Tensor]
    polyak: float

    def __call__(self, x0: Tensor) -> Tensor:
        values = self.function(x0.clone())  # the function may change its argument in place
        expected = f"({len(x0)},)"
        if not isinstance(values, Tensor):
            got = type(values).__name__
            raise ValueError(f"loss must return a tensor of shape {expected}, got {got}")
        if values.shape != (len(x0),):
            got = tuple(values.shape)
            raise ValueError(f"loss must give one value per image, {expected}, got {got}")
        if values.isnan().any():
            raise ValueError("loss must give a number for every image, got nan")
        if x0.requires_grad and not values.requires_grad:
            raise ValueError("loss must be differentiable in x0, got values without a gradient")
        return values


def of(loss: Loss | Callable[[Tensor], Tensor], polyak: float = 1.0) -> Loss:
    """Returns a plain function as a loss; returns a loss unchanged.

    Args:
        loss: `x0` `(b, c, h, w)` in about [-1, 1] to `(b,)`, 0 or more.
        polyak: of a plain function, see `Loss`; 2 for squared residuals.

    Raises:
        ValueError: if it cannot be called, or is a class instead of an instance of it.
    """
    if isinstance(loss, type) or not callable(loss):
        raise ValueError(f"loss must be a function of x0, got {loss!r}")
    return loss if hasattr(loss, "polyak") else PlainLoss(loss, polyak)  # pyright: ignore


@dataclass(frozen=True)
class Term:
    """A loss and its weight among others.

    Attributes:
        loss: a loss, or a plain function as `of` takes it.
        weight: 1 counts in full, 0 not at all.

    Raises:
        ValueError: if the weight is not finite, or for what `of` refuses.
    """

    loss: Loss
    weight: float = 1.0

    def __init__(self, loss: Loss | Callable[[Tensor], Tensor], weight: float = 1.0):
        if not math.isfinite(weight):
            raise ValueError(f"weight must be a finite number, got {weight}")
        object.__setattr__(self, "loss", of(loss))
        object.__setattr__(self, "weight", weight)


def total(terms: Sequence[Term]) -> Callable[[Tensor], Tensor]:
    """Returns the weighted sum of several losses, `(b, c, h, w)` to `(b,)`."""

    def loss(x0: Tensor) -> Tensor:
        return torch.stack([term.weight * term.loss(x0) for term in terms]).sum(dim=0)

    return loss
