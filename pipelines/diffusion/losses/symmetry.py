"""A loss on mirror symmetry."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Symmetry:
    """Mean squared difference of a picture and its mirror image, divided by 4.

    Attributes:
        axis: "left-right" or "top-bottom".
    """

    axis: str = "left-right"
    polyak: float = 2.0

    def __call__(self, x0: Tensor) -> Tensor:
        return (x0 - self._mirrored(x0)).square().mean(dim=(1, 2, 3)) / 4

    def _mirrored(self, x0: Tensor) -> Tensor:
        return x0.flip(-1 if self.axis == "left-right" else -2)

    def project(self, x0: Tensor) -> Tensor:
        """Returns the mean of the pictures and their mirror images, `(b, c, h, w)`."""
        return (x0 + self._mirrored(x0)) / 2
