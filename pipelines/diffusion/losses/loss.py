"""What a loss is: predicted clean pictures to one value per image.

Every loss takes `x0` `(b, c, h, w)` in about [-1, 1] and answers `(b,)`, so that the strength of
guidance depends neither on the batch nor, since all are means over pixels, on the size. Losses
whose minimum can be reached in closed form also say how (`project`).
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
        polyak: how far Newton's method would go, in units of `loss / |gradient|`: 2 for squared
            residuals, at most 1 for anything else; infinite where 0 is out of reach, so that steps
            always go to the edge of the trust region.
    """

    @property
    def polyak(self) -> float: ...

    def __call__(self, x0: Tensor) -> Tensor:
        """`(b, c, h, w)` to `(b,)`, 0 or more."""
        ...


@runtime_checkable
class Projectable(Protocol):
    """A loss whose nearest minimum is known in closed form."""

    def project(self, x0: Tensor) -> Tensor:
        """The nearest pictures `(b, c, h, w)` on which the loss is 0, or as near 0 as can be."""
        ...


@dataclass(frozen=True)
class PlainLoss:
    """A function as a loss; see `of`."""

    function: Callable[[Tensor], Tensor]
    polyak: float

    def __call__(self, x0: Tensor) -> Tensor:
        values = self.function(x0)
        if values.shape != (len(x0),):
            shape, wanted = tuple(values.shape), f"({len(x0)},)"
            raise ValueError(f"loss must give one value per image, {wanted}, got {shape}")
        return values


def of(loss: Loss | Callable[[Tensor], Tensor], polyak: float = 1.0) -> Loss:
    """A loss from a plain function; what is a loss already is left as it is.

    Args:
        loss: `x0` `(b, c, h, w)` in about [-1, 1] to `(b,)`, 0 or more.
        polyak: of a plain function, see `Loss`; 2 suits squared residuals.
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
    """The weighted sum of several losses, `(b, c, h, w)` to `(b,)`."""

    def loss(x0: Tensor) -> Tensor:
        return torch.stack([term.weight * term.loss(x0) for term in terms]).sum(dim=0)

    return loss
