"""A loss on the palette of a picture: colours, each with its share of the pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_NUM_DIRECTIONS = 64  # with 16, nearly a third of the pixels stay far from every colour


@dataclass(frozen=True)
class Palette:
    """Squared sliced Wasserstein distance of all pixels' colours to a palette (arXiv:1804.01947).

    For each of several directions in colour space, the pixels are projected, sorted and compared
    with the palette's colours, each repeated according to its share.

    Attributes:
        colors: `(k, c)` in [-1, 1].
        shares: `(k,)`, above 0, sum 1.
        mask: `(h, w)` in [0, 1]; only pixels of at least 0.5 count. None counts all pixels.
    """

    colors: Tensor
    shares: Tensor
    mask: Tensor | None = None
    polyak: float = 2.0

    def __call__(self, x0: Tensor) -> Tensor:
        pixels = x0.flatten(2)  # (b, c, n)
        if self.mask is not None:
            pixels = pixels[:, :, (self.mask >= 0.5).flatten().to(x0.device)]
        directions = _directions(x0.shape[1]).to(x0)  # (d, c)
        projected = (directions @ pixels).sort(dim=-1).values  # (b, d, n)
        wanted = self._quantiles(directions, pixels.shape[-1])  # (d, n)
        # The mean over directions is 1/c of the squared distance, like a mean over channels.
        return (projected - wanted).square().mean(dim=(1, 2))

    def _quantiles(self, directions: Tensor, count: int) -> Tensor:
        """Returns the palette along each direction as `count` sorted values, `(d, count)`."""
        counts = _apportioned(self.shares, count)
        pixels = self.colors.to(directions).repeat_interleave(counts.to(directions.device), dim=0)
        return (directions @ pixels.T).sort(dim=-1).values


def _directions(channels: int) -> Tensor:
    """Returns unit vectors `(d, c)`: the axes and random ones; for one channel, the axis only."""
    if channels == 1:
        return torch.ones(1, 1)
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(_NUM_DIRECTIONS, channels, generator=generator)
    return torch.cat([torch.eye(channels), F.normalize(random, dim=1)])


def _apportioned(shares: Tensor, count: int) -> Tensor:
    """Returns integers `(k,)` in the ratio of `shares` with sum `count` (largest remainders)."""
    exact = shares.double() / shares.double().sum() * count
    counts = exact.floor().long()
    left = count - int(counts.sum())
    counts[(exact - counts).argsort(descending=True)[:left]] += 1
    return counts
