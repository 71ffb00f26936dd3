"""What a person does in a real Chromium, wide and narrow, light and dark."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image, ImageColor
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from pipelines.settings import MAX_IMAGES, DigitsSettings
from tabs.color import SWATCHES
from tests.conftest import Meter

ARGUMENTS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
]
TIMEOUT_MS = 60_000
WIDE, NARROW = (1280, 900), (390, 844)
TABS = {"Colour": "color", "Text": "text", "Digits": "digits", "About": "about"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    system = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=system, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page at one of its tabs, and everything about it that must not happen."""

    page: Page
    tab: str
    problems: list[str] = field(default_factory=list)

    def watch(self, served: str) -> None:
        self.page.on("pageerror", lambda error: self.problems.append(f"page error: {error}"))
        self.page.on(
            "console",
            lambda m: self.problems.append(f"console: {m.text}") if m.type == "error" else None,
        )
        own = (served, "data:", "blob:", served.replace("http", "ws"))
        self.page.on(
            "request",
            lambda r: None if r.url.startswith(own) else self.problems.append(f"foreign: {r.url}"),
        )

    def part(self, name: str) -> Locator:
        """A component of the tab."""
        return self.page.locator(f"#{TABS[self.tab]}-{name}")

    @property
    def status(self) -> Locator:
        return self.part("status")

    @property
    def tiles(self) -> Locator:
        return self.part("result").locator("img")

    @property
    def text(self) -> Locator:
        return self.part("text").locator("input, textarea")

    def draw(self, wish: str) -> None:
        self.text.fill(wish)
        self.part("draw").click()

    def sources(self) -> list[str]:
        """What the pictures are."""
        return self.tiles.evaluate_all("all => all.map(img => img.src)")

    def width(self) -> int:
        """How wide the page is, with what one would have to scroll to."""
        return self.page.evaluate("document.documentElement.scrollWidth")

    def leave(self) -> None:
        self.page.close()
        assert not self.problems


def visit(
    browser: Browser,
    served: str,
    size: tuple[int, int] = WIDE,
    dark: bool = False,
    tab: str = "Digits",
) -> Visit:
    page = browser.new_page(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        accept_downloads=True,
    )
    page.set_default_timeout(TIMEOUT_MS)
    expect.set_options(timeout=TIMEOUT_MS)
    found = Visit(page, tab)
    found.watch(served)
    page.goto(served + ("?__theme=dark" if dark else "?__theme=light"))
    page.get_by_role("tab", name=tab).click()
    found.part("draw").wait_for()
    return found


@pytest.fixture
def wide(browser: Browser, served: str) -> Iterator[Visit]:
    """The Digits tab in a wide window."""
    found = visit(browser, served)
    yield found
    found.leave()


@pytest.fixture
def easel(browser: Browser, served: str) -> Iterator[Visit]:
    """The Colour tab in a wide window, set to the fast method and few steps."""
    found = visit(browser, served, tab="Colour")
    hasten(found)
    yield found
    found.leave()


@pytest.fixture
def desk(browser: Browser, served: str) -> Iterator[Visit]:
    """The Text tab in a wide window, set to the fast method and few steps."""
    found = visit(browser, served, tab="Text")
    hasten(found)
    yield found
    found.leave()


def hasten(found: Visit, steps: int = 4) -> None:
    set_slider(found.page, f"{TABS[found.tab]}-num-inference-steps", steps)
    found.part("method").get_by_label("fast").check()
    expect(found.part("method")).to_contain_text("fast solver")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_a_visitor_draws_digits_and_saves_them(
    browser: Browser, served: str, tmp_path: Path, size: tuple[int, int], dark: bool
):
    found = visit(browser, served, size, dark)
    expect(found.tiles).to_have_count(10)  # the starting noise
    found.draw("314")
    expect(found.status).to_contain_text("Done in")
    expect(found.status).to_contain_text("seed 0, digits-embedding")
    expect(found.tiles).to_have_count(3)
    assert found.tiles.evaluate_all("all => all.map(img => img.alt)") == [
        f"Handwritten digit {digit}" for digit in "314"
    ]
    box = found.tiles.first.bounding_box()
    assert box
    assert box["width"] >= 90
    assert found.tiles.first.evaluate("img => getComputedStyle(img).imageRendering") == "pixelated"
    assert found.width() <= size[0], "the page scrolls sideways"
    keep_screenshot(found.page, f"digits-{size[0]}-{'dark' if dark else 'light'}")
    with found.page.expect_download() as download:
        found.part("download").click()
    download.value.save_as(tmp_path / "digits.png")
    with Image.open(tmp_path / "digits.png") as sheet:
        assert sheet.height == 28 * 8
        assert '"digits": "314"' in sheet.info["guided_diffusion_studio"]
    found.leave()


