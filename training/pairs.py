"""Pictures with sentences, from several data sets, in memory."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
from datasets import Image as ImageFeature
from torch import Tensor
from tqdm import tqdm

from training import captions
from training.captions import Row
from training.data import read_split

STORED_PX = 72  # a little more than the model sees, for crops
NUM_VARIANTS = 6
HELD_OUT = {"flickr8k": 1000, "wikiart": 1000, "scenes": 600, "flowers": 300, "emoji": 0}
GROUNDS = (255, 235, 200, 128, 40)


@dataclass(frozen=True)
class Pairs:
    """Pictures and what they are called.

    Attributes:
        pixels: `(n, 3, STORED_PX, STORED_PX)` uint8.
        sentences: of each picture, one or more.
        labels: of each picture, what zero-shot classification asks for; empty if nothing.
        origins: of each picture, the data set.
    """

    pixels: Tensor
    sentences: list[list[str]]
    labels: list[str]
    origins: list[str]

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
        )


def joined(parts: Sequence[Pairs]) -> Pairs:
    """Several data sets as one, one after the other."""
    return Pairs(
        torch.cat([part.pixels for part in parts]),
        [texts for part in parts for texts in part.sentences],
        [label for part in parts for label in part.labels],
        [origin for part in parts for origin in part.origins],
    )


def load_pairs(folder: Path, name: str) -> tuple[Pairs, Pairs]:
    """One data set of `SOURCES`: what to train on, and what is held out, the same every time.

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
    read = read.cast_column("image", ImageFeature(mode="RGBA" if name == "emoji" else "RGB"))
    pixels, sentences, labels = [], [], []
    rows: Iterable[Any] = tqdm(read, desc=name, unit="picture")
    for number, row in enumerate(rows):
        picture = _fitted(row["image"], number)
        pixels.append(picture)
        labels.append(source.label(row))
        sentences.append(source.sentences(row, picture, number))
    whole = Pairs(torch.stack(pixels), sentences, labels, [name] * len(labels))
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))
    held = HELD_OUT[name]
    return whole.select(order[held:]), whole.select(order[:held])


def _fitted(picture: PIL.Image.Image, number: int) -> Tensor:
    """The middle square `(3, px, px)` uint8; what is transparent stands on some grey."""
    if picture.mode == "RGBA":
        ground = PIL.Image.new("RGBA", picture.size, (GROUNDS[number % len(GROUNDS)],) * 3 + (255,))
        picture = PIL.Image.alpha_composite(ground, picture).convert("RGB")
    fitted = PIL.ImageOps.fit(picture, (STORED_PX, STORED_PX), PIL.Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).contiguous()


@dataclass(frozen=True)
class Source:
    """What a data set tells of its pictures.

    Attributes:
        columns: that it must have besides the pictures.
        sentences: of a row, its picture and its number.
        label: of a row; empty if it has none.
    """

    columns: tuple[str, ...]
    sentences: Callable[[Row, Tensor, int], list[str]]
    label: Callable[[Row], str] = lambda row: ""


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


SOURCES: dict[str, Source] = {
    "flickr8k": Source(("captions",), _written),
    "wikiart": Source(("genre", "title", "style", "artist"), _made(captions.painting), _genre),
    "scenes": _photos(captions.SCENES),
    "flowers": _photos(captions.FLOWERS),
    "emoji": Source(("name", "keywords"), _made(captions.emoji)),
}
