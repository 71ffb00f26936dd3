"""Errors name a control by its label on the page, and a parameter by its name over the API."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from string import Formatter
from typing import Any

import gradio as gr
import pytest

from pipelines.core.errors import (
    MESSAGES,
    Message,
    Option,
    Setting,
    SettingsError,
    Several,
    UserError,
    show,
)
from pipelines.core.rules import validate
from pipelines.products import PRODUCTS
from pipelines.products.settings import ColorSettings, DigitsSettings, TextSettings
from pipelines.runs.product import Product
from pipelines.runs.sweep import check, parse_axis
from tabs import i18n
from tabs.common import as_gradio_errors

WRONG: tuple[Any, ...] = (None, "?!", 1e9, -7, [], {}, "9" * 600, float("nan"), "a|" * 9, b"GIF")
"""Values of which every setting refuses at least one."""

SETTINGS = [(p, f.name) for p in PRODUCTS.values() for f in dataclasses.fields(p.settings)]
NAMES = {name for _, name in SETTINGS}
# Words that are no names of settings where they stand: "one seed tried", "data:image/png".
WORDS = {"digits", "every", "image", "loss", "method", "model", "seed", "timesteps"}


def errors_of(product: Product, name: str) -> list[SettingsError]:
    """What a setting says of wrong values."""
    found = []
    for value in WRONG:
        try:
            rule = next(f for f in dataclasses.fields(product.settings) if f.name == name)
            rule.metadata["rule"].check(name, value)
        except SettingsError as error:
            found.append(error)
    return found


def label(product: Product, language: str, name: str) -> str:
    return i18n.translate(language, i18n.key_of(product, "setting", name))


@pytest.mark.parametrize("language", i18n.LANGUAGES)
@pytest.mark.parametrize(("product", "name"), SETTINGS, ids=lambda v: getattr(v, "name", v))
def test_every_setting_is_named_by_its_label_on_the_page_and_by_its_name_elsewhere(
    product: Product, name: str, language: str
):
    errors = errors_of(product, name)
    assert errors
    for error in errors:
        shown = i18n.error_message(language, error, product)
        assert shown.startswith(f"“{label(product, language, name)}”")
        others = shown.replace(label(product, language, name), "").replace("data:image/png", "")
        assert not re.search(rf"\b{name}\b", others)
        told = i18n.error_message(language, error)
        assert told.startswith(f"{name} ")
        assert f"“{label(product, language, name)}”" not in told


def parts_of(kind: str) -> dict[str, Any]:
    """A part for every place of a sentence; names of settings where these stand."""
    special = {
        "name": "seed",
        "start_name": Setting("start"),
        "stop_name": Setting("stop"),
        "options": Several([Option("region", "left"), Option("region", "right")]),
    }
    found: dict[str, Any] = {}
    for _, place, how, _ in Formatter().parse(MESSAGES[kind]):
        if place and not place.startswith("@"):
            found[place] = special.get(place, 7.0 if how else "X")
    return found


@pytest.mark.parametrize("language", i18n.LANGUAGES)
@pytest.mark.parametrize("kind", MESSAGES)
def test_no_sentence_names_a_setting_in_its_own_words(kind: str, language: str):
    product = PRODUCTS["color"]
    table = i18n.table(language)
    template = MESSAGES[kind] if language == "en" else table[f"error.{kind}"]
    bare = re.sub(r"\{[^}]*\}", "", template)
    assert not (set(re.findall(r"[a-z_]+", bare)) & NAMES) - WORDS
    shown = i18n.error_message(language, UserError(kind, **parts_of(kind)), product)
    assert "@" not in shown
    for _, place, _, _ in Formatter().parse(MESSAGES[kind]):
        if place and place.startswith("@") and "=" not in place:
            expected = i18n.label_of(product, language, place[1:])
            assert f"“{expected}”" in shown, place


@pytest.mark.parametrize("language", i18n.LANGUAGES)
def test_a_product_says_an_error_on_its_page_in_its_own_words(language: str):
    said = {"en": "Bring a picture first.", "zh": "请先放入一张图片。"}[language]
    error = UserError("edit_no_picture")
    shown = i18n.error_message(language, error, PRODUCTS["edit"])
    assert shown == said
    assert i18n.said_in(language, shown.source) == said, "also once the page speaks it"
    assert i18n.error_message(language, error, PRODUCTS["color"]) != said
    assert i18n.error_message(language, error).startswith("image ")


def test_own_words_of_errors_have_no_place_that_nothing_fills():
    own = [
        (product, language, key.rpartition(".")[2])
        for product in PRODUCTS.values()
        for language in i18n.LANGUAGES
        for key in i18n.table(language)
        if key.startswith(f"{product.name}.error.")
    ]
    assert len(own) >= 8
    for product, language, kind in own:
        shown = i18n.error_message(language, UserError(kind, **parts_of(kind)), product)
        assert "{" not in shown


CONTRADICTIONS = [
    ColorSettings(method="course", symmetry="left-right"),
    ColorSettings(region="left", loss="pixels"),
    ColorSettings(method="fast", eta=0.5),
    ColorSettings(method="fast", repeats=2),
    ColorSettings(guidance_scale=3),
    ColorSettings(start=0.7, stop=0.2),
    TextSettings(prompt=""),
    TextSettings(method="course", color="teal", guidance_scale=8),
    DigitsSettings(eta=0.5),
    DigitsSettings(cfg_start=0.7, cfg_stop=0.2),
]


@pytest.mark.parametrize("language", i18n.LANGUAGES)
@pytest.mark.parametrize("settings", CONTRADICTIONS, ids=str)
def test_contradictions_are_told_by_labels_too(settings: Any, language: str):
    product = next(p for p in PRODUCTS.values() if isinstance(settings, p.settings))
    with pytest.raises(SettingsError) as caught:
        validate(settings)
    shown = i18n.error_message(language, caught.value, product)
    names = {f.name for f in dataclasses.fields(product.settings)}
    labels = [label(product, language, name) for name in names]
    for known in sorted(labels, key=len, reverse=True):
        shown = shown.replace(f"“{known}”", "")
    assert "“" not in shown
    assert not set(re.findall(r"[a-z_]+", shown)) & (names - WORDS)
    told = str(caught.value)
    assert any(re.search(rf"\b{name}\b", told) for name in names)
    assert "“" not in told


def test_choices_are_told_by_their_labels():
    error = errors_of(PRODUCTS["color"], "loss")[0]
    assert str(error) == "loss must be one of mean, pixels, got None"
    assert i18n.error_message("en", error, PRODUCTS["color"]) == (
        "“What shall have the colour” must be one of the mean colour, every pixel, as in the "
        "course, got None"
    )
    assert i18n.error_message("zh", error, PRODUCTS["color"]) == (
        "“颜色损失” 必须是以下之一：平均颜色 (mean)、每个像素，同课程 (pixels)，收到的是 None"
    )


def sweep_errors() -> Iterator[SettingsError]:
    tries = (
        lambda: parse_axis(ColorSettings, "num_images", "1"),
        lambda: check(
            ColorSettings(),
            parse_axis(ColorSettings, "seed", "1"),
            parse_axis(ColorSettings, "seed", "2"),
        ),
        lambda: check(
            ColorSettings(),
            parse_axis(ColorSettings, "seed", "0-6"),
            parse_axis(ColorSettings, "every", "1-6"),
        ),
    )
    for wrong in tries:
        with pytest.raises(SettingsError) as caught:
            wrong()
        yield caught.value


def test_the_axes_of_a_sweep_are_told_by_their_labels():
    for error in sweep_errors():
        shown = i18n.error_message("en", error, PRODUCTS["color"])
        assert shown.startswith("“From top to bottom” and “From left to right” must be ")
        assert str(error).startswith("rows and columns must be ")
    assert "“Seed”" in i18n.error_message("en", list(sweep_errors())[1], PRODUCTS["color"])


def test_events_of_a_page_name_labels_and_those_of_the_api_names():
    for product, beginning in ((PRODUCTS["digits"], "“Steps” must"), (None, "num_inference_steps")):
        with pytest.raises(gr.Error) as caught, as_gradio_errors("en", product):
            validate(DigitsSettings(num_inference_steps=0))
        assert str(caught.value.message).startswith(beginning)


def test_a_part_in_a_part_is_told_in_the_same_way():
    error = UserError("hub_failed", key="a", reason=Message("hub_no_file", file=show("x")))
    assert i18n.error_message("zh", error, PRODUCTS["color"]) == (
        "无法从 Hub 下载模型 a（该仓库中没有 'x'）。"
    )
