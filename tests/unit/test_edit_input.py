"""What the edit product refuses, and with which sentence."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from PIL import Image

from pipelines.core import images
from pipelines.core.rules import SettingsError, validate
from pipelines.models import checkpoints
from pipelines.products.edit import PRODUCT
from tests.unit.test_edit import MASK, PICTURE, TASKS, marked, painted, settings_of

# --- bad input -----------------------------------------------------------------------------------


def plane(size: tuple[int, int], grey: int) -> str:
    return images.to_data_uri(Image.new("L", size, grey))


WRONG: dict[str, dict[str, Any]] = {
    "no picture": {"image": ""},
    "a number": {"image": 7},
    "nothing": {"image": None},
    "a path": {"image": "/etc/passwd"},
    "a broken file": {"image": b"\x89PNG\r\n\x1a\n and no more"},
    "an empty file": {"image": b""},
    "too large": {"image": plane((1025, 64), 9)},
    "far too large": {"image": plane((8000, 8000), 9)},
    "too small": {"image": plane((10, 10), 9)},
    "too narrow": {"image": plane((400, 15), 9)},
    "a mask of another size": {"mask": plane((64, 63), 255)},
    "a mask larger than any picture": {"mask": plane((2000, 2000), 255)},
    "a white mask": {"mask": plane((64, 64), 255)},
    "a black mask": {"mask": plane((64, 64), 0)},
    "no mask": {"mask": ""},
    "a mask that is black in the square": {"mask": MASK, "crop": "0, 0, 16"},
    "a mask that is white in the square": {"mask": MASK, "crop": "30, 24, 16"},
    "a task": {"task": "paint"},
    "a strength": {"strength": 1.01},
    "a strength below": {"strength": -0.1},
    "no number": {"strength": float("nan")},
    "a crop outside": {"crop": "40, 40, 30"},
    "a crop far outside": {"crop": "99999, 99999, 99999"},
    "a small crop": {"crop": "0, 0, 8"},
    "half a crop": {"crop": "0, 0"},
    "a negative crop": {"crop": "-1, 0, 32"},
    "a crop that is no text": {"crop": [0, 0, 32]},
    "a factor": {"factor": 3, "task": "sharpen"},
    "a large factor": {"factor": 32, "task": "sharpen"},
    "repeats of fast": {"repeats": 3, "method": "fast"},
    "noise of fast": {"eta": 0.5, "method": "fast"},
    "the course": {"method": "course"},
    "a colour": {"color": "notacolour"},
    "a model": {"model": "digits-embedding"},
    "a strong wish": {"guidance_scale": 0.7},
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_settings_are_refused_at_once_with_a_sentence_that_names_them(
    name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(checkpoints, "load", lambda key: pytest.fail("loaded"))
    subject = {"a mask that is black in the square": "mask"}.get(name, next(iter(WRONG[name])))
    given = dataclasses.replace(settings_of("fill"), **WRONG[name])
    with pytest.raises(SettingsError) as caught:
        PRODUCT.generate(given)
    sentence = str(caught.value)
    assert re.match(rf"^{subject} must [^\n<>]+, got [^\n<>]+$", sentence), sentence
    assert len(sentence) < 260


@pytest.mark.parametrize("task", ["restyle", "vary", "colorize", "sharpen"])
def test_a_white_mask_is_refused_by_filling_alone(task: str):
    validate(settings_of(task, mask=plane((64, 64), 255)))


@pytest.mark.parametrize("task", TASKS)
def test_a_black_mask_leaves_nothing_to_do_in_every_task(task: str):
    with pytest.raises(SettingsError, match=r"^mask must be white or grey somewhere"):
        validate(settings_of(task, mask=plane((64, 64), 0)))


@pytest.mark.parametrize("text", ["0, 0, 64", "0 0 64", " 0;0 ;64 ", "00, 0,064"])
def test_a_crop_is_written_in_several_ways(text: str):
    assert validate(settings_of("restyle", crop=text)).crop == "0, 0, 64"


def test_a_transparent_picture_needs_no_mask_to_be_filled():
    picture = painted(mode="RGBA")
    picture.putalpha(Image.eval(marked(), lambda value: 255 - value))
    settings = validate(settings_of("fill", mask="", image=images.to_data_uri(picture)))
    assert settings.mask == ""
    with pytest.raises(SettingsError, match=r"^mask must say what to redraw"):
        validate(settings_of("fill", mask="", image=PICTURE))
