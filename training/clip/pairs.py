"""Pictures with sentences, from several data sets, in memory."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
from datasets import Image as ImageFeature
from torch import Tensor
from tqdm import tqdm

from pipelines.core import images
from training.core import captions, held_out
from training.core.backgrounds import composited, draw_backgrounds
from training.core.captions import Row
from training.core.data import read_split
from training.core.decoding import content_of, on_white, opened

STORED_PX = 72  # a little more than the model sees, for crops
NUM_VARIANTS = 6
HELD_OUT = {"flickr8k": 1000, "scenes": 600, "flowers": 300}
"""How many pictures are held out by chance, where `held_out` does not name them."""
RECOLORED = 2  # of each emoji
RECOLORED_EVERYDAY = 6  # of those of everyday things


@dataclass(frozen=True)
class Pairs:
    """Pictures and what they are called.

    Attributes:
        pixels: `(n, 3, STORED_PX, STORED_PX)` uint8.
        sentences: of each picture, one or more.
        labels: of each picture, what zero-shot classification asks for; empty if nothing.
        origins: of each picture, the data set.
        alpha: `(n, 1, STORED_PX, STORED_PX)` uint8; None if nothing is transparent.
    """

    pixels: Tensor
    sentences: list[list[str]]
    labels: list[str]
    origins: list[str]
    alpha: Tensor | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def select(self, indices: Tensor) -> Pairs:
        """Those of the given numbers, `(m,)` int64, in that order."""
        chosen = indices.tolist()
        return Pairs(
            self.pixels[indices],
            [self.sentences[i] for i in chosen],
            [self.labels[i] for i in chosen],
            [self.origins[i] for i in chosen],
            None if self.alpha is None else self.alpha[indices],
        )

    def to(self, device: torch.device) -> Pairs:
        """The same with the pictures on a device."""
        alpha = None if self.alpha is None else self.alpha.to(device)
        return replace(self, pixels=self.pixels.to(device), alpha=alpha)

    def on_backgrounds(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """The pictures of the given numbers; what is transparent stands on a ground of any colour.

        Args:
            indices: `(m,)` int64, on the CPU.
            generator: of the grounds, on the CPU.

        Returns:
            `(m, 3, STORED_PX, STORED_PX)` in [-1, 1], where the pictures are.
        """
        device = self.pixels.device
        chosen = indices.to(device)
        pixels = self.pixels[chosen]
        if self.alpha is None:
            return images.from_uint8(pixels)
        seen = torch.cat([pixels, self.alpha[chosen]], dim=1)
        return composited(seen, draw_backgrounds(len(indices), generator).to(device))


def joined(parts: Sequence[Pairs]) -> Pairs:
    """Several data sets as one, one after the other."""
    return Pairs(
        torch.cat([part.pixels for part in parts]),
        [texts for part in parts for texts in part.sentences],
        [label for part in parts for label in part.labels],
        [origin for part in parts for origin in part.origins],
        None if all(part.alpha is None for part in parts) else torch.cat([*map(_alpha, parts)]),
    )


def _alpha(pairs: Pairs) -> Tensor:
    if pairs.alpha is not None:
        return pairs.alpha
    return torch.full((len(pairs), 1, STORED_PX, STORED_PX), 255, dtype=torch.uint8)


def load_pairs(folder: Path, name: str) -> tuple[Pairs, Pairs]:
    """One data set of `SOURCES`: what to train on, and what is held out, the same every time.

    Paintings that `held_out` names are held out; its emoji and wordings are in neither part.

    Raises:
        ValueError: if it cannot be read, or lacks a column.
    """
    read = read_split(str((folder / name).resolve()), "train")
    source = SOURCES[name]
    missing = {"image", *source.columns} - set(read.column_names)
    if missing:
        raise ValueError(
            f"{name} must have the columns image, {', '.join(source.columns)}, "
            f"got none called {', '.join(sorted(missing))}"
        )
    read = read.cast_column("image", ImageFeature(decode=False))
    held, kind = held_out.load(), held_out.kind_of(name)
    pixels, sentences, labels, validation = [], [], [], []
    rows: Iterable[Any] = tqdm(read, desc=name, unit="picture")
    for number, cells in enumerate(rows):
        row = cells | {"image": _opened(name, number, cells["image"], bool(source.recolored))}
        if kind == "emoji" and held.has_emoji(row):
            continue
        for picture, texts in _told(source, row, number, held):
            pixels.append(picture)
            labels.append(source.label(row))
            sentences.append(texts)
            validation.append(kind == "paintings" and held.has_painting(row))
    stored = torch.stack(pixels)  # (n, 3 or 4, px, px)
    alpha = stored[:, 3:].contiguous() if stored.shape[1] == 4 else None
    whole = Pairs(stored[:, :3].contiguous(), sentences, labels, [name] * len(labels), alpha)
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))
    if kind == "paintings":
        is_held = torch.tensor(validation)[order]
        return whole.select(order[~is_held]), whole.select(order[is_held])
    count = HELD_OUT.get(name, 0)
    return whole.select(order[count:]), whole.select(order[:count])


def _opened(name: str, number: int, source: Any, transparent: bool) -> PIL.Image.Image:
    """The picture of a row, in mode RGBA if it may be transparent, else on white in RGB.

    Raises:
        ValueError: if it cannot be read.
    """
    try:
        picture = opened(content_of(source))
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{name} must have a picture in every row, got row {number + 1:,} with none that can "
            "be read"
        ) from error
    return picture.convert("RGBA") if transparent else on_white(picture).convert("RGB")


def _told(
    source: Source, row: Row, number: int, held: held_out.HeldOut
) -> Iterator[tuple[Tensor, list[str]]]:
    """A row's pictures with their captions, less those that are held out."""
    for picture, texts in _all_told(source, row, number):
        allowed = [text for text in texts if not held.has_wording(text)]
        if allowed and not (source.recolored and _is_held_pair(row, picture, held)):
            yield picture, allowed


