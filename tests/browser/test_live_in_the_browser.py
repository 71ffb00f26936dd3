"""That a live page draws what its controls say, and that nothing is drawn twice."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from pipelines.runs import timing
from pipelines.runs.timing import Estimator
from tests.browser.visits import Visit, facts_in, hasten, set_slider, visit
from tests.conftest import Meter


@pytest.fixture
def live(browser: Browser, served: str, tiny_checkpoints: Path) -> Callable[[str], Visit]:
    """A live tab of which one picture was drawn."""

    def opened(tab: str) -> Visit:
        found = visit(browser, served, tab=tab)
        hasten(found)
        found.finish()
        found.part("live").locator("input").check()
        return found

    return opened


def drag(found: Visit, name: str, share: float) -> None:
    """Moves a slider with the mouse, and lets it go."""
    slider = found.part(name).locator("input[type=range]")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    assert box
    y = box["y"] + box["height"] / 2
    found.page.mouse.move(box["x"] + box["width"] / 2, y)
    found.page.mouse.down()
    found.page.mouse.move(box["x"] + box["width"] * share, y, steps=5)
    found.page.mouse.up()


def test_a_slider_let_go_by_mouse_or_key_is_what_is_drawn_and_once(
    live: Callable[[str], Visit], begun: list[str], tmp_path: Path
):
    found = live("Colour")
    scale = found.number("guidance-scale")
    with found.drawn_anew("seed 0"):
        drag(found, "guidance-scale", 0.8)
    dragged = float(scale.input_value())
    assert dragged > 0.3
    facts = facts_in(found.save(tmp_path / "dragged.png"))
    assert facts["settings"]["guidance_scale"] == pytest.approx(dragged)
    found.part("guidance-scale").locator("input[type=range]").focus()
    with found.drawn_anew("seed 0"):
        found.page.keyboard.press("ArrowLeft")
    facts = facts_in(found.save(tmp_path / "keyed.png"))
    assert facts["settings"]["guidance_scale"] == pytest.approx(dragged - 0.01)
    assert len(begun) == 3
    with found.drawn_anew("seed 0"):
        found.part("guidance-scale").locator(".reset-button").click()
    expect(scale).to_have_value("0.2")
    assert len(begun) == 4
    found.leave()


def test_the_method_of_the_course_is_drawn_at_its_own_scale(
    live: Callable[[str], Visit], begun: list[str], tmp_path: Path
):
    found = live("Colour")
    with found.drawn_anew("seed 0"):
        found.part("method").get_by_label("course").check()
    settings = facts_in(found.save(tmp_path / "course.png"))["settings"]
    assert (settings["method"], settings["guidance_scale"]) == ("course", 40)
    assert len(begun) == 2
    found.leave()


def test_a_new_seed_and_a_choice_from_a_list_draw_with_what_they_chose(
    live: Callable[[str], Visit], begun: list[str]
):
    found = live("Digits")
    before = found.sources()
    found.part("blend-with").locator("input").click()
    with found.drawn_anew("seed 0"):
        found.page.get_by_role("option", name="3", exact=True).click()
    expect(found.tiles.first).to_have_attribute("alt", "Handwritten digit 0 blended with 3")
    with found.drawn_anew():
        found.part("new-seed").click()
    expect(found.status).to_contain_text(f"seed {found.number('seed').input_value()},")
    assert found.sources() != before
    assert len(begun) == 3
    found.part("live").locator("input").uncheck()
    drag(found, "cfg-scale", 0.9)
    found.finish()
    assert len(begun) == 4, "it was drawn though live is off"
    found.leave()


def test_of_many_moves_in_a_run_the_last_is_drawn_and_the_others_end(
    browser: Browser, served: str, meter: Meter, tmp_path: Path
):
    found = visit(browser, served, tab="Text")
    hasten(found, 60)
    found.part("live").locator("input").check()
    found.part("draw").click()
    expect(found.status).to_contain_text(re.compile(r"Step ([3-9]|\d\d) of 60"))
    found.part("guidance-scale").locator("input[type=range]").focus()
    for _ in range(5):
        found.page.keyboard.press("ArrowRight")
    expect(found.number("guidance-scale")).to_have_value("0.25")
    set_slider(found.page, "text-num-inference-steps", 5)
    expect(found.status).to_contain_text("Done in")
    expect(found.status).to_contain_text("5 steps, seed 0")
    assert meter.settled()
    assert meter.calls < 120, "less than one whole run of 60 steps, guided and unguided"
    assert meter.most_at_once == 1
    settings = facts_in(found.save(tmp_path / "last.png"))["settings"]
    assert (settings["guidance_scale"], settings["num_inference_steps"]) == (0.25, 5)
    found.leave()


@pytest.mark.parametrize("stop", [False, True], ids=["again", "stop and again"])
def test_paint_in_a_run_draws_one_more_picture_and_not_two(
    browser: Browser, served: str, meter: Meter, begun: list[str], stop: bool
):
    found = visit(browser, served, tab="Colour")
    hasten(found, 40)
    found.part("draw").click()
    expect(found.status).to_contain_text(re.compile(r"Step ([5-9]|\d\d) of 40"))
    if stop:
        found.part("stop").click()
        expect(found.status).to_contain_text("Stopped.")
    before = meter.calls
    found.part("draw").click()
    expect(found.status).to_contain_text(re.compile(r"Starting|Step [1-4] of 40"))
    expect(found.status).to_contain_text("Done in")
    assert meter.settled()
    assert len(begun) == 2
    assert 80 <= meter.calls - before < 120, "one whole run, and the end of the one before"
    assert meter.most_at_once == 1
    found.leave()


def test_a_run_is_estimated_before_it_and_counted_down_while_it_lasts(
    browser: Browser, served: str, meter: Meter, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(timing, "estimator", Estimator())
    found = visit(browser, served, tab="Colour")
    hasten(found)
    found.finish("gold")
    about = re.compile(r"About ([\d.]+) s on this device")
    for name, value in (("num-inference-steps", 40), ("num-images", 2)):
        expect(found.part("estimate")).to_contain_text(about)
        told = about.search(found.part("estimate").inner_text())
        assert told
        set_slider(found.page, f"color-{name}", value)
        found.page.wait_for_function(
            "before => /About ([\\d.]+) s/.exec(document.querySelector('#color-estimate')"
            ".innerText)?.[1] > 1.2 * before",
            arg=float(told[1]),
        )
    found.part("draw").click()
    expect(found.status).to_contain_text(re.compile(r"Step [3-9] of 40, about [1-9][\d.]* s left"))
    found.part("stop").click()
    expect(found.status).to_contain_text("Stopped.")
    assert meter.settled()
    found.leave()
