"""How guidance by a network looks at a picture: random crops, each seen as a whole picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.core import images


@dataclass(frozen=True)
class Views:
    """How a picture is looked at several times: random crops, each seen as a whole picture.

    Attributes:
        count: of crops.
        least_side: shortest side of a crop, as a share of the picture's; 1 is the whole picture.
        max_angle: that a crop is turned by, in radians.
        mirrored: whether half of them are.
        noise: standard deviation of what is added to them.
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
    """Random crops of each picture, `(count, b, 3, size_px, size_px)`, differentiable.

    One crop alone is fooled by patterns that no person sees; patterns that fool many at once are
    much harder to find.

    Args:
        x0: `(b, 3, h, w)`.
        views: how they are drawn.
        size_px: side of a crop.
        generators: one per picture, on the CPU, so that its crops do not depend on the batch.
    """
    count, shape = views.count, (3, size_px, size_px)
    drawn = torch.stack([torch.rand(5, count, generator=g) for g in generators], dim=2)  # (5, k, b)
    noise = torch.stack([torch.randn(count, *shape, generator=g) for g in generators], dim=1)
    area = views.least_side**2
    side = (area + (1 - area) * drawn[0]).sqrt()
    angle = (2 * drawn[1] - 1) * views.max_angle
    mirrored = torch.where(drawn[2] < 0.5, -1.0, 1.0) if views.mirrored else torch.ones_like(side)
    shift = (2 * drawn[3:] - 1) * (1 - side)  # (2, k, b)
    repeated = x0.repeat(count, 1, 1, 1)  # (k * b, 3, h, w), views of one crop beside each other
    side, angle, mirrored, shift = (v.flatten(-2) for v in (side, angle, mirrored, shift))
    crops = images.crops(repeated, side, angle, mirrored, shift, size_px)
    return crops.unflatten(0, (count, len(x0))) + views.noise * noise.to(x0)
