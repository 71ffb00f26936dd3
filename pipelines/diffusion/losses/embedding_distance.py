"""A loss on the embedding of a picture, such as CLIP's."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_FARTHEST = math.pi**2 / 2


@dataclass(frozen=True)
class EmbeddingDistance:
    """Squared great-circle distance of a picture's embeddings to target embeddings.

    It is the course's `clip_loss`, with weights. A target of negative weight pushes away: it counts
    as the distance to the opposite point of the sphere.

    Attributes:
        embed: `x0` to embeddings of length 1, `(k, b, d)`, for k views of each picture.
        targets: `(p, d)`, of length 1.
        weights: `(p,)`, not all 0.
    """

    embed: Callable[[Tensor], Tensor]
    targets: Tensor
    weights: Tensor
    polyak: float = math.inf  # no picture has exactly the embedding of a text

    def __call__(self, x0: Tensor) -> Tensor:
        distance = great_circle(self.embed(x0)[:, :, None], self.targets)  # (k, b, p)
        wanted = torch.where(self.weights < 0, _FARTHEST - distance, distance)
        share = self.weights.abs() / self.weights.abs().sum()
        return (wanted * share).sum(dim=-1).mean(dim=0)


def great_circle(a: Tensor, b: Tensor) -> Tensor:
    """Returns half the squared angle between vectors `(..., d)` of length 1, as `(...)`.

    It is the course's measure. The angle comes from half the chord, which is exact for small angles
    too; its gradient is finite even where the vectors are equal or opposite.
    """
    chord = (a - b).square().sum(dim=-1).clamp(min=1e-12).sqrt()
    return 2 * (chord / 2).clamp(max=1 - 1e-6).arcsin().square()
