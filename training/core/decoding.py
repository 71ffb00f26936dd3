"""Opens the pictures of data sets, by the one way in that all pictures from outside take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import PIL.Image

from pipelines.core import pictures

LIMITS = pictures.Limits(num_bytes=512 * 2**20, side_px=65_535, num_pixels=170_000_000)
"""What a picture in training may have: files of cameras are fine, decompression bombs are not."""


def content_of(source: Mapping[str, Any] | bytes | None) -> bytes:
    """Returns the encoded bytes of a cell of a data set, which may name a file instead.

    Raises:
        ValueError: if there is none, or the file is too large.
        OSError: if the file cannot be read.
    """
    if isinstance(source, bytes):
        return source
    if source is None or (source["bytes"] is None and not source["path"]):
        raise ValueError("no picture")
    if source["bytes"] is not None:
        return source["bytes"]
    path = Path(source["path"])
    if path.stat().st_size > LIMITS.num_bytes:
        raise ValueError("a file that is too large")
    return path.read_bytes()


def opened(content: bytes) -> PIL.Image.Image:
    """Returns a picture, upright and of 8 bits a channel, in mode L, LA, RGB or RGBA.

    Raises:
        SettingsError: if it is no picture, is damaged or is too large.
    """
    return pictures.open_picture(content, name="picture", limits=LIMITS)


def on_white(picture: PIL.Image.Image) -> PIL.Image.Image:
    """Returns a picture with what is transparent laid on white; one without comes back as it is."""
    if not picture.has_transparency_data:
        return picture
    picture = picture.convert("RGBA")
    ground = PIL.Image.new("RGBA", picture.size, "white")
    return PIL.Image.alpha_composite(ground, picture)
