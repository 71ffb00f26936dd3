"""What the tests of the small CLIP share: tiny data sets, pairs in memory and towers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets.config
import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from datasets import List as ListOf
from PIL import Image
from torch import Tensor

from tests.fakes import tiny_clip
from tests.fakes.tiny_pictures import encoded, one_thread
from training.clip import pairs, towers
from training.clip.pairs import RECOLORED, STORED_PX, Pairs
from training.core import captions, held_out
from training.core.held_out import HeldOut

HELD_OUT = {
    "flickr8k": 4,
    "wikiart": 5,  # those of `HELD_ARTIST`
    "scenes": 3,
    "flowers": 3,
    "emoji": 0,
    "emoji-more": 0,
}
COUNTS = {"flickr8k": 10, "wikiart": 24, "scenes": 12, "flowers": 10, "emoji": 6, "emoji-more": 6}
NUM_STICKERS = COUNTS["emoji"] + COUNTS["emoji-more"]
TRAINED_ON = sum(COUNTS.values()) - sum(HELD_OUT.values()) + RECOLORED * NUM_STICKERS
HELD_ARTIST = "gustav held"
NAMED = HeldOut(
    paintings=frozenset({(HELD_ARTIST, "haystacks"), (HELD_ARTIST, "ships at sea")}),
)
# Colours with a name of their own, far from one another.
PAINTS = ("red", "blue", "yellow", "white", "black", "green", "pink", "orange", "turquoise", "grey")
_TEXT = Value("string")
_COLUMNS: dict[str, dict[str, Any]] = {
    "flickr8k": {"captions": ListOf(_TEXT)},
    "wikiart": {
        "artist": _TEXT,
        "title": _TEXT,
        "year": Value("int32"),
        "style": _TEXT,
        "genre": _TEXT,
    },
    "scenes": {"label": Value("int64")},
    "flowers": {"label": Value("int64")},
    "emoji": {"set": _TEXT, "name": _TEXT, "keywords": ListOf(_TEXT), "category": _TEXT},
}
_COLUMNS["emoji-more"] = _COLUMNS["emoji"]


def paint(kind: int) -> tuple[int, int, int]:
    """The colour of everything of one kind."""
    return captions.COLORS[PAINTS[kind % len(PAINTS)]]


def numbered(kind: int, number: int) -> Image.Image:
    """A square of the kind's colour, whose lowest rows tell the number; no two are the same."""
    picture = Image.new("RGB", (STORED_PX, STORED_PX), paint(kind))
    picture.paste((number, number, number), (0, STORED_PX - 6, STORED_PX, STORED_PX))
    return picture


def sticker(kind: int) -> Image.Image:
    """A square of the kind's colour with nothing around it."""
    picture = Image.new("RGBA", (STORED_PX, STORED_PX), (255, 0, 255, 0))
    picture.paste((*paint(kind), 255), (18, 18, 54, 54))
    return picture


def kinds_of(pixels: Tensor) -> list[int]:
    """Which colour each picture `(n, 3, h, w)` has in its middle."""
    wanted = torch.tensor([paint(kind) for kind in range(len(PAINTS))]).float()
    middle = pixels[:, :, pixels.shape[2] // 2, pixels.shape[3] // 2].float()
    return torch.cdist(middle, wanted).argmin(dim=1).tolist()


def row_of(name: str, i: int) -> dict[str, Any]:
    if name == "flickr8k":
        color = PAINTS[i % len(PAINTS)]
        said = [f"A {color} dog runs .", f"A {color} dog, number {i} ."]
        return {"image": numbered(i, i), "captions": said}
    if name == "wikiart":
        kinds = [*captions.GENRES, None]
        kind = i % len(kinds)
        artist = HELD_ARTIST if i % 5 == 3 else "claude monet"
        known = {"artist": artist, "title": "haystacks 2", "year": 1890}
        genre = None if kinds[kind] in (None, "marine") else kinds[kind]
        title = "ships at sea 2" if kinds[kind] == "marine" else known["title"]
        styled = {"style": "Impressionism", "genre": genre, "title": title}
        return {"image": numbered(kind, i), **known, **styled}
    if name in ("emoji", "emoji-more"):
        known = {"set": "noto", "name": "smiling mouse", "keywords": ["smile", "ö"]}
        return {"image": sticker(i), **known, "category": "Animals & Nature"}
    kinds = captions.SCENES if name == "scenes" else captions.FLOWERS
    return {"image": numbered(i % len(kinds), i), "label": i % len(kinds)}


def write_rows(folder: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """One data set in its columns."""
    target = folder / name
    target.mkdir(parents=True, exist_ok=True)
    columns: dict[str, list[Any]] = {key: [row[key] for row in rows] for key in rows[0]}
    columns["image"] = [{"bytes": encoded(row["image"]), "path": None} for row in rows]
    features = Features({"image": ImageFeature(), **_COLUMNS[name]})
    Dataset.from_dict(columns, features=features).to_parquet(target / "train.parquet")


def write_all(folder: Path) -> Path:
    """The data sets that the small CLIP is trained on, tiny."""
    for name, count in COUNTS.items():
        write_rows(folder, name, [row_of(name, i) for i in range(count)])
    return folder


def colored_pairs(count: int = 24) -> Pairs:
    """Pictures of a few colours, each called by its colour in two ways."""
    kinds = [i % 6 for i in range(count)]
    pixels = np.stack([np.asarray(numbered(kind, i)) for i, kind in enumerate(kinds)])
    names = [PAINTS[kind] for kind in kinds]
    return Pairs(
        torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(),
        [[name, f"a {name} picture"] for name in names],
        names,
        ["colors"] * count,
    )


@contextmanager
def small(cache: Path) -> Iterator[None]:
    """Tiny towers, few pictures held out, one thread, and a place for prepared data."""
    vision = tiny_clip.VISION | {"image_size": towers.IMAGE_PX}
    regnet = {"layers": 1, "width": 16, "head_width": 8, "patch_size": 16, "image_size": 64}
    text = {key: tiny_clip.TEXT[key] for key in ("width", "heads", "layers")}
    with pytest.MonkeyPatch.context() as patch, one_thread():
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
        patch.setattr(pairs, "HELD_OUT", HELD_OUT)
        patch.setattr(held_out, "load", lambda: NAMED)
        patch.setattr(towers, "EMBED_DIM", 16)
        patch.setitem(towers.VISION, "resnet", vision)
        patch.setitem(towers.VISION, "regnet", regnet)
        for architecture in ("resnet", "regnet"):
            patch.setitem(towers.TEXT, architecture, text)
        yield
