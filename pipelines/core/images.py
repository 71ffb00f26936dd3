"""Conversion of [-1, 1] tensors to pictures and back (only here), colours, and PNG metadata."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image, PngImagePlugin
from torch import Tensor

from pipelines.core.css_colors import parse_color

METADATA_KEY = "guided_diffusion_studio"
"""Name of the PNG text entry with a picture's settings as one JSON object."""

_MAX_PIXELS = 4096 * 4096
_MIN_ZIPPED, _MAX_ZIPPED = 200, 900_000  # characters of a text entry; readers unzip at most 1 MiB


def to_pil(images: Tensor) -> list[Image.Image]:
    """Returns the pictures of a batch: clamped, then rounded to 8 bits.

    Args:
        images: `(b, c, h, w)` in [-1, 1], with 1 channel (grey) or 3 (RGB), on any device.

    Raises:
        ValueError: for another shape.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"images must be (b, 1 or 3, h, w), got {tuple(images.shape)}")
    pixels = to_uint8(images.detach().float().cpu()).permute(0, 2, 3, 1)  # (b, h, w, c)
    return [Image.fromarray(p.squeeze(-1).numpy()) for p in pixels]


def to_tensor(picture: Image.Image) -> Tensor:
    """Returns a picture of any mode as `(1, 3, h, w)` in [-1, 1]; transparency becomes white."""
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    picture = picture.convert("RGB")
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return from_uint8(pixels.view(1, picture.height, picture.width, 3).permute(0, 3, 1, 2))


def to_uint8(images: Tensor) -> Tensor:
    """Returns images of any shape in [-1, 1], clamped, as 8-bit pixels."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def from_uint8(pixels: Tensor) -> Tensor:
    """Returns 8-bit pixels of any shape as float32 in [-1, 1]; the inverse of `to_uint8`."""
    return pixels.float() / 127.5 - 1


def crops(
    x0: Tensor, side: Tensor, angle: Tensor, mirrored: Tensor, shift: Tensor, size_px: int
) -> Tensor:
    """Returns square crops, rotated and mirrored, `(b, c, size_px, size_px)`, differentiable.

    Beyond its edges the picture continues as its mirror image.

    Args:
        x0: `(b, c, h, w)`.
        side: `(b,)`, side of each crop, as a share of the picture's side.
        angle: `(b,)`, rotation of each crop in radians.
        mirrored: `(b,)`, -1 for a mirrored crop, 1 for another.
        shift: `(2, b)`, of the crop's centre to the right and down; 1 is the picture's edge.
        size_px: side of the result.
    """
    rows = [
        torch.stack([side * mirrored * angle.cos(), -side * angle.sin(), shift[0]], dim=1),
        torch.stack([side * mirrored * angle.sin(), side * angle.cos(), shift[1]], dim=1),
    ]
    affine = torch.stack(rows, dim=1).to(x0)  # (b, 2, 3)
    grid = F.affine_grid(affine, [*x0.shape[:2], size_px, size_px], align_corners=False)
    return F.grid_sample(x0, grid, padding_mode="reflection", align_corners=False)


def grid(
    pictures: Sequence[Image.Image], *, columns: int, scale: int = 1, gap: int = 2
) -> Image.Image:
    """Returns pictures of equal size on one sheet; each pixel becomes a square of `scale` px.

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
    """Returns a copy of the picture with `metadata`, which PNG files store as a text entry."""
    picture = picture.copy()
    picture.info[METADATA_KEY] = json.dumps(metadata, sort_keys=True)
    return picture


def to_png(picture: Image.Image) -> bytes:
    """Returns a PNG file with the text entries of `picture.info`."""
    text = PngImagePlugin.PngInfo()
    for key, value in picture.info.items():
        if isinstance(value, str):
            text.add_text(str(key), value, zip=_MIN_ZIPPED < len(value) < _MAX_ZIPPED)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", pnginfo=text)
    return buffer.getvalue()


def to_data_uri(picture: Image.Image) -> str:
    """Returns the picture as a PNG in a `data:` address, which a page shows without a request."""
    return "data:image/png;base64," + base64.b64encode(to_png(picture)).decode("ascii")


def from_data_uri(text: str) -> Image.Image:
    """Returns the picture of an address that `to_data_uri` made, such as a checked setting's.

    Pictures from outside are opened by `pipelines.core.pictures` instead.

    Raises:
        ValueError: if it holds no picture that can be read.
    """
    head, _, body = text.partition(",")
    if not head.startswith("data:image/") or not head.endswith(";base64"):
        raise ValueError("no address that starts with data:image/ and holds base64")
    try:
        picture = Image.open(io.BytesIO(base64.b64decode(body, validate=True)), formats=("PNG",))
        if picture.width * picture.height > _MAX_PIXELS:  # checked before decoding
            raise ValueError(f"more than {_MAX_PIXELS} pixels")
        picture.load()
    except (ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError("no picture that can be read") from error
    return picture


def num_bytes(picture: Image.Image) -> int:
    """Returns the memory of the pixels of a picture."""
    return picture.width * picture.height * len(picture.getbands())


def to_mask(picture: Image.Image) -> Tensor:
    """Returns a picture as a mask `(h, w)` in [0, 1]: 1 is white, 0 black or transparent."""
    grey = picture.convert("LA") if picture.has_transparency_data else picture.convert("L")
    values = torch.frombuffer(bytearray(grey.tobytes()), dtype=torch.uint8).float() / 255
    bands = values.view(grey.height, grey.width, len(grey.getbands()))  # (h, w, 1 or 2)
    return bands.prod(dim=-1)


def to_hex(rgb: Sequence[int]) -> str:
    """Returns a colour, 0 to 255 each, as `#RRGGBB`."""
    return "#" + "".join(f"{value:02X}" for value in rgb)


def color_to_tensor(color: str) -> Tensor:
    """Returns a colour in CSS notation as `(3,)` in [-1, 1]."""
    return from_uint8(torch.tensor(parse_color(color)))


def mean_rgb(picture: Image.Image, mask: Tensor | None = None) -> tuple[float, float, float]:
    """Returns mean red, green and blue, 0 to 255, of a picture, weighted by a mask `(h, w)`."""
    raw = bytearray(picture.convert("RGB").tobytes())
    pixels = torch.frombuffer(raw, dtype=torch.uint8).view(picture.height, picture.width, 3)
    weights = torch.ones(picture.height, picture.width) if mask is None else mask
    mean = (pixels * weights[:, :, None]).sum(dim=(0, 1)) / weights.sum()
    red, green, blue = mean.tolist()
    return red, green, blue
