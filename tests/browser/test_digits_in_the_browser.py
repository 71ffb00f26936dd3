"""What a person does on the Digits tab, in a real Chromium."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from pipelines.products.settings import DigitsSettings
from tests.browser.visits import (
    NARROW,
    WIDE,
    Visit,
    facts_in,
    keep_screenshot,
    set_slider,
    visit,
)
from tests.conftest import Meter


@pytest.mark.core
@pytest.mark.parametrize(
    ("size", "dark"), [(WIDE, False), (NARROW, True)], ids=["wide light", "narrow dark"]
)
def test_a_visitor_draws_digits_and_saves_them(
    browser: Browser, served: str, tmp_path: Path, size: tuple[int, int], dark: bool
):
    found = visit(browser, served, size, dark)
    expect(found.tiles).to_have_count(20)  # the starting noise
    found.draw("314")
    expect(found.status).to_contain_text("Done in")
    expect(found.status).to_contain_text("seed 0, digits-embedding")
    expect(found.tiles).to_have_count(6)
    assert found.tiles.evaluate_all("all => all.map(img => img.alt)") == [
        alt
        for digit in "314"
        for alt in (f"Handwritten digit {digit}", "The same seed without guidance")
    ]
    sure = re.compile(r"A judge is \d+\.\d % sure of these digits, unguided \d+\.\d %")
    expect(found.part("scores")).to_contain_text(sure)
    near, gradient = found.part("chart").get_by_role("img").all()
    expect(near.locator("polyline")).to_have_count(2)
    expect(gradient.locator("polyline")).to_have_count(1)
    box = found.tiles.first.bounding_box()
    assert box
    assert box["width"] >= 90
    assert found.tiles.first.evaluate("img => getComputedStyle(img).imageRendering") == "pixelated"
    assert found.width() <= size[0], "the page scrolls sideways"
    keep_screenshot(found.page, f"digits-{size[0]}-{'dark' if dark else 'light'}")
    saved = found.save(tmp_path / "digits.png")
    with Image.open(saved) as sheet:
        assert sheet.height == 28 * 8
    assert facts_in(saved)["settings"]["digits"] == "314"
    found.leave()


def test_stop_keeps_the_partial_picture_and_says_where_it_stopped(
    wide: Visit, meter: Meter, tmp_path: Path
):
    set_slider(wide.page, "digits-num-inference-steps", 250)
    wide.draw("12")
    expect(wide.status).to_contain_text(re.compile(r"Step ([3-9]|\d\d+) of 250"))
    keep_screenshot(wide.page, "digits-mid-run")
    wide.part("stop").click()
    expect(wide.status).to_contain_text(re.compile(r"Stopped\. Step \d+ of 250"))
    expect(wide.tiles).to_have_count(4)
    facts = facts_in(wide.save(tmp_path / "stopped.png"))
    assert facts["stopped"]["of"] == 250
    assert f"Step {facts['stopped']['step']} of 250" in wide.status.inner_text()
    assert meter.settled()
    assert meter.calls < 200
    wide.open_file(tmp_path / "stopped.png")
    expect(wide.status).to_contain_text("had been stopped at step")
    set_slider(wide.page, "digits-num-inference-steps", 2)
    wide.draw("3")
    expect(wide.status).to_contain_text("Done in")


@pytest.mark.core
def test_stop_when_nothing_runs_changes_nothing(wide: Visit):
    wide.part("stop").click()
    wide.draw("1")
    expect(wide.status).to_contain_text("Done in")


@pytest.mark.parametrize(
    ("digits", "sentence"),
    [
        ("12x", "“Digits to draw” must be 1 to 64 characters 0-9, got '12x'"),
        ("", "“Digits to draw” must be 1 to 64 characters 0-9, got nothing"),
        ("1" * 65, "got 65 of them"),
    ],
    ids=["letters", "empty", "too many"],
)
def test_bad_input_shows_one_sentence_and_loses_nothing(wide: Visit, digits: str, sentence: str):
    wide.draw("42")
    expect(wide.status).to_contain_text("Done in")
    before = wide.sources()
    wide.draw(digits)
    expect(wide.page.get_by_text(sentence)).to_be_visible()
    assert wide.sources() == before
    for button in ("download", "animation"):
        expect(wide.part(button)).to_be_enabled()
    expect(wide.text).to_have_value(digits)
    wide.draw("7")
    expect(wide.tiles).to_have_count(2)


def test_a_visitor_who_leaves_right_after_asking_leaves_no_thread_computing(
    browser: Browser, served: str, meter: Meter
):
    leaving = visit(browser, served)
    set_slider(leaving.page, "digits-num-inference-steps", 250)
    with leaving.page.expect_request("**/queue/join*"):
        leaving.draw("12")
    leaving.page.close()
    assert meter.settled()
    assert meter.calls < 200


def test_a_visitor_who_leaves_mid_run_leaves_no_thread_computing(
    browser: Browser, served: str, meter: Meter
):
    leaving = visit(browser, served)
    set_slider(leaving.page, "digits-num-inference-steps", 250)
    leaving.draw("12")
    expect(leaving.status).to_contain_text(re.compile(r"Step \d+ of 250"))
    assert meter.started.is_set()
    leaving.page.close()
    assert meter.settled()
    assert meter.calls < 200
    staying = visit(browser, served)
    set_slider(staying.page, "digits-num-inference-steps", 2)
    staying.draw("3")
    expect(staying.status).to_contain_text("Done in")
    staying.leave()


def test_a_new_seed_draws_another_picture(wide: Visit):
    wide.draw("5")
    expect(wide.status).to_contain_text("seed 0")
    before = wide.tiles.first.get_attribute("src")
    wide.page.locator("#digits-new-seed").click()
    expect(wide.page.locator("#digits-seed input")).not_to_have_value("0")
    wide.draw("5")
    expect(wide.status).not_to_contain_text("seed 0,")
    expect(wide.status).to_contain_text("Done in")
    assert wide.tiles.first.get_attribute("src") != before


def test_every_conditioning_draws_and_a_blend_is_described(wide: Visit):
    for conditioning in ("cross-attention", "channels"):
        wide.page.get_by_label(conditioning, exact=True).check()
        wide.draw("8")
        expect(wide.status).to_contain_text(f"digits-{conditioning}")
    wide.page.locator("#digits-blend-with input").click()
    wide.page.get_by_role("option", name="3", exact=True).click()
    wide.draw("8")
    expect(wide.tiles.first).to_have_attribute("alt", "Handwritten digit 8 blended with 3")


def test_the_keyboard_alone_draws(wide: Visit):
    wide.text.focus()
    wide.page.keyboard.press("Control+A")
    wide.page.keyboard.type("66")
    wide.page.keyboard.press("Enter")
    expect(wide.tiles).to_have_count(4)
    expect(wide.status).to_contain_text(f"{DigitsSettings.num_inference_steps} steps")
