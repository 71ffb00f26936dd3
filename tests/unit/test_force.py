"""Which settings are in force, compared with what they do to the pictures."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from pipelines.core import images
from pipelines.core.rules import in_force, is_set, overruled_by, validate, without_effect
from pipelines.diffusion.guidance import switched_off_by
from pipelines.products import PRODUCTS
from pipelines.products.edit import EditSettings
from pipelines.products.settings import ColorSettings, DigitsSettings, TextSettings
from pipelines.runs import provenance


def picture(mode: str, color: Any) -> str:
    drawn = Image.new(mode, (16, 16), 0)
    drawn.paste(color, (0, 0, 8, 16))
    return images.to_data_uri(drawn)


MASK, LIKE = picture("L", 255), picture("RGB", (200, 40, 30))
COLOR = ColorSettings(num_inference_steps=4)
TEXT = TextSettings(prompt="snow", num_inference_steps=4, guidance_scale=0.5)
DIGITS = DigitsSettings(digits="3", num_inference_steps=4, conditioning="channels", cfg_scale=8.0)
STEERED = replace(DIGITS, symmetry="left-right", guidance_scale=0.5)
FILL = EditSettings(image=LIKE, mask=MASK, num_inference_steps=4)
RESTYLE = EditSettings(image=LIKE, task="restyle", num_inference_steps=4)
CASES: list[tuple[Any, dict[str, Any]]] = [
    (COLOR, {"palette": "red 50, gold 50"}),
    (COLOR, {"region": "left"}),
    (COLOR, {"mask": MASK}),
    (COLOR, {"symmetry": "left-right"}),
    (COLOR, {"brightness": 0.9}),
    (COLOR, {"contrast": 0.4}),
    (COLOR, {"extras_weight": 0.3}),
    (replace(COLOR, symmetry="left-right"), {"extras_weight": 0.3}),
    (replace(COLOR, symmetry="left-right"), {"extras_weight": 0.0}),
    (replace(COLOR, extras_weight=0.0), {"symmetry": "left-right"}),
    (COLOR, {"loss": "pixels"}),
    (replace(COLOR, method="course", guidance_scale=40), {"loss": "pixels"}),
    (COLOR, {"start": 0.5}),
    (COLOR, {"stop": 0.5}),
    (COLOR, {"every": 2}),
    (COLOR, {"repeats": 2}),
    (COLOR, {"eta": 1.0}),
    *(
        (replace(COLOR, guidance_scale=0.0), changed)
        for changed in (
            {"palette": "red 50, gold 50"},
            {"region": "left"},
            {"mask": MASK},
            {"symmetry": "left-right"},
            {"loss": "pixels"},
            {"start": 0.5},
            {"every": 2},
            {"repeats": 2},
            {"eta": 1.0},
        )
    ),
    (replace(COLOR, start=0.5, stop=0.5), {"palette": "red 50, gold 50"}),
    (replace(COLOR, start=1.0), {"brightness": 0.9}),
    (replace(COLOR, stop=0.0), {"repeats": 2}),
    (TEXT, {"negative_prompt": "ships"}),
    (TEXT, {"image_prompt": LIKE}),
    (TEXT, {"image_weight": 3.0}),
    (replace(TEXT, image_prompt=LIKE), {"image_weight": 3.0}),
    (replace(TEXT, image_prompt=LIKE), {"image_weight": 0.0}),
    (replace(TEXT, image_weight=0.0), {"image_prompt": LIKE}),
    (TEXT, {"color": "red"}),
    (TEXT, {"color_weight": 0.5}),
    (replace(TEXT, color="red"), {"color_weight": 0.5}),
    (replace(TEXT, color_weight=0.0), {"color": "red"}),
    (TEXT, {"cutouts": 3}),
    (replace(TEXT, method="course", guidance_scale=8), {"cutouts": 3}),
    (TEXT, {"stop": 0.5}),
    (TEXT, {"every": 2}),
    (replace(TEXT, guidance_scale=0.0), {"negative_prompt": "ships"}),
    (replace(TEXT, guidance_scale=0.0), {"color": "red"}),
    (replace(TEXT, guidance_scale=0.0), {"cutouts": 3}),
    (DIGITS, {"symmetry": "left-right"}),
    (DIGITS, {"guidance_scale": 0.4}),
    (DIGITS, {"method": "thorough"}),
    (DIGITS, {"start": 0.5}),
    (replace(DIGITS, guidance_scale=0.4), {"contrast": 0.4}),
    (replace(DIGITS, symmetry="left-right"), {"guidance_scale": 0.4}),
    (STEERED, {"method": "thorough"}),
    (STEERED, {"start": 0.5}),
    (STEERED, {"stop": 0.5}),
    (DIGITS, {"cfg_start": 0.5}),
    (DIGITS, {"cfg_stop": 0.5}),
    (replace(DIGITS, cfg_scale=1.0), {"cfg_start": 0.5}),
    (replace(DIGITS, solver="ddim"), {"eta": 1.0}),
    (DIGITS, {"solver": "ddim"}),
    (DIGITS, {"blend": 0.2}),
    (replace(DIGITS, blend_with="8"), {"blend": 0.2}),
    (FILL, {"strength": 0.9}),
    (FILL, {"factor": 2}),
    (FILL, {"prompt": "snow"}),
    (FILL, {"negative_prompt": "ships"}),
    (replace(FILL, prompt="snow"), {"negative_prompt": "ships"}),
    (FILL, {"color": "red"}),
    (replace(FILL, palette="teal 50, gold 50"), {"color": "red"}),
    (FILL, {"palette": "red 50, gold 50"}),
    (FILL, {"symmetry": "left-right"}),
    (FILL, {"guidance_scale": 0.4}),
    (FILL, {"start": 0.5}),
    (FILL, {"stop": 0.5}),
    (FILL, {"repeats": 2}),
    (FILL, {"eta": 1.0}),
    (FILL, {"method": "thorough"}),
    *(
        (replace(FILL, color="red"), changed)
        for changed in (
            {"guidance_scale": 0.4},
            {"start": 0.5},
            {"stop": 0.5},
            {"repeats": 2},
            {"eta": 1.0},
        )
    ),
    *(
        (replace(FILL, color="red", guidance_scale=0.0), changed)
        for changed in (
            {"palette": "red 50, gold 50"},
            {"repeats": 2},
            {"eta": 1.0},
            {"start": 0.5},
        )
    ),
    *((replace(FILL, guidance_scale=0.0), changed) for changed in ({"color": "red"}, {"eta": 1.0})),
    (RESTYLE, {"strength": 0.9}),
    (RESTYLE, {"repeats": 2}),
    (RESTYLE, {"eta": 1.0}),
    (RESTYLE, {"mask": MASK}),
    (replace(RESTYLE, task="vary"), {"strength": 0.9}),
    (replace(RESTYLE, task="vary"), {"repeats": 2}),
    (replace(RESTYLE, task="vary"), {"eta": 1.0}),
    (replace(RESTYLE, task="sharpen"), {"factor": 2}),
    (replace(RESTYLE, task="sharpen"), {"strength": 0.9}),
    (replace(RESTYLE, task="sharpen"), {"color": "red"}),
    (replace(RESTYLE, task="colorize"), {"color": "red"}),
]


def drawn(settings: Any) -> list[bytes]:
    product = PRODUCTS[provenance.tab_of(settings)]
    *_, last = product.generate(settings, compare=False)
    return [picture.tobytes() for picture in last.pictures]


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize(("base", "changed"), CASES, ids=lambda part: str(part)[:60])
def test_a_setting_is_in_force_exactly_where_it_changes_the_picture(
    base: Any, changed: dict[str, Any]
):
    (name,) = changed
    settings = validate(replace(base, **changed))
    assert is_set(settings, name)
    assert (name in in_force(settings)) is (drawn(settings) != drawn(base))


@pytest.mark.parametrize("product", PRODUCTS.values(), ids=list(PRODUCTS))
def test_nothing_is_in_force_where_nothing_is_set(product: Any):
    assert in_force(product.settings()) == []
    assert without_effect(product.settings()) == {}


@pytest.mark.parametrize("product", PRODUCTS.values(), ids=list(PRODUCTS))
def test_every_setting_that_depends_on_others_names_settings_that_there_are(product: Any):
    names = {f.name for f in dataclasses.fields(product.settings)}
    for field in dataclasses.fields(product.settings):
        assert set(field.metadata["needs"]) <= names - {field.name}
        found = overruled_by(product.settings(), field.name)
        assert found in (names - {field.name}) | {""}


def test_what_overrules_is_named():
    assert overruled_by(ColorSettings(palette="#FF0000 100"), "color") == "palette"
    assert without_effect(ColorSettings(region="left", mask=MASK)) == {"region": "mask"}
    course = ColorSettings(method="course", loss="pixels")
    assert without_effect(course) == {"loss": "method"}
    assert without_effect(DigitsSettings(symmetry="left-right")) == {"symmetry": "guidance_scale"}
    assert without_effect(DigitsSettings(cfg_scale=1, cfg_stop=0.5)) == {"cfg_stop": "cfg_scale"}


def test_seeds_that_are_tried_are_chosen_by_the_words_even_where_nothing_guides():
    off = TextSettings(guidance_scale=0.0, negative_prompt="ships", tries=2)
    assert "negative_prompt" in in_force(off)
    assert "negative_prompt" in without_effect(replace(off, tries=1))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({}, ""),
        ({"guidance_scale": 0.0}, "guidance_scale"),
        ({"start": 1.0}, "start"),
        ({"stop": 0.0}, "stop"),
        ({"start": 0.5, "stop": 0.5}, "start"),
        ({"start": 0.5, "stop": 0.55}, ""),
        ({"start": 0.5, "stop": 0.55, "num_inference_steps": 4}, "start"),
    ],
    ids=str,
)
def test_guidance_is_off_where_no_step_is_guided(changed: dict[str, Any], named: str):
    assert switched_off_by(ColorSettings(**changed)) == named
