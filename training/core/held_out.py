"""What nobody trains on: wordings, emoji, pairs of thing and colour, a designer, and paintings.

    python -m training.held_out

`held_out.toml` lists them by name, so that every trainer leaves out the same ones and every judge
may ask about them. The command counts what each list matches in the data sets, and fails if an
entry matches nothing.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from datasets import Dataset, load_dataset
from torch import Tensor

from training.core import captions
from training.core.backgrounds import hue_rotated
from training.core.captions import Row
from training.core.sources import SOURCES, Kind

FILE = Path(__file__).parent.parent / "held_out.toml"
DATA = Path("../shared/data")

NUM_TURNS = 32
"""Hue turns that are tried for a thing of a held-out pair: multiples of 1 / NUM_TURNS."""
ANY_TURN = -1
"""Bits of the turns that are allowed, where every turn is, those in between, too."""
_MEASURED_PX = 64


@dataclass(frozen=True)
class HeldOut:
    """What nobody trains on. All texts are as `normalised` returns them.

    Attributes:
        wordings: no caption is one of these.
        names: of emoji, in all sets.
        sets: of emoji, each by one designer.
        pairs: an everyday thing and the colour that fills most of its picture.
        paintings: artist and title.
    """

    wordings: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    sets: frozenset[str] = frozenset()
    pairs: frozenset[tuple[str, str]] = frozenset()
    paintings: frozenset[tuple[str, str]] = frozenset()

    def has_wording(self, caption: str) -> bool:
        """Whether a caption is a held-out wording."""
        return normalised(caption) in self.wordings

    def has_emoji(self, row: Row) -> bool:
        """Whether a row of an emoji data set is held out, by its name or its designer."""
        return row["set"] in self.sets or normalised(row["name"]) in self.names

    def has_painting(self, row: Row) -> bool:
        """Whether a painting is held out; one without artist or title never is."""
        return painting_key(row) in self.paintings

    def has_pair(self, thing: str, colors: Sequence[str]) -> bool:
        """Whether a thing in colours, those that fill most first, is a held-out pair."""
        return bool(colors) and (thing, plain_color(colors[0])) in self.pairs

    @property
    def things(self) -> frozenset[str]:
        """The things of the pairs."""
        return frozenset(thing for thing, _ in self.pairs)

    def turns(self, pixels: Tensor, thing: str) -> int:
        """The hue turns that give no held-out pair.

        Args:
            pixels: `(4, h, w)` uint8, RGBA.
            thing: what the picture shows, as `captions.everyday` calls it.

        Returns:
            Bit `i` is set where a turn by `i / NUM_TURNS` is allowed; `ANY_TURN` where all are.
        """
        if thing not in self.things:
            return ANY_TURN
        steps = torch.arange(NUM_TURNS) / NUM_TURNS
        pictures = hue_rotated(pixels.expand(NUM_TURNS, -1, -1, -1), steps)  # (NUM_TURNS, 4, h, w)
        allowed = [not self.has_pair(thing, captions.dominant_colors(p)) for p in pictures]
        return sum(1 << i for i, is_allowed in enumerate(allowed) if is_allowed)


@cache
def load(path: Path = FILE) -> HeldOut:
    """The lists of a file, `held_out.toml` unless another is named."""
    listed = tomllib.loads(path.read_text(encoding="utf-8"))
    pairs = ((thing, color) for thing, colors in listed["pairs"].items() for color in colors)
    paintings = (
        (normalised(artist), title_key(title))
        for artist, titles in listed["paintings"].items()
        for title in titles
    )
    wordings = (text for texts in listed["wordings"].values() for text in texts)
    return HeldOut(
        wordings=frozenset(map(normalised, wordings)),
        names=frozenset(normalised(name) for of in listed["names"].values() for name in of),
        sets=frozenset(listed["sets"]),
        pairs=frozenset(pairs),
        paintings=frozenset(paintings),
    )


def normalised(text: str) -> str:
    """A text in lower case, without accents, punctuation and double spaces."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return " ".join(re.findall(r"\w+", plain))


def title_key(title: str) -> str:
    """A normalised title without the numbers that tell the versions of a painting apart."""
    return " ".join(word for word in normalised(title).split() if not word.isdigit())


def painting_key(row: Row) -> tuple[str, str]:
    """Artist and title of a painting; two empty texts if one of them is unknown."""
    artist, title = normalised(row["artist"] or ""), title_key(row["title"] or "")
    return (artist, title) if artist and title else ("", "")


def plain_color(name: str) -> str:
    """A colour without "light" or "dark"."""
    return name.split()[-1]


