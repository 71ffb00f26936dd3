"""A loss on the contrast of a picture."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pipelines.diffusion.losses.luma import luma


@dataclass(frozen=True)
class Contrast:
    """Squared error of the standard deviation of luma.

    Attributes:
        target: wanted standard deviation on the scale of [-1, 1]: 0 is flat, 1 is the maximum.
    """

    target: float
    polyak: float = 2.0

    def __call__(self, x0: Tensor) -> Tensor:
        return (
            luma(x0).flatten(1).var(dim=1, correction=0).add(1e-8).sqrt() - self.target
        ).square()
