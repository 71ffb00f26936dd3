"""That everybody reaches everything: on a telephone, with keys alone, in both languages."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from pipelines.products.settings import MAX_IMAGES
from tabs import i18n
from tests.browser.test_studio_in_the_browser import violations
from tests.browser.visits import (
    DRAWING,
    NARROW,
    TABS,
    WIDE,
    Visit,
    arrive,
    facts_in,
    hasten,
    set_slider,
    visit,
)
from tests.conftest import Meter

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
FOCUSED = """selector => {
  const e = document.activeElement, style = getComputedStyle(e), box = e.getBoundingClientRect();
  return {
    at: e.dataset.reach ?? null,
    there: e.matches(selector),
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
        focus = found.page.evaluate(FOCUSED, "*")
        if focus["at"] in reached:
            break
        if focus["at"]:
            reached.add(focus["at"])
            if not focus["seen"]:
                unseen.append(focus["tag"])
    assert [html for key, html in wanted.items() if key not in reached] == []
    assert unseen == []
    found.leave()


def go(found: Visit, selector: str, key: str = "Tab") -> Locator:
    """Presses a key until an element has the focus, which is seen all the way."""
    for _ in range(120):
        found.page.keyboard.press(key)
        focus = found.page.evaluate(FOCUSED, selector)
        assert focus["seen"], focus["tag"]
        if focus["there"]:
            return found.page.locator(selector).first
    raise AssertionError(f"{key} does not reach {selector}")


GROUPS = {"Colour": "model", "Text": "model", "Digits": "conditioning"}


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("tab", DRAWING)
def test_a_picture_is_drawn_and_saved_with_keys_alone(
    browser: Browser, served: str, tmp_path: Path, tab: str
):
    found, name = arrive(browser, served), TABS[tab]
    page, keyboard = found.page, found.page.keyboard
    go(found, "[role=tab]")
    keyboard.press("Home")
    for _ in range(list(TABS).index(tab)):
        keyboard.press("ArrowRight")
    found.tab = tab
    go(found, f"#{name}-text :is(input, textarea)")
    keyboard.press("Control+A")
    keyboard.type(WISHES[tab][:10])
    go(found, f"#{name}-num-inference-steps input[type=number]")
    keyboard.type("4")
    chosen = found.part(GROUPS[tab]).locator("input:checked")
    go(found, f"#{name}-{GROUPS[tab]} input:checked")
    values = [r.get_attribute("value") for r in found.part(GROUPS[tab]).get_by_role("radio").all()]
    for key, at in (("ArrowDown", 1), ("End", -1), ("ArrowRight", 0), ("ArrowLeft", -1)):
        keyboard.press(key)
        expect(chosen).to_have_value(str(values[at]))
        expect(chosen).to_be_focused()
    keyboard.press("Home")
    expect(chosen).to_have_value(str(values[0]))
    keyboard.press("Tab")
    assert not found.part(GROUPS[tab]).evaluate("e => e.contains(document.activeElement)")
    with found.drawn_anew():
        go(found, f"#{name}-draw", "Shift+Tab")
        keyboard.press("Space")
    expect(found.part("draw")).to_be_focused()
    keyboard.press("Tab")
    keyboard.press("Enter")  # Stop
    expect(found.part("stop")).to_be_focused()
    go(found, "#language input", "Shift+Tab")
    for key, code in (("ArrowRight", "zh"), ("ArrowLeft", "en")):
        keyboard.press(key)
        expect(found.part("draw")).to_have_text(i18n.translate(code, f"{name}.run"))
        expect(page.locator(f"#language input[value={code}]")).to_be_focused()
        assert str(page.evaluate("document.documentElement.lang")).startswith(code)
    unfolds = go(found, f"#{name}-advanced button")
    for expanded in ("true", "false"):
        keyboard.press("Enter")
        expect(unfolds).to_have_attribute("aria-expanded", expanded)
        expect(unfolds).to_be_focused()
    go(found, f"#{name}-download")
    with page.expect_download() as download:
        keyboard.press("Enter")
    download.value.save_as(tmp_path / "saved.png")
    assert facts_in(tmp_path / "saved.png")["settings"]["num_inference_steps"] == 4
    found.leave()


LISTEN = """() => {
  window.heard = [];
  const live = '[aria-live]:not([aria-live=off]), :is([role=status], [role=alert], output)' +
    ':not([aria-live=off])';
  new MutationObserver(changes => {
    for (const {target, addedNodes} of changes) {
      const element = target.nodeType === 1 ? target : target.parentElement;
      const regions = [element?.closest(live),
        ...[...addedNodes].flatMap(node => node.matches?.(live) ? [node]
          : [...node.querySelectorAll?.(live) ?? []])];
      for (const region of regions)
        if (region?.textContent.trim()) window.heard.push(region.textContent.trim());
    }
  }).observe(document.body, {subtree: true, childList: true, characterData: true});
}"""


def heard(found: Visit) -> list[str]:
    """What a screen reader was told since it was asked last."""
    found.page.wait_for_timeout(300)
    return found.page.evaluate("window.heard.splice(0)")


def test_a_screen_reader_hears_of_a_run_and_of_a_sweep_three_times(wide: Visit, meter: Meter):
    meter.seconds = 0.02
    wide.page.evaluate(LISTEN)
    set_slider(wide.page, "digits-num-inference-steps", 30)
    wide.finish("1")
    begins, half, ends = heard(wide)
    assert begins == "Starting…"
    assert re.match(r"Step (1[5-9]|2\d) of 30", half)
    assert ends.startswith("Done in")
    set_slider(wide.page, "digits-num-inference-steps", 250)
    wide.draw("2")
    expect(wide.status).to_contain_text(re.compile(r"Step \d+ of 250"))
    wide.part("stop").click()
    expect(wide.status).to_contain_text("Stopped.")
    begins, *half, ends = heard(wide)
    assert (begins, ends[:8]) == ("Starting…", "Stopped.")
    assert len(half) <= 1
    wide.draw("x")
    expect(wide.status).to_contain_text("Nothing was drawn.")
    (sentence,) = heard(wide)
    assert "“Digits to draw” must be" in sentence
    set_slider(wide.page, "digits-num-inference-steps", 4)
    wide.unfold("sweep")
    wide.text.fill("1")
    wide.part("sweep-rows-values").locator("input, textarea").fill("0, 2")
    wide.part("sweep-columns-values").locator("input, textarea").fill("1-3")
    wide.part("sweep-draw").click()
    expect(wide.part("sweep-status")).to_contain_text("Done in")
    texts = heard(wide)
    assert [text[:4] for text in texts] == ["Star", "Cell", "Done"]
    assert re.match("Cell [45] of 6", texts[1])


PLACES = """tab => {
  window.places = [];
  const look = () => {
    const {top, bottom} = document.querySelector(`#${tab}-result`).getBoundingClientRect();
    if (document.querySelector(`#${tab}-status`).textContent.includes('Step'))
      window.places.push([Math.round(top), Math.round(bottom)].join());
    requestAnimationFrame(look);
  };
  look();
}"""


def test_on_a_telephone_the_result_comes_into_sight_and_stays_where_it_is(
    browser: Browser, served: str, meter: Meter
):
    found = visit(browser, served, NARROW, tab="Text")
    hasten(found, steps=12)
    found.page.evaluate("scrollTo(0, 0)")
    result, height = found.part("result"), NARROW[1]
    top, bottom = "e => e.getBoundingClientRect().top", "e => e.getBoundingClientRect().bottom"
    assert result.evaluate(top) > height, "or this test says nothing"
    found.page.evaluate(PLACES, "text")
    found.finish("snow")
    assert 0 <= result.evaluate(top) < result.evaluate(bottom) <= height + 1
    expect(found.part("draw")).to_be_focused()
    last = f"{round(result.evaluate(top))},{round(result.evaluate(bottom))}"
    assert set(found.page.evaluate("window.places")) == {last}
    found.part("draw").scroll_into_view_if_needed()
    found.part("draw").click()
    found.page.mouse.wheel(0, -2000)
    expect(found.status).to_contain_text("Done in")
    assert found.page.evaluate("scrollY") == 0, "nobody who scrolls is moved"
    found.leave()


RESETS = ".reset-button:visible"
HEADINGS = """() => [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')]
  .filter(e => e.checkVisibility()).map(e => [Number(e.tagName[1]), e.innerText.trim()])"""


@pytest.mark.usefixtures("tiny_checkpoints")
def test_axe_finds_nothing_before_a_run_and_on_a_chinese_telephone(browser: Browser, served: str):
    wrong: set[str] = set()
    for size, locale in ((WIDE, "en-GB"), (NARROW, "zh-CN")):
        found = visit(browser, served, size, tab="Colour", locale=locale)
        for tab in DRAWING:
            found.open_tab(tab)
            unfold_all(found)
            wrong |= set(violations(found))
            headings = found.page.evaluate(HEADINGS)
            levels = [level for level, _ in headings]
            assert levels.count(1) == 1 == levels[0]
            assert all(after <= before + 1 for before, after in pairwise(levels)), headings
            assert levels.count(2) >= 5
            resets = [r.get_attribute("aria-label") for r in found.page.locator(RESETS).all()]
            assert len(resets) == len(set(resets)) > 3
        found.leave()
    assert not wrong, "\n".join(sorted(wrong))


@pytest.mark.usefixtures("tiny_checkpoints")
def test_numbers_are_read_as_keyboards_type_them(browser: Browser, served: str):
    found = visit(browser, served, tab="Colour")
    box = found.number("guidance-scale")

    def typed(text: str, *, pasted: bool = False) -> str:
        box.click()
        box.press("ControlOrMeta+a")
        if pasted:
            found.page.keyboard.insert_text(text)
        else:
            box.press_sequentially(text, delay=80)
        box.press("Tab")
        return box.input_value()

    for text, number in (("0,05", "0.05"), ("٠٫٤", "0.4"), ("０．２", "0.2"), ("0.3", "0.3")):
        assert (typed(text), typed(text, pasted=True)) == (number, number)
    found.number("seed").fill("1.5")
    found.part("draw").click()
    expect(found.page.locator(".toast-body")).to_contain_text("must be a whole number")
    found.problems.clear()  # the refusal, which the console tells too
    found.leave()
