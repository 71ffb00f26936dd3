"""What a network sees in a picture, and what it should see."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_FARTHEST = math.pi**2 / 2


@dataclass(frozen=True)
class EmbeddingDistance:
    """Squared great-circle distance of what a network sees in a picture to what it should see.

    The course's `clip_loss`, with weights. A negative weight pushes away: its part is the distance
    to the far side of the sphere.

    Attributes:
        look: `x0` to embeddings of length 1, `(k, b, d)`, for k views of each picture.
        targets: `(p, d)`, of length 1.
        weights: `(p,)`, not all 0.
    """

    look: Callable[[Tensor], Tensor]
    targets: Tensor
    weights: Tensor
    polyak: float = math.inf  # no picture is ever quite what words say

    def __call__(self, x0: Tensor) -> Tensor:
        distance = great_circle(self.look(x0)[:, :, None], self.targets)  # (k, b, p)
        wanted = torch.where(self.weights < 0, _FARTHEST - distance, distance)
        share = self.weights.abs() / self.weights.abs().sum()
        return (wanted * share).sum(dim=-1).mean(dim=0)


def great_circle(a: Tensor, b: Tensor) -> Tensor:
    """Half the squared angle between vectors `(..., d)` of length 1, `(...)`: the course's measure.

    The angle is taken from half the chord, which is exact for small ones too; its gradient is
    finite even where both are the same or opposite.
    """
    chord = (a - b).square().sum(dim=-1).clamp(min=1e-12).sqrt()
    return 2 * (chord / 2).clamp(max=1 - 1e-6).arcsin().square()