def _is_held_pair(row: Row, picture: Tensor, held: held_out.HeldOut) -> bool:
    """Whether an emoji `(4, h, w)` is a held-out pair of thing and colour."""
    thing = captions.everyday(row)
    return thing in held.things and held.has_pair(thing, captions.dominant_colors(picture))


def _all_told(source: Source, row: Row, number: int) -> Iterator[tuple[Tensor, list[str]]]:
    """A row's picture with its sentences, and if it may be recoloured, more of those."""
    picture = fitted(row["image"])
    yield picture, source.sentences(row, picture, number)
    if source.recolored is None:
        return
    for copy in range(RECOLORED_EVERYDAY if captions.everyday(row) else RECOLORED):
        seed = number * RECOLORED_EVERYDAY + copy
        turned = fitted(recolored(row["image"], random.Random(seed).random()))
        yield turned, source.recolored(row, turned, seed)


def recolored(picture: PIL.Image.Image, turn: float) -> PIL.Image.Image:
    """A picture with every hue turned on its circle.

    Args:
        picture: RGBA.
        turn: in [0, 1); 0 leaves it as it is.
    """
    hue, saturation, value = picture.convert("RGB").convert("HSV").split()
    turned = hue.point([(level + round(turn * 256)) % 256 for level in range(256)])
    result = PIL.Image.merge("HSV", (turned, saturation, value)).convert("RGB")
    result.putalpha(picture.getchannel("A"))
    return result


def fitted(picture: PIL.Image.Image) -> Tensor:
    """The middle square `(3 or 4, px, px)` uint8."""
    fitted = PIL.ImageOps.fit(picture, (STORED_PX, STORED_PX), PIL.Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).contiguous()


@dataclass(frozen=True)
class Source:
    """What a data set tells of its pictures.

    Attributes:
        columns: that it must have besides the pictures.
        sentences: of a row, its picture and its number.
        label: of a row; empty if it has none.
        former: data set of the same kind of pictures; where half-formed pictures are made by the
            checkpoint of that name, these are, too.
        recolored: sentences of a row whose picture, with alpha, was given other colours; None if
            that would make it something else.
    """

    columns: tuple[str, ...]
    sentences: Callable[[Row, Tensor, int], list[str]]
    label: Callable[[Row], str] = lambda row: ""
    recolored: Callable[[Row, Tensor, int], list[str]] | None = None
    former: str = ""


def _written(row: Row, picture: Tensor, number: int) -> list[str]:
    """What people wrote."""
    return [text.strip(" .") for text in row["captions"]]


def _made(say: captions.Say) -> Callable[[Row, Tensor, int], list[str]]:
    def sentences(row: Row, picture: Tensor, number: int) -> list[str]:
        return captions.variants(say, row, picture, count=NUM_VARIANTS, seed=number)

    return sentences


def _genre(row: Row) -> str:
    return captions.GENRES.get(captions.genre(row), ("",))[0]


def _photos(kinds: Mapping[int, Sequence[str]]) -> Source:
    def say(row: Row, colors: Sequence[str], chance: random.Random) -> str:
        return captions.photo(kinds[row["label"]], colors, chance)

    return Source(("label",), _made(say), lambda row: kinds[row["label"]][0])


_EMOJI = Source(
    ("set", "name", "keywords", "category"),
    _made(captions.emoji),
    recolored=_made(captions.recolored_emoji),
    former="emoji",
)

SOURCES: dict[str, Source] = {
    "flickr8k": Source(("captions",), _written),
    "wikiart": Source(("genre", "title", "style", "artist"), _made(captions.painting), _genre),
    "scenes": _photos(captions.SCENES),
    "flowers": _photos(captions.FLOWERS),
    "emoji": _EMOJI,
    "emoji-more": _EMOJI,
}
