"""Cancels of every kind: the lane is free at once, and nothing computes afterwards."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from benchmarks.soak import calls
from benchmarks.soak.calls import PREFIX, Endpoint
from benchmarks.soak.report import Row, at_most
from benchmarks.soak.server import App, running_app

CANCELS = 300
_FREE_SECONDS = 1.0  # a step of the run below takes less
_UNHEARD_SECONDS = 1.0
_IDLE_SHARE = 0.1  # of one processor
_ENVIRONMENT = {
    "STUDIO_WARM_UP": "0",
    "STUDIO_MAX_RUNS_PER_ADDRESS": "100",
    "STUDIO_UNHEARD_RUNNING_SECONDS": f"{_UNHEARD_SECONDS:g}",
    "STUDIO_UNHEARD_WAITING_SECONDS": f"{_UNHEARD_SECONDS:g}",
}
_LONG: dict[str, Any] = {"model": "emoji", "num_inference_steps": 250, "guidance_scale": 0.2}


class _Page:
    """A page of the app in one session.

    Args:
        client: of the app.
        draw: private function that draws for the Colour tab.
        announce: private function that announces a run.
        leave: function that a page calls when it is closed.
    """

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        offered = calls.endpoints(client)
        self.draw = next(
            e for e in offered if not e.name and e.is_queued and "language" in e.names[:2]
        )
        self.color = next(e for e in offered if e.name == "color")
        self.probe = next(e for e in offered if e.name == "digits")
        self.announce = next(
            e for e in offered if not e.name and len(e.names) == 1 and not e.is_queued
        )

    def begin_on_page(self, session: str, token: str) -> None:
        """Announces a run and sends it to the queue, as the page does."""
        self._run(self.announce, [token], session)
        data = self.draw.values(**_LONG, num_images=1)
        calls.join(self.client, self.draw, [token, "en", *data[2:]], session)

    def halt(self, token: str, session: str) -> None:
        """Does what Stop and a closed page do."""
        calls.post(self.client, f"{PREFIX}/run/leave", {"data": [token], "session_hash": session})

    def _run(self, endpoint: Endpoint, data: list[Any], session: str) -> None:
        body = {"data": data, "fn_index": endpoint.number, "session_hash": session}
        calls.post(self.client, f"{PREFIX}/run/predict", body)


def _client_cancel(page: _Page) -> None:
    session = calls.new_session()
    event = calls.join(page.client, page.color, page.color.values(**_LONG), session).json()
    with calls.stream(page.client, session) as received:
        _wait_for_picture(received)
        body = {"session_hash": session, "fn_index": page.color.number, **event}
        calls.post(page.client, f"{PREFIX}/cancel", body)


def _closed_stream(page: _Page) -> None:
    session = calls.new_session()
    calls.join(page.client, page.color, page.color.values(**_LONG), session)
    with calls.stream(page.client, session) as received:
        _wait_for_picture(received)


def _left_page(page: _Page) -> None:
    _halt(page, press=1)


def _stop_button(page: _Page) -> None:
    _halt(page, press=2)


def _halt(page: _Page, press: int) -> None:
    """Ends a run of a page by the press of that number; that of the run itself is 1."""
    session = calls.new_session()
    page.begin_on_page(session, f"{session}:1")
    with calls.stream(page.client, session) as received:
        _wait_for_picture(received)
        page.halt(f"{session}:{press}", session)
        for _ in received:
            pass


def _never_opened(page: _Page) -> None:
    session = calls.new_session()
    calls.join(page.client, page.color, page.color.values(**_LONG), session)
    time.sleep(_UNHEARD_SECONDS)


KINDS: dict[str, Callable[[_Page], None]] = {
    "client's cancel": _client_cancel,
    "closed stream": _closed_stream,
    "/leave": _left_page,
    "Stop": _stop_button,
    "stream never opened": _never_opened,
}


def _wait_for_picture(received: Any) -> None:
    for message in received:
        if message["msg"] in ("process_generating", "process_completed"):
            return


def run(scale: float) -> list[Row]:
    """Cancels runs; returns the rows of the table."""
    count = max(round(CANCELS * scale), len(KINDS))
    with (
        tempfile.TemporaryDirectory() as folder,
        running_app(Path(folder), **_ENVIRONMENT) as app,
        app.client() as client,
    ):
        page = _Page(client)
        calls.result(client, page.color, page.color.values(**_LONG))  # loads the models
        calls.result(client, page.probe, page.probe.values(num_inference_steps=1))
        return _measure(app, page, count)


def _measure(app: App, page: _Page, count: int) -> list[Row]:
    seconds: dict[str, list[float]] = defaultdict(list)
    for number in range(count):
        kind = list(KINDS)[number % len(KINDS)]
        KINDS[kind](page)
        seconds[kind].append(_seconds_until_free(page))
    share = app.cpu_share()
    rows = [
        at_most(
            "cancels",
            f"{len(times)} by {kind}, median {statistics.median(times):.2f} s; the slowest",
            max(times),
            _FREE_SECONDS,
            "s",
        )
        for kind, times in seconds.items()
    ]
    return [*rows, at_most("cancels", "processors in use afterwards", share, _IDLE_SHARE)]


def _seconds_until_free(page: _Page) -> float:
    """Returns how long a tiny run waits until it starts; lets it end."""
    began, session = time.monotonic(), calls.new_session()
    found = float("inf")
    data = page.probe.values(num_inference_steps=1, digits="1")
    calls.join(page.client, page.probe, data, session)
    with calls.stream(page.client, session) as received:
        for message in received:
            if message["msg"] == "process_starts":
                found = min(found, time.monotonic() - began)
    return found
