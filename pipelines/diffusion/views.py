"""The random crops of a picture that CLIP sees in guidance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.core import images


@dataclass(frozen=True)
class Views:
    """The distribution of random crops of a picture.

    Attributes:
        count: number of crops.
        least_side: shortest side of a crop, as a share of the picture's; 1 is the full picture.
        max_angle: largest rotation of a crop, in radians; 0 is off.
        mirrored: whether half of the crops are mirrored.
        noise: standard deviation of the noise added to the crops; 0 is off.
    """

    count: int
    least_side: float
    max_angle: float
    mirrored: bool
    noise: float


VIEWS = Views(count=4, least_side=0.6, max_angle=0.1, mirrored=True, noise=0.05)


def random_views(
    x0: Tensor, views: Views, size_px: int, generators: Sequence[torch.Generator]
) -> Tensor:
    """Returns random crops of each picture, `(count, b, 3, size_px, size_px)`, differentiable.

    Patterns that no person sees can fool CLIP on a single crop; it is much harder to find patterns
    that fool it on many crops at once.

    Args:
        x0: `(b, 3, h, w)`.
        views: the distribution of the crops.
        size_px: side of the returned crops.
        generators: one CPU generator per picture, so that its crops do not depend on the batch.
    """
    count, shape = views.count, (3, size_px, size_px)
    draws = torch.stack([torch.rand(5, count, generator=g) for g in generators], dim=2)  # (5, k, b)
    noise = torch.stack([torch.randn(count, *shape, generator=g) for g in generators], dim=1)
    area = views.least_side**2
    side = (area + (1 - area) * draws[0]).sqrt()
    angle = (2 * draws[1] - 1) * views.max_angle
    mirrored = torch.where(draws[2] < 0.5, -1.0, 1.0) if views.mirrored else torch.ones_like(side)
    shift = (2 * draws[3:] - 1) * (1 - side)  # (2, k, b)
    repeated = x0.repeat(count, 1, 1, 1)  # (k * b, 3, h, w), crop by crop
    side, angle, mirrored, shift = (v.flatten(-2) for v in (side, angle, mirrored, shift))
    crops = images.crops(repeated, side, angle, mirrored, shift, size_px)
    return crops.unflatten(0, (count, len(x0))) + views.noise * noise.to(x0)
