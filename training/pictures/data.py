"""Reads and prepares pictures: scaled, cropped, and kept on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
from datasets import Dataset, Features, Value, concatenate_datasets
from datasets import Image as ImageFeature
from torch import Tensor

from training.core import held_out
from training.core.data import dataset_names, folder_name, read_source
from training.core.decoding import content_of, on_white, opened
from training.core.fingerprint import fingerprint
from training.core.folders import PictureFolder
from training.core.held_out import ANY_TURN, NUM_TURNS
from training.core.told import tell
from training.pictures.rows import EVERYDAY_THING, TOLD, in_focus, without


@dataclass(frozen=True)
class Pictures:
    """Pictures of one size, read from disk as they are wanted.

    Attributes:
        rows: a data set with the columns `pixels`, the bytes of `(size, size, channels)` uint8,
            `focused`, whether a picture is one of those in focus, `turns`, the hue turns that may
            be trained on, see `HeldOut.turns`, `digest`, the SHA-256 of its file, and `told`, what
            is known of it, see `told.tell`.
        image_size: side in pixels.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).
        skipped: how many of the source could not be read and were left out.
        enlarged: how many were smaller than `image_size` and were scaled up.
        folders: what lies in each folder of pictures that was read.
    """

    rows: Dataset
    image_size: int
    channels: int
    skipped: int = 0
    enlarged: int = 0
    folders: tuple[PictureFolder, ...] = ()

    @property
    def left_out(self) -> dict[str, int]:
        """How many files of the folders are not used, by reason, see `file_kinds.LEFT_OUT`."""
        return dict(sum((Counter(folder.left_out) for folder in self.folders), Counter()))

    @property
    def num_captions(self) -> int:
        """Pictures of the folders that have a caption."""
        return sum(folder.sidecars.num_captions for folder in self.folders)

    def fingerprint(self, *, with_facts: bool = False) -> str:
        """Describes the pictures in their order, which are in focus, and what is known of them."""
        facts = list(self.rows["told"]) if with_facts else []
        return fingerprint(len(self), b"".join(self.rows["digest"]), self.focused, *facts)

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

    def told(self, indices: Tensor) -> list[str]:
        """Returns what is known of those of the given numbers, `(m,)` int64."""
        return list(self.rows.select_columns("told")[indices.tolist()]["told"])

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
        dataset_name: a Hub id, a folder of parquet files, or a folder of pictures, see
            `training.core.folders`; several by commas, which are joined. What `held_out` names of
            them is left out.
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
    data, column, folders = _joined(dataset_name, split, image_column)
    data = without(data, exclude) if exclude else data
    if not len(data):
        raise ValueError(
            f"dataset_name must be a data set of pictures, got {dataset_name!r}, of which none is "
            "left"
        )
    focused = in_focus(data, focus) if focus else [False] * len(data)
    raw = data.select_columns([column, EVERYDAY_THING, TOLD])
    kwargs = {"column": column, "image_size": image_size, "channels": channels}
    pairs = sorted(held_out.load().pairs)  # what is prepared is kept, and made anew for others
    rows = raw.add_column("focused", focused).map(
        _packed,
        batched=True,
        batch_size=256,
        remove_columns=[column, EVERYDAY_THING, TOLD],
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
    return Pictures(rows, image_size, channels, skipped, enlarged, folders)


_PACKED = Features(
    {
        "focused": Value("bool"),
        "pixels": Value("binary"),
        "enlarged": Value("bool"),
        "turns": Value("int64"),
        "digest": Value("binary"),
        "told": Value("string"),
    }
)


def _joined(
    dataset_name: str, split: str, image_column: str
) -> tuple[Dataset, str, tuple[PictureFolder, ...]]:
    """One or more data sets less what is held out, their column of pictures, and their folders.

    Of several, only the columns are kept that all have.
    """
    names = dataset_names(dataset_name)
    parts = [_trainable(name, split, image_column) for name in names]
    folders = tuple(folder for *_, folder in parts if folder is not None)
    first, column, _ = parts[0]
    if len(parts) == 1:
        return first, column, folders
    several = [data if own == column else data.rename_column(own, column) for data, own, _ in parts]
    shared = [
        name
        for name, kind in several[0].features.items()
        if all(data.features.get(name) == kind for data in several)
    ]
    joined = concatenate_datasets([data.select_columns(shared) for data in several])
    return joined, column, folders


def _trainable(
    name: str, split: str, image_column: str
) -> tuple[Dataset, str, PictureFolder | None]:
    """A data set less the rows that are held out, with everyday things; its column of pictures.

    The pictures are not decoded yet.
    """
    known, source = folder_name(name), read_source(name, split)
    data = source.data
    column = _image_column(data, name, image_column)
    for other, kind in data.features.items():
        if other == column or isinstance(kind, ImageFeature):
            data = data.cast_column(other, ImageFeature(decode=False))
    data = held_out.without_held_out(data, known)
    things = held_out.everyday_things(data, known)
    told = tell(data, known)
    return data.add_column(EVERYDAY_THING, things).add_column(TOLD, told), column, source.folder


def allowed_turn(allowed: int, wanted: float) -> float:
    """The hue turn `wanted` in [0, 1), or where some are held out one of those allowed."""
    if allowed == ANY_TURN:
        return wanted
    turns = [i for i in range(NUM_TURNS) if allowed >> i & 1]
    return turns[int(wanted * len(turns))] / NUM_TURNS


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
    columns = (column, "focused", EVERYDAY_THING, TOLD)
    for source, focused, thing, told in zip(*(batch[name] for name in columns), strict=True):
        try:
            content = content_of(source)
            picture = opened(content)
        except (ValueError, OSError):  # which is counted
            continue
        pixels = fitted(picture, image_size, channels).tobytes()
        packed["focused"].append(focused)
        packed["enlarged"].append(min(picture.size) < image_size)
        packed["pixels"].append(pixels)
        packed["turns"].append(_turns(picture, image_size, thing, held))
        packed["digest"].append(hashlib.sha256(content).digest()[:16])
        packed["told"].append(told)
    return packed


def _turns(picture: PIL.Image.Image, image_size: int, thing: str, held: held_out.HeldOut) -> int:
    if thing not in held.things:
        return ANY_TURN
    pixels = torch.from_numpy(fitted(picture, image_size, 4).copy()).permute(2, 0, 1)
    return held.turns(pixels, thing)


def fitted(picture: PIL.Image.Image, image_size: int, channels: int) -> np.ndarray:
    """A picture, as `decoding.opened` returns it, as `(size, size, channels)` uint8.

    It is scaled, and its middle is kept. With one or three channels, what is transparent is laid on
    white.
    """
    picture = picture if channels == 4 else on_white(picture)
    picture = picture.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])
    square = (image_size, image_size)
    picture = PIL.ImageOps.fit(picture, square, PIL.Image.Resampling.LANCZOS)
    return np.asarray(picture).reshape(image_size, image_size, channels)
