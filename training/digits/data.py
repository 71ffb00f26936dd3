"""Reads pictures of handwritten digits with their labels."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from datasets import Image as ImageFeature
from torch import Tensor

from training.core.data import is_local, read_split

HUB_MNIST = "ylecun/mnist"


def default_mnist() -> str:
    """MNIST on this machine if `STUDIO_DATA` (or `../shared/data`) holds it, else its Hub id."""
    folder = Path(os.environ.get("STUDIO_DATA", "../shared/data")) / "mnist"
    return str(folder) if folder.is_dir() else HUB_MNIST


def public_name(dataset_name: str) -> str:
    """How a card names the data of digits: a local folder is taken for a copy of MNIST."""
    return HUB_MNIST if is_local(dataset_name) else dataset_name


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

    def select(self, indices: Tensor) -> Digits:
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
    data = read_split(dataset_name, split)
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
