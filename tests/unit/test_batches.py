"""A picture in a batch and the same alone: what the benchmark compares, and what holds."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from benchmarks import batches


def picture(level: int) -> Image.Image:
    return Image.new("RGB", (4, 4), (level, 0, 0))


def test_differences_are_the_largest_of_each_pair():
    one, other = [picture(10), picture(10)], [picture(10), picture(60)]
    assert batches.differences(one, other) == [0, 50]
    assert batches.differences(other, one) == [0, 50]


def test_a_row_tells_how_many_pictures_change_in_a_batch():
    def draw(seed: int, count: int) -> list[Image.Image]:
        return [picture(seed + i + (30 if count > 1 and i == 2 else 0)) for i in range(count)]

    told = batches.row("fake", draw, (0, 100))
    assert told == ["fake", "30", "2 of 16", "0", "0 of 16"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["colour, `paintings`", "digits"])
def test_pictures_of_a_batch_are_those_drawn_alone(name: str):
    draw = batches.PRODUCTS[name]
    in_batch, alone = draw(71, 3)[2], draw(73, 1)[0]
    assert np.abs(np.asarray(in_batch, int) - np.asarray(alone, int)).max() <= 1
