"""What a first visitor sees, and the pictures of the README, in a real Chromium."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, expect

from tabs import i18n
from tests.browser.visits import NARROW, TABS, Visit, keep_screenshot, set_slider, visit


def test_one_press_draws_a_row_of_digits(wide: Visit):
    wide.part("draw").click()
    expect(wide.status).to_contain_text("Done in")
    expect(wide.tiles).to_have_count(20)


def test_a_hole_that_is_filled_is_what_the_readme_shows(browser: Browser, served: str):
    found = visit(browser, served, tab="Edit")
    found.page.locator("#edit-examples").get_by_role("button").first.click()
    expect(found.status).to_contain_text("An example")
    expect(found.tiles).to_have_count(4)
    expect(found.page.locator(".easel canvas")).to_be_visible()
    keep_screenshot(found.page, "edit", whole=False)
    found.leave()


def test_the_colour_tab_is_the_first_and_is_open(browser: Browser, served: str):
    page = browser.new_page()
    page.goto(served)
    page.locator("#color-draw").wait_for()
    assert page.get_by_role("tab").all_inner_texts() == list(TABS)
    page.close()


def test_four_paintings_and_the_look_inside_are_what_the_readme_shows(
    browser: Browser, served: str
):
    found = visit(browser, served, tab="Colour")
    set_slider(found.page, "color-num-images", 4)
    found.finish()
    expect(found.tiles).to_have_count(8)
    keep_screenshot(found.page, "color")
    look = found.page.locator(".look:visible")
    expect(look.get_by_role("img", name="The noisy picture").first).to_be_visible()
    keep_screenshot(look, "inside")
    found.leave()


def test_the_words_that_the_readme_shows_paint_four_pictures(browser: Browser, served: str):
    found = visit(browser, served, tab="Text")
    set_slider(found.page, "text-num-images", 4)
    found.part("method").get_by_label("thorough").check()
    found.finish("ships on the sea")
    expect(found.tiles).to_have_count(8)
    keep_screenshot(found.page, "text")
    found.leave()


def test_words_by_night_are_what_the_readme_shows(browser: Browser, served: str):
    found = visit(browser, served, dark=True, tab="Text")
    found.finish("a city street")
    expect(found.page.locator("body")).to_have_class(re.compile("dark"))
    keep_screenshot(found.page, "dark")
    found.leave()


def test_a_telephone_is_what_the_readme_shows(browser: Browser, served: str):
    found = visit(browser, served, NARROW, tab="Colour")
    found.page.locator("#swatch-vermilion").click()
    found.finish()
    assert found.width() <= NARROW[0]
    found.part("text").evaluate("part => part.scrollIntoView({block: 'start'})")
    keep_screenshot(found.page, "narrow", whole=False)
    found.leave()


def test_digits_in_chinese_are_what_the_readme_shows(browser: Browser, served: str):
    found = visit(browser, served, tab="Digits", locale="zh-CN")
    expect(found.part("draw")).to_have_text(i18n.translate("zh", "digits.run"))
    found.finish("0123456789", said="完成")
    expect(found.tiles).to_have_count(20)
    keep_screenshot(found.page, "chinese")
    found.leave()


def test_a_sweep_of_sixteen_digits_is_what_the_readme_shows(wide: Visit):
    wide.unfold("sweep")
    wide.part("sweep-rows-values").locator("input, textarea").fill("0, 1, 2.2, 8")
    wide.part("sweep-columns-values").locator("input, textarea").fill("2, 3, 5, 8")
    wide.part("sweep-draw").click()
    expect(wide.part("sweep-status")).to_contain_text("Done in")
    expect(wide.part("sweep-grid").locator("td img")).to_have_count(16)
    keep_screenshot(wide.part("sweep"), "sweep")


@pytest.mark.core
def test_the_about_tab_lists_the_checkpoints_and_the_limits(wide: Visit):
    wide.page.get_by_role("tab", name="About").click()
    page = wide.page.locator("#about-text")
    expect(page.locator("tbody tr")).to_have_count(14)
    for text in ("paintings", "emoji", "digits-cross-attention", "clip-small", "ViT-B-32-laion"):
        expect(page.locator("table")).to_contain_text(text)
    expect(page).to_contain_text("8 pictures of a colour or 64 digits, 250 steps")
    keep_screenshot(wide.page, "about")
