"""A loss on the colour of every pixel."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class TargetColor:
    """Mean absolute error of all pixels to one colour: the course's `color_loss`, per image.

    It is smallest for a flat field of that colour.

    Attributes:
        color: `(c,)` in [-1, 1].
    """

    color: Tensor
    polyak: float = 1.0

    def __call__(self, x0: Tensor) -> Tensor:
        return (x0 - self.color.to(x0)[None, :, None, None]).abs().mean(dim=(1, 2, 3))