def kind_of(dataset_name: str) -> Kind:
    """What a known data set shows; empty for all others, from which nothing is held out."""
    source = SOURCES.get(dataset_name)
    return source.kind if source else ""


def without_held_out(data: Dataset, dataset_name: str) -> Dataset:
    """A data set less the rows that are held out by name, designer, or artist and title.

    Args:
        data: with the columns of the known data set, or any.
        dataset_name: Hub id or name of a local folder; of an unknown one all rows are kept.
    """
    held, kind = load(), kind_of(dataset_name)
    needed = {"emoji": ("set", "name"), "paintings": ("artist", "title"), "": ()}[kind]
    if not needed or not set(needed) <= set(data.column_names):
        return data
    is_held = held.has_emoji if kind == "emoji" else held.has_painting
    rows = data.select_columns(list(needed))
    return data.select([i for i, row in enumerate(rows) if not is_held(_as_row(row))])


def everyday_things(data: Dataset, dataset_name: str) -> list[str]:
    """What each row of a known data set of emoji shows in everyday words; of others empty texts."""
    needed = ["name", "keywords", "category"]
    if kind_of(dataset_name) != "emoji" or not set(needed) <= set(data.column_names):
        return [""] * len(data)
    return [captions.everyday(_as_row(row)) for row in data.select_columns(needed)]


def _as_row(row: Any) -> Mapping[str, Any]:
    return row


def unmatched(found: Mapping[str, Counter[Any]], held: HeldOut) -> Iterator[str]:
    """The entries that match nothing in the data; of wordings, which match no caption, none."""
    listed: dict[str, Iterable[Any]] = {
        "name": held.names,
        "set": held.sets,
        "pair": held.pairs,
        "painting": held.paintings,
    }
    for kind, entries in listed.items():
        for entry in sorted(entries):
            if not found[kind][entry]:
                yield f"{kind} {entry if isinstance(entry, str) else ', '.join(entry)}"


def count(data_folder: Path, held: HeldOut) -> dict[str, Counter[Any]]:
    """How many rows each entry matches; of pairs, how many pictures some hue turn makes them."""
    found: dict[str, Counter[Any]] = {kind: Counter() for kind in ("name", "set", "pair")}
    found["painting"] = Counter()
    for name in sorted(SOURCES):
        kind = kind_of(name)
        if not kind or not (data_folder / name).is_dir():
            continue
        rows = load_dataset(str((data_folder / name).resolve()), split="train")
        if kind == "paintings":
            keys = (painting_key(_as_row(row)) for row in rows.select_columns(["artist", "title"]))
            found["painting"].update(key for key in keys if key in held.paintings)
            continue
        found["name"].update(normalised(text) for text in rows["name"])
        found["set"].update(rows["set"])
        things = everyday_things(rows, name)
        shown = rows.select([i for i, thing in enumerate(things) if thing in held.things])
        for row, thing in zip(shown, (t for t in things if t in held.things), strict=True):
            found["pair"].update(_pairs_made(_as_row(row), thing))
    return found


def _pairs_made(row: Row, thing: str) -> set[tuple[str, str]]:
    """The pairs that hue turns make of an emoji."""
    small = row["image"].convert("RGBA").resize((_MEASURED_PX, _MEASURED_PX))
    pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1)  # (4, px, px)
    steps = torch.arange(NUM_TURNS) / NUM_TURNS
    pictures = hue_rotated(pixels.expand(NUM_TURNS, -1, -1, -1), steps)
    colors = (captions.dominant_colors(picture)[:1] for picture in pictures)
    return {(thing, plain_color(color)) for first in colors for color in first}


def main(
    data_folder: Annotated[Path, typer.Option(help="where the data sets lie")] = DATA,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 is PyTorch's choice")] = 1,
) -> None:
    """Prints how much each list holds out, and fails if an entry matches nothing."""
    if threads:
        torch.set_num_threads(threads)
    held = load()
    found = count(data_folder, held)
    print(f"{len(held.wordings)} wordings")
    for kind, entries in (("name", held.names), ("set", held.sets), ("painting", held.paintings)):
        print(f"{len(entries)} {kind}s: {sum(found[kind][entry] for entry in entries):,} rows")
    pairs = sum(found["pair"][pair] for pair in held.pairs)
    print(f"{len(held.pairs)} pairs: {pairs:,} emoji that some hue turn makes one of them")
    missing = list(unmatched(found, held))
    if missing:
        raise typer.BadParameter(f"these match nothing in {data_folder}: {'; '.join(missing)}")
