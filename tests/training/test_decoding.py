"""Pictures in training: opened by the one way in, with limits that fit cameras."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.ImageOps
import pytest
import torch
from PIL import Image

from pipelines.core.errors import SettingsError
from tests.fakes.tiny_pictures import encoded
from training.core.decoding import LIMITS, content_of, opened
from training.pictures.data import fitted, load_pictures


def noise(mode: str) -> Image.Image:
    values = np.random.default_rng(1).integers(0, 256, (70, 90, 4), dtype=np.uint8)
    picture = Image.fromarray(values)
    return (picture if mode == "RGBA" else picture.convert("RGB")).convert(mode)


def by_pillow_alone(content: bytes) -> np.ndarray:
    """The middle square of a picture, scaled, as Pillow gives it without any care."""
    picture = Image.open(io.BytesIO(content))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    lanczos = Image.Resampling.LANCZOS
    return np.asarray(PIL.ImageOps.fit(picture.convert("RGB"), (32, 32), lanczos))


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        *(("RGB", kind) for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "AVIF")),
        *(("RGBA", "PNG"), ("L", "PNG"), ("L", "JPEG"), ("P", "PNG"), ("CMYK", "JPEG")),
        ("1", "PNG"),
    ],
)
def test_ordinary_pictures_have_the_pixels_that_pillow_gives(mode: str, kind: str):
    content = encoded(noise(mode), kind)
    np.testing.assert_array_equal(fitted(opened(content), 32, 3), by_pillow_alone(content))


def test_a_picture_of_a_large_camera_is_read_and_a_bomb_is_not(tmp_path: Path):
    camera = encoded(Image.new("L", (11_600, 8_700), 100))  # 101 megapixels
    assert opened(camera).size == (11_600, 8_700)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.png").write_bytes(encoded(noise("RGB")))
    (tmp_path / "d" / "bomb.png").write_bytes(png_of(60_000, 60_000))
    data = load_pictures(str(tmp_path / "d"), image_size=8)
    assert (len(data), data.skipped) == (1, 1)
    with pytest.raises(SettingsError, match=r"170\.0 megapixels, got 60000 x 60000 px"):
        opened(png_of(60_000, 60_000))


def png_of(width: int, height: int) -> bytes:
    """A small file that says it holds a large picture."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [header, b"IDAT" + zlib.compress(bytes(1000)), b"IEND"]
    chunks = (
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
        for part in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path):
    path = tmp_path / "large.tif"
    with path.open("wb") as file:
        file.truncate(LIMITS.num_bytes + 1)
    with pytest.raises(ValueError, match="too large"):
        content_of({"bytes": None, "path": str(path)})
    assert LIMITS.num_bytes >= 100 * 10**6


def test_floats_and_16_bits_keep_their_greys():
    deep = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    floats = (deep / 65535).astype(np.float32)
    expected = torch.from_numpy(np.rint(deep / 257).astype(np.uint8))
    for values, kind in ((deep, "PNG"), (floats, "TIFF")):
        found = np.array(opened(encoded(Image.fromarray(values), kind)))
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=0, atol=1)
