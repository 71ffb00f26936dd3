"""Rows of what pictures and models are accepted: each is taken, or refused in a sentence."""

from __future__ import annotations

import pytest

from benchmarks.accepted_files import MODELS, PARTS, PICTURES, Part
from pipelines.core.errors import UserError

TAKEN = [(part, example) for part in PARTS for _, example in part[3]]
REFUSED = [(part, example) for part in PARTS for _, example in part[4]]


@pytest.mark.parametrize(("part", "example"), TAKEN, ids=lambda v: v if isinstance(v, str) else "")
def test_an_accepted_example_is_accepted(part: Part, example: str):
    expected = " px, " if part is MODELS else "24 x 24 px, "
    assert ("12 x 24" if example == "turned.jpeg" else expected) in part[2](example)


@pytest.mark.parametrize(
    ("part", "example"), REFUSED, ids=lambda v: v if isinstance(v, str) else ""
)
def test_a_refused_example_is_refused_in_one_sentence(part: Part, example: str):
    with pytest.raises(UserError) as caught:
        part[2](example)
    start = "mask must be " if part is PICTURES else "Checkpoint mine "
    assert str(caught.value).startswith(start)


def test_more_than_8_bits_are_scaled_and_not_cut_off():
    check = PICTURES[2]
    assert check("16-bit.png") == check("float.tiff") == check("a.png") == "24 x 24 px, L, 0 to 255"
