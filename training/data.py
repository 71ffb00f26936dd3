"""Reading data sets for training: a Hub id, or a folder in the layout that `datasets` expects."""

from __future__ import annotations

import dataclasses
import io
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
from datasets import Dataset, Features, Value, load_dataset
from datasets import Image as ImageFeature
from torch import Tensor

HUB_MNIST = "ylecun/mnist"


def default_mnist() -> str:
    """MNIST on this machine if `STUDIO_DATA` (or `../shared/data`) holds it, else its Hub id."""
    folder = Path(os.environ.get("STUDIO_DATA", "../shared/data")) / "mnist"
    return str(folder) if folder.is_dir() else HUB_MNIST


def is_local(name: str) -> bool:
    """Whether a name means something on this machine and not a Hub id."""
    return name.startswith((".", "/", "~")) or Path(name).exists()


def public_name(dataset_name: str) -> str:
    """How a card names the data of digits: a local folder is taken for a copy of MNIST."""
    return HUB_MNIST if is_local(dataset_name) else dataset_name


def folder_name(dataset_name: str) -> str:
    """How a card names the data of pictures: of a local folder only its last part is told."""
    local = is_local(dataset_name)
    return Path(dataset_name).expanduser().resolve().name if local else dataset_name


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


def read_split(dataset_name: str, split: str) -> Dataset:
    try:
        return load_dataset(dataset_name, split=split)
    except Exception as error:  # `datasets` raises many kinds: not found, offline, bad file
        cause = error.__cause__ or error
        reason = (str(cause) or type(cause).__name__).splitlines()[0]
        raise ValueError(
            f"dataset_name must be a data set with a split {split!r} that can be read, "
            f"got {dataset_name!r}: {reason}"
        ) from error


@dataclass(frozen=True)
class Pictures:
    """Pictures of one size, read from disk as they are wanted.

    Attributes:
        rows: a data set with the column `pixels`: the bytes of `(size, size, channels)` uint8.
        image_size: side in pixels.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).
        skipped: how many of the source could not be read and were left out.
        enlarged: how many were smaller than `image_size` and were scaled up.

    `rows` has a column `focused`, too: whether a picture is one of those in focus.
    """

    rows: Dataset
    image_size: int
    channels: int
    skipped: int = 0
    enlarged: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: Tensor) -> Tensor:
        """Those of the given numbers, `(m,)` int64, in that order: `(m, c, size, size)` uint8."""
        raw = b"".join(self.rows[indices.tolist()]["pixels"])
        side, channels = self.image_size, self.channels
        pixels = np.frombuffer(bytearray(raw), np.uint8).reshape(-1, side, side, channels)
        return torch.from_numpy(pixels).permute(0, 3, 1, 2)

    @property
    def focused(self) -> Tensor:
        """Which are in focus, `(n,)` bool."""
        return torch.tensor(list(self.rows["focused"]), dtype=torch.bool)

    def select(self, indices: Tensor) -> Pictures:
        """The same for a part of the pictures."""
        return dataclasses.replace(self, rows=self.rows.select(indices.tolist()))


def load_pictures(
    dataset_name: str,
    *,
    image_size: int,
    channels: int = 3,
    image_column: str = "",
    split: str = "train",
    exclude: str = "",
    focus: str = "",
) -> Pictures:
    """All pictures of one split: scaled so that the shorter side fits, the middle square kept.

    Transparent ones are laid on white, unless four channels are asked for. What has been prepared
    once is kept by `datasets` and read from disk, so neither the size of the data nor a restart
    costs memory or time.

    Args:
        dataset_name: a Hub id, a folder of parquet files, or a folder of pictures.
        image_size: side in pixels.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).
        image_column: the column that holds the pictures (or their encoded bytes); empty takes the
            only one there is.
        split: part of the data set.
        exclude: rows to leave out, as `column=value, value`; empty is none.
        focus: rows to mark as those in focus, as `column=pattern`; empty is none.

    Raises:
        ValueError: if the data or the column cannot be read, no picture can, or there is nothing
            of what is to be left out or in focus.
        OSError: if what has been prepared cannot be kept, for lack of room for instance.
    """
    data = read_split(dataset_name, split)
    column = _image_column(data, dataset_name, image_column)
    data = without(data, exclude) if exclude else data
    focused = in_focus(data, focus) if focus else [False] * len(data)
    raw = data.select_columns([column]).cast_column(column, ImageFeature(decode=False))
    rows = raw.add_column("focused", focused).map(
        _packed,
        batched=True,
        batch_size=256,
        remove_columns=[column],
        features=Features(
            {"focused": Value("bool"), "pixels": Value("binary"), "enlarged": Value("bool")}
        ),
        fn_kwargs={"column": column, "image_size": image_size, "channels": channels},
        num_proc=_processes(len(raw)),
        desc="Preparing pictures",
    )
    if not len(rows):
        raise ValueError(
            f"dataset_name must be a data set of pictures, got {dataset_name!r}, where none of "
            f"{len(raw)} can be read"
        )
    enlarged = int(np.count_nonzero(rows["enlarged"]))
    return Pictures(rows, image_size, channels, len(raw) - len(rows), enlarged)


