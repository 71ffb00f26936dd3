"""What a person does on the Colour tab, in a real Chromium."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from PIL import Image, ImageColor
from playwright.sync_api import Browser, expect

from tabs.views.color import SWATCHES
from tests.browser.visits import (
    NARROW,
    TIMEOUT_MS,
    WIDE,
    Visit,
    facts_in,
    hasten,
    keep_screenshot,
    set_slider,
    visit,
)
from tests.conftest import Meter


@pytest.mark.core
@pytest.mark.parametrize(
    ("size", "dark"), [(WIDE, False), (NARROW, True)], ids=["wide light", "narrow dark"]
)
def test_a_visitor_paints_a_colour_and_saves_it(
    browser: Browser, served: str, tmp_path: Path, size: tuple[int, int], dark: bool
):
    found = visit(browser, served, size, dark, tab="Colour")
    box = found.part("draw").bounding_box()
    assert box
    assert box["y"] + box["height"] < size[1], "Paint is not on the first screen"
    hasten(found)
    found.draw("teal")
    expect(found.status).to_contain_text("Done in")
    expect(found.status).to_contain_text("4 steps, seed 0, paintings")
    assert found.tiles.evaluate_all("all => all.map(img => img.alt)") == [
        "Picture guided towards #008080",
        "The same seed without guidance",
    ]
    expect(found.part("scores")).to_contain_text(re.compile(r"ΔE \d+\.\d, unguided \d+\.\d"))
    reached = found.part("scores").get_by_role("img")
    expect(reached).to_have_attribute(
        "aria-label", re.compile(r"Target #008080, reached #[0-9A-F]{6}")
    )
    near, gradient = found.part("chart").get_by_role("img").all()
    expect(near).to_be_visible()
    expect(near.locator("polyline")).to_have_count(2)
    expect(gradient).to_be_visible()
    expect(gradient.locator("polyline")).to_have_count(1)
    assert found.width() <= size[0], "the page scrolls sideways"
    keep_screenshot(found.page, f"color-{size[0]}-{'dark' if dark else 'light'}")
    saved = found.save(tmp_path / "painting.png")
    with Image.open(saved) as sheet:
        assert sheet.size == (64 * 4, 64 * 4)
    assert facts_in(saved)["settings"]["color"] == "#008080"
    found.leave()


def test_the_pair_and_the_plot_are_seen_while_they_form_and_stop_keeps_them(
    easel: Visit, meter: Meter
):
    set_slider(easel.page, "color-num-inference-steps", 250)
    easel.draw("gold")
    expect(easel.status).to_contain_text(re.compile(r"Step ([3-9]|\d\d+) of 250"))
    first = easel.sources()
    points = easel.part("chart").get_by_role("img").first.locator("polyline.line-0")
    begun = len(str(points.get_attribute("points")).split())
    deadline = time.monotonic() + TIMEOUT_MS / 1000
    while any(one == other for one, other in zip(first, easel.sources(), strict=True)):
        assert time.monotonic() < deadline, "the pictures stay as they are"
        easel.page.wait_for_timeout(100)
    keep_screenshot(easel.page, "color-mid-run")
    easel.part("stop").click()
    expect(easel.status).to_contain_text(re.compile(r"Stopped\. Step \d+ of 250"))
    assert len(str(points.get_attribute("points")).split()) > begun
    expect(easel.tiles).to_have_count(2)
    expect(easel.part("scores")).to_contain_text("Target #FFD700")
    assert meter.settled()
    assert meter.calls < 300
    hasten(easel)
    easel.draw("navy")
    expect(easel.status).to_contain_text("Done in")
    expect(easel.part("scores")).to_contain_text("Target #000080")


@pytest.mark.usefixtures("tiny_checkpoints")
def test_a_swatch_pressed_just_before_paint_is_the_colour_that_is_painted(easel: Visit):
    for name, value in (("rose", "#D98AA5"), ("charcoal", "#3A3D42"), ("moss", "#6B7F3A")):
        easel.page.locator(f"#swatch-{name}").click()
        easel.part("draw").click()
        expect(easel.part("scores")).to_contain_text(f"Target {value}")
        expect(easel.text).to_have_value(value)
        expect(easel.status).to_contain_text("Done in")


def test_every_swatch_has_the_colour_that_it_gives(easel: Visit):
    for name, value in SWATCHES.items():
        swatch = easel.page.locator(f"#swatch-{name.lower()}")
        swatch.click()
        expect(easel.text).to_have_value(value)
        expect(swatch).to_have_css("background-color", f"rgb{ImageColor.getrgb(value)}")


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("gold", "rgb(255, 215, 0)"),
        ("rgb(1, 2, 3)", "rgb(1, 2, 3)"),
        ("#4ca", "rgb(68, 204, 170)"),
        ("no colour", "rgb(217, 138, 165)"),  # as before
        ("#4caa", "rgb(217, 138, 165)"),
    ],
)
def test_the_picker_shows_the_typed_colour(easel: Visit, typed: str, shown: str):
    button = easel.part("picker").get_by_role("button", name="Pick")
    easel.page.locator("#swatch-rose").click()
    expect(button).to_have_css("background-color", "rgb(217, 138, 165)")
    easel.text.fill(typed)
    expect(button).to_have_css("background-color", shown)
    expect(easel.text).to_have_value(typed)


def test_a_picked_colour_becomes_the_text(easel: Visit):
    easel.part("picker").get_by_role("button", name="Pick").click()
    easel.part("picker").get_by_role("slider", name="Saturation").click(position={"x": 30, "y": 9})
    expect(easel.text).not_to_have_value("#44CCAA")
    expect(easel.text).to_have_value(re.compile(r"^#[0-9A-F]{6}$"))


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("typed", ["", "<b>red</b>"])
def test_a_bad_colour_shows_one_sentence_and_keeps_the_picture(easel: Visit, typed: str):
    easel.draw("gold")
    expect(easel.status).to_contain_text("Done in")
    before = easel.sources()
    easel.draw(typed)
    sentence = "“Colour” must be a colour such as #44CCAA, rgb(68, 204, 170) or teal, got"
    expect(easel.page.get_by_text(sentence)).to_be_visible()
    assert easel.sources() == before
    expect(easel.text).to_have_value(typed)
    easel.draw("navy")
    expect(easel.part("scores")).to_contain_text("Target #000080")


@pytest.mark.usefixtures("tiny_checkpoints")
def test_the_slider_cuts_between_unguided_and_guided_and_stays_for_the_next_run(easel: Visit):
    easel.draw("gold")
    expect(easel.status).to_contain_text("Done in")
    before = easel.tiles.nth(1)
    expect(before).to_have_css("clip-path", "inset(0px 50% 0px 0px)")
    set_slider(easel.page, "color-cut", 25)
    expect(before).to_have_css("clip-path", "inset(0px 75% 0px 0px)")
    easel.draw("navy")
    expect(easel.part("scores")).to_contain_text("Target #000080")
    expect(before).to_have_css("clip-path", "inset(0px 75% 0px 0px)")


@pytest.mark.usefixtures("tiny_checkpoints")
def test_the_method_of_the_course_comes_with_its_own_scale(easel: Visit):
    scale = easel.page.locator("#color-guidance-scale input[type=number]")
    easel.part("method").get_by_label("course").check()
    expect(scale).to_have_value("40")
    easel.draw("gold")
    expect(easel.status).to_contain_text("Done in")
    easel.part("method").get_by_label("thorough").check()
    expect(scale).to_have_value("0.2")
    easel.draw("navy")
    expect(easel.part("scores")).to_contain_text("Target #000080")


@pytest.mark.usefixtures("tiny_checkpoints")
def test_a_palette_and_a_mask_steer_too(easel: Visit, tmp_path: Path):
    picture = Image.new("CMYK", (40, 40))
    picture.save(tmp_path / "mask.jpg")
    easel.part("more").get_by_role("button").first.click()
    # The mask first: a field loses what is typed within 50 ms of being unfolded.
    easel.part("mask").locator("input[type=file]").set_input_files(tmp_path / "mask.jpg")
    easel.part("mask").locator("img").wait_for()
    palette = easel.part("palette").locator("input, textarea")
    palette.fill("#102040 60, gold 40")
    expect(palette).to_have_value("#102040 60, gold 40")
    easel.part("draw").click()
    expect(easel.part("scores")).to_contain_text("Distance to the palette")
    expect(easel.part("scores").get_by_role("img")).to_have_attribute(
        "aria-label", "Palette #102040 60, #FFD700 40"
    )
    expect(easel.status).to_contain_text("Done in")
