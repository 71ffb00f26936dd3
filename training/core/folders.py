"""A folder of pictures, read by its files alone: every file is used, or counted with a reason.

Nothing is guessed from names, with one exception: a top level of `train` beside `test`, `val` or
`validation` is a division of the data.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from training.core.file_kinds import (
    ARCHIVES,
    CAPTIONS,
    LEFT_OUT,
    TABLES,
    is_hidden,
    is_metadata,
    kind_of,
)
from training.core.sidecars import Sidecars, read_sidecars

TRAIN = "train"
OTHER_SPLITS = ("test", "val", "validation")


@dataclass(frozen=True)
class File:
    """A file of a folder.

    Attributes:
        name: relative to the folder, with slashes.
        size: in bytes.
        modified: in nanoseconds.
    """

    name: str
    size: int
    modified: int


@dataclass(frozen=True)
class PictureFolder:
    """What lies in a folder of pictures.

    Attributes:
        root: the folder.
        splits: the pictures of each split, sorted by name; `train` alone if it is not divided.
        labels: names of the class folders, sorted; empty if not every picture lies in one.
        left_out: how many files are not used, by reason, see `file_kinds.LEFT_OUT`.
        sidecars: what captions and metadata say of the pictures.
        num_files: all files that there are.
        divided: whether the folder is divided into splits.
    """

    root: Path
    splits: Mapping[str, tuple[File, ...]]
    labels: tuple[str, ...]
    left_out: Mapping[str, int]
    sidecars: Sidecars
    num_files: int
    divided: bool

    def label_of(self, name: str) -> int | None:
        """Number of the class folder that a picture lies in; None without class folders."""
        if not self.labels:
            return None
        return self.labels.index(PurePosixPath(name).parts[1 if self.divided else 0])

    def lines(self) -> Iterator[str]:
        """Says what was found, used and left out, in one line per fact."""
        pictures = self.splits[TRAIN]
        yield (
            f"{self.root.resolve().name}: {counted(self.num_files, 'file')}, "
            f"{counted(len(pictures), 'picture')} to use"
        )
        if self.labels:
            yield f"{counted(len(self.labels), 'class folder')}: {_shortened(self.labels)}"
        for split, files in self.splits.items():
            if split != TRAIN:
                yield f"{counted(len(files), 'picture')} of the split {split}: not used"
        for reason, count in self.left_out.items():
            yield f"{count:,} left out: {LEFT_OUT[reason]}"


def picture_folder(path: Path) -> PictureFolder | None:
    """Lists a folder of pictures; None if it holds tables, which `datasets` reads.

    Raises:
        ValueError: one sentence, if it is no folder, cannot be read, or holds no picture.
    """
    found = _Found()
    _check_folder(path)
    _walk(path, found)
    if found.is_tables:
        return None
    if not found.pictures:
        raise ValueError(_no_pictures(path, found))
    splits, divided = _divided(found.pictures, path)
    sidecars = read_sidecars(path, found.captions, [file.name for file in found.pictures])
    left_out = found.left_out + sidecars.left_out
    return PictureFolder(
        root=path,
        splits=splits,
        labels=_class_folders(found.pictures, 1 if divided else 0),
        left_out={reason: left_out[reason] for reason in LEFT_OUT if left_out[reason]},
        sidecars=sidecars,
        num_files=found.num_files,
        divided=divided,
    )


@dataclass
class _Found:
    """What a walk through a folder has met so far."""

    pictures: list[File] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    tables: list[Path] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    num_files: int = 0

    @property
    def is_tables(self) -> bool:
        """Whether the pictures are in tables, or there are only tables."""
        return any(map(_holds_pictures, self.tables)) or (not self.pictures and bool(self.tables))

    def leave_out(self, reason: str) -> None:
        """Counts a folder that is not entered as one file."""
        self.num_files += 1
        self.left_out[reason] += 1


def _check_folder(path: Path) -> None:
    if not _is_unicode(str(path)):
        raise ValueError(f"dataset_name must be a name in Unicode, got {str(path)!r}")
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            with os.scandir(path):
                return
    except OSError as error:
        raise ValueError(
            f"dataset_name must be a folder that can be read, got {str(path)!r}: {error.strerror}"
        ) from error
    hint = ", an archive: unpack it" if path.suffix.lower() in ARCHIVES else ", a file"
    raise ValueError(
        f"dataset_name must be a folder of pictures or of parquet files, got {str(path)!r}{hint}"
    )


def _walk(root: Path, found: _Found) -> None:
    """Meets every file once. Links to folders come last, so that no folder is known by a link."""
    seen: set[tuple[int, int]] = set()
    folders, links = [(root, "", False)], []
    while folders or links:
        folder, prefix, hidden = folders.pop() if folders else links.pop(0)
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                found.leave_out("link")
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
        except OSError:
            found.leave_out("closed")
            continue
        for entry in entries:
            name, is_out = prefix + entry.name, hidden or is_hidden(entry.name)
            if _is_folder(entry):
                below = (Path(entry.path), f"{name}/", is_out)
                (links if entry.is_symlink() else folders).append(below)
            else:
                _meet(Path(entry.path), name, is_out, found)
    found.pictures.sort(key=lambda file: file.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _meet(path: Path, name: str, hidden: bool, found: _Found) -> None:
    """Puts a file where it belongs."""
    found.num_files += 1
    try:
        status = path.stat()
    except OSError:
        found.left_out["link"] += 1
        return
    if hidden or not stat.S_ISREG(status.st_mode):
        found.left_out["hidden" if hidden else "other"] += 1
        return
    kind = kind_of(path)
    if not _is_unicode(name):  # no table can hold it
        found.left_out["name"] += 1
    elif kind == "picture":
        found.pictures.append(File(name, status.st_size, status.st_mtime_ns))
    elif path.suffix.lower() in CAPTIONS or is_metadata(path.name):
        found.captions.append(name)
    elif kind == "table":
        found.tables.append(path)
        found.left_out[kind] += 1
    else:
        found.left_out[kind] += 1


def _is_unicode(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _holds_pictures(table: Path) -> bool:
    """Whether a parquet or arrow file has a column that may hold pictures."""
    if table.suffix.lower() not in TABLES[:2]:
        return False
    try:
        if table.suffix.lower() == ".parquet":
            schema = pq.read_schema(table)
        else:
            with pa.memory_map(str(table)) as file:
                schema = pa.ipc.open_stream(file).schema
    except Exception:  # damaged, or another program's
        return False
    return any(map(_may_hold_pictures, schema.types))


def _may_hold_pictures(kind: pa.DataType) -> bool:
    """Whether values are encoded files, or records of such a file and its path."""
    if isinstance(kind, pa.StructType):
        return {kind.field(i).name for i in range(kind.num_fields)} == {"bytes", "path"}
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _divided(pictures: Sequence[File], root: Path) -> tuple[dict[str, tuple[File, ...]], bool]:
    """The pictures by split, and whether there is more than one.

    Only a top level of `train` beside other splits is divided, with no picture anywhere else.
    """
    tops = {file.name.partition("/")[0] if "/" in file.name else "" for file in pictures}
    others = [name for name in OTHER_SPLITS if (root / name).is_dir()]
    if TRAIN not in tops or not others or tops - {TRAIN, *OTHER_SPLITS}:
        return {TRAIN: tuple(pictures)}, False
    parts = {
        name: tuple(file for file in pictures if file.name.startswith(f"{name}/"))
        for name in (TRAIN, *others)
    }
    return parts, True


def _class_folders(pictures: Sequence[File], level: int) -> tuple[str, ...]:
    """The folders of one level, if every picture lies in one."""
    folders = [PurePosixPath(file.name).parts[:-1][level : level + 1] for file in pictures]
    return tuple(sorted({part for parts in folders for part in parts})) if all(folders) else ()


def _no_pictures(path: Path, found: _Found) -> str:
    sentence = f"dataset_name must be a folder of pictures, got {str(path)!r} "
    if not found.num_files and not found.left_out:
        return sentence + "which is empty"
    if found.left_out["archive"]:
        return sentence + f"with {counted(found.left_out['archive'], 'archive')}: unpack it"
    reasons = Counter(found.left_out)
    reasons["caption"] += len(found.captions)
    told = (f"{count:,} {LEFT_OUT[reason]}" for reason, count in reasons.items() if count)
    return sentence + f"without one: {'; '.join(told)}"


def counted(count: int, noun: str) -> str:
    """Returns how many there are, in words."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _shortened(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if names[most:] else "")
