"""A palette: colours, each with its share of the pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_NUM_DIRECTIONS = 64  # with 16, nearly a third of the pixels stays far from every colour


@dataclass(frozen=True)
class Palette:
    """Squared sliced Wasserstein distance of all pixels' colours to a palette (arXiv:1804.01947).

    Along each of some directions in colour space the pixels are sorted and compared with the
    palette's colours, each repeated according to its share.

    Attributes:
        colors: `(k, c)` in [-1, 1].
        shares: `(k,)`, above 0, sum 1.
        mask: `(h, w)` in [0, 1]; pixels of at least one half count. None is all of them.
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
        found = (directions @ pixels).sort(dim=-1).values  # (b, d, n)
        wanted = self._quantiles(directions, pixels.shape[-1])  # (d, n)
        # The mean over directions is 1/c of the squared length that it stands for.
        return (found - wanted).square().mean(dim=(1, 2))

    def _quantiles(self, directions: Tensor, count: int) -> Tensor:
        """The palette along each direction, sorted, as `count` values: `(d, count)`."""
        counts = _apportioned(self.shares, count)
        pixels = self.colors.to(directions).repeat_interleave(counts.to(directions.device), dim=0)
        return (directions @ pixels.T).sort(dim=-1).values


def _directions(channels: int) -> Tensor:
    """Unit vectors `(d, c)` spread over half of the sphere; for one channel, the one there is."""
    if channels == 1:
        return torch.ones(1, 1)
    generator = torch.Generator().manual_seed(0)
    free = torch.randn(_NUM_DIRECTIONS, channels, generator=generator)
    return torch.cat([torch.eye(channels), F.normalize(free, dim=1)])


def _apportioned(shares: Tensor, count: int) -> Tensor:
    """Whole numbers `(k,)` in the ratio of `shares` that sum to `count` (largest remainders)."""
    exact = shares.double() / shares.double().sum() * count
    whole = exact.floor().long()
    left = count - int(whole.sum())
    whole[(exact - whole).argsort(descending=True)[:left]] += 1
    return whole
