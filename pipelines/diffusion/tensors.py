"""Norms of images, one per image of a batch."""

from __future__ import annotations

from torch import Tensor


def length(x: Tensor) -> Tensor:
    """Returns the Euclidean length of each image, `(b, c, h, w)` to `(b,)`."""
    return x.square().sum(dim=(1, 2, 3)).sqrt()


def rms(x: Tensor) -> Tensor:
    """Returns the root mean square of each image, `(b, c, h, w)` to `(b, 1, 1, 1)`, above 0."""
    return x.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp(min=1e-12)
