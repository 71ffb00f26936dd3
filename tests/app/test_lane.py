"""The deadline of everything that uses the lane: runs, sweeps, and the loading within them."""

from __future__ import annotations

import threading
import time
from typing import Any

import gradio as gr
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from pipelines.core.rules import SettingsError
from pipelines.models import checkpoints
from pipelines.products import digits
from pipelines.products.settings import DigitsSettings
from pipelines.runs import zero_gpu
from pipelines.runs.sweep import parse_axis
from pipelines.runs.timing import estimator
from tabs import lane, results, sweeps
from tabs.lane import Overtime, Turn
from tests.conftest import Meter

ROWS = parse_axis(DigitsSettings, "seed", "0-2")
COLUMNS = parse_axis(DigitsSettings, "digits", "0-3")


def test_before_the_deadline_a_turn_goes_on_and_after_it_not():
    turn = Turn("zh", seconds=0.05)
    turn.check("status.deadline", step=1, total=2)
    time.sleep(0.1)
    with pytest.raises(Overtime, match=r"已运行 0\.05 秒，在第 1 步停止，共 2 步"):
        turn.check("status.deadline", step=1, total=2)


def test_a_step_that_would_pass_the_deadline_is_not_begun():
    turn = Turn(seconds=1.0)
    time.sleep(0.6)
    with pytest.raises(Overtime, match="at step 1 of 2"):
        turn.check("status.deadline", step=1, total=2)


def test_what_loads_for_too_long_is_not_waited_for():
    ended = threading.Event()
    before = time.monotonic()
    with pytest.raises(Overtime, match="while the model was loading"):
        Turn(seconds=0.2).wait(lambda: ended.wait(20))
    ended.set()
    assert time.monotonic() - before < 5


def test_what_is_waited_for_gives_its_value_or_its_error():
    assert Turn().wait(lambda: 7) == 7
    with pytest.raises(SettingsError):
        Turn().wait(lambda: parse_axis(DigitsSettings, "no such", "1"))


def test_cancelling_a_run_that_loads_frees_the_lane_and_draws_nothing(
    served: str, meter: Meter, monkeypatch: pytest.MonkeyPatch
):
    loads, loaded, load = threading.Event(), threading.Event(), checkpoints.load

    def slow(*args: Any, **kwargs: Any) -> Any:
        loads.set()
        loaded.wait(30)
        return load(*args, **kwargs)

    monkeypatch.setattr(checkpoints, "load", slow)
    client = Client(served, verbose=False)
    job = client.submit("1", api_name="/digits")
    assert loads.wait(20)
    before = time.monotonic()
    job.cancel()
    with pytest.raises(AppError, match="'12x'"):  # another run has its turn
        client.predict("12x", api_name="/digits")
    seconds = time.monotonic() - before
    loaded.set()
    assert meter.settled()
    assert not meter.calls
    assert seconds < 5


def test_the_deadline_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    assert lane.deadline_seconds() == 300
    monkeypatch.setenv("STUDIO_DEADLINE_SECONDS", "60")
    assert lane.deadline_seconds() == 60


def test_on_zero_gpu_a_run_has_at_most_its_lease(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pipelines.core.devices.ZERO_GPU", True)
    assert lane.deadline_seconds() == zero_gpu.MAX_SECONDS
    monkeypatch.setenv("STUDIO_DEADLINE_SECONDS", "60")
    assert lane.deadline_seconds() == 60


def test_a_sweep_past_its_deadline_ends_and_keeps_its_cells(meter: Meter):
    turn = Turn(seconds=1.5)
    states = sweeps._in_time(
        digits.PRODUCT, DigitsSettings(num_inference_steps=6), ROWS, COLUMNS, turn
    )
    seen = []
    with pytest.raises(Overtime) as caught:
        seen.extend(states)
    state = seen[-1]
    assert 0 < state.done < state.total == 12
    sentence = caught.value.message
    assert sentence.startswith(f"Stopped after 1.5 seconds at cell {state.done + 1} of 12.")
    assert sentence in sweeps._failed_status(state, "en", caught.value)
    assert sum(p is not None for row in state.pictures for p in row) >= state.done


@pytest.mark.usefixtures("tiny_checkpoints")
def test_what_cannot_end_in_time_is_refused_before_it_begins(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(estimator, "_runs", {})
    settings = DigitsSettings(num_inference_steps=250)
    estimator.note(digits.PRODUCT.work(settings), 1000)
    with pytest.raises(SettingsError, match=r"about 1,000 s, and a run may take 300 s; \d+ steps"):
        digits.PRODUCT.run(settings, limit_seconds=300)
    with pytest.raises(SettingsError, match=r"12 cells of 250 steps .* would end in time"):
        sweeps._in_time(digits.PRODUCT, settings, ROWS, COLUMNS, Turn())


def test_the_status_of_a_run_past_its_deadline_says_that_its_picture_stays():
    error = Overtime("Stopped after 300 seconds at step 7 of 9.")
    assert "step 7 of 9" in results.failure_updates("en", error)["status"]
    assert "Nothing was drawn" in results.failure_updates("en", gr.Error("other"))["status"]
