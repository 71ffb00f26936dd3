"""The one way in for pictures: whatever comes, a clean small picture leaves it, or one sentence."""

from __future__ import annotations

import base64
import io
import struct
import threading
import tracemalloc
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from benchmarks.soak.mutations import mutated_pictures, whole_pictures
from pipelines.core import images, pictures
from pipelines.core.errors import SettingsError
from pipelines.core.rules import Mask

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")


def file_of(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


def address_of(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


def opened(source: Any, **options: Any) -> Image.Image:
    return pictures.open_picture(source, name="picture", **options)


def stored(source: Any) -> str:
    return pictures.to_setting(source, name="picture", max_side_px=256)


def refused(source: Any) -> str:
    with pytest.raises(SettingsError) as error:
        stored(source)
    return str(error.value)


def quadrants(size: int = 32) -> Image.Image:
    """A picture whose four corners have four colours."""
    picture = Image.new("RGB", (size, size), "red")
    half = size // 2
    picture.paste((0, 255, 0), (half, 0, size, half))
    picture.paste((0, 0, 255), (0, half, half, size))
    picture.paste((255, 255, 255), (half, half, size, size))
    return picture


# --- what is read --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_read_as_bytes_as_a_file_and_as_an_address(kind: str, tmp_path: Path):
    content = file_of(quadrants(), kind)
    path = tmp_path / "picture"
    path.write_bytes(content)
    results = [stored(content), stored(path), stored(address_of(content))]
    assert len(set(results)) == 1
    error = np.asarray(images.from_data_uri(results[0])).astype(int) - np.asarray(quadrants())
    assert np.abs(error).mean() < 12  # lossy formats smear the edges


def test_line_breaks_in_base64_do_not_count():
    content = file_of(quadrants())
    broken = "data:image/png;base64," + base64.encodebytes(content).decode("ascii")
    assert "\n" in broken
    assert stored(broken) == stored(content)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_orientation_says(kind: str, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    upright = quadrants() if orientation == 1 else quadrants().transpose(turns[orientation])
    found = opened(file_of(quadrants(), kind, exif=exif))
    for corner in ((4, 4), (28, 4), (4, 28), (28, 28)):
        assert found.getpixel(corner) == pytest.approx(upright.getpixel(corner), abs=30)


GREY = np.array([[0, 51], [128, 255]], dtype=np.uint8)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (GREY.astype(np.uint16) * 257, "PNG"),
        (GREY.astype(np.uint16) * 257, "TIFF"),
        (GREY.astype(np.int32) * 257, "TIFF"),
        (GREY.astype(np.float32) / 255, "TIFF"),
        (GREY.astype(np.float32) * 1000 - 7, "TIFF"),
    ],
    ids=["16 bits", "16 bits in TIFF", "32 bits", "floats to 1", "other floats"],
)
def test_more_than_8_bits_are_scaled_and_not_cut_off(values: np.ndarray, kind: str):
    found = opened(file_of(Image.fromarray(values), kind))
    assert found.mode == "L"
    np.testing.assert_array_equal(np.asarray(found), GREY)


def test_what_is_no_number_is_black_and_infinity_white():
    values = np.array([[np.nan, np.inf], [-np.inf, 0.5]], dtype=np.float32)
    found = opened(file_of(Image.fromarray(values), "TIFF"))
    assert np.asarray(found).tolist() == [[0, 255], [0, 128]]
    nothing = np.full((2, 2), np.nan, dtype=np.float32)
    assert np.asarray(opened(file_of(Image.fromarray(nothing), "TIFF"))).max() == 0


def test_a_mask_of_16_bits_is_not_white_everywhere():
    half = np.zeros((16, 16), np.uint16)
    half[:, 8:] = 65535
    half[:, :8] = 300
    address = Mask().check("mask", address_of(file_of(Image.fromarray(half))))
    assert images.to_mask(images.from_data_uri(address))[:, :8].max() < 0.01


@pytest.mark.parametrize(
    ("mode", "kind", "expected"),
    [
        ("1", "PNG", "L"),
        ("L", "PNG", "L"),
        ("LA", "PNG", "LA"),
        ("P", "PNG", "RGBA"),
        ("RGBA", "PNG", "RGBA"),
        ("CMYK", "JPEG", "RGB"),
        ("CMYK", "TIFF", "RGB"),
    ],
)
def test_transparency_is_kept_and_every_other_mode_becomes_plain(
    mode: str, kind: str, expected: str
):
    picture = quadrants().convert("RGBA")
    picture.paste((0, 0, 0, 0), (0, 0, 16, 16))
    content = file_of(picture.convert(mode), kind)
    assert opened(content).mode == expected


def test_a_picture_that_is_opaque_everywhere_has_no_transparency():
    assert opened(file_of(quadrants().convert("RGBA"))).mode == "RGB"


def test_of_an_animation_the_first_frame_is_taken():
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "lime", "blue")]
    for kind in ("GIF", "PNG", "WEBP", "TIFF", "AVIF"):
        content = file_of(frames[0], kind, save_all=True, append_images=frames[1:])
        assert opened(content).convert("RGB").getpixel((3, 3)) == pytest.approx((255, 0, 0), abs=3)


# --- what is kept --------------------------------------------------------------------------------


