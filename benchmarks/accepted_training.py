"""Folders and pictures that training takes or refuses; `benchmarks.accepted` writes the page.

Every example is made and read, so the page says what is done.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.accepted_files import Part
from training.core.decoding import LIMITS, opened
from training.core.folders import TRAIN, counted, picture_folder

FOLDERS = (
    ("pictures", "a.png, b.jpg"),
    ("one that is called train or test", "a.png, train.png, test_shot.png"),
    ("brackets in names", "set [v1]/a.png, b(1).png"),
    ("class folders", "car/a.png, train/b.png"),
    ("a division", "train/a.png, test/b.png"),
    ("a division with a picture beside it", "train/a.png, test/b.png, c.png"),
    ("captions", "a.png, a.txt, readme.txt"),
    ("no suffix", "a.png, b"),
    ("other formats, archives, videos", "a.png, b.heic, c.zip, d.mov"),
    ("files of systems", "a.png, .DS_Store, Thumbs.db"),
)
REFUSED_FOLDERS = (
    ("nothing", ""),
    ("an archive alone", "a.zip"),
    ("no picture that is read", "a.heic, b.txt"),
)
PICTURES = (
    ("colour", "RGB, PNG"),
    ("transparent", "RGBA, PNG"),
    ("with a palette", "P, GIF"),
    ("grey of 16 bits", "I;16, PNG"),
    ("floats", "F, TIFF"),
    ("for print", "CMYK, JPEG"),
    ("AVIF", "RGB, AVIF"),
)
REFUSED_PICTURES = (("another format", "RGB, PPM"), ("another, of the web", "RGB, ICO"))


def becomes(files: str) -> str:
    """Returns what is said of a folder of these files.

    Args:
        files: names by commas; every name of a picture, or without a suffix, is one.

    Raises:
        ValueError: if the folder is refused.
    """
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "photos"
        root.mkdir()
        for name in filter(None, files.split(", ")):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            is_picture = path.suffix in (".png", ".jpg", "") and not name.startswith(".")
            path.write_bytes(encoded("RGB", "PNG") if is_picture else b"-")
        try:
            folder = picture_folder(root)
        except ValueError as error:
            raise ValueError(str(error).replace(str(root), root.name)) from None
    assert folder is not None  # no example holds tables
    used = counted(len(folder.splits[TRAIN]), "picture")
    return "; ".join([used, *list(folder.lines())[1:]])


def encoded(mode: str, kind: str) -> bytes:
    """Returns the file of a small picture."""
    buffer = io.BytesIO()
    values = np.full((8, 8), 25700, np.uint16) if mode == "I;16" else None
    picture = Image.new(mode, (8, 8)) if values is None else Image.fromarray(values)
    picture.save(buffer, kind)
    return buffer.getvalue()


def mode_of(example: str) -> str:
    """Returns the mode that training gets a picture in.

    Args:
        example: mode and format of a file, `RGB, PNG`.

    Raises:
        UserError: if it is refused.
    """
    return opened(encoded(*example.split(", "))).mode


PARTS: tuple[Part, ...] = (
    (
        "Folders",
        "For `--dataset-name` of the training commands. Every file is used, or counted with its "
        "reason.",
        becomes,
        FOLDERS,
        REFUSED_FOLDERS,
    ),
    (
        "Pictures in training",
        f"Files of up to {LIMITS.num_pixels // 10**6} megapixels and {LIMITS.num_bytes >> 20} MB, "
        "upright as their EXIF says; modes are those of Pillow.",
        mode_of,
        PICTURES,
        REFUSED_PICTURES,
    ),
)
