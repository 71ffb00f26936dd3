"""Several emoji in one picture, at known places, and what is said of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from training.core.told import with_article

NUMBERS = {2: "two", 3: "three", 4: "four"}


@dataclass(frozen=True)
class Box:
    """Where a part of a collage stands, in shares of the picture's side.

    Attributes:
        left: of its left edge.
        top: of its upper edge.
        side: its size.
    """

    left: float
    top: float
    side: float


@dataclass(frozen=True)
class Layout:
    """Places of the parts, and the sentences on them.

    Attributes:
        boxes: of each part.
        ways: sentences with `{0}`, `{1}`... for the parts.
    """

    boxes: tuple[Box, ...]
    ways: tuple[str, ...]


LAYOUTS = (
    Layout(
        (Box(0.02, 0.25, 0.48), Box(0.5, 0.25, 0.48)),
        (
            "{0} left of {1}",
            "{1} right of {0}",
            "{0} on the left, {1} on the right",
            "{0} next to {1}",
            "{0} and {1}",
        ),
    ),
    Layout(
        (Box(0.25, 0.02, 0.48), Box(0.25, 0.5, 0.48)),
        (
            "{0} above {1}",
            "{1} below {0}",
            "{0} at the top, {1} at the bottom",
            "{0} and {1}",
        ),
    ),
    Layout(
        (Box(0.02, 0.03, 0.46), Box(0.52, 0.03, 0.46), Box(0.27, 0.51, 0.46)),
        ("{0}, {1} and {2}", "{0} and {1} above {2}"),
    ),
    Layout(
        (
            Box(0.03, 0.03, 0.45),
            Box(0.52, 0.03, 0.45),
            Box(0.03, 0.52, 0.45),
            Box(0.52, 0.52, 0.45),
        ),
        ("{0}, {1}, {2} and {3}",),
    ),
)
_WEIGHTS = (5, 4, 2, 1)
_SAME_SHARE = 0.3
MAX_PARTS = max(len(layout.boxes) for layout in LAYOUTS)


@dataclass(frozen=True)
class Collage:
    """What a collage shows.

    Attributes:
        boxes: of each part.
        same: whether all parts are the first one.
        way: sentence with `{0}`, `{1}`... for the parts.
    """

    boxes: tuple[Box, ...]
    same: bool
    way: str


def draw_collage(chance: random.Random) -> Collage:
    """Draws a layout, whether it repeats one thing, and how it is told; boxes move a little."""
    layout = chance.choices(LAYOUTS, _WEIGHTS)[0]
    boxes = tuple(_moved(box, chance) for box in layout.boxes)
    return Collage(boxes, chance.random() < _SAME_SHARE, chance.choice(layout.ways))


def _moved(box: Box, chance: random.Random) -> Box:
    side = box.side * chance.uniform(0.8, 1.0)
    room = box.side - side
    return Box(box.left + room * chance.random(), box.top + room * chance.random(), side)


def told(collage: Collage, phrases: Sequence[str]) -> str:
    """Returns the sentence on a collage of parts that are called so, without articles."""
    if collage.same:
        return f"{NUMBERS[len(collage.boxes)]} {plural(phrases[0])}"
    return collage.way.format(*map(with_article, phrases))


def plural(name: str) -> str:
    """Returns the regular plural of a name, of its last word."""
    if name.endswith("s"):
        return name
    if name.endswith("y") and name[-2:-1] not in "aeiou":
        return f"{name[:-1]}ies"
    if name.endswith(("fish", "sheep")):
        return name
    if name.endswith("leaf"):
        return f"{name[:-1]}ves"
    return f"{name}es" if name.endswith(("s", "x", "ch", "sh")) else f"{name}s"


def pasted(parts: Sequence[Tensor], boxes: Sequence[Box]) -> Tensor:
    """Returns the parts on a transparent picture, `(4, h, w)` uint8.

    Args:
        parts: `(4, h, w)` uint8 each, RGBA.
        boxes: where they go; they do not overlap.
    """
    size = parts[0].shape[-1]
    canvas = torch.zeros_like(parts[0])
    for part, box in zip(parts, boxes, strict=True):
        side = max(1, round(box.side * size))
        top, left = (min(size - side, round(share * size)) for share in (box.top, box.left))
        canvas[:, top : top + side, left : left + side] = _scaled(part, side)
    return canvas


def _scaled(part: Tensor, side: int) -> Tensor:
    """A part `(4, h, w)` uint8 at another size; colours weigh by how opaque they are."""
    alpha = part[3:].float() / 255
    premultiplied = torch.cat([part[:3].float() * alpha, alpha])[None]
    small = F.interpolate(premultiplied, (side, side), mode="bilinear", antialias=True)[0]
    colors = small[:3] / small[3:].clamp(min=1e-3)
    return torch.cat([colors, small[3:] * 255]).round().clamp(0, 255).to(torch.uint8)
