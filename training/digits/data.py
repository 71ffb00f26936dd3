"""Reads pictures of handwritten digits with their labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import ClassLabel, Dataset
from datasets import Image as ImageFeature
from torch import Tensor

from training.core.data import IMAGE, LABEL, is_local, read_split
from training.core.decoding import content_of, on_white, opened

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
        ValueError: one sentence, if the data cannot be read, has no columns `image` and `label`
            of pictures and digits, or pictures of several sizes.
    """
    data = read_split(dataset_name, split)
    missing = {"image", "label"} - set(data.column_names)
    if missing:
        raise ValueError(
            f"dataset_name must be a data set with columns image and label, got {dataset_name!r} "
            f"with {', '.join(data.column_names)}"
        )
    labels = _digits(data, dataset_name)
    pictures = _pictures(data, dataset_name)
    sizes = {picture.shape for picture in pictures}
    if len(sizes) != 1:
        raise ValueError(
            f"dataset_name must be a data set with pictures of one size, got {dataset_name!r} "
            f"with {len(sizes)} sizes"
        )
    pixels = torch.from_numpy(np.stack(pictures))[:, None]  # (n, 1, h, w)
    return Digits(pixels, torch.tensor(labels))


def _digits(data: Dataset, dataset_name: str) -> list[int]:
    """The labels, of which classes count by their names: a folder `7` holds sevens."""
    kind, labels = data.features[LABEL], list(data[LABEL])
    if isinstance(kind, ClassLabel):
        labels = [None if label is None or label < 0 else kind.names[label] for label in labels]
    digits: list[int] = []
    for label in labels:
        if label is None or not _is_digit(label):
            got = "nothing" if label is None else repr(label)[:40]
            raise ValueError(
                f"dataset_name must be a data set whose label is a digit 0 to 9, got "
                f"{dataset_name!r} with {got} in row {len(digits) + 1:,}"
            )
        digits.append(int(label))
    return digits


def _is_digit(label: Any) -> bool:
    """Whether a label is a whole number from 0 to 9, also as the text of a class or a cell."""
    if isinstance(label, str):
        return label in set("0123456789")
    return isinstance(label, (int, float)) and label in range(10) and not isinstance(label, bool)


def _pictures(data: Dataset, dataset_name: str) -> Sequence[np.ndarray]:
    """The pictures in grey, `(h, w)` uint8 each; what is transparent is laid on white."""
    if isinstance(data.features[IMAGE], ImageFeature):
        data = data.cast_column(IMAGE, ImageFeature(decode=False))
    pictures = []
    for row, source in enumerate(data[IMAGE]):
        try:
            picture = opened(content_of(source))
        except (ValueError, OSError, KeyError, TypeError) as error:
            raise ValueError(
                f"dataset_name must be a data set with pictures in its column image, got "
                f"{dataset_name!r}, where that of row {row + 1:,} cannot be read"
            ) from error
        pictures.append(np.asarray(on_white(picture).convert("L")))
    return pictures
