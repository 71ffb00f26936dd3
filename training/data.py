"""Reading data sets for training: a Hub id, or a folder in the layout that `datasets` expects."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, load_dataset
from datasets import Image as ImageFeature
from torch import Tensor

HUB_MNIST = "ylecun/mnist"


def default_mnist() -> str:
    """MNIST on this machine if `STUDIO_DATA` (or `../shared/data`) holds it, else its Hub id."""
    folder = Path(os.environ.get("STUDIO_DATA", "../shared/data")) / "mnist"
    return str(folder) if folder.is_dir() else HUB_MNIST


def public_name(dataset_name: str) -> str:
    """How a model card names the data: a local folder is taken for a copy of MNIST."""
    local = dataset_name.startswith((".", "/", "~")) or Path(dataset_name).exists()
    return HUB_MNIST if local else dataset_name


@dataclass(frozen=True)
class Digits:
    """Grey pictures and their labels.

    Attributes:
        pixels: `(n, 1, h, w)` uint8.
        labels: `(n,)` int64.
    """

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> Digits:
        """Those of the given numbers, `(m,)` int64, in that order."""
        return Digits(self.pixels[indices], self.labels[indices])


def load_digits(dataset_name: str, split: str) -> Digits:
    """All pictures of one split, in memory.

    Args:
        dataset_name: a Hub id such as `ylecun/mnist`, or a folder of parquet files.
        split: "train" or "test".

    Raises:
        ValueError: if the data cannot be read, has no columns `image` and `label`, or pictures of
            several sizes.
    """
    data = _read(dataset_name, split)
    missing = {"image", "label"} - set(data.column_names)
    if missing:
        raise ValueError(
            f"dataset_name must be a data set with columns image and label, got {dataset_name!r} "
            f"with {', '.join(data.column_names)}"
        )
    data = data.cast_column("image", ImageFeature(mode="L"))
    pictures = [np.asarray(picture) for picture in data["image"]]
    sizes = {picture.shape for picture in pictures}
    if len(sizes) != 1:
        raise ValueError(
            f"dataset_name must be a data set with pictures of one size, got {dataset_name!r} "
            f"with {len(sizes)} sizes"
        )
    pixels = torch.from_numpy(np.stack(pictures))[:, None]  # (n, 1, h, w)
    return Digits(pixels, torch.tensor(list(data["label"])))


def _read(dataset_name: str, split: str) -> Dataset:
    try:
        return load_dataset(dataset_name, split=split)
    except Exception as error:  # `datasets` raises many kinds: not found, offline, bad file
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"dataset_name must be a data set with a split {split!r} that can be read, "
            f"got {dataset_name!r}: {reason}"
        ) from error


def hold_out(data: Digits, count: int, seed: int = 0) -> tuple[Digits, Digits]:
    """Splits off `count` pictures for validation, the same ones for the same seed.

    Returns:
        The rest, and those held out.

    Raises:
        ValueError: if nothing would be left to train on.
    """
    if count >= len(data):
        raise ValueError(f"data must hold more than {count} pictures, got {len(data)}")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    return data.take(order[count:]), data.take(order[:count])
