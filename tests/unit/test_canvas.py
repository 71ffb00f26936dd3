"""The canvas: what is kept comes back to the bit, whatever the picture, mask and square."""

from __future__ import annotations

import base64
import io
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from pipelines.core import images
from pipelines.core.rules import validate
from pipelines.products.canvas import Canvas, canvas, enlarged
from pipelines.products.edit import EditSettings

SIZES = [(64, 64), (200, 150), (150, 200), (1024, 1024), (16, 16), (65, 64)]
DRAWN_PX = 64


def noisy(size: tuple[int, int], mode: str = "RGB", seed: int = 0) -> Image.Image:
    """A picture that no resizing gives back."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], bands), np.uint8)
    return Image.fromarray(values.squeeze(), mode)


def blank(size: tuple[int, int]) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    mask = Image.new("L", size)
    return mask, ImageDraw.Draw(mask)


def masks(size: tuple[int, int]) -> dict[str, Image.Image]:
    """Every kind of mask of a size."""
    width, height = size
    made = {}
    for name in ("hard", "grey", "pixel", "corner pixel", "line", "border", "all edges"):
        mask, draw = blank(size)
        if name in ("hard", "grey"):
            draw.ellipse((width // 3, height // 3, width // 2, height // 2), 255)
        if name == "grey":
            draw.rectangle((0, 0, width // 4, height // 4), 90)
        if name == "pixel":
            mask.putpixel((width // 2, height // 3), 255)
        if name == "corner pixel":
            mask.putpixel((width - 1, height - 1), 255)
        if name == "line":
            draw.line((2, height // 2, width // 2, height // 2), 255)
        if name == "border":
            draw.rectangle((width * 2 // 3, 0, width - 1, height - 1), 255)
        if name == "all edges":
            draw.rectangle((0, 0, width - 1, height - 1), outline=255)
        made[name] = mask
    return made


def uri(picture: Image.Image) -> str:
    return images.to_data_uri(picture)


def canvas_of(
    picture: Image.Image, mask: Image.Image | None = None, crop: str = "", layer: bool = True
) -> Canvas:
    address = uri(mask) if mask else ""
    return canvas(uri(picture), address, crop, takes_transparency=layer)


def drawing(value: float | None = None, count: int = 1) -> Tensor:
    """What a model drew: noise, or one value everywhere."""
    if value is not None:
        return torch.full((count, 3, DRAWN_PX, DRAWN_PX), value)
    generator = torch.Generator().manual_seed(3)
    return torch.rand(count, 3, DRAWN_PX, DRAWN_PX, generator=generator) * 4 - 2


def array(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB"), int)


CASES = [(size, name) for size in SIZES for name in masks((64, 64)) if max(size) < 1024]
CASES += [((1024, 1024), name) for name in ("grey", "all edges")]


@pytest.mark.parametrize(("size", "name"), CASES, ids=lambda part: str(part))
def test_what_the_mask_leaves_is_equal_to_the_bit_and_something_else_is_not(
    size: tuple[int, int], name: str
):
    picture, mask = noisy(size), masks(size)[name]
    for result in canvas_of(picture, mask).put_back(drawing(count=2)):
        assert (result.mode, result.size) == ("RGB", size)
        differs = (array(result) != array(picture)).any(axis=2)
        assert not (differs & (np.asarray(mask) == 0)).any()
        assert differs.any()


@pytest.mark.parametrize("crop", ["0, 0, 16", "100, 60, 80", "50, 0, 150", "184, 134, 16"])
def test_outside_of_the_square_everything_is_equal_to_the_bit(crop: str):
    picture = noisy((200, 150))
    left, top, side = (int(number) for number in crop.split(","))
    for mask in (None, Image.new("L", (200, 150), 255)):
        seen = canvas_of(picture, mask, crop)
        assert seen.square == (left, top, side)
        (result,) = seen.put_back(drawing())
        differs = (array(result) != array(picture)).any(axis=2)
        assert differs[top : top + side, left : left + side].any()
        differs[top : top + side, left : left + side] = False
        assert not differs.any()


def shares_of(mask: Image.Image, crop: str = "") -> np.ndarray:
    """The share of what is drawn in each pixel: white drawn on black."""
    black = Image.new("RGB", mask.size)
    (result,) = canvas_of(black, mask, crop).put_back(drawing(1.0))
    return array(result)[:, :, 0] / 255


@pytest.mark.parametrize(("size", "name"), CASES, ids=lambda part: str(part))
def test_seams_lie_inside_of_what_is_redrawn_and_end_in_what_is_drawn(
    size: tuple[int, int], name: str
):
    mask = masks(size)[name]
    shares, marked = shares_of(mask), np.asarray(mask) > 0
    left, top, side = canvas_of(Image.new("RGB", size), mask).square
    inside = np.zeros_like(marked)
    inside[max(0, top) : top + side, max(0, left) : left + side] = True
    assert (shares[~(marked & inside)] == 0).all()
    assert shares[marked & inside].max() == 1


@pytest.mark.parametrize("width", [1, 2, 5, 9, 17, 40, 300])
def test_a_line_of_any_width_is_drawn_wholly_along_its_middle(width: int):
    mask, draw = blank((1024, 1024))
    draw.rectangle((500, 0, 500 + width - 1, 1023), 255)
    shares = shares_of(mask)
    assert (shares[:, 500 + width // 2] == 1).all()
    assert (shares[:, 499] == 0).all()
    assert (shares[:, 500 + width] == 0).all()


def test_a_thin_part_beside_a_wide_one_is_drawn_wholly():
    mask, draw = blank((1024, 1024))
    draw.rectangle((0, 400, 1023, 405), 255)  # a stripe that ends in a block
    draw.rectangle((600, 200, 1000, 800), 255)
    shares = shares_of(mask)
    assert (shares[400:406, :560] == 1).all()
    assert shares[300, 601] < 0.2  # while the wide part has a soft seam
    assert shares[500, 800] == 1


def test_a_soft_seam_rises_from_the_edge_to_the_middle_and_is_the_same_all_along():
    mask, draw = blank((1024, 1024))
    draw.rectangle((400, 0, 800, 1023), 255)
    row = shares_of(mask)[512]
    reach = canvas_of(Image.new("RGB", (1024, 1024)), mask).softness_px
    assert 4 <= reach <= 20
    assert (np.diff(row[399 : 401 + reach]) >= 0).all()
    assert row[400] < 0.2
    assert (row[400 + reach : 800 - reach] == 1).all()
    np.testing.assert_allclose(row[400:601], row[600:801][::-1], atol=1 / 255)


def test_small_squares_have_hard_seams():
    mask, draw = blank((64, 64))
    draw.rectangle((20, 20, 40, 40), 255)
    assert set(np.unique(shares_of(mask))) == {0, 1}


def test_without_a_mask_a_square_fades_into_the_picture_around_it_alone():
    picture, crop = Image.new("RGB", (200, 150)), "0, 40, 100"
    (result,) = canvas_of(picture, None, crop).put_back(drawing(1.0))
    shares = array(result)[:, :, 0] / 255
    assert (shares[60:120, 0:85] == 1).all()  # at the picture's own edge nothing fades
    assert (shares[60:120, 100:] == 0).all()
    middle = shares[90, 84:101]
    assert (np.diff(middle) <= 0).all()
    assert middle[0] == 1
    assert 0 < middle[-2] < 0.3


def test_a_whole_square_picture_without_a_mask_is_drawn_wholly():
    (result,) = canvas_of(noisy((100, 100))).put_back(drawing(1.0))
    assert (array(result) == 255).all()


# --- what the model sees -------------------------------------------------------------------------


@pytest.mark.parametrize("side", [16, 64, 128, 200, 1000])
def test_the_model_sees_the_square_at_its_own_size(side: int):
    picture = noisy((side, side)).resize((4, 4)).resize((side, side), Image.Resampling.BICUBIC)
    seen = canvas_of(picture).seen(DRAWN_PX)
    assert seen.shape == (1, 3, DRAWN_PX, DRAWN_PX)
    resized = images.to_tensor(picture.resize((DRAWN_PX, DRAWN_PX), Image.Resampling.BOX))
    if side >= DRAWN_PX:
        torch.testing.assert_close(seen, resized, atol=2 / 127.5, rtol=0)
    else:
        assert float((seen - resized).abs().mean()) < 0.1


def test_a_picture_of_the_size_of_the_model_is_seen_and_put_back_to_the_bit():
    picture = noisy((64, 64))
    seen = canvas_of(picture)
    assert torch.equal(seen.seen(64), images.to_tensor(picture))
    (result,) = seen.put_back(seen.seen(64))
    assert result.tobytes() == picture.tobytes()


@pytest.mark.parametrize("side", [16, 64, 100, 640])
def test_no_spot_of_a_mask_is_lost_on_the_way_to_the_model(side: int):
    for x, y in itertools.product((0, side // 3, side - 1), repeat=2):
        mask, _ = blank((side, side))
        mask.putpixel((x, y), 255)
        whole = f"0, 0, {side}"
        free = canvas_of(Image.new("RGB", mask.size), mask, whole).free(DRAWN_PX)
        assert free.shape == (DRAWN_PX, DRAWN_PX)
        assert float(free.max()) == 1


@pytest.mark.parametrize("size", [(200, 150), (64, 64), (640, 480)])
def test_a_shrunk_canvas_puts_back_small_pictures_of_the_same_shape(size: tuple[int, int]):
    seen = canvas_of(noisy(size))
    small = seen.shrunk(100)
    (result,) = small.put_back(drawing())
    scale = min(1.0, 100 / max(size))
    assert result.size == tuple(round(scale * length) for length in size)
    assert result.size == small.original().size
    assert seen.put_back(drawing())[0].size == size
    assert seen.original().tobytes() == noisy(size).tobytes()


def test_a_picture_that_is_small_already_is_not_shrunk():
    seen = canvas_of(noisy((64, 48)))
    assert seen.shrunk(64) is seen


@pytest.mark.parametrize("crop", ["", "300, 200, 200", "880, 680, 120"])
def test_a_shrunk_canvas_shows_what_the_whole_one_shows(crop: str):
    size = (1000, 800)
    mask, draw = blank(size)
    draw.rectangle((320, 220, 440, 330), 255)
    draw.rectangle((900, 700, 980, 780), 255)
    picture = noisy((10, 8)).resize(size, Image.Resampling.NEAREST)
    seen = canvas_of(picture, mask, crop)
    (whole,), (small,) = seen.put_back(drawing(1.0)), seen.shrunk(250).put_back(drawing(1.0))
    expected, picture_small = (p.resize((250, 200), Image.Resampling.BOX) for p in (whole, picture))
    difference = np.abs(array(small) - array(expected)).max(axis=2)
    assert (difference <= 2).mean() > 0.97  # seams are softer by less than a pixel
    assert np.abs(array(seen.shrunk(250).original()) - array(picture_small)).max() <= 1


# --- agreement of what is put back ----------------------------------------------------------------


def test_squares_are_made_to_agree_at_the_size_of_the_picture():
    picture, crop = noisy((200, 150)), "30, 20, 100"
    seen, given = canvas_of(picture, None, crop), list[tuple[Tensor, Tensor]]()

    def swapped(squares: Tensor, own: Tensor) -> Tensor:
        given.append((squares, own))
        return own.expand_as(squares)

    for result in seen.put_back(drawing(count=2), swapped):
        assert result.tobytes() == picture.tobytes()
    ((squares, own),) = given
    assert squares.shape == (2, 3, 100, 100)
    assert torch.equal(own, images.to_tensor(picture)[:, :, 20:120, 30:130])


# --- transparency --------------------------------------------------------------------------------


def layered(size: tuple[int, int] = (64, 64), mode: str = "RGBA") -> Image.Image:
    """Opaque at the left, half transparent in the middle, transparent at the right."""
    picture = noisy(size, mode)
    alpha = np.zeros((size[1], size[0]), np.uint8)
    alpha[:, : size[0] // 3] = 255
    alpha[:, size[0] // 3 : size[0] // 2] = 128
    picture.putalpha(Image.fromarray(alpha))
    return picture


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("size", [(64, 64), (200, 150), (300, 300)])
def test_a_transparent_ground_is_redrawn_and_what_is_opaque_comes_back(
    size: tuple[int, int], mode: str
):
    picture = layered(size, mode)
    seen = canvas_of(picture)
    (result,) = seen.put_back(drawing(1.0))
    ground = Image.new("RGBA", size, "white")
    expected = Image.alpha_composite(ground, picture.convert("RGBA"))
    left, top, side = seen.square
    box = (left, top, left + side, top + side)
    difference = array(result.crop(box)) - array(expected.crop(box))
    assert np.abs(difference).max() <= 1
    opaque = np.asarray(picture.getchannel("A")) == 255
    assert (array(result)[opaque] == array(picture)[opaque]).all()


def test_the_colours_of_transparent_pixels_are_not_seen():
    picture = layered()
    other = Image.composite(picture, Image.new("RGBA", (64, 64), (255, 0, 0, 0)), picture)
    for found in (picture, other):
        assert canvas_of(found).free(64)[:, 40:].eq(1).all()
    both = [canvas_of(found).seen(64)[..., 33:] for found in (picture, other)]
    assert torch.equal(both[0], both[1])


def test_with_a_mask_what_is_transparent_is_drawn_too_and_the_rest_stays():
    mask, draw = blank((64, 64))
    draw.rectangle((0, 0, 9, 63), 255)
    (result,) = canvas_of(layered(), mask).put_back(drawing(0.0))
    (without,) = canvas_of(layered()).put_back(drawing(0.0))
    assert (array(result)[:, 10:] == array(without)[:, 10:]).all()
    assert np.isin(array(result)[:, :10], (127, 128)).all()


# --- pictures of all kinds -----------------------------------------------------------------------


def saved(picture: Image.Image, kind: str = "PNG", **options: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return "data:image/x;base64," + base64.b64encode(buffer.getvalue()).decode()


def turned() -> tuple[str, Image.Image]:
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = noisy((40, 90)).resize((3, 5)).resize((40, 90))
    lying = upright.transpose(Image.Transpose.ROTATE_90)
    return saved(lying, "PNG", exif=exif), upright


def sixteen() -> tuple[str, Image.Image]:
    grey = noisy((40, 30), "L")
    return saved(Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)), grey


def animated() -> tuple[str, Image.Image]:
    frames = [noisy((40, 30), "P", seed=i) for i in range(3)]
    for frame in frames:
        frame.putpalette(bytes(range(256)) * 3)
    return saved(frames[0], "GIF", save_all=True, append_images=frames[1:]), frames[0]


def as_it_is(mode: str, kind: str = "PNG") -> tuple[str, Image.Image]:
    picture = noisy((40, 30), "L" if mode in ("P", "1") else mode).convert(mode)
    return saved(picture, kind), picture


KINDS = {
    "grey": as_it_is("L"),
    "grey with alpha": as_it_is("LA"),
    "palette": as_it_is("P"),
    "bits": as_it_is("1"),
    "cmyk": as_it_is("CMYK", "TIFF"),
    "alpha": as_it_is("RGBA"),
    "16 bits": sixteen(),
    "turned": turned(),
    "animated": animated(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_every_kind_are_taken_and_kept_at_their_size(kind: str):
    address, picture = KINDS[kind]
    mask, _ = blank(picture.size)
    mask.putpixel((3, 4), 255)
    settings = validate(EditSettings(image=address, mask=uri(mask), task="restyle"))
    (result,) = canvas(settings.image, settings.mask, "", takes_transparency=False).put_back(
        drawing()
    )
    if picture.has_transparency_data:
        ground = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(ground, picture.convert("RGBA"))
    assert result.size == picture.size
    kept = np.asarray(mask) == 0
    assert (array(result)[kept] == array(picture)[kept]).all()


# --- pictures smaller than the model -------------------------------------------------------------


def test_a_small_picture_is_enlarged_to_what_the_model_draws():
    seen = enlarged(canvas_of(noisy((16, 24))), 64)
    assert seen.size == (43, 64)
    assert seen.square == (-11, 0, 64)
    assert float(seen.pixels.abs().max()) <= 1
    assert enlarged(seen, 64) is seen


def test_a_mask_is_enlarged_with_its_picture():
    mask, _ = blank((16, 16))
    mask.putpixel((4, 8), 255)
    seen = enlarged(canvas_of(noisy((16, 16)), mask), 64)
    expected = torch.zeros(64, 64)
    expected[32:36, 16:20] = 1
    assert torch.equal(seen.redrawn, expected)
