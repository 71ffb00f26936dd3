"""Names of data sets, and what reading them has in common."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, Self, TypeVar

import torch
from datasets import Dataset, load_dataset
from torch import Tensor


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


def read_split(dataset_name: str, split: str) -> Dataset:
    """Reads one split of a data set.

    Raises:
        ValueError: if it cannot be read.
    """
    try:
        return load_dataset(dataset_name, split=split)
    except Exception as error:  # `datasets` raises many kinds: not found, offline, bad file
        cause = error.__cause__ or error
        reason = (str(cause) or type(cause).__name__).splitlines()[0]
        raise ValueError(
            f"dataset_name must be a data set with a split {split!r} that can be read, "
            f"got {dataset_name!r}: {reason}"
        ) from error


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
