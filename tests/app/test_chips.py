"""What is in force over the button that draws: derived from the settings, in every language."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from PIL import Image

from pipelines.core import images
from pipelines.core.rules import rule
from pipelines.diffusion import plugins
from pipelines.products import PRODUCTS
from pipelines.products.settings import ColorSettings, DigitsSettings, TextSettings
from pipelines.runs import provenance
from tabs import chips, controls, i18n

PICTURE = images.to_data_uri(Image.new("RGB", (90, 60), (200, 30, 30)))
OTHERS = {  # values for which a setting may be alone in force
    "mask": PICTURE,
    "image_prompt": PICTURE,
    "palette": "red 50, gold 50",
    "negative_prompt": "ships",
    "color": "teal",
    "blend_with": "8",
    "clip_model": "ViT-B-32",
    "every": 3,
    "repeats": 2,
    "cutouts": 4,
    "crop": "0, 0, 16",
    "prompt": "snow",
    "start": 0.3,
    "stop": 0.6,
}


def of(settings: Any) -> tuple[Any, dict[str, Any]]:
    return PRODUCTS[provenance.tab_of(settings)], vars(settings)


def shown(settings: Any, language: str = "en", **values: Any) -> str:
    product, held = of(settings)
    return chips.chips(product, chips.held(product, {**held, **values}), language)


def names(page: str) -> list[str]:
    return re.findall(r'data-name="(\w+)"', page)


def removals(page: str) -> list[str]:
    return re.findall(r'aria-label="(Remove [^"]*|移除[^"]*)"', page)


def other_value(kind: Any, name: str) -> Any:
    accepted, default = rule(kind, name), getattr(kind, name)
    if name in OTHERS:
        return OTHERS[name]
    if accepted.control == "radio":
        return next(o for o in accepted.options if o != default)
    middle = accepted.minimum + (accepted.maximum - accepted.minimum) / 2
    return round(middle) if accepted.step == 1 else middle


@pytest.mark.parametrize("language", i18n.LANGUAGES)
@pytest.mark.parametrize("product", PRODUCTS.values(), ids=list(PRODUCTS))
def test_nothing_appears_where_nothing_is_set(product: Any, language: str):
    assert shown(product.settings(), language) == ""


@pytest.mark.parametrize("language", i18n.LANGUAGES)
@pytest.mark.parametrize("product", PRODUCTS.values(), ids=list(PRODUCTS))
def test_every_setting_that_one_may_overlook_has_a_chip_where_it_takes_part(
    product: Any, language: str
):
    """Whatever is added to a product later, too."""
    steered = {"symmetry": "left-right", "guidance_scale": 0.3}
    for name in chips.overlooked(product):
        field = next(f for f in dataclasses.fields(product.settings) if f.name == name)
        base = dict(steered) if "symmetry" in field.metadata["needs"] else {}
        needed = {n: other_value(product.settings, n) for n in field.metadata["needs"][:1]}
        base |= {"method": "fast", "num_inference_steps": 6} if name == "timesteps" else {}
        on = {"guidance_scale": 0.3} if name in ("symmetry", "brightness", "contrast") else {}
        values = {**base, **needed, **on, name: other_value(product.settings, name)}
        page = shown(product.settings(), language, **values)
        assert name in names(page), name
        label = i18n.short_name(product, language, name)
        assert any(label.lower() in removal.lower() for removal in removals(page)), name


@pytest.mark.parametrize("product", PRODUCTS.values(), ids=list(PRODUCTS))
def test_what_one_sees_anyway_has_no_chip(product: Any):
    seen = {f.name for f in dataclasses.fields(product.settings)} - {*chips.overlooked(product)}
    wishes = controls.names_of(product, "wish")
    assert seen == {
        *controls.names_of(product, "main"),
        *wishes[:1],
        *(n for n in wishes if rule(product.settings, n).control in ("radio", "slider")),
        controls.text_of_tab(product),
    }


def test_the_settings_that_were_easily_overlooked_are_all_shown():
    color = ColorSettings(
        palette="#FF0000 100", mask=PICTURE, symmetry="top-bottom", brightness=0.3, contrast=0.2
    )
    assert names(shown(color)) == ["mask", "palette", "brightness", "contrast", "symmetry"]
    text = TextSettings(negative_prompt="ships", image_prompt=PICTURE, color="#112233", stop=0.4)
    assert names(shown(text)) == ["negative_prompt", "image_prompt", "color", "stop"]
    digits = DigitsSettings(symmetry="left-right", guidance_scale=0.2, cfg_start=0.2)
    assert set(names(shown(digits))) == {"symmetry", "guidance_scale", "cfg_start"}


def test_a_weight_of_what_is_off_shows_nothing():
    assert shown(ColorSettings(extras_weight=0.5)) == ""
    assert shown(TextSettings(image_weight=2.0, color_weight=0.5)) == ""
    assert shown(DigitsSettings(guidance_scale=0.3, method="thorough", start=0.2)) == ""


def test_a_chip_says_what_it_stands_in_place_of_and_removes_it_by_name():
    page = shown(ColorSettings(palette="#102040 60, #FFD700 40"))
    assert "Palette instead of the colour" in page
    assert removals(page) == ["Remove palette"]
    assert page.count("background: #102040; flex-grow: 0.6") == 1
    chinese = shown(ColorSettings(palette="#102040 60, #FFD700 40"), "zh")
    assert "调色板（代替颜色）" in chinese
    assert removals(chinese) == ["移除调色板"]
    digits = shown(DigitsSettings(cfg_stop=0.5))
    assert removals(digits) == ["Remove CFG until"], "acronyms stay capital"


def test_what_is_set_in_vain_is_said_with_what_overrules_it():
    page = shown(ColorSettings(mask=PICTURE, region="left"))
    assert names(page) == ["mask"]
    assert "Without effect: Region (Mask)" in page
    assert "Without effect: Symmetry (Guidance scale 0)" in shown(
        DigitsSettings(symmetry="left-right")
    )
    assert "(Method course)" in shown(
        ColorSettings(method="course", guidance_scale=40.0, loss="pixels")
    )
    chinese = shown(DigitsSettings(symmetry="left-right", brightness=0.5), "zh")
    assert "不起作用：对称、亮度（引导强度 0）" in chinese


def test_a_picture_is_shown_small_and_nothing_else_in_its_place():
    small = chips.thumbnail(PICTURE)
    assert max(images.from_data_uri(small).size) == 48
    assert f'<img src="{small}" alt="">' in shown(TextSettings(), image_prompt=small)
    for forged in ("!", "http://elsewhere/x.png", '"><script>', "data:image/png;base64,<b>"):
        page = shown(TextSettings(), image_prompt=forged)
        assert names(page) == ["image_prompt"], "it is set, whatever it looks like"
        assert "<img" not in page
        assert "<script" not in page


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("palette", "red 10"), ("brightness", 7), ("seed", None), ("every", "<b>x</b>")],
)
def test_what_is_not_accepted_stands_there_too_so_that_it_can_be_removed(name: str, wrong: Any):
    page = shown(ColorSettings(), **{name: wrong})
    assert names(page) == ([name] if name != "seed" else [])
    assert "<b>x" not in page


def test_text_of_visitors_is_escaped():
    page = shown(TextSettings(negative_prompt='<img src=x> "quoted"'))
    assert "<img" not in page
    assert "&lt;img src=x&gt;" in page


@pytest.mark.parametrize(
    ("settings", "group", "expected"),
    [
        (ColorSettings(), "more", 0),
        (ColorSettings(palette="#FF0000 100", symmetry="left-right"), "more", 2),
        (ColorSettings(extras_weight=0.5), "more", 1),
        (ColorSettings(start=0.2, eta=1.0, palette="#FF0000 100"), "advanced", 2),
        (TextSettings(image_prompt=PICTURE), "more", 1),
        (DigitsSettings(symmetry="left-right"), "steer", 1),
    ],
    ids=str,
)
def test_a_part_that_unfolds_counts_its_settings_that_are_set(
    settings: Any, group: str, expected: int
):
    product, held = of(settings)
    found = chips.count(product, group, chips.held(product, held))
    assert found == expected
    title = controls.section_title(product, group, "en", found)
    assert title.endswith(f" · {expected} set") is (expected > 0)
    assert ("·" in controls.section_title(product, group, "zh", found)) is (expected > 0)


def test_a_loss_of_ones_own_has_a_chip_too():
    declared = plugins._weight("warmth")
    assert declared.metadata["group"] == "more"
    assert declared.metadata["overruled"](ColorSettings(guidance_scale=0.0)) == "guidance_scale"
    assert declared.metadata["overruled"](ColorSettings()) == ""
