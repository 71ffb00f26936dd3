"""Waiting behind other visitors, and pressing again and again, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.visits import Visit, keep_screenshot, set_slider, visit
from tests.conftest import Meter

WAITING = re.compile(r"^Waiting: 1 run before yours(, done in about \d+ s)?$")


@pytest.fixture
def two(browser: Browser, served: str, meter: Meter) -> Iterator[tuple[Visit, Visit]]:
    """Two visitors at the Digits tab."""
    visitors = visit(browser, served), visit(browser, served)
    yield visitors
    for visitor in visitors:
        visitor.leave()
    assert meter.settled()


def test_who_waits_reads_how_many_runs_are_before_theirs(
    two: tuple[Visit, Visit], meter: Meter, tmp_path: Path
):
    one, other = two
    one.finish("1")  # from now on Gradio knows how long a run takes
    set_slider(one.page, "digits-num-inference-steps", 150)
    meter.started.clear()
    one.draw("1")
    assert meter.started.wait(20)
    other.draw("2")
    line = other.status.locator("p")
    expect(line).to_have_text(WAITING)
    tracker = other.status.locator("[data-testid=status-tracker]")
    expect(tracker).to_be_hidden()
    keep_screenshot(other.page, "queue", whole=False)
    other.page.locator("#language").get_by_label("中文").check()
    expect(line).to_have_text(re.compile("^正在等待：前面还有 1 个任务"))
    other.page.locator("#language").get_by_label("English").check()
    expect(line).to_have_text(WAITING)
    one.part("stop").click()
    expect(other.status).to_contain_text("Done in")
    expect(line).not_to_contain_text("Waiting")


def test_the_third_in_the_queue_reads_two(browser: Browser, two: tuple[Visit, Visit], served: str):
    third = visit(browser, served)
    set_slider(two[0].page, "digits-num-inference-steps", 150)
    two[0].draw("1")
    expect(two[0].status).to_contain_text("Step")
    two[1].draw("2")
    expect(two[1].status).to_contain_text("Waiting: 1 run before yours")
    third.draw("3")
    expect(third.status).to_contain_text("Waiting: 2 runs before yours")
    two[1].part("stop").click()
    expect(third.status).to_contain_text("Waiting: 1 run before yours")
    expect(two[1].status.locator("p")).not_to_contain_text("Waiting")
    two[0].part("stop").click()
    expect(third.status).to_contain_text("Done in")
    third.leave()


def test_paint_pressed_again_and_again_is_never_refused(two: tuple[Visit, Visit]):
    page = two[0]
    set_slider(page.page, "digits-num-inference-steps", 100)
    refused = []
    page.page.on("response", lambda r: refused.append(r.url) if r.status == 429 else None)
    for _ in range(25):
        page.draw("1")
        page.page.wait_for_timeout(120)
    for _ in range(5):
        page.part("stop").click()
        page.draw("2")
        page.page.wait_for_timeout(60)
    set_slider(page.page, "digits-num-inference-steps", 4)
    page.finish("3")
    assert not refused


def test_a_refused_run_is_told_on_the_page(
    two: tuple[Visit, Visit], monkeypatch: pytest.MonkeyPatch
):
    one, other = two
    monkeypatch.setenv("STUDIO_MAX_RUNS_PER_ADDRESS", "1")
    set_slider(one.page, "digits-num-inference-steps", 150)
    one.draw("1")
    expect(one.status).to_contain_text("Step")
    other.draw("2")
    toast = other.page.get_by_test_id("toast-body")
    expect(toast).to_contain_text("You have 1 runs waiting or running already, and 1 are allowed")
    other.problems.clear()  # the browser notes the status 429
    one.part("stop").click()
    expect(one.status).to_contain_text("Stopped")
