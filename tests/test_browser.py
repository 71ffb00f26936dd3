"""What a person does in a real Chromium, wide and narrow, light and dark."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from pipelines.settings import DigitsSettings
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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    system = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=system, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page and everything about it that must not happen."""

    page: Page
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

    @property
    def status(self):
        return self.page.locator("#digits-status")

    @property
    def tiles(self):
        return self.page.locator("#digits-result img")

    def draw(self, digits: str) -> None:
        self.page.locator("#digits-text input, #digits-text textarea").fill(digits)
        self.page.locator("#digits-draw").click()


def visit(browser: Browser, served: str, size: tuple[int, int] = WIDE, dark: bool = False) -> Visit:
    page = browser.new_page(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        accept_downloads=True,
    )
    page.set_default_timeout(TIMEOUT_MS)
    expect.set_options(timeout=TIMEOUT_MS)
    found = Visit(page)
    found.watch(served)
    page.goto(served + ("?__theme=dark" if dark else "?__theme=light"))
    page.locator("#digits-draw").wait_for()
    return found


@pytest.fixture
def wide(browser: Browser, served: str) -> Iterator[Visit]:
    found = visit(browser, served)
    yield found
    found.page.close()
    assert not found.problems


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
    width = found.page.evaluate("document.documentElement.scrollWidth")
    assert width <= size[0], "the page scrolls sideways"
    keep_screenshot(found.page, f"digits-{size[0]}-{'dark' if dark else 'light'}")
    with found.page.expect_download() as download:
        found.page.locator("#digits-download").click()
    download.value.save_as(tmp_path / "digits.png")
    with Image.open(tmp_path / "digits.png") as sheet:
        assert sheet.height == 28 * 8
        assert '"digits": "314"' in sheet.info["guided_diffusion_studio"]
    found.page.close()
    assert not found.problems


def keep_screenshot(page: Page, name: str) -> None:
    """Saves what a person would see, if `STUDIO_SCREENSHOTS` names a folder (`make pictures`)."""
    if folder := os.environ.get("STUDIO_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def test_one_press_draws_the_row_that_the_readme_shows(wide: Visit):
    wide.page.locator("#digits-draw").click()
    expect(wide.status).to_contain_text("Done in")
    expect(wide.tiles).to_have_count(10)
    keep_screenshot(wide.page, "digits")


def test_stop_keeps_the_partial_picture_and_says_where_it_stopped(wide: Visit, meter: Meter):
    set_slider(wide.page, "num-inference-steps", 250)
    wide.draw("12")
    expect(wide.status).to_contain_text(re.compile(r"Step ([3-9]|\d\d+) of 250"))
    keep_screenshot(wide.page, "digits-mid-run")
    wide.page.locator("#digits-stop").click()
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
    wide.page.locator("#digits-stop").click()
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
    before = wide.tiles.evaluate_all("all => all.map(img => img.src)")
    wide.draw(digits)
    expect(wide.page.get_by_text(sentence)).to_be_visible()
    assert wide.tiles.evaluate_all("all => all.map(img => img.src)") == before
    expect(wide.page.locator("#digits-text input, #digits-text textarea")).to_have_value(digits)
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
    staying.page.close()
    assert not staying.problems


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
    text = wide.page.locator("#digits-text input, #digits-text textarea")
    text.focus()
    wide.page.keyboard.press("Control+A")
    wide.page.keyboard.type("66")
    wide.page.keyboard.press("Enter")
    expect(wide.tiles).to_have_count(2)
    expect(wide.status).to_contain_text(f"{DigitsSettings.num_inference_steps} steps")


def test_the_about_tab_lists_the_checkpoints(wide: Visit):
    wide.page.get_by_role("tab", name="About").click()
    table = wide.page.locator("#about-text table")
    expect(table.locator("tbody tr")).to_have_count(3)
    expect(table).to_contain_text("digits-cross-attention")
    keep_screenshot(wide.page, "about")
