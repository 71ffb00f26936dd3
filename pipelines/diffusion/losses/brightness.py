"""A loss on the brightness of a picture."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pipelines.diffusion.losses.luma import luma


@dataclass(frozen=True)
class Brightness:
    """Squared error of the mean luma, from -1 (black) to 1 (white).

    Attributes:
        target: wanted mean luma in [-1, 1].
    """

    target: float
    polyak: float = 2.0

    def __call__(self, x0: Tensor) -> Tensor:
        return (luma(x0).mean(dim=(1, 2)) - self.target).square()
