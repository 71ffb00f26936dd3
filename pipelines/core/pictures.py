"""The one way in for pictures from outside: measured, decoded, turned upright, cleaned, shrunk.

Everything that comes from a page, the API, a link or a file of someone else is opened here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import os
import re
import struct
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

import numpy as np
from PIL import Image, ImageOps

from pipelines.core import images
from pipelines.core.errors import Message, SettingsError, UserError, show

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""Pillow's names of the formats that are read; its readers of some others start programs."""

MAX_BYTES = 10 * 2**20
MAX_SIDE_PX = 8192
MAX_PIXELS = 4096 * 4096


@dataclass(frozen=True)
class Limits:
    """How large a picture may be before it is decoded.

    Attributes:
        num_bytes: of its file.
        side_px: of its longest side.
        num_pixels: of its area; a JPEG that can be shrunk while it is decoded may have more.
    """

    num_bytes: int = MAX_BYTES
    side_px: int = MAX_SIDE_PX
    num_pixels: int = MAX_PIXELS


VISITORS = Limits()
"""What the pages and the API take."""

# Every picture is measured here before it is decoded; Pillow's own warning says nothing new.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_CLEAN_MODES = ("L", "LA", "RGB", "RGBA")
_ROWS = 256  # that are scaled at once
_PREFIX = "data:image/png;base64,"
_MAX_HEAD = 100  # characters of `data:image/...;base64,`
_HEAD = re.compile(
    r"\s*data:(?:image/[\w.+-]{1,30}|application/octet-stream)?(?:;[\w=.-]{1,30}){0,2};base64,",
    re.ASCII | re.IGNORECASE,
)
_URL_SAFE = str.maketrans("-_", "+/")
_MAX_ENCODED = MAX_BYTES * 3 // 2  # base64 takes 4/3, and line breaks a little more
_PNG_CHUNKS = {b"IHDR", b"IDAT", b"IEND"}
_PNG_START = b"\x89PNG\r\n\x1a\n"
_FORMAT_STARTS = (_PNG_START, b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF")
_HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_PNG_MODES = {(8, 0): "L", (8, 4): "LA", (8, 2): "RGB", (8, 6): "RGBA"}  # (bits, colour type)

_one_at_a_time = threading.Lock()


def _renew_lock() -> None:
    """Gives a forked process a free lock; a thread that it does not have may hold the old one."""
    global _one_at_a_time
    _one_at_a_time = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def decoding() -> threading.Lock:
    """Returns the lock to hold while a picture from outside is decoded: one fits into memory."""
    return _one_at_a_time


def open_picture(
    source: bytes | str | Path,
    *,
    name: str,
    max_side_px: int | None = None,
    limits: Limits = VISITORS,
) -> Image.Image:
    """Returns a picture from outside: upright, without metadata, in mode L, LA, RGB or RGBA.

    Of an animation it is the first frame. 16 bits and floats are scaled to 8 bits.

    Args:
        source: content of a file, its path, or text that is a `data:` address in base64. Text is
            never taken as a path.
        name: of the setting, for error messages.
        max_side_px: longest side of the result; a larger picture is shrunk. None keeps its size.
        limits: how large the file may be.

    Raises:
        SettingsError: one sentence, if it is no picture, cannot be read, or is too large.
    """
    content = _read(source, name, limits)
    try:
        with decoding():
            return _decode(content, name, max_side_px, limits)
    except UserError:
        raise
    except Exception as error:  # on damaged files Pillow raises nearly everything that there is
        raise _unreadable(name, source, content) from error


def to_setting(value: Any, *, name: str, max_side_px: int) -> str:
    """Returns a picture from outside as the small PNG in a `data:` address that a setting stores.

    An address that this function returned comes back unchanged.

    Args:
        value: see `open_picture`.
        name: of the setting, for error messages.
        max_side_px: longest side; a larger picture is shrunk.

    Raises:
        SettingsError: one sentence, if it is no picture, cannot be read, or is too large.
    """
    if not isinstance(value, (bytes, str, Path)):
        raise SettingsError("picture", name=name, got=show(value))
    picture = open_picture(value, name=name, max_side_px=max_side_px)
    if isinstance(value, str) and _is_clean(value, max_side_px):
        return value
    return images.to_data_uri(picture)


def size_of(source: Any, *, name: str) -> tuple[int, int]:
    """Returns width and height of a picture that `open_picture` opens, upright and not shrunk.

    Args:
        source: see `open_picture`; anything else is refused.
        name: of the setting, for error messages.

    Raises:
        SettingsError: if it is no picture, cannot be read, or is too large.
    """
    if not isinstance(source, (bytes, str, Path)):
        raise SettingsError("picture", name=name, got=show(source))
    content = _read(source, name)
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            width, height = picture.size
            return (height, width) if _orientation(picture) in range(5, 9) else (width, height)
    except Exception as error:  # on damaged files Pillow raises nearly everything that there is
        raise _unreadable(name, source, content) from error


def digest(address: str) -> str:
    """Returns what stands for a picture where the picture itself would be too much: its SHA-256."""
    return f"sha256:{hashlib.sha256(address.encode()).hexdigest()[:16]}"


def measure(content: bytes, name: str, limits: Limits = VISITORS) -> Image.Image:
    """Returns an opened picture, not decoded, whose sides and area are within the limits.

    Raises:
        SettingsError: if they are not.
        Exception: of any kind, if Pillow cannot read the header.
    """
    size = _size_in_header(content)
    if size:
        _check_size(*size, name, limits)
    picture = Image.open(io.BytesIO(content), formats=FORMATS)
    width, height = picture.size
    # Most JPEGs can be shrunk while they are decoded, so that large photographs are no burden.
    if picture.format in ("JPEG", "MPO") and not picture.info.get("progressive"):
        _check_size(width, height, name, limits, max_pixels=limits.side_px**2)
        if width * height > limits.num_pixels:
            picture.draft(None, (width // 2, height // 2))
    _check_size(*picture.size, name, limits)
    return picture


def _read(source: bytes | str | Path, name: str, limits: Limits = VISITORS) -> bytes:
    """Returns the bytes of a source, of which there are not more than the limits allow."""
    if isinstance(source, str):
        return _from_base64(source, name)
    try:
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        if size <= limits.num_bytes:
            return source if isinstance(source, bytes) else source.read_bytes()
    except (OSError, ValueError):
        raise _unreadable(name, source) from None
    maximum = limits.num_bytes >> 20
    raise SettingsError("picture_bytes", name=name, maximum=maximum, got=size / 2**20)


def is_address(text: str) -> bool:
    """Returns whether text begins as a `data:` address, in letters of any case."""
    return text[:_MAX_HEAD].lstrip()[:5].lower() == "data:"


def _from_base64(address: str, name: str) -> bytes:
    """Returns the bytes in a `data:image/...;base64,` address.

    Its beginning may be in letters of any case, the base64 in either alphabet, with line breaks,
    escaped as in an URL, and without the padding.
    """
    head = _HEAD.match(address)
    if head is None:
        raise SettingsError("picture", name=name, got=show(address))
    if len(address) > _MAX_ENCODED:
        got = len(address) * 3 / 4 / 2**20
        raise SettingsError("picture_bytes", name=name, maximum=MAX_BYTES >> 20, got=got)
    body = unquote(address[head.end() :]) if "%" in address else address[head.end() :]
    body = "".join(body.split()).rstrip("=").translate(_URL_SAFE)
    try:
        content = base64.b64decode(body + "=" * (-len(body) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise SettingsError("picture", name=name, got=show(address)) from None
    return _read(content, name)


def _unreadable(
    name: str, source: bytes | str | Path, content: bytes | None = None
) -> SettingsError:
    return SettingsError("picture", name=name, got=_what_came(source, content))


def _what_came(source: bytes | str | Path, content: bytes | None) -> str:
    """Returns what is said of a source that is no picture, by the beginning of its content."""
    if content is not None and not content:
        return Message("empty_file")
    if content is not None and content[4:8] == b"ftyp" and content[8:12] in _HEIC:
        return Message("heic_file")
    if isinstance(source, str):
        return show(source)
    if content is not None and content.startswith(_FORMAT_STARTS):
        return Message("damaged_picture")
    return Message("unreadable_file")


def _check_size(
    width: int, height: int, name: str, limits: Limits, max_pixels: int | None = None
) -> None:
    if max(width, height) > limits.side_px or width * height > (max_pixels or limits.num_pixels):
        raise SettingsError(
            "picture_size",
            name=name,
            maximum=limits.side_px,
            megapixels=f"{limits.num_pixels / 10**6:.1f}",
            width=width,
            height=height,
        )


def _size_in_header(content: bytes) -> tuple[int, int] | None:
    """Returns width and height as PNG, GIF and animated WebP files begin with them; else None.

    Of other sizes than usual Pillow does not tell the numbers, or reserves memory beforehand.
    """
    head = content[:30]
    if head.startswith(_PNG_START) and len(head) == 30:
        return struct.unpack(">II", head[16:24])
    if head.startswith((b"GIF87a", b"GIF89a")) and len(head) == 30:
        return struct.unpack("<HH", head[6:10])
    if head.startswith(b"RIFF") and head[8:16] == b"WEBPVP8X" and len(head) == 30:
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    return None


def _decode(content: bytes, name: str, max_side_px: int | None, limits: Limits) -> Image.Image:
    with measure(content, name, limits) as picture:
        picture.load()
        orientation = _orientation(picture)
        size = (max_side_px, max_side_px) if max_side_px else picture.size
        if picture.mode in _CLEAN_MODES and "transparency" not in picture.info:
            picture.thumbnail(size)  # before the conversion, which needs a copy
        clean = _in_8_bits(picture)
    clean.thumbnail(size)
    return _without_metadata(_upright(clean, orientation))


def _orientation(picture: Image.Image) -> Any:
    """Returns the EXIF orientation; 1, upright, if there is none or if it is damaged."""
    try:
        return picture.getexif().get(0x0112, 1)
    except Exception:  # as many kinds as of damaged pictures
        return 1


def _in_8_bits(picture: Image.Image) -> Image.Image:
    """Returns a copy with 8 bits a channel, in one of the four modes."""
    if picture.mode.startswith(("I", "F")):
        return Image.fromarray(_scaled(np.asarray(picture)))
    if picture.has_transparency_data:
        mode = "LA" if picture.mode == "LA" else "RGBA"
        converted = picture.convert(mode)
        lowest, _ = cast("tuple[int, int]", converted.getchannel("A").getextrema())
        return converted if lowest < 255 else converted.convert(mode[:-1])
    return picture.convert("L" if picture.mode in ("1", "L", "LA") else "RGB")


def _scaled(values: np.ndarray) -> np.ndarray:
    """Returns grey values `(h, w)` as 8 bits.

    0 to 65535 of integers and 0 to 1 of floats become 0 to 255; values beyond are stretched, from
    the smallest to the largest. What is not a number becomes black, infinity black or white.
    """
    rows = range(0, len(values), _ROWS)  # part by part, to need no large copies
    ranges = [_range(values[i : i + _ROWS]) for i in rows]
    low = min((lowest for lowest, _ in ranges), default=0.0)
    high = max((highest for _, highest in ranges), default=0.0)
    if low > high:
        low = high = 0.0
    usual = 1.0 if values.dtype.kind == "f" else 65535.0
    if low >= 0 and high <= usual:
        low, high = 0.0, usual
    scaled = np.empty(values.shape, np.uint8)
    for i in rows:
        part = np.nan_to_num(values[i : i + _ROWS].astype(float), nan=low, posinf=high, neginf=low)
        share = (part - low) / max(high - low, np.finfo(float).tiny)
        scaled[i : i + _ROWS] = np.rint(share.clip(0, 1) * 255)
    return scaled


def _range(values: np.ndarray) -> tuple[float, float]:
    """Returns the smallest and the largest number; infinities, the wrong way round, without any."""
    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if known.size else (np.inf, -np.inf)


def _upright(picture: Image.Image, orientation: Any) -> Image.Image:
    """Returns the picture turned as the EXIF orientation, 1 to 8, says."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.info = {"exif": exif.tobytes()} if orientation in range(2, 9) else {}
    return ImageOps.exif_transpose(picture) or picture


def _without_metadata(picture: Image.Image) -> Image.Image:
    clean = Image.new(picture.mode, picture.size)
    clean.paste(picture)
    return clean


def _is_clean(address: str, max_side_px: int) -> bool:
    """Returns whether an address holds a PNG of pixels alone, as small as a setting stores it."""
    if not address.startswith(_PREFIX):
        return False
    try:
        content = base64.b64decode(address[len(_PREFIX) :], validate=True)
    except (binascii.Error, ValueError):  # line breaks, or no padding
        return False
    if base64.b64encode(content).decode("ascii") != address[len(_PREFIX) :]:
        return False
    if content[:8] != _PNG_START or {kind for kind, _ in _chunks(content)} != _PNG_CHUNKS:
        return False
    width, height, bits, color_type, *_, interlaced = struct.unpack(">IIBBBBB", content[16:29])
    mode = _PNG_MODES.get((bits, color_type))
    if mode is None or interlaced or max(width, height) > max_side_px:
        return False
    raw = height * (1 + width * len(mode))
    return len(content) <= raw * 1.01 + 1000


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    """Returns kind and data of the chunks of a PNG, and what follows its end as a last chunk."""
    found, at = [], len(_PNG_START)
    while at + 12 <= len(content) and (not found or found[-1][0] != b"IEND"):
        length = int.from_bytes(content[at : at + 4], "big")
        found.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    return found if at == len(content) else [*found, (b"", content[at:])]
