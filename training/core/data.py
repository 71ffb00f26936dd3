"""Reading data sets for training: a Hub id, or a folder in the layout that `datasets` expects."""

from __future__ import annotations

import dataclasses
import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
from datasets import Dataset, Features, Value, concatenate_datasets, load_dataset
from datasets import Image as ImageFeature
from torch import Tensor

from training.core import held_out
from training.core.held_out import ANY_TURN, NUM_TURNS

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
        rows: a data set with the columns `pixels`, the bytes of `(size, size, channels)` uint8,
            `focused`, whether a picture is one of those in focus, and `turns`, the hue turns that
            may be trained on, see `HeldOut.turns`.
        image_size: side in pixels.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).
        skipped: how many of the source could not be read and were left out.
        enlarged: how many were smaller than `image_size` and were scaled up.
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

    def allowed_turns(self, indices: Tensor, wanted: Tensor) -> Tensor:
        """Hue turns that make no held-out pair of thing and colour.

        Args:
            indices: of the pictures, `(m,)` int64.
            wanted: a turn of each, `(m,)` in [0, 1).

        Returns:
            `(m,)`: `wanted` where every turn is allowed, else one of those allowed.
        """
        bits = self.rows.select_columns("turns")[indices.tolist()]["turns"]
        pairs = zip(bits, wanted.tolist(), strict=True)
        return torch.tensor([allowed_turn(allowed, turn) for allowed, turn in pairs])

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
        dataset_name: a Hub id, a folder of parquet files, or a folder of pictures; several by
            commas, which are joined. What `held_out` names of them is left out.
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
    data, column = _joined(dataset_name, split, image_column)
    data = without(data, exclude) if exclude else data
    if not len(data):
        raise ValueError(
            f"dataset_name must be a data set of pictures, got {dataset_name!r}, of which none is "
            "left"
        )
    focused = in_focus(data, focus) if focus else [False] * len(data)
    raw = data.select_columns([column, _THING]).cast_column(column, ImageFeature(decode=False))
    kwargs = {"column": column, "image_size": image_size, "channels": channels}
    pairs = sorted(held_out.load().pairs)  # what is prepared is kept, and made anew for others
    rows = raw.add_column("focused", focused).map(
        _packed,
        batched=True,
        batch_size=256,
        remove_columns=[column, _THING],
        features=_PACKED,
        fn_kwargs=kwargs | {"held_out_pairs": pairs},
        num_proc=_processes(len(raw)),
        desc="Preparing pictures",
    )
    if not len(rows):
        raise ValueError(
            f"dataset_name must be a data set of pictures, got {dataset_name!r}, where none of "
            f"{len(raw)} can be read"
        )
    skipped = len(raw) - len(rows)
    as_they_are = np.asarray(rows["turns"]) & 1
    if not as_they_are.all():  # some are a held-out pair in their own colours
        rows = rows.select(as_they_are.nonzero()[0])
    enlarged = int(np.count_nonzero(rows["enlarged"]))
    return Pictures(rows, image_size, channels, skipped, enlarged)


_THING = "everyday thing"  # column of what an emoji shows, empty for all other pictures
_PACKED = Features(
    {
        "focused": Value("bool"),
        "pixels": Value("binary"),
        "enlarged": Value("bool"),
        "turns": Value("int64"),
    }
)


def _joined(dataset_name: str, split: str, image_column: str) -> tuple[Dataset, str]:
    """One or more data sets less what is held out, and their column of pictures.

    Of several, only the columns are kept that all have.
    """
    names = dataset_names(dataset_name)
    parts = [_trainable(name, split, image_column) for name in names]
    first, column = parts[0]
    if len(parts) == 1:
        return first, column
    several = []
    for data, own in parts:
        pictures = data.cast_column(own, ImageFeature(decode=False))
        several.append(pictures if own == column else pictures.rename_column(own, column))
    shared = [
        name
        for name, kind in several[0].features.items()
        if all(data.features.get(name) == kind for data in several)
    ]
    return concatenate_datasets([data.select_columns(shared) for data in several]), column


def _trainable(name: str, split: str, image_column: str) -> tuple[Dataset, str]:
    """A data set less the rows that are held out, with everyday things; its column of pictures."""
    known, data = folder_name(name), read_split(name, split)
    column = _image_column(data, name, image_column)
    data = held_out.without_held_out(data, known)
    return data.add_column(_THING, held_out.everyday_things(data, known)), column


def allowed_turn(allowed: int, wanted: float) -> float:
    """The hue turn `wanted` in [0, 1), or where some are held out one of those allowed."""
    if allowed == ANY_TURN:
        return wanted
    turns = [i for i in range(NUM_TURNS) if allowed >> i & 1]
    return turns[int(wanted * len(turns))] / NUM_TURNS


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
    names = [name for name in data.column_names if name != _THING]
    if column not in names:
        raise ValueError(f"{name} must begin with one of {', '.join(names)}, got {column!r}")
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
    batch: Mapping[str, list[Any]],
    *,
    column: str,
    image_size: int,
    channels: int,
    held_out_pairs: Sequence[tuple[str, str]],
) -> dict[str, list[Any]]:
    """The readable pictures of a batch, as bytes."""
    held = held_out.HeldOut(pairs=frozenset((thing, color) for thing, color in held_out_pairs))
    packed: dict[str, list[Any]] = {name: [] for name in _PACKED}
    rows = zip(batch[column], batch["focused"], batch[_THING], strict=True)
    for source, focused, thing in rows:
        try:
            picture = _opened(source)
            pixels = fitted(picture, image_size, channels).tobytes()
        except Exception:  # decoders of damaged files raise all kinds
            continue
        packed["focused"].append(focused)
        packed["enlarged"].append(min(picture.size) < image_size)
        packed["pixels"].append(pixels)
        packed["turns"].append(_turns(picture, image_size, thing, held))
    return packed


def _turns(picture: PIL.Image.Image, image_size: int, thing: str, held: held_out.HeldOut) -> int:
    if thing not in held.things:
        return ANY_TURN
    pixels = torch.from_numpy(fitted(picture, image_size, 4).copy()).permute(2, 0, 1)
    return held.turns(pixels, thing)


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
