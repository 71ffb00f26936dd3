"""A loss on a picture made small: what a small or blurred picture says of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from pipelines.diffusion.losses.box import shifted


@dataclass(frozen=True)
class Downsampled:
    """Mean squared difference of a picture, made small by averaging, to a known small one.

    Attributes:
        small: `(c, h / factor, w / factor)` in [-1, 1].
        factor: pixels of the picture along the side of one of the small one.
    """

    small: Tensor
    factor: int
    polyak: float = 2.0

    def __call__(self, x0: Tensor) -> Tensor:
        averaged = F.avg_pool2d(x0, self.factor)
        return (averaged - self.small.to(x0)).square().mean(dim=(1, 2, 3))

    def project(self, x0: Tensor) -> Tensor:
        """Returns the nearest pictures `(b, c, h, w)` inside [-1, 1] that become the small one."""
        return shifted(x0, 1.0, self._averages, self._repeated(self.small.to(x0)[None]))

    def onto(self, x: Tensor) -> Tensor:
        """Returns the part of pictures `(b, c, h, w)` that is known: their averages."""
        return self._averages(x)

    def _averages(self, x: Tensor) -> Tensor:
        """Returns pictures whose pixels are the averages of their squares, `(b, c, h, w)`."""
        return self._repeated(F.avg_pool2d(x, self.factor))

    def _repeated(self, small: Tensor) -> Tensor:
        return small.repeat_interleave(self.factor, -1).repeat_interleave(self.factor, -2)
