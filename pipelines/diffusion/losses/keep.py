"""A loss on what is known of a picture: some of its pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Keep:
    """Mean squared difference to known pixels: inpainting, outpainting and restyling.

    Attributes:
        picture: `(c, h, w)` in [-1, 1].
        redrawn: `(h, w)` in [0, 1]: pixels of 0 are known, those of 1 are free. Between, a pixel is
            known until that share of the run is left (Differential Diffusion, arXiv:2306.00950).
    """

    picture: Tensor
    redrawn: Tensor
    polyak: float = 2.0

    def at(self, progress: float) -> Keep:
        """Returns the loss at a moment of a run, whose pixels are either known or free.

        Args:
            progress: share of the run that has passed, 0 to 1.
        """
        return Keep(self.picture, (self.redrawn >= 1 - progress).float() * (self.redrawn > 0))

    def __call__(self, x0: Tensor) -> Tensor:
        difference = (1 - self.redrawn.to(x0)) * (x0 - self.picture.to(x0))
        return difference.square().mean(dim=(1, 2, 3))

    def project(self, x0: Tensor) -> Tensor:
        """Returns the pictures `(b, c, h, w)` with the known pixels in place of their own."""
        return torch.lerp(self.picture.to(x0), x0, self.redrawn.to(x0))

    def onto(self, x: Tensor) -> Tensor:
        """Returns the part of pictures `(b, c, h, w)` that is known, 0 elsewhere."""
        return (1 - self.redrawn.to(x)) * x
