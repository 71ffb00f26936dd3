"""What lies beside pictures and tells of them: captions of the same name, and metadata files."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from training.core.file_kinds import CAPTIONS, is_metadata

TEXT = "text"
FILE_NAME = "file_name"
_MOST_BYTES = 2**20  # of a caption
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")  # 007 is a text
_NUMBER = re.compile(r"-?[0-9]{1,17}(\.[0-9]{1,17})?")
_OURS = ("image", FILE_NAME)  # columns that metadata cannot replace


@dataclass(frozen=True)
class Sidecars:
    """What is told of the pictures of a folder.

    Attributes:
        columns: names of what is told.
        rows: of a picture's name, what is told of it by column.
        left_out: captions, rows and files of metadata that are not used, by reason.
        num_captions: pictures with a `text`.
    """

    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, Any]]
    left_out: Counter[str]

    @property
    def num_captions(self) -> int:
        return sum(TEXT in row for row in self.rows.values())


def read_sidecars(root: Path, files: Sequence[str], pictures: Sequence[str]) -> Sidecars:
    """Reads captions and metadata files.

    Args:
        root: the folder.
        files: names of the captions and metadata, relative to it.
        pictures: names of the pictures.
    """
    rows: dict[str, dict[str, Any]] = {}
    left_out: Counter[str] = Counter()
    for name in files:
        if is_metadata(PurePosixPath(name).name):
            _add_metadata(root, name, set(pictures), rows, left_out)
    _add_captions(root, [name for name in files if _is_caption(name)], pictures, rows, left_out)
    columns = dict.fromkeys(column for row in rows.values() for column in row)
    return Sidecars(tuple(columns), _typed(rows, tuple(columns)), left_out)


def _is_caption(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in CAPTIONS


def _add_captions(
    root: Path,
    captions: Sequence[str],
    pictures: Sequence[str],
    rows: dict[str, dict[str, Any]],
    left_out: Counter[str],
) -> None:
    """Gives every picture the text of the caption of its name; `.txt` goes before `.caption`."""
    by_stem = {_stem(name): name for name in sorted(captions)}
    stems = set(map(_stem, pictures))
    left_out["caption"] += sum(_stem(name) not in stems for name in captions)
    for picture in pictures:
        caption = by_stem.get(_stem(picture))
        if caption is not None and TEXT not in rows.get(picture, {}):
            content = _read(root / caption)
            rows.setdefault(picture, {})[TEXT] = content[:_MOST_BYTES].strip()


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError:
        return ""


def _add_metadata(
    root: Path,
    name: str,
    pictures: set[str],
    rows: dict[str, dict[str, Any]],
    left_out: Counter[str],
) -> None:
    """Adds what a metadata file tells of the pictures that it names, relative to its folder."""
    try:
        told = _parsed(name, _read(root / name))
    except (ValueError, csv.Error):
        told = []
    if not told or not all(FILE_NAME in row for row in told):
        left_out["metadata"] += 1
        return
    folder = PurePosixPath(name).parent
    for row in told:
        picture = str(folder / str(row[FILE_NAME]).replace("\\", "/"))
        if picture not in pictures:
            left_out["row"] += 1
            continue
        kept = {key: value for key, value in row.items() if key and key not in _OURS}
        rows.setdefault(picture, {}).update(kept)


def _parsed(name: str, content: str) -> list[dict[str, Any]]:
    """The rows of a metadata file.

    Raises:
        ValueError: if it is none.
        csv.Error: likewise.
    """
    if name.lower().endswith(".csv"):
        return list(csv.DictReader(io.StringIO(content, newline="")))
    rows = [json.loads(line) for line in content.splitlines() if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("a line that is no object")
    return rows


def _typed(
    rows: Mapping[str, Mapping[str, Any]], columns: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """The rows with values of one type in each column: whole numbers, numbers, or texts."""
    typed: dict[str, dict[str, Any]] = {name: {} for name in rows}
    for column in columns:
        told = {name: row[column] for name, row in rows.items() if row.get(column) is not None}
        for name, value in zip(told, _of_one_type([*told.values()]), strict=True):
            typed[name][column] = value
    return typed


def _of_one_type(values: list[Any]) -> list[Any]:
    texts = [v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in values]
    if all(map(_WHOLE.fullmatch, texts)):
        return [int(text) for text in texts]
    if all(map(_NUMBER.fullmatch, texts)):
        return [float(text) for text in texts]
    return texts
