"""Images: value ranges, rounding, sheets, settings that survive a PNG file, colours and masks."""

from __future__ import annotations

import base64
import io
import json

import pytest
import torch
from PIL import Image

from pipelines.core import images


def test_every_8_bit_value_survives_the_way_there_and_back():
    values = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    (picture,) = images.to_pil(images.from_uint8(values))
    assert list(picture.get_flattened_data()) == list(range(256))


def test_values_outside_the_range_are_clamped_and_inside_are_rounded_not_truncated():
    values = torch.tensor([[[[-3.0, 3.0], [0.0, 0.999]]]])
    (picture,) = images.to_pil(values)
    assert list(picture.get_flattened_data()) == [0, 255, 128, 255]


def test_grey_and_colour_give_the_matching_modes():
    assert images.to_pil(torch.zeros(1, 1, 4, 4))[0].mode == "L"
    assert images.to_pil(torch.zeros(1, 3, 4, 4))[0].mode == "RGB"
    with pytest.raises(ValueError, match=r"images must be \(b, 1 or 3, h, w\)"):
        images.to_pil(torch.zeros(1, 2, 4, 4))


def test_a_sheet_places_every_picture_in_order_with_crisp_pixels():
    pictures = [Image.new("L", (2, 2), color=10 * (i + 1)) for i in range(3)]
    sheet = images.grid(pictures, columns=2, scale=4, gap=1)
    assert sheet.size == (17, 17)
    assert [sheet.getpixel(at) for at in ((0, 0), (7, 7), (9, 0), (0, 9))] == [10, 10, 20, 30]
    assert sheet.getpixel((9, 9)) == 0


def test_an_empty_sheet_is_refused():
    with pytest.raises(ValueError, match="at least one picture"):
        images.grid([], columns=2)


def test_settings_survive_a_png_file_and_the_original_stays_as_it_was():
    plain = Image.new("L", (4, 4))
    marked = images.with_metadata(plain, {"seed": 7})
    assert images.METADATA_KEY not in plain.info
    reread = Image.open(io.BytesIO(images.to_png(marked)))
    assert json.loads(reread.info[images.METADATA_KEY]) == {"seed": 7}


def test_a_data_address_holds_the_same_picture():
    picture = images.to_pil(torch.rand(1, 1, 5, 5) * 2 - 1)[0]
    encoded = images.to_data_uri(picture).removeprefix("data:image/png;base64,")
    assert Image.open(io.BytesIO(base64.b64decode(encoded))).tobytes() == picture.tobytes()


@pytest.mark.parametrize(
    ("text", "rgb"),
    [
        ("#44CCAA", (68, 204, 170)),
        ("#44ccaa", (68, 204, 170)),
        ("#4ca", (68, 204, 170)),
        ("#44CCAA80", (68, 204, 170)),
        ("  #44CCAA\n", (68, 204, 170)),
        ("rgb(68, 204, 170)", (68, 204, 170)),
        ("RGB( 68 ,204,170 )", (68, 204, 170)),
        ("rgb(0%, 50%, 100%)", (0, 128, 255)),
        ("rgba(68, 204, 170, 0.5)", (68, 204, 170)),
        ("rgba(68.2, 203.7, 170.4999, 1)", (68, 204, 170)),
        ("rgb(-0.3, 255.4, 127.5)", (0, 255, 128)),
        ("hsl(165, 57%, 53%)", (67, 203, 169)),
        ("hsl(0, 0%, 100%)", (255, 255, 255)),
        ("Teal", (0, 128, 128)),
        ("rebeccapurple", (102, 51, 153)),
        ("44CCAA", (68, 204, 170)),
        ("＃４４ｃｃａａ", (68, 204, 170)),
        ("#4ca8", (68, 204, 170)),
        ("4CA", (68, 204, 170)),
        ("ｒｇｂ（68，204、170）", (68, 204, 170)),
        ("rgb(68 204 170)", (68, 204, 170)),
        ("rgb(68 204 170 / 100%)", (68, 204, 170)),
        ("rgb(68 204 170 / 20%)", (68, 204, 170)),
        ("rgb(27% 80% 67%)", (69, 204, 171)),
        ("rgb(100%, 50, 0)", (255, 50, 0)),
        ("rgb(64.5 30% 0)", (65, 77, 0)),
        ("hsl(160deg 57% 53%)", (67, 203, 158)),
        ("HSL(160° 57％ 53%)", (67, 203, 158)),
        ("hsl(0.5turn 100% 50%)", (0, 255, 255)),
        ("hsl(200grad 100% 50%)", (0, 255, 255)),
        ("hsla(180deg, 100%, 50%, 0.3)", (0, 255, 255)),
        ("hsv(180, 100%, 50%)", (0, 128, 128)),
        ("hwb(120 20% 40%)", (51, 153, 51)),
        ("hwb(0 80% 80%)", (128, 128, 128)),
        ("lab(100 0 0)", (255, 255, 255)),
        ("lab(54.29 80.8 69.89)", (255, 0, 0)),
        ("lch(54.29 106.84 40.86)", (255, 0, 0)),
        ("oklab(62.8% 0.22486 0.12585)", (255, 0, 0)),
        ("oklch(62.8% 0.25768 29.234)", (255, 0, 0)),
        ("oklab(0.7 −.1 .02)", (85, 179, 147)),
        ("color(srgb .2 .8 .6)", (51, 204, 153)),
        ("color(srgb-linear 0 1 0)", (0, 255, 0)),
        ("color(display-p3 1 1 1)", (255, 255, 255)),
        ("lab(none none none)", (0, 0, 0)),
    ],
)
def test_a_colour_is_read_in_all_the_ways_people_write_it(text: str, rgb: tuple[int, int, int]):
    assert images.parse_color(text) == rgb


