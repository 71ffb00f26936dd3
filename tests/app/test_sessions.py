"""What Gradio keeps of every session and call is bounded, however the app is served."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import gradio as gr
import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from gradio import routes

import app
from benchmarks.soak.server import free_port
from tabs.server import sessions
from tabs.server.sessions import UNREAD_SECONDS
from tests.conftest import serve

FEW = 5


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_MAX_SESSIONS", str(FEW))


@contextmanager
def launched() -> Iterator[tuple[str, Any]]:
    demo = app.build_demo()
    _, url, _ = demo.launch(
        server_port=free_port(), prevent_thread_lock=True, quiet=True, **app.launch_options()
    )
    try:
        yield url, demo
    finally:
        demo.close()


@contextmanager
def mounted() -> Iterator[tuple[str, Any]]:
    demo, server = app.build_demo(), FastAPI()
    whole = gr.mount_gradio_app(server, demo, "/", **app.launch_options())
    uvicorn_server = uvicorn.Server(uvicorn.Config(whole, port=0, log_level="error"))
    thread = threading.Thread(target=uvicorn_server.run, daemon=True)
    thread.start()
    while not uvicorn_server.started:
        time.sleep(0.05)
    port = uvicorn_server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/", demo
    finally:
        uvicorn_server.should_exit = True
        thread.join(20)


def call(url: str, name: str, *values: Any) -> str:
    """The stream of a call, which is a session of its own."""
    address = f"{url}gradio_api/call/{name}"
    event = httpx.post(address, json={"data": values}).json()["event_id"]
    return httpx.get(f"{address}/{event}", timeout=60).text


@pytest.mark.parametrize("served", [launched, mounted])
@pytest.mark.thorough
def test_only_a_few_sessions_are_kept_whichever_way_the_app_is_served(served: Any):
    with served() as (url, demo):
        for _ in range(2 * FEW):
            assert "event: complete" in call(url, "checkpoints")
        assert len(demo.state_holder.session_data) <= FEW
        assert len(demo.state_holder.time_last_used) <= FEW
        deadline = time.monotonic() + 20
        while demo._queue.event_ids_to_events and time.monotonic() < deadline:
            time.sleep(0.1)  # Gradio sums up the last call
        assert demo._queue.event_ids_to_events == {}


@pytest.mark.thorough
def test_a_launch_with_options_of_its_own_keeps_few_sessions_too():
    demo = app.build_demo()
    try:
        demo.launch(server_port=free_port(), prevent_thread_lock=True, quiet=True)
        assert demo.state_holder.capacity == FEW
    finally:
        demo.close()


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.thorough
def test_a_visitor_whose_session_was_dropped_paints_on():
    with launched() as (url, demo):
        (paint,) = [
            fn
            for fn in demo.fns.values()
            if fn.api_name == "color" and fn.api_visibility == "public"
        ]
        body = {"data": ["gold", 0.2, 2], "fn_index": paint._id, "session_hash": "visitor"}
        for _ in range(2):
            joined = httpx.post(f"{url}gradio_api/queue/join", json=body)
            assert joined.status_code == 200
            stream = httpx.get(
                f"{url}gradio_api/queue/data", params={"session_hash": "visitor"}, timeout=60
            )
            assert '"msg":"process_completed"' in stream.text
            assert '"success":true' in stream.text
            for _ in range(2 * FEW):
                call(url, "checkpoints")
            assert "visitor" not in demo.state_holder.session_data


@pytest.mark.thorough
def test_analytics_keep_few_events_and_uploads_little_progress():
    with serve() as url:
        for number in range(sessions._MAX_UPLOADS + 10):
            files = {"files": ("a.txt", b"a")}
            httpx.post(f"{url}gradio_api/upload", params={"upload_id": f"u{number}"}, files=files)
    assert len(routes.file_upload_statuses._statuses) <= sessions._MAX_UPLOADS
    assert app.build_demo()._queue.ANALYTICS_MAX_EVENTS == sessions._MAX_EVENTS


class Seconds:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def events() -> dict[str, Any]:
    return {}


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


@pytest.fixture
def mailboxes(events: dict[str, Any], clock: Seconds) -> Any:
    queue: Any = SimpleNamespace(event_ids_to_events=events)
    return sessions._Sessions(queue, clock)


def test_what_nobody_reads_goes_after_a_while(mailboxes: Any, clock: Seconds):
    mailboxes["gone"] = "messages"
    clock.now += UNREAD_SECONDS + 1
    mailboxes["new"] = "messages"
    assert list(mailboxes) == ["new"]


def test_a_session_whose_run_goes_on_is_never_dropped(
    mailboxes: Any, clock: Seconds, events: dict[str, Any]
):
    mailboxes["waits"] = "messages"
    events["1"] = SimpleNamespace(session_hash="waits")
    for number in range(3000):
        clock.now += UNREAD_SECONDS + 1 if number == 0 else 0.001
        mailboxes[f"s{number}"] = "messages"
    assert mailboxes["waits"] == "messages"
    assert len(mailboxes) <= sessions._MAX_MAILBOXES + 1
    assert "s0" not in mailboxes
    assert "s2999" in mailboxes


def test_reading_keeps_a_session(mailboxes: Any, clock: Seconds):
    mailboxes["read"] = "messages"
    mailboxes["unread"] = "messages"
    for _ in range(20):
        clock.now += 10
        assert mailboxes["read"] == "messages"
        assert "unread" in dict(mailboxes.items())
    mailboxes["new"] = "messages"
    assert set(mailboxes) == {"read", "new"}


def test_dropping_twice_is_no_error(mailboxes: Any):
    mailboxes["a"] = set()
    mailboxes["a"] -= {1}
    del mailboxes["a"]
    assert mailboxes.pop("a", None) is None
    with pytest.raises(KeyError):
        mailboxes["a"]


@pytest.mark.parametrize("text", ["0", "all"])
def test_a_number_of_sessions_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str):
    monkeypatch.setenv("STUDIO_MAX_SESSIONS", text)
    with pytest.raises(ValueError, match="STUDIO_MAX_SESSIONS must be a whole number from 1 to"):
        sessions.max_sessions()
