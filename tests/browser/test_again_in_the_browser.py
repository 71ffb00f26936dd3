"""That everything unusual comes back from a saved picture, and that a stopped sweep is kept."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, expect

from tests.browser.visits import Visit, arrive, facts_in, hasten, set_slider, visit
from tests.conftest import Meter


def field(found: Visit, name: str) -> Locator:
    return found.part(name).locator("input, textarea").first


def of_colors(found: Visit, folder: Path) -> None:
    mask = Image.new("L", (48, 48))
    mask.paste(255, (0, 0, 24, 48))
    mask.save(folder / "mask.png")
    found.unfold("more", "advanced")
    found.part("mask").locator("input[type=file]").set_input_files(folder / "mask.png")
    found.part("mask").locator("img").wait_for()
    found.part("symmetry").get_by_label("left-right").check()
    set_slider(found.page, "color-brightness", 0.3)
    set_slider(found.page, "color-guide-until", 0.9)
    set_slider(found.page, "color-num-images", 2)
    found.part("model").get_by_label("scenes").check()
    found.text.fill("rgb(200, 30, 30)")


def of_words(found: Visit, folder: Path) -> None:
    Image.new("RGB", (90, 60), (200, 30, 30)).save(folder / "like.png")
    found.unfold("more", "advanced")
    found.part("image-prompt").locator("input[type=file]").set_input_files(folder / "like.png")
    found.part("image-prompt").locator("img").wait_for()
    field(found, "color").fill("teal")
    field(found, "negative-prompt").fill("people")
    set_slider(found.page, "text-cutouts", 2)
    set_slider(found.page, "text-repeats", 1)
    found.text.fill("snow:0.5 | ships")


def of_digits(found: Visit, folder: Path) -> None:
    found.unfold("advanced")
    found.part("conditioning").get_by_label("channels").check()
    found.part("solver").get_by_label("ddim").check()
    set_slider(found.page, "digits-eta", 0.5)
    set_slider(found.page, "digits-cfg-scale", 4.5)
    set_slider(found.page, "digits-blend", 0.3)
    found.part("blend-with").locator("input").click()
    found.page.get_by_role("option", name="6", exact=True).click()
    found.text.fill("314")


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize(
    ("tab", "set_up"), [("Colour", of_colors), ("Text", of_words), ("Digits", of_digits)]
)
def test_every_unusual_setting_and_upload_comes_back_from_a_saved_picture(
    browser: Browser, served: str, tmp_path: Path, tab: str, set_up: Callable[[Visit, Path], None]
):
    found = visit(browser, served, tab=tab)
    hasten(found)
    set_up(found, tmp_path)
    found.finish()
    saved = found.save(tmp_path / "saved.png")
    before = found.sources()
    found.leave()
    again = arrive(browser, served)
    again.open_file(saved)
    again.tab = tab
    expect(again.status).to_contain_text("Brought back: the same settings")
    again.finish()
    assert again.sources() == before
    settings = facts_in(saved)["settings"]
    assert facts_in(again.save(tmp_path / "again.png"))["settings"] == settings
    again.leave()


def test_stop_keeps_the_cells_of_a_sweep_that_were_drawn(
    browser: Browser, served: str, meter: Meter
):
    found = visit(browser, served, tab="Digits")
    found.unfold("sweep")
    found.part("sweep-rows").locator("input").click()
    found.page.get_by_role("option", name="Steps", exact=True).click()
    rows = field(found, "sweep-rows-values")
    expect(rows).to_have_value("5, 10, 20, 50")
    found.page.wait_for_timeout(200)  # Gradio takes back what is typed sooner
    rows.fill("20, 21")
    field(found, "sweep-columns-values").fill("1-3")
    found.part("sweep-draw").click()
    status, cells = found.part("sweep-status"), found.part("sweep-grid").locator("td img")
    expect(status).to_contain_text(re.compile(r"Cell [23] of 6, about \d+ s left"))
    found.part("sweep-stop").click()
    expect(status).to_contain_text("Stopped")
    expect(found.part("sweep-download")).to_be_enabled()
    kept = cells.count()
    assert 1 <= kept <= 3
    assert meter.settled()
    assert cells.count() == kept
    assert meter.calls < 80, "of 123"
    found.finish("4")
    found.leave()
