"""The interface of a loss: predicted clean pictures to one value per image.

Every loss takes `x0` `(b, c, h, w)` in about [-1, 1] and returns `(b,)`, a mean over pixels. So the
strength of guidance depends neither on the batch nor on the size. A loss with a minimum in closed
form also has a method `project`.
"""

from __future__ import annotations

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
        values = self.function(x0)
        if values.shape != (len(x0),):
            shape, expected = tuple(values.shape), f"({len(x0)},)"
            raise ValueError(f"loss must give one value per image, {expected}, got {shape}")
        return values


def of(loss: Loss | Callable[[Tensor], Tensor], polyak: float = 1.0) -> Loss:
    """Returns a plain function as a loss; returns a loss unchanged.

    Args:
        loss: `x0` `(b, c, h, w)` in about [-1, 1] to `(b,)`, 0 or more.
        polyak: of a plain function, see `Loss`; 2 for squared residuals.
    """
    return loss if hasattr(loss, "polyak") else PlainLoss(loss, polyak)  # pyright: ignore


@dataclass(frozen=True)
class Term:
    """A loss and its weight among others.

    Attributes:
        loss: a loss, or a plain function as `of` takes it.
        weight: 1 counts in full, 0 not at all.
    """

    loss: Loss
    weight: float = 1.0

    def __init__(self, loss: Loss | Callable[[Tensor], Tensor], weight: float = 1.0):
        object.__setattr__(self, "loss", of(loss))
        object.__setattr__(self, "weight", weight)


def total(terms: Sequence[Term]) -> Callable[[Tensor], Tensor]:
    """Returns the weighted sum of several losses, `(b, c, h, w)` to `(b,)`."""

    def loss(x0: Tensor) -> Tensor:
        return torch.stack([term.weight * term.loss(x0) for term in terms]).sum(dim=0)

    return loss
