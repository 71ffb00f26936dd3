"""The square of a picture that a model sees: where it lies, and what lies beyond the picture."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.core import images
from pipelines.products.canvas import Canvas
from tests.unit.test_canvas import CASES, array, blank, canvas_of, masks, noisy

# --- the square that is seen ---------------------------------------------------------------------


@pytest.mark.parametrize(("size", "name"), CASES, ids=lambda part: str(part))
def test_the_square_lies_around_what_is_redrawn_and_beyond_a_narrow_picture_on_both_sides(
    size: tuple[int, int], name: str
):
    mask = masks(size)[name]
    left, top, side = canvas_of(Image.new("RGB", size), mask).square
    rows, columns = np.nonzero(np.asarray(mask))
    assert min(64, *size) <= side <= max(min(size), np.ptp(rows) + 1, np.ptp(columns) + 1)
    for found, start, length in ((columns, left, size[0]), (rows, top, size[1])):
        assert start <= found.min()
        assert found.max() < start + side
        if side <= length:
            assert 0 <= start <= length - side
        else:
            assert abs(-start - (start + side - length)) <= 1  # as much beyond either edge


def test_the_square_leaves_room_around_what_is_redrawn():
    mask, draw = blank((1000, 800))
    draw.rectangle((300, 300, 399, 399), 255)
    left, top, side = canvas_of(Image.new("RGB", mask.size), mask).square
    assert 130 <= side <= 200
    assert left < 280
    assert top < 280
    assert left + side > 420
    assert top + side > 420


def test_without_a_mask_the_square_holds_all_of_the_picture():
    assert canvas_of(noisy((200, 150))).square == (0, -25, 200)
    assert canvas_of(noisy((150, 200))).square == (-25, 0, 200)


# --- squares that reach beyond the picture -------------------------------------------------------


def beyond(size: tuple[int, int] = (150, 100)) -> tuple[Image.Image, Image.Image, Canvas]:
    """A wide picture, of which the outermost columns are redrawn; the square is its width."""
    picture, (mask, draw) = noisy(size), blank(size)
    draw.rectangle((0, 0, 4, size[1] - 1), 255)
    draw.rectangle((size[0] - 5, 0, size[0] - 1, size[1] - 1), 255)
    return picture, mask, canvas_of(picture, mask)


def test_a_part_wider_than_the_picture_is_high_is_seen_wholly():
    _, mask, seen = beyond()
    assert seen.square == (0, -25, 150)
    assert torch.equal(seen.inside > 0, torch.from_numpy(np.array(mask)) > 0)


def test_what_lies_beyond_the_picture_is_free_and_what_lies_in_it_is_as_marked():
    free = beyond((96, 64))[2].free(96)
    expected = torch.ones(96, 96)
    expected[16:80, 5:91] = 0
    assert torch.equal(free, expected)


def test_what_is_drawn_beyond_the_picture_is_dropped_and_the_rest_falls_into_its_place():
    picture, mask, seen = beyond((96, 64))
    drawn = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(4)) * 2 - 1
    (result,) = dataclasses.replace(seen, has_mask=False, redrawn=torch.ones(64, 96)).put_back(
        drawn
    )
    middle = images.to_pil(drawn[:, :, 16:80])[0]
    assert (array(result)[10:-10, 10:-10] == array(middle)[10:-10, 10:-10]).all()
    kept = np.asarray(mask) == 0
    (result,) = seen.put_back(drawn)
    assert (array(result)[kept] == array(picture)[kept]).all()
    assert (array(result)[20:40, 0] == array(middle)[20:40, 0]).all()


def test_the_picture_is_seen_in_the_middle_of_a_square_that_reaches_beyond_it():
    picture, _, seen = beyond((96, 64))
    assert torch.equal(seen.seen(96)[:, :, 16:80], images.to_tensor(picture))
