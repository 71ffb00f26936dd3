"""Real emoji beside drawn ones: how they are judged, and whether drawn ones are copies."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from datasets import Image as ImageFeature
from torch import Tensor

from benchmarks.emoji import PROMPTS
from benchmarks.judges import emoji_judge, things_judge
from pipelines.core import images
from training.clip.pairs import fitted
from training.core import held_out
from training.core.backgrounds import composited, draw_backgrounds
from training.core.data import read_split

FLAT = ("circle", "square", "heart", "star", "moon", "droplet")
"""Things that all designers draw nearly alike."""

COPIED: dict[str, re.Pattern[str]] = {
    **{thing: emoji_judge.THINGS[thing] for thing in ("circle", "square", "heart")},
    **things_judge.THINGS,
}
NEAR_HEADER = (
    "things",
    "pictures",
    "distance to the nearest trained on",
    "of the held-out designer's drawing",
    "nearer than that",
    "nearer than half of that",
)
_PX, _JUDGED_PX = 32, 64
_BORDER = 2  # pixels at the edge that show the ground


@dataclass(frozen=True)
class Real:
    """Real emoji.

    Attributes:
        pixels: `(n, 4, 64, 64)` uint8, RGBA.
        names: of each.
        is_held: whether each is by the held-out designer, `(n,)` bool; the others are trained on.
    """

    pixels: Tensor
    names: list[str]
    is_held: Tensor


def load_real(data_folder: Path) -> Real:
    """Returns the emoji that models are trained on, and those of the held-out designer.

    Raises:
        ValueError: if they cannot be read.
    """
    held = held_out.load()
    pixels, names, is_held = [], [], []
    for source in emoji_judge.SOURCES:
        rows: Any = read_split(str((data_folder / source).resolve()), "train")
        opened: Iterable[Any] = rows.cast_column("image", ImageFeature(mode="RGBA"))
        for row in opened:
            by_held_designer = row["set"] in held.sets
            if by_held_designer or not held.has_emoji(row):
                pixels.append(scaled(fitted(row["image"])[None], _JUDGED_PX)[0])
                names.append(row["name"] or "")
                is_held.append(by_held_designer)
    return Real(torch.stack(pixels), names, torch.tensor(is_held))


def scaled(pixels: Tensor, size: int) -> Tensor:
    """Returns transparent pictures `(n, 4, h, w)` uint8 at another size; clear pixels count not."""
    alpha = pixels[:, 3:].float() / 255
    colors = F.interpolate(pixels[:, :3].float() * alpha, size=size, mode="area")
    opacity = F.interpolate(alpha, size=size, mode="area")
    joined = torch.cat([colors / opacity.clamp(min=1e-3), opacity * 255], dim=1)
    return joined.round().clamp(0, 255).to(torch.uint8)


def judged_real(judge: emoji_judge.EmojiJudge, real: Real) -> tuple[list[bool], list[bool]]:
    """Returns whether thing and colour of real emoji that show a prompt are judged right.

    Of the held-out designer, each on a background of its own.
    """
    wanted: list[tuple[str, str]] = []
    rows = []
    for row in real.is_held.nonzero().flatten().tolist():
        thing = emoji_judge.KINDS[emoji_judge.thing_of(real.names[row])]
        color = emoji_judge.color_of(real.pixels[row])
        pair = (thing, emoji_judge.COLORS[color] if color >= 0 else "")
        if pair in PROMPTS.values():
            wanted.append(pair)
            rows.append(row)
    grounds = draw_backgrounds(len(rows), torch.Generator().manual_seed(0))
    things, colors = emoji_judge.classify(judge, composited(real.pixels[rows], grounds))
    return (
        [judged == thing for judged, (thing, _) in zip(things, wanted, strict=True)],
        [judged == color for judged, (_, color) in zip(colors, wanted, strict=True)],
    )


@dataclass(frozen=True)
class Nearness:
    """How near the pictures of a thing are to what was trained on.

    Attributes:
        thing: its name.
        drawn: distance of each drawn picture to the nearest trained one.
        real: distance of the held-out designer's drawing to the nearest, on the same grounds.
    """

    thing: str
    drawn: list[float]
    real: list[float]

    @property
    def ratio(self) -> float:
        """Median distance of the drawn ones, as a share of the held-out designer's."""
        return statistics.median(self.drawn) / max(1e-6, statistics.median(self.real))


class Trained:
    """The emoji that a model is trained on, small, to find near copies.

    Hue turns are not undone: a copy in another hue is not found.
    """

    def __init__(self, real: Real):
        small = scaled(real.pixels[~real.is_held], _PX)
        both = torch.cat([small, small.flip(-1)])
        alpha = both[:, 3:].float() / 255
        self._colors = images.from_uint8(both[:, :3]) * alpha
        self._clear = 1 - alpha

    def nearest(self, picture: Tensor, ground: Tensor) -> float:
        """Returns the distance to the nearest: root mean square of pixels in [-1, 1].

        Args:
            picture: `(3, h, w)` in [-1, 1].
            ground: that all of them stand on, `(3, 1, 1)` in [-1, 1].
        """
        small = F.interpolate(picture[None], size=_PX, mode="area")
        squares = (self._colors + ground * self._clear - small).square_()
        return squares.flatten(1).mean(dim=1).min().sqrt().item()


def ground_of(picture: Tensor) -> Tensor:
    """Returns the colour at the edge of a picture `(c, h, w)`, its median, `(c, 1, 1)`."""
    inner = torch.ones(picture.shape[1:], dtype=torch.bool)
    inner[_BORDER:-_BORDER, _BORDER:-_BORDER] = False
    return picture[:, inner].median(dim=1).values[:, None, None]


def nearness(trained: Trained, real: Real, thing: str, pictures: Tensor) -> Nearness | None:
    """Compares pictures of a thing with what was trained on; None if nothing is to compare with.

    Args:
        trained: emoji.
        real: emoji, of which the first of the thing by the held-out designer is taken.
        thing: key of `COPIED`.
        pictures: `(n, 3, 64, 64)` in [-1, 1].
    """
    is_thing = COPIED[thing].fullmatch
    rows = [i for i in real.is_held.nonzero().flatten().tolist() if is_thing(real.names[i])]
    if not rows:
        return None
    grounds = [ground_of(picture) for picture in pictures]
    reference = real.pixels[rows[:1]]
    return Nearness(
        thing,
        [trained.nearest(picture, g) for picture, g in zip(pictures, grounds, strict=True)],
        [trained.nearest(composited(reference, g[None])[0], g) for g in grounds],
    )


def nearness_row(title: str, found: Sequence[Nearness]) -> list[str]:
    """Returns a row with `NEAR_HEADER` of some things."""
    pairs = [pair for n in found for pair in zip(n.drawn, n.real, strict=True)]
    nearer = [drawn < real for drawn, real in pairs]
    far_nearer = [drawn < real / 2 for drawn, real in pairs]
    return [
        title,
        f"{len(pairs)}",
        f"{statistics.median(drawn for drawn, _ in pairs):.3f}",
        f"{statistics.median(real for _, real in pairs):.3f}",
        f"{sum(nearer) / len(pairs):.0%}",
        f"{sum(far_nearer) / len(pairs):.0%}",
    ]