def without(data: Dataset, exclude: str) -> Dataset:
    """A data set less some of its rows.

    Args:
        data: with any columns.
        exclude: which rows, as `column=value, value`.

    Raises:
        ValueError: if it is not written like that, or a column or value is not there.
    """
    column, listed = _column_and_rest(data, "exclude", exclude, "column=value, value")
    values = {value.strip() for value in listed.split(",")} - {""}
    present = [str(value) for value in data[column]]
    missing = values.difference(present)
    if missing:
        raise ValueError(
            f"exclude must name values of {column}, got {', '.join(sorted(missing))}, "
            "which none of the rows has"
        )
    return data.select([i for i, value in enumerate(present) if value not in values])


def in_focus(data: Dataset, focus: str) -> list[bool]:
    """Which rows of a data set have a value that a pattern describes whole, in any case of letters.

    Args:
        data: with any columns; of one that holds lists, any value of a row may fit.
        focus: which rows, as `column=pattern`; the pattern is a regular expression.

    Raises:
        ValueError: if it is not written like that, or no row has such a value, or every one.
    """
    column, written = _column_and_rest(data, "focus", focus, "column=pattern")
    try:
        pattern = re.compile(written, re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"focus must end with a regular expression, got {written!r}") from error
    marked = [any(map(pattern.fullmatch, _texts(value))) for value in data[column]]
    if len(set(marked)) < 2:
        raise ValueError(
            f"focus must describe a part of the rows, got {written!r}, which describes "
            + ("all" if any(marked) else "none")
        )
    return marked


def _column_and_rest(data: Dataset, name: str, written: str, form: str) -> tuple[str, str]:
    """The two sides of an option that chooses rows by one of their columns."""
    column, _, rest = (part.strip() for part in written.partition("="))
    if not rest.strip(", "):
        raise ValueError(f"{name} must be like {form!r}, got {written!r}")
    if column not in data.column_names:
        raise ValueError(
            f"{name} must begin with one of {', '.join(data.column_names)}, got {column!r}"
        )
    return column, rest


def _texts(value: Any) -> list[str]:
    """What a cell of a data set says: one text, several or none."""
    several = value if isinstance(value, list) else [value]
    return [str(part) for part in several if part is not None]


def _processes(count: int) -> int | None:
    """Processes for preparing so many pictures; None is this one alone."""
    wanted = min(os.cpu_count() or 1, count // 5000)
    return wanted if wanted > 1 else None


def _image_column(data: Dataset, dataset_name: str, wanted: str) -> str:
    kinds = data.features.items()
    found = [name for name, kind in kinds if isinstance(kind, ImageFeature)]
    found = found or [name for name, kind in kinds if _may_hold_pictures(kind)]
    if wanted in found or (not wanted and len(found) == 1):
        return wanted or found[0]
    if not found:
        raise ValueError(
            f"dataset_name must be a data set with a column of pictures, got {dataset_name!r} "
            f"with {', '.join(data.column_names)}"
        )
    raise ValueError(f"image_column must be one of {', '.join(found)}, got {wanted or 'nothing'!r}")


def _may_hold_pictures(kind: Any) -> bool:
    """Whether a column looks like files; those not written by `datasets` are not marked as such."""
    return kind == Value("binary") or (isinstance(kind, Mapping) and set(kind) == {"bytes", "path"})


def _packed(
    batch: Mapping[str, list[Any]], *, column: str, image_size: int, channels: int
) -> dict[str, list[Any]]:
    """The readable pictures of a batch, as bytes."""
    packed: dict[str, list[Any]] = {"focused": [], "pixels": [], "enlarged": []}
    for source, focused in zip(batch[column], batch["focused"], strict=True):
        try:
            picture = _opened(source)
            pixels = fitted(picture, image_size, channels).tobytes()
        except Exception:  # decoders of damaged files raise all kinds
            continue
        packed["focused"].append(focused)
        packed["enlarged"].append(min(picture.size) < image_size)
        packed["pixels"].append(pixels)
    return packed


def _opened(source: Mapping[str, Any]) -> PIL.Image.Image:
    file = source["path"] if source["bytes"] is None else io.BytesIO(source["bytes"])
    picture = PIL.Image.open(file)
    picture.load()
    return picture


def fitted(picture: PIL.Image.Image, image_size: int, channels: int) -> np.ndarray:
    """A picture as `(size, size, channels)` uint8: upright, scaled, its middle kept.

    With one or three channels, what is transparent is laid on white.
    """
    picture = PIL.ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):  # 16-bit grey, which Pillow would cut off at 255
        grey = (np.asarray(picture) / 257).round().clip(0, 255).astype(np.uint8)
        picture = PIL.Image.fromarray(grey)
    if picture.has_transparency_data and channels != 4:
        picture = picture.convert("RGBA")
        ground = PIL.Image.new("RGBA", picture.size, "white")
        picture = PIL.Image.alpha_composite(ground, picture)
    picture = picture.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])
    square = (image_size, image_size)
    picture = PIL.ImageOps.fit(picture, square, PIL.Image.Resampling.LANCZOS)
    return np.asarray(picture).reshape(image_size, image_size, channels)


T = TypeVar("T", Digits, Pictures)


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
