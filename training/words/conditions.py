"""What a conditional model is told of the pictures of a step: words, a picture, both or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.models.word_features import Reader, distrusted

SHARES = {"words": 0.45, "picture": 0.25, "both": 0.2, "nothing": 0.1}
"""How often an example is told what, where a model learns both."""
_LEAST_CROP = 0.6  # of the area


def shares_of(conditions: Sequence[str]) -> dict[str, float]:
    """Returns how often an example is told what, for a model that learns these conditions."""
    if len(conditions) > 1:
        return dict(SHARES)
    return {conditions[0]: 1 - SHARES["nothing"], "nothing": SHARES["nothing"]}


@dataclass(frozen=True)
class Chance:
    """What is drawn at random for the pictures of a step.

    Attributes:
        lots: which condition, `(b,)` in [0, 1).
        distrust: of the picture's embedding, `(b,)` in [0, 1).
        noise: standard normal, `(b, d)`.
        crops: area, left and top of the crop that is embedded, `(b, 3)` in [0, 1).
        mirrored: `(b,)` bool.
    """

    lots: Tensor
    distrust: Tensor
    noise: Tensor
    crops: Tensor
    mirrored: Tensor

    def select(self, rows: Tensor) -> Chance:
        """Returns that of some of the pictures, `(m,)` int64."""
        parts = (self.lots, self.distrust, self.noise, self.crops, self.mirrored)
        return Chance(*(part[rows] for part in parts))

    def to(self, device: torch.device) -> Chance:
        """Returns the same on a device."""
        parts = (self.lots, self.distrust, self.noise, self.crops, self.mirrored)
        return Chance(*(part.to(device) for part in parts))


def draw_chance(count: int, dim: int, generator: torch.Generator) -> Chance:
    """Draws what is random for so many pictures, whose embeddings have `dim` numbers."""
    lots, distrust, mirrored = torch.rand(3, count, generator=generator)
    noise = torch.randn(count, dim, generator=generator)
    crops = torch.rand(count, 3, generator=generator)
    return Chance(lots, distrust, noise, crops, mirrored < 0.5)


def told_words(lots: Tensor, conditions: Sequence[str], *, known: Tensor) -> Tensor:
    """Which examples are told words, `(b,)` bool: of those that have any."""
    if "words" not in conditions:
        return torch.zeros_like(known)
    if "picture" not in conditions:
        return known & (lots >= SHARES["nothing"])
    return known & ((lots < SHARES["words"]) | (lots >= 1 - SHARES["both"]))


def told_picture(lots: Tensor, conditions: Sequence[str]) -> Tensor:
    """Which examples are told a picture, `(b,)` bool."""
    if "picture" not in conditions:
        return torch.zeros_like(lots, dtype=torch.bool)
    if "words" not in conditions:
        return lots >= SHARES["nothing"]
    return lots >= SHARES["words"] + SHARES["nothing"]


@torch.no_grad()
def other_crops(reader: Reader, x0: Tensor, chance: Chance) -> Tensor:
    """Returns embeddings of other crops of pictures, `(b, d)`, with noise.

    Args:
        reader: embeds them.
        x0: `(b, 3, h, w)` in [-1, 1].
        chance: on the device of the pictures.
    """
    seen = reader.embedded(cropped(x0, chance.crops, chance.mirrored))
    return distrusted(seen, chance.distrust, chance.noise)


def cropped(x0: Tensor, crops: Tensor, mirrored: Tensor) -> Tensor:
    """Returns a square part of each picture at its full size, some of them mirrored.

    Args:
        x0: `(b, c, h, w)`.
        crops: area (from 0, `_LEAST_CROP`, to 1, all), left and top, `(b, 3)` in [0, 1].
        mirrored: `(b,)` bool.
    """
    scale = (_LEAST_CROP + (1 - _LEAST_CROP) * crops[:, 0]).sqrt()  # (b,) of the side
    room = 1 - scale
    across, down = room * (2 * crops[:, 1] - 1), room * (2 * crops[:, 2] - 1)
    flip = torch.where(mirrored, -1.0, 1.0)
    zero = torch.zeros_like(scale)
    rows = [torch.stack([scale * flip, zero, across], 1), torch.stack([zero, scale, down], 1)]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(x0.shape), align_corners=False)
    return F.grid_sample(x0, grid, padding_mode="reflection", align_corners=False)
