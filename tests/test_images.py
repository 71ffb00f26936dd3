"""Images: value ranges, rounding, sheets, and settings that survive a PNG file."""

from __future__ import annotations

import base64
import io
import json

import pytest
import torch
from PIL import Image

from pipelines import images


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
