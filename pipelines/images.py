"""The only place where value ranges change: [-1, 1] tensors to pictures and back, PNG metadata."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image, PngImagePlugin
from torch import Tensor

METADATA_KEY = "guided_diffusion_studio"
"""Name of the PNG text entry that holds a picture's settings as one JSON object."""


def to_pil(images: Tensor) -> list[Image.Image]:
    """Pictures of a batch: clamped, then rounded to 8 bits.

    Args:
        images: `(b, c, h, w)` in [-1, 1], with 1 channel (grey) or 3 (RGB), on any device.

    Raises:
        ValueError: for another shape.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"images must be (b, 1 or 3, h, w), got {tuple(images.shape)}")
    pixels = (images.detach().float().cpu().clamp(-1, 1) + 1) * 127.5  # (b, c, h, w) in [0, 255]
    pixels = pixels.round().to(torch.uint8).permute(0, 2, 3, 1)  # (b, h, w, c)
    return [Image.fromarray(p.squeeze(-1).numpy()) for p in pixels]


def from_uint8(pixels: Tensor) -> Tensor:
    """8-bit pixels of any shape as float32 in [-1, 1]; the inverse of `to_pil`'s rounding."""
    return pixels.float() / 127.5 - 1


def grid(
    pictures: Sequence[Image.Image], *, columns: int, scale: int = 1, gap: int = 2
) -> Image.Image:
    """All pictures, of one size, on one sheet; each pixel becomes a crisp square of `scale` px.

    Raises:
        ValueError: if there are none.
    """
    if not pictures:
        raise ValueError("pictures must hold at least one picture, got none")
    width, height = (side * scale for side in pictures[0].size)
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    size = (columns * (width + gap) - gap, rows * (height + gap) - gap)
    sheet = Image.new(pictures[0].mode, size, color=0)
    for i, picture in enumerate(pictures):
        row, column = divmod(i, columns)
        large = picture.resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(large, (column * (width + gap), row * (height + gap)))
    return sheet


def with_metadata(picture: Image.Image, metadata: Mapping[str, Any]) -> Image.Image:
    """The picture carrying `metadata`, which becomes a PNG text entry when it is saved as PNG."""
    picture = picture.copy()
    picture.info[METADATA_KEY] = json.dumps(metadata, sort_keys=True)
    return picture


def to_png(picture: Image.Image) -> bytes:
    """A PNG file with the text entries of `picture.info`."""
    text = PngImagePlugin.PngInfo()
    for key, value in picture.info.items():
        if isinstance(value, str):
            text.add_text(str(key), value)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", pnginfo=text)
    return buffer.getvalue()


def to_data_uri(picture: Image.Image) -> str:
    """The picture as a PNG inside a `data:` address, to be shown in a page without a request."""
    return "data:image/png;base64," + base64.b64encode(to_png(picture)).decode("ascii")
