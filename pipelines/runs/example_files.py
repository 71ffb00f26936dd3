"""Bundled examples: a finished run with all its pictures in one PNG file, a sheet of tiles."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image
from torch import Tensor

from pipelines.core import images
from pipelines.models import integrity
from pipelines.runs import provenance
from pipelines.runs.comparison import Preview
from pipelines.runs.history import History, Moment

PreviewT = TypeVar("PreviewT", bound=Preview)

_PICTURE_FIELDS = ("pictures", "unguided")
_MOMENT_FIELDS = ("noisy", "predicted", "change")
# Old names of fields, in examples written by version 0.2.
_RENAMED = {"sureness": "confidence", "unguided_sureness": "unguided_confidence"}
_COLUMNS = 12  # of an example's sheet


def save_example(preview: Any, facts: Mapping[str, Any], path: Path) -> None:
    """Writes a finished run with all its pictures as one PNG, a sheet of tiles.

    Args:
        preview: of the finished run.
        facts: the metadata of a saved picture of it.
        path: of the file.
    """
    moments = preview.history.moments
    tiles = [picture for name in _PICTURE_FIELDS for picture in getattr(preview, name)]
    tiles += [tile for m in moments for name in _MOMENT_FIELDS for tile in getattr(m, name)]
    elsewhere = {*_PICTURE_FIELDS, "settings", "history"}
    stored = (f for f in dataclasses.fields(preview) if f.metadata.get("stored", True))
    names = {f.name for f in stored} - elsewhere
    example = {
        "preview": {name: _listed(getattr(preview, name)) for name in sorted(names)},
        "mode": preview.pictures[0].mode,
        "moments": [[m.step, m.t] for m in moments],
        "gradients": preview.history.gradients,
        "largest_change": preview.history.largest_change,
    }
    sheet = images.grid([t.convert("RGB") for t in tiles], columns=_COLUMNS, gap=0)
    path.write_bytes(images.to_png(images.with_metadata(sheet, {**facts, "shown": example})))


def _listed(value: Any) -> Any:
    """Returns a value as JSON knows it, with lists in place of other sequences."""
    return json.loads(json.dumps(value, default=list))


def load_example(path: Path, kind: type[PreviewT]) -> PreviewT:
    """Returns the finished run that `save_example` wrote.

    Args:
        path: of the file, one of this repository's.
        kind: class of the preview.

    Raises:
        RecordError: if it is missing or damaged.
        CheckpointError: if it is not the published file.
    """
    facts, record = _read_example(path)
    try:
        return _rebuilt(facts["shown"], record, path, kind)
    except (KeyError, TypeError, ValueError, StopIteration):
        raise provenance.RecordError("record_damaged") from None


def first_picture(path: Path) -> Image.Image:
    """Returns the first steered picture of an example with its metadata; it reads no other one.

    Args:
        path: of a file that `save_example` wrote.

    Raises:
        RecordError: if it is missing or damaged.
        CheckpointError: if it is not the published file.
    """
    facts, record = _read_example(path)
    try:
        with Image.open(path) as sheet:
            side = _tile_side(sheet, facts["shown"], record)
            picture = sheet.crop((0, 0, side, side)).convert(facts["shown"]["mode"])
    except (KeyError, TypeError, ValueError):
        raise provenance.RecordError("record_damaged") from None
    told = {name: value for name, value in facts.items() if name != "shown"}
    return images.with_metadata(picture, told | provenance.place_of(record.settings, 0))


def _read_example(path: Path) -> tuple[dict[str, Any], provenance.Record]:
    """Reads the metadata of an example; checks that the file is the published one."""
    if path.is_file():
        digests = {path: integrity.sha256_of(path)}
        integrity.check_bundled("examples", path.parent.parent, digests)
    facts = provenance.read_facts(path)
    return facts, provenance.from_facts(facts)


def _tile_side(sheet: Image.Image, example: Any, record: provenance.Record) -> int:
    """Returns the side of a tile of an example's sheet, in pixels."""
    per_image = len(_PICTURE_FIELDS) + len(_MOMENT_FIELDS) * len(example["moments"])
    return sheet.width // min(_COLUMNS, per_image * record.settings.count)


def _rebuilt(example: Any, record: provenance.Record, path: Path, kind: type[PreviewT]) -> PreviewT:
    count = record.settings.count
    with Image.open(path) as sheet:
        side = _tile_side(sheet, example, record)
        tiles = _cut(sheet.convert(example["mode"]), side)
        heat_tiles = _cut(sheet.convert("RGB"), side)
    pictures, unguided = tiles[:count], tiles[count : 2 * count]
    moments, frames = [], []
    for i, (step, t) in enumerate(example["moments"]):
        first = (len(_PICTURE_FIELDS) + len(_MOMENT_FIELDS) * i) * count
        noisy, predicted = tiles[first : first + count], tiles[first + count : first + 2 * count]
        change = heat_tiles[first + 2 * count : first + 3 * count]
        moments.append(Moment(step, t, noisy, predicted, change))
        frames.append(torch.cat([_pixels(picture) for picture in predicted]))
    stored: dict[str, Any] = example["preview"]
    values = {_RENAMED.get(name, name): value for name, value in stored.items()}
    return kind(
        **values,
        pictures=pictures,
        unguided=unguided,
        settings=record.settings,
        history=History(example["gradients"], frames, moments, example["largest_change"]),
    )


def _cut(sheet: Image.Image, side: int) -> list[Image.Image]:
    corners = itertools.product(range(0, sheet.height, side), range(0, sheet.width, side))
    return [sheet.crop((left, top, left + side, top + side)) for top, left in corners]


def _pixels(picture: Image.Image) -> Tensor:
    """Returns the pixels of a picture, 8 bits, `(1, c, h, w)`."""
    pixels = images.to_uint8(images.to_tensor(picture))
    return pixels[:, :1] if picture.mode == "L" else pixels
