"""Runs that nobody reads end, and runs that are read late do not; real requests and streams."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from gradio_client import Client

from pipelines.models import checkpoints
from tests.conftest import Meter

pytestmark = pytest.mark.alone  # they measure seconds

UNHEARD = "Nobody waited for this run any more, so it was ended."


@pytest.fixture
def url(served: str, meter: Meter, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The app; 2 s pass before a run ends that nobody reads."""
    monkeypatch.setenv("STUDIO_UNHEARD_RUNNING_SECONDS", "2")
    monkeypatch.setenv("STUDIO_UNHEARD_WAITING_SECONDS", "3")
    yield served
    assert meter.settled()


def post(url: str, steps: int, **more: Any) -> str:
    body = {"data": ["1", 1.0, steps], **more}
    return httpx.post(f"{url}gradio_api/call/digits", json=body).json()["event_id"]


def read(url: str, event: str) -> tuple[str, Any]:
    """The last event of a stream, and its data."""
    text = httpx.get(f"{url}gradio_api/call/digits/{event}", timeout=60).text
    kind, data = text.strip().split("\n\n")[-1].split("\n")
    return kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))


@pytest.mark.thorough
def test_a_run_that_nobody_reads_ends_and_says_so_to_who_comes_late(url: str, meter: Meter):
    event = post(url, 250)
    assert meter.started.wait(20)
    started = time.monotonic()
    assert meter.settled()
    assert time.monotonic() - started < 10
    assert meter.calls < 200
    kind, answer = read(url, event)
    assert kind == "error"
    assert answer["error"] == UNHEARD


@pytest.mark.thorough
def test_a_waiting_run_that_nobody_reads_leaves_the_queue(url: str, meter: Meter):
    client = Client(url, verbose=False)
    job = client.submit("1", num_inference_steps=60, api_name="/digits")
    assert meter.started.wait(20)
    event = post(url, 250)
    before = time.monotonic()
    assert job.result(timeout=60)[1]["step"] == 60  # what is read is not disturbed
    assert time.monotonic() - before > 3
    kind, answer = read(url, event)
    assert (kind, answer["error"]) == ("error", UNHEARD)
    assert meter.settled()
    assert meter.calls == 2 * 60


@pytest.mark.thorough
def test_a_stream_that_is_opened_late_gets_the_whole_run(url: str, meter: Meter):
    event = post(url, 60)
    assert meter.started.wait(20)
    time.sleep(1)
    kind, answer = read(url, event)
    assert kind == "complete"
    assert answer[1]["step"] == 60


@pytest.mark.thorough
def test_one_stream_of_a_session_is_enough_for_all_its_runs(url: str, meter: Meter):
    events = [post(url, 40, session_hash="two runs") for _ in range(2)]
    finished = []
    with httpx.stream(
        "GET", f"{url}gradio_api/queue/data?session_hash=two%20runs", timeout=60
    ) as stream:
        for line in stream.iter_lines():
            if "process_completed" in line:
                finished.append(json.loads(line.removeprefix("data: ")))
    assert [message["event_id"] for message in finished] == events
    assert all(message["success"] for message in finished)


@pytest.mark.thorough
def test_a_stream_that_is_closed_ends_the_run(url: str, meter: Meter):
    event = post(url, 250)
    with httpx.stream("GET", f"{url}gradio_api/call/digits/{event}", timeout=60) as stream:
        next(stream.iter_lines())
    assert meter.settled()
    assert meter.calls < 200


@pytest.mark.thorough
def test_the_next_visitor_waits_only_for_what_nobody_reads_to_end(
    url: str, meter: Meter, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("STUDIO_TRUSTED_PROXIES", "127.0.0.1")  # whose visitors these are
    for i in range(8):
        httpx.post(
            f"{url}gradio_api/call/digits",
            json={"data": ["1", 1.0, 250]},
            headers={"X-Forwarded-For": f"5.5.5.{i}"},
        )
    started = time.monotonic()
    client = Client(url, verbose=False)
    assert client.predict("1", num_inference_steps=1, api_name="/digits")[1]["step"] == 1
    assert time.monotonic() - started < 20


@pytest.mark.thorough
def test_a_run_that_loads_for_long_ends_when_nobody_reads_it(
    url: str, meter: Meter, monkeypatch: pytest.MonkeyPatch
):
    loading, ended, load = threading.Event(), threading.Event(), checkpoints.load

    def slow_load(key: str) -> checkpoints.Loaded:
        if key.startswith("digits"):
            loading.set()
            ended.wait(30)
        return load(key)

    monkeypatch.setattr(checkpoints, "load", slow_load)
    event = post(url, 1)
    assert loading.wait(20)
    started = time.monotonic()
    client = Client(url, verbose=False)
    assert client.predict("gold", num_inference_steps=1, method="fast", api_name="/color")
    assert time.monotonic() - started < 25
    ended.set()
    kind, answer = read(url, event)
    assert (kind, answer["error"]) == ("error", UNHEARD)


@pytest.mark.parametrize("path", ["queue/data?session_hash=nobody", "call/digits/nothing"])
def test_a_stream_that_is_not_there_is_told_before_it_begins(served: str, path: str):
    answer = httpx.get(f"{served}gradio_api/{path}", timeout=20)
    assert answer.status_code == 404
    assert answer.json()["detail"].startswith("No run of this name waits")
