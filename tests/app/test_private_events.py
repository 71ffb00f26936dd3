"""Every event of the page refuses whatever is no value of its controls with one sentence."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from gradio.block_function import BlockFunction

import app
from tests.conftest import Meter

TOKEN = "0123456789abcdef:1"
WRONG: list[Any] = [None, "x", "\ud800", -1, 2.5, 1e400, True, [], {}]
WRONG += [[None], "9" * 400, {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}]


@pytest.fixture(scope="module")
def functions() -> dict[int, BlockFunction]:
    demo = app.build_demo()
    return {
        number: fn
        for number, fn in demo.fns.items()
        if fn.api_visibility != "public" and fn.fn is not None
    }


@pytest.fixture
def server(served: str, meter: Meter, caplog: pytest.LogCaptureFixture) -> Iterator[httpx.Client]:
    """A client of the app; afterwards, nothing unexpected may have been logged."""
    meter.seconds = 0
    with caplog.at_level(logging.ERROR), httpx.Client(base_url=served, timeout=60) as client:
        yield client
    assert "incident" not in caplog.text
    assert "Traceback" not in caplog.text
    assert meter.settled()


def values_of(function: BlockFunction) -> list[Any]:
    """The values that the page begins with."""
    return [getattr(block, "value", TOKEN) for block in function.inputs]


def bodies(function: BlockFunction) -> Iterator[dict[str, Any]]:
    """Requests with wrong values everywhere, in one place, too few and too many of them."""
    good = values_of(function)
    for wrong in WRONG:
        yield {"data": [wrong] * len(good)}
    for i in range(len(good)):
        wrong = WRONG[i % len(WRONG)]
        yield {"data": [*good[:i], wrong, *good[i + 1 :]]}
    yield {"data": []}
    yield {"data": [None] * (len(good) + 3)}
    if function.collects_event_data:
        for wrong in (*WRONG, *({"name": name} for name in WRONG)):
            yield {"data": good, "event_data": wrong}


def send(server: httpx.Client, path: str, body: dict[str, Any]) -> httpx.Response:
    headers = {"Content-Type": "application/json"}
    return server.post(f"gradio_api/{path}", content=json.dumps(body), headers=headers)


def assert_told(answer: dict[str, Any], body: dict[str, Any]) -> None:
    """Asserts that an error is a sentence."""
    text = answer.get("error")
    assert isinstance(text, str), body
    assert len(text) > 20, body
    assert "Something went wrong" not in text, body


@pytest.mark.thorough
def test_an_event_that_is_answered_at_once_tells_what_is_wrong(
    functions: dict[int, BlockFunction], server: httpx.Client, capfd: pytest.CaptureFixture[str]
):
    answered = 0
    for number, function in functions.items():
        if function.queue is False:
            for body in bodies(function):
                answer = send(server, "run/predict", body | {"fn_index": number})
                answered += 1
                if answer.status_code != 200:
                    assert_told(answer.json(), {"function": function.name} | body)
    assert answered > 300
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.thorough
def test_an_event_of_the_queue_tells_what_is_wrong(
    functions: dict[int, BlockFunction], server: httpx.Client, capfd: pytest.CaptureFixture[str]
):
    answered = 0
    for number, function in functions.items():
        if function.queue is False:
            continue
        for i, body in enumerate(list(bodies(function))[:16]):
            session = f"wrong-{number}-{i}"
            joined = body | {"fn_index": number, "session_hash": session}
            admitted = send(server, "queue/join", joined)
            answered += 1
            if admitted.status_code != 200:  # refused before the queue
                assert admitted.status_code == 400
                assert_told({"error": admitted.json()["detail"]}, joined)
                continue
            stream = server.get("gradio_api/queue/data", params={"session_hash": session}).text
            messages = [json.loads(line[6:]) for line in stream.splitlines() if line]
            done = next(m for m in messages if m["msg"] == "process_completed")
            if not done["success"]:
                assert_told(done["output"], {"function": function.name} | body)
    assert answered > 80
    assert "Traceback" not in capfd.readouterr().err


def test_a_run_with_a_made_up_token_is_refused_by_name(
    functions: dict[int, BlockFunction], server: httpx.Client
):
    number, draw = next(
        (n, f) for n, f in functions.items() if f.queue is not False and f.name == "draw"
    )
    data = ["a page:1", "zh", *values_of(draw)[2:]]
    body = {"data": data, "fn_index": number, "session_hash": "made up"}
    send(server, "queue/join", body)
    stream = server.get("gradio_api/queue/data", params={"session_hash": "made up"}).text
    assert (
        "16 位十六进制数字"
        in json.loads(
            next(line[6:] for line in stream.splitlines() if "process_completed" in line)
        )["output"]["error"]
    )
