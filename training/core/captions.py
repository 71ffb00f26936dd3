"""What pictures are called: sentences that a small CLIP learns from.

Pictures without sentences of their own are given some, from what is known of them (genre, artist,
title, label, name) and from their colours.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pipelines.models.zero_shot import THINGS

Row = Mapping[str, Any]
Say = Callable[[Row, Sequence[str], random.Random], str]
"""A row, the colours of its picture, and chance, to a sentence."""

# How each genre of WikiArt is spoken of.
GENRES: dict[str, tuple[str, ...]] = {
    "landscape": ("a landscape", "a landscape painting", "trees and fields", "a view of land"),
    "portrait": ("a portrait", "a portrait of a person", "a painting of a face"),
    "genre_painting": ("a scene of everyday life", "a painting of people", "a genre painting"),
    "religious_painting": ("a religious painting", "a painting of saints", "a biblical scene"),
    "cityscape": ("a cityscape", "a painting of a city", "a city street", "a view of a town"),
    "illustration": ("an illustration", "a book illustration", "a printed picture"),
    "sketch_and_study": ("a sketch", "a drawing", "a pencil sketch", "a study on paper"),
    "still_life": ("a still life", "a painting of objects", "a still life painting"),
    "nude_painting": ("a nude painting", "a painting of a nude"),
    "marine": ("a seascape", "ships on the sea", "a painting of the sea", "boats on the water"),
}
# WikiArt has marines, but in the list of genres they are without one.
_MARINE = re.compile(
    r"\b(ships?|boats?|sea|harbou?r|marine|seascape|sailing|sails|regatta|shipwreck|yachts?|"
    r"schooner|frigate)\b"
)

SCENES: dict[int, tuple[str, ...]] = {
    0: ("buildings", "a building", "houses in a city", "architecture"),
    1: ("a forest", "trees in a forest", "woods with trees", "a landscape with trees"),
    2: ("a glacier", "ice and snow", "a snowy mountain of ice"),
    3: ("a mountain", "mountains", "a mountain landscape", "hills and rocks"),
    4: ("the sea", "the ocean", "water and waves", "a beach by the sea"),
    5: ("a street", "a city street", "a street with cars and houses", "a road in a town"),
}

FLOWERS: dict[int, tuple[str, ...]] = {
    0: ("a daisy", "daisies"),
    1: ("a dandelion", "dandelions"),
    2: ("a rose", "roses"),
    3: ("a sunflower", "sunflowers"),
    4: ("a tulip", "tulips"),
}

# Names of colours and where they lie, sRGB.
COLORS: dict[str, tuple[int, int, int]] = {
    "black": (20, 20, 20),
    "dark grey": (70, 70, 70),
    "grey": (128, 128, 128),
    "white": (240, 240, 240),
    "red": (190, 40, 40),
    "dark red": (100, 25, 25),
    "pink": (225, 150, 170),
    "orange": (220, 130, 50),
    "brown": (110, 75, 45),
    "beige": (205, 185, 150),
    "yellow": (225, 200, 70),
    "green": (80, 130, 60),
    "dark green": (40, 65, 40),
    "turquoise": (70, 180, 170),
    "light blue": (150, 190, 220),
    "blue": (60, 100, 180),
    "dark blue": (30, 40, 90),
    "purple": (120, 70, 140),
}

# The same names for colours as bright as drawings have them.
VIVID: dict[str, tuple[int, int, int]] = {
    "red": (230, 40, 50),
    "orange": (250, 140, 30),
    "yellow": (255, 210, 60),
    "green": (50, 205, 60),
    "turquoise": (20, 205, 205),
    "blue": (40, 100, 235),
    "purple": (150, 50, 220),
    "pink": (250, 70, 175),
}

STYLES = {"Art Nouveau Modern": "Art Nouveau", "Post Impressionism": "Post-Impressionist"}
_COLOR_WORDS = re.compile(
    rf"\b((light|dark) )?({'|'.join(sorted({name.split()[-1] for name in COLORS}))}|gold|gray)\b ?"
)
_CLUSTERS = 3
_LEAST_SHARE = 0.15
_OPAQUE = 127
_AFTER_THE_THING = re.compile(
    r"[,:(].*| (with|of|in|behind|on|without|from|and|for|to|over|flying|fluttering|holding)\b.*"
)
# Everyday things that are kinds of other things, too, which have names of their own.
_NAMES = "ball bird boat book building car clock fish flower fruit hat leaf shoe tree"
_KINDS = tuple(_NAMES.split())
_PEOPLE = ("People & Body", "Flags")
_DULL = {"find", "untitled", "sketch", "study"}


def dominant_colors(picture: Tensor) -> list[str]:
    """Names of the one to three colours that fill most of a picture.

    Args:
        picture: `(3, h, w)` uint8, or `(4, h, w)` with alpha; what is transparent has no colour.
    """
    return dominant_colors_of(picture[None])[0]


def dominant_colors_of(pictures: Tensor) -> list[list[str]]:
    """`dominant_colors` of several pictures, `(n, 3, h, w)` or `(n, 4, h, w)` uint8."""
    shown = [*COLORS.items(), *VIVID.items()]
    named = torch.tensor([color for _, color in shown], dtype=torch.float32)  # (k, 3)
    pixels = pictures.flatten(2).transpose(1, 2).float()  # (n, p, 3 or 4)
    nearest = torch.cdist(pixels[..., :3], named.to(pixels.device)).argmin(dim=2)  # (n, p)
    seen = pixels[..., 3] > _OPAQUE if pixels.shape[2] == 4 else torch.ones_like(nearest).bool()
    counts = torch.zeros(len(pixels), len(named), device=pixels.device)
    counts.scatter_add_(1, nearest, seen.float())
    shares = counts / seen.sum(dim=1, keepdim=True).clamp(min=1)
    return [_most(zip((name for name, _ in shown), row, strict=True)) for row in shares.tolist()]


def _most(shares: Iterable[tuple[str, float]]) -> list[str]:
    """The names with the largest shares, of which a name may have several."""
    filled: dict[str, float] = {}
    for name, share in shares:
        filled[name] = filled.get(name, 0.0) + share
    most = sorted(filled.items(), key=lambda named: -named[1])[:_CLUSTERS]
    return [name for name, share in most if share >= _LEAST_SHARE]


def genre(row: Row) -> str:
    """The genre of a painting, a key of `GENRES`; empty if it has none."""
    known = row["genre"] or ""
    if known in ("", "landscape") and _MARINE.search(row["title"] or ""):
        return "marine"
    return known if known in GENRES else ""


def painting(row: Row, colors: Sequence[str], chance: random.Random) -> str:
    """One sentence on a painting of WikiArt, of some of what is known of it."""
    kinds = GENRES.get(genre(row), ("a painting", "a picture"))
    said = chance.choice(kinds)
    title = _title(row["title"] or "")
    if title and chance.random() < 0.5:
        said = chance.choice((title, f"{said} of {title}", f"{said}, {title}"))
    if colors and chance.random() < 0.35:
        said += chance.choice((" in ", ", ")) + _listed(colors, chance)
    if row["style"] and chance.random() < 0.2:
        said += f", {STYLES.get(row['style'], row['style'])}"
    if row["artist"] and chance.random() < 0.25:
        said += f" by {row['artist']}"
    return said


def photo(kinds: Sequence[str], colors: Sequence[str], chance: random.Random) -> str:
    """One sentence on a photograph of a known kind."""
    said = chance.choice(("{}", "a photo of {}", "a picture of {}")).format(chance.choice(kinds))
    if colors and chance.random() < 0.3:
        said += " in " + _listed(colors, chance)
    return said


def everyday(row: Row) -> str:
    """What people would call the thing on an emoji: a tree, be it palm or cherry; or empty.

    Of people and flags there is no such word.
    """
    if row["category"] in _PEOPLE:
        return ""
    last = " ".join(_AFTER_THE_THING.sub("", row["name"].lower()).split()[-1:])
    for form in (last, last.removesuffix("s")):
        if form in THINGS:
            return form
    return next((word for word in row["keywords"] if word in _KINDS), "")


def emoji(row: Row, colors: Sequence[str], chance: random.Random) -> str:
    """One sentence on an emoji."""
    in_short = (colors and chance.random() < 0.35) or (everyday(row) and chance.random() < 0.35)
    if in_short:
        return recolored_emoji(row, colors, chance)
    name = _emoji_name(row, chance)
    said = chance.choice(("{}", "an emoji of {}", "a drawing of {}", "a cartoon {}")).format(name)
    if colors and chance.random() < 0.2:
        said += " in " + _listed(colors, chance)
    return said


def recolored_emoji(row: Row, colors: Sequence[str], chance: random.Random) -> str:
    """One sentence on an emoji that has another colour than its name may say."""
    plain = everyday(row) if chance.random() < 0.5 else ""
    name = plain or without_color(_emoji_name(row, chance))
    if colors and (not plain or chance.random() < 0.8):
        color = chance.choice((colors[0], colors[0].split()[-1]))
        name = f"{color} {name}".strip()
    article = "an" if name[:1] in "aeiou" else "a"
    ways = (name, f"{article} {name}", f"{article} {name}", f"an emoji of {article} {name}")
    return chance.choice((*ways, f"a drawing of {article} {name}"))


def without_color(name: str) -> str:
    """A name without the colours in it."""
    return _COLOR_WORDS.sub("", name).strip(" -")


def _emoji_name(row: Row, chance: random.Random) -> str:
    words = [word for word in row["keywords"] if word.isascii()]
    return chance.choice(words) if words and chance.random() < 0.4 else row["name"]


def variants(
    say: Say,
    row: Row,
    picture: Tensor,
    *,
    count: int,
    seed: int,
) -> list[str]:
    """Up to `count` different sentences on one picture, the same ones for the same seed."""
    chance = random.Random(seed)
    colors = dominant_colors(picture)
    return list(dict.fromkeys(say(row, colors, chance) for _ in range(count)))


def _title(title: str) -> str:
    """A title without the numbers that tell versions apart; empty if it says nothing."""
    words = [word for word in title.split() if not word.isdigit()]
    return "" if len(" ".join(words)) < 4 or set(words) <= _DULL else " ".join(words)


def _listed(colors: Sequence[str], chance: random.Random) -> str:
    chosen = chance.sample(list(colors), k=min(len(colors), chance.choice((1, 2))))
    return " and ".join(chosen)
