"""That everybody reaches everything: on a telephone, with keys alone, in both languages."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from pipelines.products.settings import MAX_IMAGES
from tests.browser.test_studio_in_the_browser import violations
from tests.browser.visits import (
    DRAWING,
    NARROW,
    TABS,
    WIDE,
    Visit,
    hasten,
    set_slider,
    visit,
)

WISHES = {"Colour": "gold", "Text": "a spaceship and snow", "Digits": "0123456789" * 2}

HANGING = """() => [...document.querySelectorAll('.gradio-container *')]
  .filter(e => e.checkVisibility() && !e.parentElement.closest('.sweep, .examples-shelf, pre,' +
    '.katex-display, #about-text'))
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
  .map(e => e.outerHTML.slice(0, 300))"""


def unfold_all(found: Visit) -> None:
    """Opens every accordion of the tab."""
    found.unfold(*(["advanced"] if found.tab == "Digits" else ["more", "advanced"]))
    found.unfold("sweep", "explain")


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("tab", DRAWING)
def test_nothing_hangs_over_on_a_telephone_with_everything_open(
    browser: Browser, served: str, tab: str
):
    found = visit(browser, served, NARROW, tab=tab)
    unfold_all(found)
    hasten(found)
    pictures = len(WISHES[tab])
    if tab != "Digits":
        pictures = MAX_IMAGES
        set_slider(found.page, f"{TABS[tab]}-num-images", MAX_IMAGES)
    found.finish(WISHES[tab])
    expect(found.tiles).to_have_count(2 * pictures)
    expect(found.part("inside").locator(".of-picture:visible .frame").first).to_be_visible()
    found.part("sweep-columns-values").locator("input, textarea").fill(
        "snow; ships" if tab == "Text" else "1-6"
    )
    found.part("sweep-draw").click()
    expect(found.part("sweep-status")).to_contain_text("Done in")
    assert found.width() <= NARROW[0]
    assert found.page.evaluate(HANGING) == []
    found.leave()


@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
@pytest.mark.parametrize("size", [WIDE, (1000, 700), NARROW], ids=["wide", "middle", "narrow"])
def test_nothing_hangs_over_the_head_in_either_language(
    browser: Browser, served: str, size: tuple[int, int], locale: str
):
    found = visit(browser, served, size, tab="Colour", locale=locale)
    expect(found.part("draw")).to_have_text("Paint" if locale == "en-GB" else "开始绘制")
    right = "e => e.getBoundingClientRect().right"
    edge = found.page.locator("#head").evaluate(right)
    for part in ("#open-picture", "#language", "#language label >> nth=-1"):
        assert found.page.locator(part).evaluate(right) <= edge + 0.5
    assert found.width() <= size[0]
    found.leave()


REACHABLE = """() => [...document.querySelectorAll('a, button, input, select, textarea,' +
    '[tabindex="0"]')]
  .filter(e => e.checkVisibility() && !e.disabled && e.tabIndex >= 0)
  .filter(e => e.closest('.workspace, .gr-accordion, #head, [role=tablist]'))
  .filter(e => e.type !== 'radio' || e.checked)
  .map(e => (e.dataset.reach = String(Math.random()), [e.dataset.reach, e.outerHTML.slice(0, 160)]))
"""
FOCUSED = """() => {
  const e = document.activeElement, style = getComputedStyle(e), box = e.getBoundingClientRect();
  return {
    at: e.dataset.reach ?? null,
    seen: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2
      && box.width > 0 && box.height > 0 && box.top < innerHeight && box.bottom > 0,
    tag: e.outerHTML.slice(0, 160),
  };
}"""


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("tab", DRAWING)
def test_the_tab_key_reaches_every_control_and_one_sees_where_one_is(
    browser: Browser, served: str, tab: str
):
    found = visit(browser, served, tab=tab)
    hasten(found)
    found.finish(WISHES[tab])
    unfold_all(found)
    found.page.locator("#title").click()
    wanted = dict(found.page.evaluate(REACHABLE))
    assert len(wanted) > 30
    unseen, reached = [], set()
    for _ in range(2 * len(wanted)):
        found.page.keyboard.press("Tab")
        focus = found.page.evaluate(FOCUSED)
        if focus["at"] in reached:
            break
        if focus["at"]:
            reached.add(focus["at"])
            if not focus["seen"]:
                unseen.append(focus["tag"])
    assert [html for key, html in wanted.items() if key not in reached] == []
    assert unseen == []
    found.leave()


@pytest.mark.usefixtures("tiny_checkpoints")
def test_axe_finds_nothing_serious_before_a_run_and_on_a_chinese_telephone(
    browser: Browser, served: str
):
    serious: set[str] = set()
    for size, locale in ((WIDE, "en-GB"), (NARROW, "zh-CN")):
        found = visit(browser, served, size, tab="Colour", locale=locale)
        for tab in DRAWING:
            found.open_tab(tab)
            unfold_all(found)
            serious |= set(violations(found))
        found.leave()
    assert not serious, "\n".join(sorted(serious))
