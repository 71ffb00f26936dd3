"""Damaged and unusual pictures of all formats, to try what opens pictures from outside.

The same count and seed always give the same files.
"""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
from PIL import Image

Mutation = Callable[[bytes, random.Random], bytes]

_SIZE = (24, 17)
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_KINDS = (
    b"cHRM",
    b"gAMA",
    b"tRNS",
    b"iCCP",
    b"PLTE",
    b"sRGB",
    b"pHYs",
    b"eXIf",
    b"acTL",
    b"zTXt",
)
_DEPTHS = (1, 2, 4, 8, 16)
_COLOR_TYPES = (0, 2, 3, 4, 6)
_HUGE = (0, 1, 65_535, 20_000, 2**31 - 1, 2**32 - 1)


def mutated_pictures(count: int, seed: int) -> Iterator[bytes]:
    """Yields files: about one in ten is whole, the others are damaged in one to three ways.

    Args:
        count: number of files.
        seed: of the random choices.
    """
    chance = random.Random(seed)
    names = sorted(whole_pictures())
    for _ in range(count):
        content = whole_pictures()[chance.choice(names)]
        if chance.random() < 0.9:
            for _ in range(chance.randint(1, 3)):
                content = chance.choice(MUTATIONS)(content, chance)
        yield content


@cache
def whole_pictures() -> dict[str, bytes]:
    """Returns small files that can be read, by name: every format, many modes, EXIF, animations."""
    noise = np.random.default_rng(0).integers(0, 256, (*_SIZE[::-1], 4), dtype=np.uint8)
    rgba = Image.fromarray(noise)
    modes = ("1", "L", "LA", "P", "RGB", "RGBA")
    pictures = {f"png {mode}": _file(rgba.convert(mode), "PNG") for mode in modes}
    pictures |= {f"tiff {m}": _file(rgba.convert(m), "TIFF") for m in (*modes, "CMYK")}
    pictures |= {f"gif {m}": _file(rgba.convert(m), "GIF") for m in ("1", "L", "P")}
    pictures |= {f"bmp {m}": _file(rgba.convert(m), "BMP") for m in ("1", "L", "P", "RGB", "RGBA")}
    pictures |= {f"jpeg {m}": _file(rgba.convert(m), "JPEG") for m in ("L", "RGB", "CMYK")}
    pictures["jpeg progressive"] = _file(rgba.convert("RGB"), "JPEG", progressive=True)
    for name in ("WEBP", "AVIF"):
        pictures |= {f"{name} {m}".lower(): _file(rgba.convert(m), name) for m in ("RGB", "RGBA")}
    pictures["webp lossless"] = _file(rgba, "WEBP", lossless=True)
    return pictures | _deep(noise) | _turned(rgba) | _animated(rgba) | _compressed(rgba)


def _deep(noise: np.ndarray) -> dict[str, bytes]:
    """Returns files of 16 and 32 bits and of floats."""
    grey = noise[:, :, 0]
    values = {
        "png 16": ("PNG", grey.astype(np.uint16) * 257),
        "tiff 16": ("TIFF", grey.astype(np.uint16) * 257),
        "tiff 32": ("TIFF", grey.astype(np.int32) * 257),
        "tiff float": ("TIFF", grey.astype(np.float32) / 255),
        "tiff wide float": ("TIFF", (grey.astype(np.float32) - 99) * 1e30),
        "tiff nan": ("TIFF", np.where(grey < 99, np.nan, np.inf).astype(np.float32)),
    }
    return {name: _file(Image.fromarray(array), kind) for name, (kind, array) in values.items()}


def _turned(rgba: Image.Image) -> dict[str, bytes]:
    """Returns files with each EXIF orientation, and with one that there is not."""
    pictures = {}
    for orientation in (*range(1, 9), 77):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
            name = f"{kind} turned {orientation}".lower()
            pictures[name] = _file(rgba.convert("RGB"), kind, exif=exif)
    return pictures


