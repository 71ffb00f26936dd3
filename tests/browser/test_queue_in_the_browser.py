"""Waiting behind other visitors, and pressing again and again, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from gradio_client import Client
from playwright.sync_api import expect

from tests.browser.visits import Visit, keep_screenshot, set_slider
from tests.conftest import Meter

WAITING = re.compile(r"^Waiting: 1 run before yours(, done in about \d+ s)?$")


@contextmanager
def held(served: str, meter: Meter) -> Iterator[None]:
    """Another visitor draws, for as long as what is done inside takes."""
    meter.started.clear()
    job = Client(served, verbose=False).submit("1", num_inference_steps=250, api_name="/digits")
    assert meter.started.wait(30)
    yield
    job.cancel()


def test_who_waits_reads_how_many_runs_are_before_theirs(wide: Visit, served: str, meter: Meter):
    meter.seconds = 0.2
    line = wide.status.locator("p")
    with held(served, meter):
        wide.draw("2")
        expect(line).to_have_text(WAITING)
        expect(wide.status.locator("[data-testid=status-tracker]")).to_be_hidden()
        keep_screenshot(wide.page, "queue", whole=False)
        wide.page.locator("#language").get_by_label("中文").check()
        expect(line).to_have_text(re.compile("^正在等待：前面还有 1 个任务"))
        wide.page.locator("#language").get_by_label("English").check()
        expect(line).to_have_text(WAITING)
        wide.unfold("sweep")
        wide.part("sweep-columns-values").locator("input, textarea").fill("1-2")
        wide.part("sweep-draw").click()
        of_sweep = wide.part("sweep-status")
        expect(of_sweep).to_contain_text("Waiting: 2 runs before yours")
        wide.page.locator("#language").get_by_label("中文").check()
        expect(of_sweep).to_contain_text("正在等待：前面还有 2 个任务")
        expect(of_sweep.locator("[data-testid=status-tracker]")).to_be_hidden()
    meter.seconds = 0
    expect(wide.status).to_contain_text("完成")
    expect(line).not_to_contain_text("等待")
    expect(of_sweep).to_contain_text("完成")


def test_the_third_in_the_queue_reads_two_and_stop_ends_the_waiting(
    wide: Visit, served: str, meter: Meter
):
    meter.seconds = 0.2
    with held(served, meter):
        other = Client(served, verbose=False).submit("2", api_name="/digits")
        wide.page.wait_for_timeout(500)
        wide.draw("3")
        expect(wide.status).to_contain_text("Waiting: 2 runs before yours")
        other.cancel()
        expect(wide.status).to_contain_text("Waiting: 1 run before yours")
        wide.part("stop").click()
        expect(wide.status).to_contain_text("Ready.")


def test_paint_pressed_again_and_again_is_never_refused(wide: Visit, meter: Meter):
    refused = []
    wide.page.on("response", lambda r: refused.append(r.url) if r.status == 429 else None)
    for _ in range(12):  # more than an address may have
        wide.draw("1")
        wide.page.wait_for_timeout(60)
    for _ in range(3):
        wide.part("stop").click()
        wide.draw("2")
        wide.page.wait_for_timeout(60)
    set_slider(wide.page, "digits-num-inference-steps", 2)
    wide.finish("3")
    assert not refused


def test_a_refused_run_is_told_on_the_page(
    wide: Visit, served: str, meter: Meter, monkeypatch: pytest.MonkeyPatch
):
    with held(served, meter):
        monkeypatch.setenv("STUDIO_MAX_RUNS_PER_ADDRESS", "1")
        wide.draw("2")
        toast = wide.page.get_by_test_id("toast-body")
        expect(toast).to_contain_text("You have 1 runs waiting or running already, and 1 are")
        wide.problems.clear()  # the browser notes the status 429
