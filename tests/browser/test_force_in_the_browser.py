"""That a visitor sees what is in force, takes it back, and reads what fits the settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, expect

from tests.browser.visits import NARROW, Visit, arrive, keep_screenshot, set_slider, visit
from tests.conftest import Meter


def chips(found: Visit) -> Locator:
    return found.part("chips").locator(".chip")


def remove(found: Visit, name: str) -> Locator:
    return found.page.get_by_role("button", name=f"Remove {name}", exact=True)


def title(found: Visit, section: str) -> Locator:
    return found.part(section).get_by_role("button").first


def speak(found: Visit, language: str) -> None:
    found.page.locator("#language").get_by_label(language).check()


@pytest.mark.core
@pytest.mark.usefixtures("tiny_checkpoints")
def test_a_palette_of_an_example_is_seen_and_removed_so_that_the_colour_counts(
    browser: Browser, served: str
):
    found = visit(browser, served, tab="Colour")
    expect(found.part("chips")).to_be_hidden()
    found.part("examples").get_by_role("button", name="A palette of three").click()
    expect(chips(found)).to_have_count(1)
    expect(chips(found)).to_contain_text("Palette instead of the colour")
    expect(title(found, "more")).to_contain_text("More to steer · 1 set")
    palette = found.part("palette").locator("input, textarea")
    expect(palette).to_have_value(re.compile("#102040"))  # its part has unfolded
    remove(found, "palette").focus()
    found.page.keyboard.press("Enter")
    expect(chips(found)).to_have_count(0)
    expect(palette).to_have_value("")
    expect(found.part("draw")).to_be_focused()
    expect(title(found, "more")).to_have_text(re.compile(r"^\s*More to steer\s*▼?\s*$"))
    set_slider(found.page, "color-num-inference-steps", 3)
    found.finish("teal")
    expect(found.part("scores")).to_contain_text("Target #008080")
    found.leave()


@pytest.mark.usefixtures("tiny_checkpoints")
def test_chips_on_a_phone_in_the_dark_wrap_and_follow_controls_and_language(
    browser: Browser, served: str, tmp_path: Path
):
    query = "?tab=color&symmetry=left-right&brightness=0.4&start=0.2&__theme=dark"
    found = arrive(browser, served, query, NARROW, dark=True)
    expect(chips(found)).to_have_count(3)
    assert found.width() <= NARROW[0]
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    mask.save(tmp_path / "mask.png")
    found.part("mask").locator("input[type=file]").set_input_files(tmp_path / "mask.png")
    expect(chips(found)).to_have_count(4)
    expect(chips(found).locator("img")).to_have_attribute("src", re.compile("^data:image/png"))
    found.part("region").get_by_label("left", exact=True).check()
    expect(found.part("chips")).to_contain_text("Without effect: Region (Mask)")
    speak(found, "中文")
    expect(found.part("chips")).to_contain_text("不起作用：区域（遮罩）")
    expect(title(found, "more")).to_contain_text("已设 4 项")
    keep_screenshot(found.page, "chips-narrow-dark-zh", whole=False)
    found.page.get_by_role("button", name="移除遮罩").click()
    expect(chips(found)).to_have_count(4)
    expect(found.part("mask").locator("img")).to_have_count(0)
    expect(chips(found).first).to_contain_text("区域")
    found.leave()


@pytest.mark.core
def test_texts_follow_the_method_of_a_link_and_strength_stays_on_one_scale(
    browser: Browser, served: str
):
    found = arrive(browser, served, "?tab=color&method=course&guidance_scale=500")
    expect(found.number("guidance-scale")).to_have_value("500")
    strength = found.part("guidance-scale")
    expect(strength).to_contain_text("own scale")
    expect(strength).not_to_contain_text("0.2: clear")
    expect(strength.locator("input[type=range]")).to_have_attribute("max", "500")
    expect(found.part("method")).to_contain_text("The notebook of the course")
    found.part("method").get_by_label("balanced").check()
    expect(found.number("guidance-scale")).to_have_value("0.2")
    expect(strength).to_contain_text("0.2: clear")
    expect(strength.locator("input[type=range]")).to_have_attribute("max", "0.5")
    set_slider(found.page, "color-guidance-scale", 0.35)
    found.part("method").get_by_label("thorough").check()
    expect(found.part("method")).to_contain_text("Gradients through the network")
    expect(found.number("guidance-scale")).to_have_value("0.35")
    found.leave()


def test_the_estimate_follows_a_strength_of_0_and_the_language_a_stopped_run_and_a_sweep(
    browser: Browser, served: str, meter: Meter
):
    found = visit(browser, served, tab="Colour")
    found.part("method").get_by_label("thorough").check()
    found.finish("teal")
    estimate = found.part("estimate")
    expect(estimate).to_contain_text(re.compile(r"About [\d.]+ s"))
    guided = estimate.inner_text()
    set_slider(found.page, "color-guidance-scale", 0)
    expect(estimate).not_to_have_text(guided)
    set_slider(found.page, "color-num-inference-steps", 200)
    found.draw("gold")
    expect(found.status).to_contain_text(re.compile(r"Step \d+ of 200"))
    speak(found, "中文")
    expect(found.status).to_contain_text(re.compile(r"第 \d+ 步，共 200 步，约剩"))
    found.part("stop").click()
    expect(found.status).to_contain_text("已停止在第")
    speak(found, "English")
    expect(found.status).to_contain_text(re.compile(r"Stopped\. Step \d+ of 200"))
    expect(found.part("scores")).to_contain_text("Target #FFD700")
    expect(estimate).to_contain_text("About")
    assert meter.settled()
    meter.seconds = 0
    found.open_tab("Digits")
    found.text.fill("1")
    set_slider(found.page, "digits-num-inference-steps", 2)
    found.unfold("sweep")
    for axis in ("rows", "columns"):
        found.part(f"sweep-{axis}-values").locator("input, textarea").first.fill("1, 2")
    found.part("sweep-draw").click()
    expect(found.part("sweep-status")).to_contain_text("Done in")
    speak(found, "中文")
    expect(found.part("sweep-status")).to_contain_text("完成")
    expect(found.part("sweep-grid").locator("caption")).to_contain_text("CFG 强度")
    found.leave()