def _animated(rgba: Image.Image) -> dict[str, bytes]:
    frames = [rgba.rotate(90 * i) for i in range(3)]
    return {
        f"{kind} animated".lower(): _file(
            frames[0], kind, save_all=True, append_images=frames[1:], duration=50
        )
        for kind in ("GIF", "PNG", "WEBP", "TIFF", "AVIF")
    }


def _compressed(rgba: Image.Image) -> dict[str, bytes]:
    kinds = ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    return {f"tiff {k}": _file(rgba.convert("RGB"), "TIFF", compression=k) for k in kinds}


def _file(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


def flip_bits(content: bytes, chance: random.Random) -> bytes:
    """Returns the file with 1 to 8 bits changed, more often near its beginning."""
    damaged = bytearray(content)
    for _ in range(chance.randint(1, 8) if damaged else 0):
        end = len(damaged) if chance.random() < 0.5 else min(64, len(damaged))
        damaged[chance.randrange(end)] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def truncate(content: bytes, chance: random.Random) -> bytes:
    """Returns the beginning of the file."""
    return content[: chance.randint(0, len(content))]


def cut_out(content: bytes, chance: random.Random) -> bytes:
    """Returns the file without some bytes in its middle."""
    first = chance.randint(0, len(content))
    return content[:first] + content[first + chance.randint(1, 40) :]


def insert(content: bytes, chance: random.Random) -> bytes:
    """Returns the file with random bytes put into it."""
    at = chance.randint(0, len(content))
    return content[:at] + chance.randbytes(chance.randint(1, 40)) + content[at:]


def append(content: bytes, chance: random.Random) -> bytes:
    """Returns the file with bytes after its end: zeros, noise, or another file."""
    rest = chance.choice((bytes(5000), chance.randbytes(200), content))
    return content + rest


def overwrite_number(content: bytes, chance: random.Random) -> bytes:
    """Returns the file with a number of 2 or 4 bytes near its beginning made extreme."""
    if len(content) < 8:
        return content
    form = chance.choice((">I", "<I", ">H", "<H"))
    number = chance.choice(_HUGE) % 2 ** (8 * struct.calcsize(form))
    at = chance.randint(0, min(200, len(content) - 4))
    packed = struct.pack(form, number)
    return content[:at] + packed + content[at + len(packed) :]


def change_header(content: bytes, chance: random.Random) -> bytes:
    """Returns a PNG with other sides, depth or colour type; other formats as they are."""
    if content[:8] != _PNG_START or len(content) < 33:
        return content
    width, height = chance.choice((_SIZE, (chance.choice(_HUGE), chance.choice(_HUGE))))
    rest = bytes((chance.choice(_DEPTHS), chance.choice(_COLOR_TYPES), 0, 0, chance.randint(0, 1)))
    header = struct.pack(">II", width, height) + rest
    return _PNG_START + _chunk(b"IHDR", header) + content[33:]


def add_chunk(content: bytes, chance: random.Random) -> bytes:
    """Returns a PNG with a chunk of wrong length after its header, with the right checksum."""
    if content[:8] != _PNG_START:
        return content
    data = chance.randbytes(chance.choice((0, 1, 3, 5, 31, 33, 768, 800)))
    return content[:33] + _chunk(chance.choice(_PNG_KINDS), data) + content[33:]


def change_pixels(content: bytes, chance: random.Random) -> bytes:
    """Returns a PNG whose pixel data are too short, too long, or no compressed data."""
    at = content.find(b"IDAT")
    if at < 0:
        return content
    pixels = bytes(chance.choice((0, 10, 100_000)))
    data = chance.choice((zlib.compress(pixels), chance.randbytes(50), b""))
    return content[: at - 4] + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def swap_start(content: bytes, chance: random.Random) -> bytes:
    """Returns the file with the first bytes of another format."""
    other = whole_pictures()[chance.choice(sorted(whole_pictures()))]
    count = chance.choice((4, 12, 30))
    return other[:count] + content[count:]


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


MUTATIONS: tuple[Mutation, ...] = (
    flip_bits,
    truncate,
    cut_out,
    insert,
    append,
    overwrite_number,
    change_header,
    add_chunk,
    change_pixels,
    swap_start,
)
