"""A loss on the grey of a picture: what a photograph without colours says of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.diffusion.losses.box import shifted
from pipelines.diffusion.losses.luma import LUMINANCE, luma


@dataclass(frozen=True)
class GreyIs:
    """Mean squared difference of the luma of every pixel to a known one: colouring in.

    Attributes:
        grey: `(h, w)` in [-1, 1].
    """

    grey: Tensor
    polyak: float = 2.0

    def __call__(self, x0: Tensor) -> Tensor:
        return (luma(x0) - self.grey.to(x0)).square().mean(dim=(1, 2))

    def project(self, x0: Tensor) -> Tensor:
        """Returns the nearest pictures `(b, 3, h, w)` inside [-1, 1] that have the luma."""
        weights = torch.tensor(LUMINANCE)[:, None, None]  # (3, 1, 1)
        return shifted(x0, weights, lambda x: luma(x)[:, None], self.grey.to(x0)[None, None])

    def onto(self, x: Tensor) -> Tensor:
        """Returns the part of pictures `(b, 3, h, w)` that is known: along the weights of luma."""
        weights = x.new_tensor(LUMINANCE)
        return luma(x)[:, None] * (weights / weights.square().sum())[:, None, None]