def test_metadata_and_what_follows_the_end_are_dropped():
    exif = Image.Exif()
    exif[0x010E] = "the place where it was taken"
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "a secret")
    full = file_of(quadrants(), exif=exif, pnginfo=text, icc_profile=b"profile" * 99)
    address = stored(full + bytes(5_000_000))
    assert len(address) < 1000
    content = base64.b64decode(address.partition(",")[2])
    assert not any(word in content for word in (b"place", b"secret", b"profile", b"eXIf"))
    assert images.from_data_uri(address).tobytes() == quadrants().tobytes()


def test_a_large_picture_is_shrunk_and_keeps_its_shape():
    tall = Image.new("RGBA", (300, 900), (255, 0, 0, 0))
    small = images.from_data_uri(stored(file_of(tall)))
    assert (small.mode, small.size) == ("RGBA", (85, 256))
    assert opened(file_of(tall)).size == (300, 900)


@pytest.mark.parametrize("name", sorted(whole_pictures()))
def test_what_the_door_made_passes_it_unchanged(name: str):
    address = stored(whole_pictures()[name])
    assert stored(address) == address


def test_a_clean_png_of_another_encoder_stays_as_it_is():
    pixels = b"".join(b"\0" + bytes([row] * 4) for row in range(4))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0))
    start = b"\x89PNG\r\n\x1a\n" + header
    clean = address_of(start + chunk(b"IDAT", zlib.compress(pixels, 0)) + chunk(b"IEND", b""))
    assert stored(clean) == clean
    stuffed = zlib.compress(pixels, 0) + bytes(9000)
    fat = address_of(start + chunk(b"IDAT", stuffed) + chunk(b"IEND", b""))
    assert len(stored(fat)) < 300


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "height"), [(9000, 10), (10, 9000), (5000, 5000), (2**31 - 1, 2**31 - 1)]
)
def test_a_giant_is_refused_by_its_header_in_no_time_and_memory(width: int, height: int):
    content = bytearray(file_of(Image.new("1", (8, 8))))
    content[16:24] = struct.pack(">II", width, height)
    header = bytes(content[12:29])
    content[29:33] = struct.pack(">I", zlib.crc32(header))
    tracemalloc.start()
    sentence = refused(bytes(content))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert f"got {width} x {height} px" in sentence
    assert peak < 1_000_000


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_other_formats_are_measured_before_they_are_decoded_too(kind: str):
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    content = bytearray(file_of(frames[0], kind, save_all=True, append_images=frames[1:]))
    if kind == "GIF":
        content[6:10] = struct.pack("<HH", 60_000, 60_000)
    else:
        content[24:30] = (15_999).to_bytes(3, "little") * 2
    assert "megapixels" in refused(bytes(content))


def test_a_large_photograph_is_shrunk_while_it_is_decoded():
    photograph = file_of(Image.new("RGB", (6000, 4000), "teal"), "JPEG")
    assert images.from_data_uri(stored(photograph)).size == (256, 171)
    assert "megapixels" in refused(file_of(Image.new("L", (6000, 4000))))


def test_a_file_of_too_many_bytes_is_refused_before_it_is_read(tmp_path: Path):
    path = tmp_path / "giant.png"
    with path.open("wb") as file:
        file.truncate(3 * 2**30)
    assert refused(path) == "picture must be a picture of at most 10 MB, got 3072.0 MB"
    assert "got 11.0 MB" in refused(bytes(11 * 2**20))
    assert "at most 10 MB" in refused("data:image/png;base64," + "A" * 20_000_000)


@pytest.mark.parametrize("kind", ["cHRM", "gAMA", "tRNS", "iCCP", "PLTE"])
def test_a_short_chunk_gives_a_picture_or_one_sentence(kind: str):
    content = file_of(quadrants().convert("P"))
    chunk = struct.pack(">I", 1) + kind.encode() + b"x"
    chunk += struct.pack(">I", zlib.crc32(kind.encode() + b"x"))
    with suppress(SettingsError):
        opened(content[:33] + chunk + content[33:])


@pytest.mark.parametrize(
    "source",
    [None, 7, True, float("nan"), [], {}, {"path": "/etc/passwd"}, "/etc/passwd", "\ud800"],
)
def test_what_is_no_picture_at_all_is_refused_in_one_sentence(source: Any):
    sentence = refused(source)
    assert sentence.startswith("picture must be a picture (PNG,")
    sentence.encode()


def test_programs_that_pillow_would_start_are_not_started():
    assert "cannot be read" in refused(file_of(quadrants(), "EPS"))


@pytest.mark.filterwarnings("ignore")
def test_mutated_pictures_give_a_picture_or_a_sentence():
    outcomes = set()
    for content in mutated_pictures(600, seed=7):
        try:
            address = stored(content)
        except SettingsError:
            outcomes.add("sentence")
        else:
            assert stored(address) == address
            assert len(address) < 400_000
            outcomes.add("picture")
    assert outcomes == {"picture", "sentence"}


def test_the_same_seed_gives_the_same_mutated_pictures():
    assert list(mutated_pictures(50, seed=3)) == list(mutated_pictures(50, seed=3))
    assert list(mutated_pictures(50, seed=3)) != list(mutated_pictures(50, seed=4))


def test_pictures_are_decoded_one_at_a_time():
    done = threading.Event()
    waiting = threading.Thread(target=lambda: (opened(file_of(quadrants())), done.set()))
    with pictures.decoding():
        waiting.start()
        assert not done.wait(0.2)
    assert done.wait(5)