@pytest.mark.parametrize(
    "text",
    [
        "",
        "#12",
        "#GGGGGG",
        "4A",
        "#44CCA",
        "notacolour",
        "rgb(1, 2)",
        "rgb(1, 2, 3, 4, 5)",
        "rgb(300, 0, 0)",
        "rgb(-1, 0, 0)",
        "rgb(101%, 0%, 0%)",
        "rgb(nan, 0, 0)",
        "rgb(inf, 0, 0)",
        "rgb(, , )",
        "rgb(1 2)",
        "rgb(300 0 0)",
        "rgb(1e999 0 0)",
        "hsl(0 500% 50%)",
        "hsl(0 50% 150%)",
        "hwb(0 500% 50%)",
        "lab(50 1e300 0)",
        "lab(50% 1e999 0)",
        "color(srgb nan 0 0)",
        "color(no-such-space 0 0 0)",
        "transparent",
        "currentcolor",
        "rgb(0 0 0) 40",
        "hsl(0, 500%, 50%)",
        "#44CCAA #44CCAA",
        "red" * 1000,
    ],
)
def test_anything_else_is_no_colour(text: str):
    with pytest.raises(ValueError, match=r"."):
        images.parse_color(text)


@pytest.mark.parametrize(
    "text",
    [
        "color(display-p3 0 1 0)",
        "color(rec2020 0 1 0)",
        "oklch(0.85 0.4 145)",
        "lab(88 -120 80)",
    ],
)
def test_a_colour_outside_srgb_becomes_the_nearest_green_within_it(text: str):
    red, green, blue = images.parse_color(text)
    assert green > 200
    assert max(red, blue) < 150


def test_a_colour_as_hex_has_two_capital_digits_per_channel():
    assert images.to_hex((68, 204, 170)) == "#44CCAA"
    assert images.to_hex((0, 9, 255)) == "#0009FF"


def test_a_colour_as_a_tensor_is_the_colour_of_a_picture_of_it():
    color = images.color_to_tensor("#0080FF")
    torch.testing.assert_close(color, torch.tensor([-1.0, 128 / 127.5 - 1, 1.0]))
    (picture,) = images.to_pil(color[None, :, None, None].expand(1, 3, 2, 2))
    assert picture.getpixel((0, 0)) == (0, 128, 255)


def test_the_mean_colour_is_that_of_all_pixels_or_of_what_a_mask_shows():
    picture = Image.new("RGB", (2, 2), "black")
    picture.putpixel((1, 0), (200, 100, 40))
    assert images.mean_rgb(picture) == (50, 25, 10)
    assert images.mean_rgb(picture, torch.tensor([[0.0, 1.0], [0.0, 0.0]])) == (200, 100, 40)
    half = torch.tensor([[0.5, 0.5], [0.0, 0.0]])
    assert images.mean_rgb(picture, half) == (100, 50, 20)


def test_a_picture_comes_back_from_its_data_address():
    picture = Image.new("RGB", (3, 2), (1, 2, 3))
    back = images.from_data_uri(images.to_data_uri(picture))
    assert (back.mode, back.size, back.tobytes()) == ("RGB", (3, 2), picture.tobytes())


def encoded(picture: Image.Image, file_format: str) -> str:
    """Base64 of the picture as a file."""
    buffer = io.BytesIO()
    picture.save(buffer, format=file_format)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


@pytest.mark.parametrize(
    "address",
    [
        "",
        "white",
        "https://example.org/mask.png",
        "data:text/html;base64,AAAA",
        "data:image/png,AAAA",
        "data:image/png;base64,",
        "data:image/png;base64,???",
        "data:image/png;base64,AAAA",
        "data:image/png;base64," + encoded(Image.new("L", (64, 64)), "PNG")[:60],
        "data:image/png;base64," + encoded(Image.new("RGB", (9, 9)), "EPS"),
        "data:image/png;base64," + encoded(Image.new("1", (20_000, 20_000)), "PNG"),
        "data:image/png;base64," + encoded(Image.new("1", (5000, 5000)), "PNG"),
    ],
    ids=lambda address: address[:40],
)
def test_an_address_without_a_readable_picture_is_refused(address: str):
    with pytest.raises(ValueError, match=r"^no (picture|address)"):
        images.from_data_uri(address)


@pytest.mark.parametrize(
    ("mode", "white", "black"),
    [("1", 1, 0), ("L", 255, 0), ("RGB", (255, 255, 255), (0, 0, 0)), ("I;16", 255, 0)],
)
def test_a_mask_is_1_where_a_picture_is_white_and_0_where_it_is_black(mode: str, white, black):
    picture = Image.new(mode, (3, 2), black)
    picture.putpixel((2, 0), white)
    assert images.to_mask(picture).tolist() == [[0, 0, 1], [0, 0, 0]]


def test_what_is_transparent_does_not_count_and_grey_counts_by_half():
    picture = Image.new("RGBA", (3, 1), (255, 255, 255, 255))
    picture.putpixel((1, 0), (255, 255, 255, 0))
    picture.putpixel((2, 0), (128, 128, 128, 255))
    torch.testing.assert_close(images.to_mask(picture), torch.tensor([[1.0, 0.0, 128 / 255]]))