def keep_screenshot(page: Page, name: str) -> None:
    """Saves what a person would see, if `STUDIO_SCREENSHOTS` names a folder (`make pictures`)."""
    if folder := os.environ.get("STUDIO_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def test_one_press_draws_the_row_that_the_readme_shows(wide: Visit):
    wide.part("draw").click()
    expect(wide.status).to_contain_text("Done in")
    expect(wide.tiles).to_have_count(10)
    keep_screenshot(wide.page, "digits")


def test_stop_keeps_the_partial_picture_and_says_where_it_stopped(wide: Visit, meter: Meter):
    set_slider(wide.page, "num-inference-steps", 250)
    wide.draw("12")
    expect(wide.status).to_contain_text(re.compile(r"Step ([3-9]|\d\d+) of 250"))
    keep_screenshot(wide.page, "digits-mid-run")
    wide.part("stop").click()
    expect(wide.status).to_contain_text(re.compile(r"Stopped\. Step \d+ of 250"))
    expect(wide.tiles).to_have_count(2)
    assert meter.settled()
    assert meter.calls < 200
    set_slider(wide.page, "num-inference-steps", 2)
    wide.draw("3")
    expect(wide.status).to_contain_text("Done in")


def set_slider(page: Page, elem_id: str, value: float) -> None:
    number = page.locator(f"#{elem_id} input[type=number]")
    number.fill(str(value))
    number.press("Tab")


def test_stop_when_nothing_runs_changes_nothing(wide: Visit):
    wide.part("stop").click()
    wide.draw("1")
    expect(wide.status).to_contain_text("Done in")


@pytest.mark.parametrize(
    ("digits", "sentence"),
    [
        ("12x", "digits must be 1 to 64 characters 0-9, got '12x'"),
        ("", "digits must be 1 to 64 characters 0-9, got nothing"),
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
    expect(wide.text).to_have_value(digits)
    wide.draw("7")
    expect(wide.tiles).to_have_count(1)


def test_a_visitor_who_leaves_mid_run_leaves_no_thread_computing(
    browser: Browser, served: str, meter: Meter
):
    leaving = visit(browser, served)
    set_slider(leaving.page, "num-inference-steps", 250)
    leaving.draw("12")
    assert meter.started.wait(30)
    leaving.page.close()
    assert meter.settled()
    assert meter.calls < 200
    staying = visit(browser, served)
    set_slider(staying.page, "num-inference-steps", 2)
    staying.draw("3")
    expect(staying.status).to_contain_text("Done in")
    staying.leave()


def test_a_new_seed_draws_another_picture(wide: Visit):
    wide.draw("5")
    expect(wide.status).to_contain_text("seed 0")
    before = wide.tiles.first.get_attribute("src")
    wide.page.locator("#new-seed").click()
    expect(wide.page.locator("#seed input")).not_to_have_value("0")
    wide.draw("5")
    expect(wide.status).not_to_contain_text("seed 0,")
    expect(wide.status).to_contain_text("Done in")
    assert wide.tiles.first.get_attribute("src") != before


def test_every_conditioning_draws_and_a_blend_is_described(wide: Visit):
    for conditioning in ("cross-attention", "channels"):
        wide.page.get_by_label(conditioning, exact=True).check()
        wide.draw("8")
        expect(wide.status).to_contain_text(f"digits-{conditioning}")
    wide.page.locator("#blend-with input").click()
    wide.page.get_by_role("option", name="3", exact=True).click()
    wide.draw("8")
    expect(wide.tiles.first).to_have_attribute("alt", "Handwritten digit 8 blended with 3")


def test_the_keyboard_alone_draws(wide: Visit):
    wide.text.focus()
    wide.page.keyboard.press("Control+A")
    wide.page.keyboard.type("66")
    wide.page.keyboard.press("Enter")
    expect(wide.tiles).to_have_count(2)
    expect(wide.status).to_contain_text(f"{DigitsSettings.num_inference_steps} steps")


def test_the_colour_tab_is_the_first_and_is_open(browser: Browser, served: str):
    page = browser.new_page()
    page.goto(served)
    page.locator("#color-draw").wait_for()
    assert page.get_by_role("tab").all_inner_texts() == list(TABS)
    page.close()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
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
    expect(found.part("swatches")).to_contain_text(re.compile(r"ΔE \d+\.\d, unguided \d+\.\d"))
    reached = found.part("swatches").get_by_role("img")
    expect(reached).to_have_attribute(
        "aria-label", re.compile(r"Target #008080, reached #[0-9A-F]{6}")
    )
    plot = found.part("chart").get_by_role("img")
    expect(plot).to_be_visible()
    expect(plot.locator("polyline")).to_have_count(2)
    assert found.width() <= size[0], "the page scrolls sideways"
    keep_screenshot(found.page, f"color-{size[0]}-{'dark' if dark else 'light'}")
    with found.page.expect_download() as download:
        found.part("download").click()
    download.value.save_as(tmp_path / "painting.png")
    with Image.open(tmp_path / "painting.png") as sheet:
        assert sheet.size == (64 * 4, 64 * 4)
        assert '"color": "#008080"' in sheet.info["guided_diffusion_studio"]
    found.leave()


def test_four_paintings_are_what_the_readme_shows(browser: Browser, served: str):
    found = visit(browser, served, tab="Colour")
    set_slider(found.page, "color-num-images", 4)
    found.part("draw").click()
    expect(found.status).to_contain_text("Done in")
    expect(found.tiles).to_have_count(8)
    keep_screenshot(found.page, "color")
    found.leave()


def test_the_pair_and_the_plot_are_seen_while_they_form_and_stop_keeps_them(
    easel: Visit, meter: Meter
):
    set_slider(easel.page, "color-num-inference-steps", 250)
    easel.draw("gold")
    expect(easel.status).to_contain_text(re.compile(r"Step ([3-9]|\d\d+) of 250"))
    first = easel.sources()
    points = easel.part("chart").locator("polyline.line-0")
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
    expect(easel.part("swatches")).to_contain_text("Target #FFD700")
    assert meter.settled()
    assert meter.calls < 300
    hasten(easel)
    easel.draw("navy")
    expect(easel.status).to_contain_text("Done in")
    expect(easel.part("swatches")).to_contain_text("Target #000080")


@pytest.mark.usefixtures("tiny_checkpoints")
def test_a_swatch_pressed_just_before_paint_is_the_colour_that_is_painted(easel: Visit):
    for name, value in (("rose", "#D98AA5"), ("charcoal", "#3A3D42"), ("moss", "#6B7F3A")):
        easel.page.locator(f"#swatch-{name}").click()
        easel.part("draw").click()
        expect(easel.part("swatches")).to_contain_text(f"Target {value}")
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
@pytest.mark.parametrize("typed", ["notacolour", "", "#12345", "<b>red</b>"])
def test_a_bad_colour_shows_one_sentence_and_keeps_the_picture(easel: Visit, typed: str):
    easel.draw("gold")
    expect(easel.status).to_contain_text("Done in")
    before = easel.sources()
    easel.draw(typed)
    sentence = "color must be a colour such as #44CCAA, rgb(68, 204, 170) or teal, got"
    expect(easel.page.get_by_text(sentence)).to_be_visible()
    assert easel.sources() == before
    expect(easel.text).to_have_value(typed)
    easel.draw("navy")
    expect(easel.part("swatches")).to_contain_text("Target #000080")


@pytest.mark.usefixtures("tiny_checkpoints")
def test_the_slider_cuts_between_unguided_and_guided_and_stays_for_the_next_run(easel: Visit):
    easel.draw("gold")
    expect(easel.status).to_contain_text("Done in")
    before = easel.tiles.nth(1)
    expect(before).to_have_css("clip-path", "inset(0px 50% 0px 0px)")
    set_slider(easel.page, "color-cut", 25)
    expect(before).to_have_css("clip-path", "inset(0px 75% 0px 0px)")
    easel.draw("navy")
    expect(easel.part("swatches")).to_contain_text("Target #000080")
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
    expect(easel.part("swatches")).to_contain_text("Target #000080")


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
    expect(easel.part("swatches")).to_contain_text("Distance to the palette")
    expect(easel.part("swatches").get_by_role("img")).to_have_attribute(
        "aria-label", "Palette #102040 60, #FFD700 40"
    )
    expect(easel.status).to_contain_text("Done in")


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize(("tab", "wish"), [("Colour", "gold"), ("Text", "a spaceship and snow")])
def test_nothing_hangs_over_on_a_telephone_with_everything_open(
    browser: Browser, served: str, tab: str, wish: str
):
    found = visit(browser, served, NARROW, tab=tab)
    for name in ("more", "advanced"):
        found.part(name).get_by_role("button").first.click()
    hasten(found)
    set_slider(found.page, f"{TABS[tab]}-num-images", MAX_IMAGES)
    found.draw(wish)
    expect(found.status).to_contain_text("Done in")
    expect(found.tiles).to_have_count(2 * MAX_IMAGES)
    assert found.width() <= NARROW[0]
    hanging = """() => [...document.querySelectorAll('.gradio-container *')]
      .filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML)"""
    assert found.page.evaluate(hanging) == []
    found.leave()


def test_the_words_that_the_readme_shows_paint_four_pictures(browser: Browser, served: str):
    found = visit(browser, served, tab="Text")
    set_slider(found.page, "text-num-images", 4)
    found.part("method").get_by_label("thorough").check()
    found.draw("ships on the sea")
    expect(found.status).to_contain_text("Done in")
    expect(found.tiles).to_have_count(8)
    keep_screenshot(found.page, "text")
    found.leave()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_a_visitor_paints_what_words_say_and_saves_it(
    browser: Browser, served: str, tmp_path: Path, size: tuple[int, int], dark: bool
):
    found = visit(browser, served, size, dark, tab="Text")
    box = found.part("draw").bounding_box()
    assert box
    assert box["y"] + box["height"] < size[1], "Paint is not on the first screen"
    hasten(found)
    found.draw("ships on the sea")
    expect(found.status).to_contain_text("Done in")
    expect(found.status).to_contain_text("4 steps, seed 0, paintings")
    assert found.tiles.evaluate_all("all => all.map(img => img.alt)") == [
        "Picture guided towards the words: ships on the sea",
        "The same seed without guidance",
    ]
    one, other = found.sources()
    assert one != other
    reached = re.compile(r"Picture 1: -?\d\.\d\d, unguided -?\d\.\d\d")
    expect(found.part("scores")).to_contain_text(reached)
    plot = found.part("chart").get_by_role("img")
    expect(plot).to_be_visible()
    expect(plot.locator("polyline")).to_have_count(2)
    assert found.width() <= size[0], "the page scrolls sideways"
    keep_screenshot(found.page, f"text-{size[0]}-{'dark' if dark else 'light'}")
    with found.page.expect_download() as download:
        found.part("download").click()
    download.value.save_as(tmp_path / "painting.png")
    with Image.open(tmp_path / "painting.png") as sheet:
        assert sheet.size == (64 * 4, 64 * 4)
        inside = json.loads(sheet.info["guided_diffusion_studio"])
    assert inside["settings"]["prompt"] == "ships on the sea"
    assert inside["score"] == "cosine similarity"
    found.leave()


@pytest.mark.usefixtures("tiny_checkpoints")
def test_the_examples_are_those_that_work_on_the_chosen_model(desk: Visit):
    def example(words: str) -> Locator:
        return desk.page.get_by_role("button", name=words, exact=True)

    examples = desk.page.locator(".examples:visible")
    expect(examples).to_contain_text("These work on paintings:")
    example("ships on the sea").click()
    expect(desk.text).to_have_value("ships on the sea")
    desk.part("model").get_by_label("scenes").check()
    expect(examples).to_contain_text("These work on scenes:")
    expect(example("ships on the sea")).to_be_hidden()
    example("a glacier").click()
    desk.part("draw").click()
    expect(desk.status).to_contain_text("seed 0, scenes")
    expect(desk.tiles.first).to_have_attribute("alt", "Picture guided towards the words: a glacier")


@pytest.mark.usefixtures("tiny_checkpoints")
def test_words_that_the_clip_never_saw_are_named_until_they_are_gone(desk: Visit):
    unseen = desk.part("scores").locator(".unseen")
    desk.draw("<i>Zebra</i> in snow | a quagga:-0.5")
    expect(unseen).to_have_text(
        "clip-small never saw these words, and can only guess: i, zebra, quagga"
    )
    expect(desk.status).to_contain_text("Done in")
    desk.draw("a red rose")
    expect(desk.tiles.first).to_have_attribute(
        "alt", "Picture guided towards the words: a red rose"
    )
    expect(unseen).to_have_count(0)
    expect(desk.status).to_contain_text("Done in")


def test_stop_keeps_the_partial_picture_of_words_and_its_plot(desk: Visit, meter: Meter):
    set_slider(desk.page, "text-num-inference-steps", 250)
    desk.draw("snow")
    expect(desk.status).to_contain_text(re.compile(r"Step ([3-9]|\d\d+) of 250"))
    desk.part("stop").click()
    expect(desk.status).to_contain_text(re.compile(r"Stopped\. Step \d+ of 250"))
    expect(desk.tiles).to_have_count(2)
    points = desk.part("chart").locator("polyline.line-0")
    assert 3 <= len(str(points.get_attribute("points")).split()) < 250
    expect(desk.part("scores")).to_contain_text("unguided")
    assert meter.settled()
    assert meter.calls < 300
    hasten(desk)
    desk.draw("ships")
    expect(desk.status).to_contain_text("Done in")


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("", "prompt must be words such as a landscape with trees, or come with an image_prompt"),
        ("<b>snow</b>:9", "prompt must be sentences with weights from -5 to 5 other than 0"),
        (" ".join(["snow"] * 15), "prompt must be at most 14 tokens for clip-small"),
    ],
    ids=["empty", "weight", "too long"],
)
def test_bad_words_show_one_sentence_and_lose_nothing(desk: Visit, typed: str, sentence: str):
    desk.draw("snow")
    expect(desk.status).to_contain_text("Done in")
    before, scores = desk.sources(), desk.part("scores").inner_text()
    desk.draw(typed)
    expect(desk.page.get_by_text(sentence)).to_be_visible()
    assert desk.sources() == before
    assert desk.part("scores").inner_text() == scores
    expect(desk.text).to_have_value(typed)
    desk.draw("ships")
    expect(desk.tiles.first).to_have_attribute("alt", "Picture guided towards the words: ships")


@pytest.mark.usefixtures("tiny_checkpoints")
def test_a_picture_steers_alone_and_a_colour_beside_words(desk: Visit, tmp_path: Path):
    Image.new("RGBA", (300, 40), (200, 30, 30, 128)).save(tmp_path / "like.png")
    desk.part("more").get_by_role("button").first.click()
    # The picture first: a field loses what is typed within 50 ms of being unfolded.
    upload = desk.part("image-prompt")
    upload.locator("input[type=file]").set_input_files(tmp_path / "like.png")
    upload.locator("img").wait_for()
    desk.draw("")
    alone = "Picture guided towards an uploaded picture"
    expect(desk.tiles.first).to_have_attribute("alt", alone)
    expect(desk.status).to_contain_text("Done in")
    upload.get_by_role("button", name="Remove Image").click()
    expect(upload.locator("img")).to_have_count(0)
    color = desk.part("color").locator("input, textarea")
    color.fill("teal")
    expect(color).to_have_value("teal")
    desk.draw("snow")
    both = "Picture guided towards the words: snow, towards the colour #008080"
    expect(desk.tiles.first).to_have_attribute("alt", both)
    expect(desk.status).to_contain_text("Done in")


@pytest.mark.usefixtures("tiny_checkpoints")
def test_the_method_of_the_course_has_a_scale_of_its_own_for_words_and_guides_to_the_end(
    desk: Visit,
):
    scale = desk.page.locator("#text-guidance-scale input[type=number]")
    desk.part("advanced").get_by_role("button").first.click()
    stop = desk.page.locator("#text-guide-until input[type=number]")
    expect(stop).to_have_value("0.8")
    desk.part("method").get_by_label("course").check()
    expect(scale).to_have_value("8")
    expect(stop).to_have_value("1")
    desk.draw("snow")
    expect(desk.status).to_contain_text("Done in")
    desk.part("method").get_by_label("thorough").check()
    expect(scale).to_have_value("0.2")
    expect(stop).to_have_value("0.8")
    desk.draw("ships")
    expect(desk.tiles.first).to_have_attribute("alt", "Picture guided towards the words: ships")
    expect(desk.status).to_contain_text("Done in")


def test_the_about_tab_lists_the_checkpoints_and_the_limits(wide: Visit):
    wide.page.get_by_role("tab", name="About").click()
    page = wide.page.locator("#about-text")
    expect(page.locator("tbody tr")).to_have_count(8)
    for text in ("paintings", "scenes", "digits-cross-attention", "clip-small", "ViT-B-32-laion"):
        expect(page.locator("table")).to_contain_text(text)
    expect(page).to_contain_text("8 pictures of a colour or 64 digits, 250 steps")
    keep_screenshot(wide.page, "about")
