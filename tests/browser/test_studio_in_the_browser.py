"""What a person does with the studio in a real Chromium: live, sweep, restore, links, languages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, expect

from tabs import i18n
from tests.browser.visits import (
    DRAWING,
    NARROW,
    WIDE,
    Visit,
    arrive,
    chromium,
    facts_in,
    hasten,
    pixels_of,
    set_slider,
    visit,
)
from tests.conftest import Meter


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def easel(browser: Browser, served: str, tiny_checkpoints: Path) -> Iterator[Visit]:
    """The Colour tab, with tiny models and few steps."""
    found = visit(browser, served, tab="Colour")
    hasten(found)
    yield found
    found.leave()


def press_live(found: Visit) -> None:
    found.part("live").locator("input").check()


def test_with_live_on_letting_a_control_go_draws_again_with_the_same_seed(easel: Visit):
    easel.finish("gold")
    press_live(easel)
    with easel.drawn_anew("6 steps, seed 0"):
        set_slider(easel.page, "color-num-inference-steps", 6)
    with easel.drawn_anew("6 steps, seed 0"):
        easel.page.locator("#swatch-rose").click()
    expect(easel.part("scores")).to_contain_text("Target #D98AA5")
    with easel.drawn_anew("seed 0, scenes"):
        easel.part("model").get_by_label("scenes").check()
    slider = easel.part("guidance-scale").locator("input[type=range]")
    slider.focus()
    with easel.drawn_anew():
        easel.page.keyboard.press("ArrowRight")


def test_a_live_slider_that_moves_again_ends_the_run_in_flight(
    browser: Browser, served: str, meter: Meter
):
    found = visit(browser, served, tab="Colour")
    found.part("method").get_by_label("fast").check()
    set_slider(found.page, "color-num-inference-steps", 100)
    press_live(found)
    found.part("draw").click()
    expect(found.status).to_contain_text(re.compile(r"Step ([3-9]|\d\d) of 100"))
    set_slider(found.page, "color-num-inference-steps", 4)
    expect(found.status).to_contain_text("Done in")
    expect(found.status).to_contain_text("4 steps")
    assert meter.calls < 100, "the first run went on"
    assert meter.settled()
    found.leave()


def test_with_live_off_a_control_that_is_let_go_draws_nothing(
    browser: Browser, served: str, meter: Meter
):
    found = visit(browser, served, tab="Digits")
    set_slider(found.page, "digits-num-inference-steps", 3)
    found.part("conditioning").get_by_label("channels").check()
    found.page.wait_for_timeout(800)
    assert meter.calls == 0
    found.leave()


def test_paint_pressed_again_begins_anew_and_after_stop_draws_once(
    browser: Browser, served: str, meter: Meter
):
    found = visit(browser, served, tab="Digits")
    set_slider(found.page, "digits-num-inference-steps", 100)
    found.draw("1")
    expect(found.status).to_contain_text(re.compile(r"Step ([3-9]|\d\d) of 100"))
    found.draw("22")
    expect(found.tiles).to_have_count(4)
    found.part("stop").click()
    expect(found.status).to_contain_text("Stopped.")
    assert meter.settled()
    meter.calls = 0
    set_slider(found.page, "digits-num-inference-steps", 3)
    found.finish("3")
    assert meter.settled()
    assert meter.calls == 6  # guided and unguided, once
    found.leave()


def test_the_line_between_the_pictures_follows_a_finger_and_the_keys(easel: Visit):
    easel.finish("gold")
    box = easel.part("result").locator(".pair").bounding_box()
    assert box
    x, y = box["x"], box["y"] + box["height"] / 2
    easel.page.mouse.move(x + box["width"] * 0.5, y)
    easel.page.mouse.down()
    easel.page.mouse.move(x + box["width"] * 0.2, y, steps=4)
    easel.page.mouse.up()
    expect(easel.number("cut")).to_have_value("20")
    expect(easel.tiles.nth(1)).to_have_css("clip-path", "inset(0px 80% 0px 0px)")
    easel.part("cut").locator("input[type=range]").focus()
    easel.page.keyboard.press("ArrowRight")
    expect(easel.tiles.nth(1)).to_have_css("clip-path", "inset(0px 79% 0px 0px)")


def test_the_moments_of_a_run_are_scrubbed_with_keys_and_by_pressing_one(
    browser: Browser, served: str, tiny_checkpoints: Path
):
    found = visit(browser, served, tab="Colour")
    hasten(found, steps=15)
    set_slider(found.page, "color-num-images", 2)
    found.finish("gold")
    inside = found.part("inside")
    frames = inside.locator(".of-picture:visible .frame")
    expect(frames).to_have_count(10)
    shown, label = inside.locator(".moment:visible").first, inside.locator("output")

    def place() -> str:
        return shown.evaluate("e => getComputedStyle(e).backgroundPositionX")

    first = place()
    inside.locator(".scrub input").focus()
    found.page.keyboard.press("End")
    expect(label).to_have_text(re.compile(r"Step 15 of 15, t = \d+"))
    assert place() != first
    frames.first.click()
    expect(label).to_have_text(re.compile("Step 1 of 15"))
    assert place().startswith("0")
    expect(inside.locator(".scrub input")).to_have_attribute("aria-valuetext", re.compile("Step 1"))
    before = shown.get_attribute("style")
    inside.locator("select").select_option("1")
    assert inside.locator(".moment:visible").first.get_attribute("style") != before
    plots = found.part("chart").get_by_role("img")
    expect(plots).to_have_count(2)
    expect(plots.nth(1)).to_have_attribute("aria-label", re.compile("^Length of the gradient"))
    found.leave()


def test_a_run_is_taken_away_as_an_animation(easel: Visit, tmp_path: Path):
    easel.finish("gold")
    with Image.open(easel.save(tmp_path / "run.webp", "animation")) as moving:
        assert moving.format == "WEBP"
        assert getattr(moving, "n_frames", 1) == 4


def test_a_sweep_is_drawn_cell_by_cell_saved_and_brought_back(
    browser: Browser, served: str, meter: Meter, tmp_path: Path
):
    found = visit(browser, served, tab="Digits")
    set_slider(found.page, "digits-num-inference-steps", 3)
    found.unfold("sweep")
    found.part("sweep-rows-values").locator("input, textarea").fill("0, 2, 4")
    found.part("sweep-columns").locator("input").click()
    found.page.get_by_role("option", name="How the network is told of the class").click()
    columns = found.part("sweep-columns-values").locator("input, textarea")
    expect(columns).to_have_value("embedding, cross-attention, channels")
    columns.fill("embedding, channels")
    found.part("sweep-draw").click()
    cells = found.part("sweep-grid").locator("td img")
    expect(cells.nth(1)).to_be_visible()
    assert cells.count() < 6
    expect(found.part("sweep-status")).to_contain_text("6 cells")
    expect(cells).to_have_count(6)
    expect(cells.nth(3)).to_have_attribute(
        "alt", "CFG scale 2, How the network is told of the class channels"
    )
    heads = found.part("sweep-grid").locator("th").all_inner_texts()
    assert heads == ["embedding", "channels", "0", "2", "4"]
    caption = found.part("sweep-grid").locator("caption")
    expect(caption).to_contain_text("How sure the judge is of the digit: higher is better.")
    scores = found.part("sweep-grid").locator("small").all_inner_texts()
    assert all(re.fullmatch(r"[\d.]+ %", score) for score in scores), scores
    saved = found.save(tmp_path / "sweep.png", "sweep-download")
    assert facts_in(saved)["sweep"]["rows"] == {"name": "cfg_scale", "values": [0.0, 2.0, 4.0]}
    shown = cells.nth(3).get_attribute("src")
    found.part("sweep-grid").get_by_role("button").nth(3).press("Enter")
    expect(found.status).to_contain_text("Brought back: the same settings")
    expect(found.number("cfg-scale")).to_have_value("2")
    expect(found.part("conditioning").get_by_label("channels")).to_be_checked()
    expect(found.page.get_by_role("region", name="Result", exact=True)).to_be_focused()
    expect(found.part("sweep-columns-values").locator("input, textarea")).to_have_value(
        "embedding, channels"
    )
    found.finish()
    assert shown is not None
    assert pixels_of(found.sources()[0]) == pixels_of(shown)
    found.leave()
    again = arrive(browser, served)
    again.open_file(saved)
    again.tab = "Digits"
    expect(again.status).to_contain_text("Brought back")
    again.unfold("sweep")
    expect(again.part("sweep-columns-values").locator("input, textarea")).to_have_value(
        "embedding; channels"
    )
    again.leave()


def test_too_large_a_sweep_is_one_sentence(easel: Visit):
    easel.unfold("sweep")
    easel.part("sweep-rows-values").locator("input, textarea").fill("0..0.5 x 7")
    easel.part("sweep-columns-values").locator("input, textarea").fill("1-6")
    easel.part("sweep-draw").click()
    sentence = "“From left to right” must be at most 36 cells together, got 7 x 6"
    expect(easel.page.get_by_text(sentence)).to_be_visible()


WISHES: dict[str, dict[str, Any]] = {
    "Colour": {"wish": "navy", "steps": 5, "seed": 41, "kept": "#000080"},
    "Text": {"wish": "snow:0.5 | ships", "steps": 5, "seed": 42, "kept": "snow:0.5 | ships"},
    "Digits": {"wish": "907", "steps": 5, "seed": 43, "kept": "907"},
}


def unusual(found: Visit) -> list[str]:
    """Draws with settings that are not those of the page, and says what the pictures are."""
    wish = WISHES[found.tab]
    hasten(found, wish["steps"])
    set_slider(found.page, f"{found.tab.lower().replace('colour', 'color')}-seed", wish["seed"])
    found.finish(wish["wish"])
    expect(found.status).to_contain_text(f"seed {wish['seed']}")
    return found.sources()


def drawn_again(found: Visit, tab: str) -> list[str]:
    """The pictures of a run that was brought back, after a look at its controls."""
    wish = WISHES[tab]
    found.tab = tab
    expect(found.status).to_contain_text("Brought back: the same settings")
    expect(found.part("draw")).to_be_visible()
    expect(found.text).to_have_value(wish["kept"])
    expect(found.number("num-inference-steps")).to_have_value(str(wish["steps"]))
    expect(found.number("seed")).to_have_value(str(wish["seed"]))
    found.finish()
    return found.sources()


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("tab", DRAWING)
def test_a_saved_picture_brings_back_its_tab_its_settings_and_the_same_pixels(
    browser: Browser, served: str, tmp_path: Path, tab: str
):
    found = visit(browser, served, tab=tab)
    before = unusual(found)
    saved = found.save(tmp_path / "saved.png")
    found.leave()
    again = arrive(browser, served)
    again.open_file(saved)
    assert drawn_again(again, tab) == before
    again.leave()


DROP = """async ([bytes]) => {
  const file = new File([new Uint8Array(bytes)], 'saved.png', {type: 'image/png'});
  const data = new DataTransfer();
  data.items.add(file);
  for (const kind of ['dragover', 'drop'])
    document.querySelector('#title').dispatchEvent(
      new DragEvent(kind, {bubbles: true, cancelable: true, dataTransfer: data}));
}"""


@pytest.mark.usefixtures("tiny_checkpoints")
def test_a_saved_picture_is_dropped_anywhere_and_one_of_another_program_is_refused(
    browser: Browser, served: str, tmp_path: Path
):
    found = visit(browser, served, tab="Digits")
    before = unusual(found)
    saved = found.save(tmp_path / "saved.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "other.png")
    found.leave()
    again = arrive(browser, served)
    again.page.evaluate(DROP, [list(saved.read_bytes())])
    assert drawn_again(again, "Digits") == before
    again.open_file(tmp_path / "other.png")
    sentence = "The picture must be one saved by this studio"
    expect(again.page.get_by_text(sentence)).to_be_visible()
    assert again.sources() == before
    expect(again.text).to_have_value("907")
    again.leave()


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("tab", DRAWING)
def test_a_copied_link_brings_back_its_tab_its_settings_and_the_same_pixels(
    browser: Browser, served: str, tab: str
):
    found = visit(browser, served, tab=tab)
    found.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    before = unusual(found)
    found.part("copy-link").click()
    expect(found.page.locator(".ticked")).to_be_visible()
    link = found.page.evaluate("navigator.clipboard.readText()")
    found.leave()
    assert link.startswith(served)
    again = arrive(browser, served, link.removeprefix(served))
    assert drawn_again(again, tab) == before
    again.leave()


def test_without_a_run_there_is_no_link_to_copy(easel: Visit):
    easel.part("copy-link").click()
    expect(easel.status).to_contain_text("nothing to link to yet")


def test_a_wrong_link_is_told_and_the_page_works(
    browser: Browser, served: str, tiny_checkpoints: Path
):
    found = arrive(browser, served, "?tab=digits&seed=many")
    found.tab = "Digits"
    sentence = "“Seed” must be a whole number from -1 to 4294967295, got 'many'"
    expect(found.page.get_by_text(sentence)).to_be_visible()
    expect(found.part("draw")).to_be_visible()
    found.finish("3")
    found.leave()


@pytest.mark.parametrize("tab", DRAWING)
@pytest.mark.core
def test_an_example_answers_at_once_and_is_drawn_anew(
    browser: Browser, served: str, meter: Meter, tab: str
):
    meter.seconds = 0.0
    found = visit(browser, served, tab=tab)
    example = found.part("examples").locator("button").nth(1)
    example.click()
    expect(found.status).to_contain_text("An example, drawn before")
    expect(found.part("inside").locator(".of-picture:visible .frame")).to_have_count(10)
    expect(found.number("seed")).not_to_have_value("0")
    assert meter.calls == 0
    hasten(found)
    found.finish()
    assert meter.calls > 0
    found.leave()


VISIBLE = """() => {
  const shown = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (element.checkVisibility() && !element.closest('footer, pre, code, .katex'))
      shown.push(walker.currentNode.textContent.trim());
  }
  return shown.filter(Boolean);
}"""


def english_only() -> set[str]:
    """Everything that the page says in English and otherwise in Chinese."""
    chinese = i18n.table("zh")
    own_name = {i18n.LANGUAGES["en"]}
    return {said for key, said in i18n.table("en").items() if chinese[key] != said} - own_name


@pytest.mark.core
def test_a_chinese_browser_finds_chinese_and_may_choose(
    browser: Browser, served: str, tiny_checkpoints: Path
):
    found = visit(browser, served, tab="Digits", locale="zh-CN")
    expect(found.status).to_contain_text("就绪")
    assert found.page.evaluate("document.documentElement.lang") == "zh-CN"
    hasten(found)
    found.finish("42", said="完成")
    found.unfold("advanced", "sweep", "explain")
    left = english_only() & set(found.page.evaluate(VISIBLE))
    assert not left
    expect(found.tiles.first).to_have_attribute(
        "alt", i18n.translate("zh", "digits.alt", digit="4")
    )
    before = found.sources()
    found.draw("x")
    expect(found.page.get_by_text("“要绘制的数字” 必须是").first).to_be_visible()
    found.page.locator("#language").get_by_label("English").check()
    expect(found.status).to_contain_text("Nothing was drawn.")
    expect(found.part("draw")).to_have_text("Draw")
    assert found.sources() == before
    assert found.page.evaluate("document.documentElement.lang") == "en"
    found.page.locator("#language").get_by_label("中文").check()
    expect(found.part("draw")).to_have_text(i18n.translate("zh", "digits.run"))
    for tab in ("Colour", "Text"):
        found.open_tab(tab)
        found.unfold("more", "advanced", "sweep", "explain")
        left = english_only() & set(found.page.evaluate(VISIBLE))
        assert not left
    found.leave()


def test_before_a_run_the_page_says_how_long_it_will_take(easel: Visit):
    easel.finish("gold")
    estimate = easel.part("estimate")
    expect(estimate).to_contain_text(re.compile(r"About [\d.]+ s on this device"))
    before = estimate.inner_text()
    set_slider(easel.page, "color-num-inference-steps", 200)
    expect(estimate).not_to_have_text(before)


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize(
    ("size", "dark", "locale"),
    [(WIDE, False, "en-GB"), (NARROW, True, "zh-CN")],
    ids=["wide", "narrow dark Chinese"],
)
def test_axe_finds_no_violation(
    browser: Browser, served: str, size: tuple[int, int], dark: bool, locale: str
):
    found = visit(browser, served, size, dark, tab="Colour", locale=locale)
    wrong: list[str] = []
    for tab in DRAWING:
        found.open_tab(tab)
        hasten_any(found)
        found.finish(said="4")
        found.unfold("sweep", "explain")
        wrong += violations(found)
    found.page.locator("button[role=tab][data-tab-id=about]").click()
    found.page.locator("#about-text table").wait_for()
    wrong += violations(found)
    assert not wrong, "\n".join(sorted(set(wrong)))
    found.leave()


def hasten_any(found: Visit) -> None:
    """Few steps, in whatever language."""
    part = {"Colour": "color", "Text": "text", "Digits": "digits"}[found.tab]
    set_slider(found.page, f"{part}-num-inference-steps", 4)


def violations(found: Visit) -> list[str]:
    """Rule, impact and place of what axe finds, best practices too."""
    answer = Axe().run(found.page).response
    return [
        f"{v['id']} ({v['impact']}): {node['target']} {node['html'][:160]}"
        for v in answer["violations"]
        for node in v["nodes"]
    ]
