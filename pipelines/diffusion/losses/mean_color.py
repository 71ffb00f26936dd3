"""A loss on the mean colour of a picture, or of a region."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_BISECTIONS = 40


@dataclass(frozen=True)
class MeanColor:
    """Squared error of the mean colour, of the picture or of a region.

    It constrains only the mean; the picture is otherwise free.

    Attributes:
        color: `(c,)` in [-1, 1].
        mask: `(h, w)` in [0, 1], the weight of each pixel; None weighs all pixels equally.
        box: the range of pixel values of `project`'s result; None is no limit.
    """

    color: Tensor
    mask: Tensor | None = None
    box: tuple[float, float] | None = (-1.0, 1.0)
    polyak: float = 2.0

    def __call__(self, x0: Tensor) -> Tensor:
        return (self.mean(x0) - self.color.to(x0)).square().mean(dim=1)

    def mean(self, x0: Tensor) -> Tensor:
        """Returns the mean colour `(b, c)`."""
        weights = self._weights(x0)  # (h, w), sums to 1
        return (x0 * weights).sum(dim=(2, 3))

    def _weights(self, x0: Tensor) -> Tensor:
        height, width = x0.shape[-2:]
        mask = x0.new_ones(height, width) if self.mask is None else self.mask.to(x0)
        return mask / mask.sum()

    def project(self, x0: Tensor) -> Tensor:
        """Returns the nearest pictures `(b, c, h, w)` with the wanted mean.

        Without a box, one constant per channel (times the mask) is added. With a box the result is
        `clamp(x0 + shift * mask)`, where bisection finds the shift that gives the mean: the exact
        projection onto the pictures inside the box that have the mean.
        """
        weights = self._weights(x0)  # (h, w)
        mask = weights / weights.amax()
        if self.box is None:
            missing = self.color.to(x0) - self.mean(x0)
            return x0 + (missing / (weights * mask).sum())[:, :, None, None] * mask
        shift = self._shift_inside(x0, mask, self.box)
        return torch.where(mask > 0, (x0 + shift * mask).clamp(*self.box), x0)

    def _shift_inside(self, x0: Tensor, mask: Tensor, box: tuple[float, float]) -> Tensor:
        """Returns the shift `(b, c, 1, 1)` with which `clamp(x0 + shift * mask)` has the mean."""
        least = mask[mask > 0].amin()  # the pixel that moves least
        low = (box[0] - x0.amax(dim=(2, 3))) / least  # (b, c); every pixel reaches a bound
        high = (box[1] - x0.amin(dim=(2, 3))) / least
        wanted = self.color.to(x0)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            too_low = self.mean((x0 + middle[:, :, None, None] * mask).clamp(*box)) < wanted
            low, high = torch.where(too_low, middle, low), torch.where(too_low, high, middle)
        return ((low + high) / 2)[:, :, None, None]
