"""Names of data sets, and what reading them has in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import torch
from datasets import ClassLabel, Dataset, Features, Value, load_dataset
from datasets import Image as ImageFeature
from torch import Tensor

from training.core.folders import PictureFolder, picture_folder
from training.core.sidecars import FILE_NAME

IMAGE = "image"
LABEL = "label"


def is_local(name: str) -> bool:
    """Whether a name means something on this machine and not a Hub id."""
    return name.startswith((".", "/", "~")) or Path(name).exists()


def folder_name(dataset_name: str) -> str:
    """Returns the public name of a data set: of a local folder only the last part."""
    local = is_local(dataset_name)
    return Path(dataset_name).expanduser().resolve().name if local else dataset_name


def dataset_names(dataset_name: str) -> list[str]:
    """The data sets that an option names by commas; a path that exists as it is stays whole."""
    if Path(dataset_name).expanduser().exists():
        return [dataset_name]
    names = [name.strip() for name in dataset_name.split(",")]
    return [name for name in names if name] or [dataset_name]


def joined_folder_names(dataset_name: str) -> str:
    """`folder_name` of each of several data sets, by commas."""
    return ",".join(map(folder_name, dataset_names(dataset_name)))


@dataclass(frozen=True)
class Source:
    """A data set that was read.

    Attributes:
        data: with any columns; of a folder of pictures `image`, `file_name`, `label` where there
            are class folders, and what captions and metadata say.
        folder: what lies in a folder of pictures; None for tables and data sets of the Hub.
    """

    data: Dataset
    folder: PictureFolder | None = None


def read_source(dataset_name: str, split: str) -> Source:
    """Reads one split of a data set: a folder of pictures, one of tables, or one of the Hub.

    Raises:
        ValueError: if it cannot be read.
    """
    if not dataset_name.strip():
        raise ValueError("dataset_name must be a Hub id or a folder, got nothing")
    folder = None
    if is_local(dataset_name):
        folder = picture_folder(Path(dataset_name).expanduser())
    if folder is not None and split not in folder.splits:
        raise _unreadable(dataset_name, split, f"it has {', '.join(folder.splits)}")
    try:
        if folder is None:
            where = Path(dataset_name).expanduser() if is_local(dataset_name) else dataset_name
            return Source(load_dataset(str(where), split=split))
        return Source(_read_folder(folder, split), folder)
    except Exception as error:  # `datasets` raises many kinds: not found, offline, bad file
        cause = error.__cause__ or error
        reason = (str(cause) or type(cause).__name__).splitlines()[0]
        raise _unreadable(dataset_name, split, reason) from error


def read_split(dataset_name: str, split: str) -> Dataset:
    """Like `read_source`, but returns the data alone."""
    return read_source(dataset_name, split).data


def _unreadable(dataset_name: str, split: str, reason: str) -> ValueError:
    return ValueError(
        f"dataset_name must be a data set with a split {split!r} that can be read, "
        f"got {dataset_name!r}: {reason}"
    )


def _read_folder(folder: PictureFolder, split: str) -> Dataset:
    """The pictures of a folder, which stay where they are; the list of them is kept on disk.

    Size and time of each file are part of what the list is known by, so a changed file is noticed.
    """
    told = folder.sidecars
    features: dict[str, Any] = {IMAGE: ImageFeature(), FILE_NAME: Value("string")}
    if folder.labels:
        features[LABEL] = ClassLabel(names=list(folder.labels))
    for column in told.columns:
        values = [row[column] for row in told.rows.values() if column in row]
        features[column] = Value(_TYPES.get(type(values[0]), "string") if values else "string")
    files = tuple(  # no list, which `datasets` would divide
        (file.name, file.size, file.modified, folder.label_of(file.name), told.rows.get(file.name))
        for file in folder.splits[split]
    )
    return Dataset.from_generator(
        _rows,
        features=Features(features),
        gen_kwargs={
            "root": str(folder.root.resolve()),
            "files": files,
            "columns": tuple(features),
        },
    )


_TYPES = {int: "int64", float: "float64"}


def _rows(root: str, files: Sequence[Any], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    for name, _size, _modified, label, told in files:
        known = {IMAGE: f"{root}/{name}", FILE_NAME: name, LABEL: label} | (told or {})
        yield {column: known.get(column) for column in columns}


class Examples(Protocol):
    """What can be divided into a part to train on and a part to validate with."""

    def __len__(self) -> int: ...
    def select(self, indices: Tensor) -> Self: ...


T = TypeVar("T", bound=Examples)


def hold_out(data: T, count: int, seed: int = 0) -> tuple[T, T]:
    """Splits off `count` pictures for validation, the same ones for the same seed.

    Returns:
        The rest, and those held out.

    Raises:
        ValueError: if nothing would be left to train on.
    """
    if count >= len(data):
        raise ValueError(f"data must hold more than {count} pictures, got {len(data)}")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    return data.select(order[count:]), data.select(order[:count])
