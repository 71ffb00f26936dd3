"""Ends the runs that nobody reads.

A caller starts a run with one request and reads its results with another one, the stream. A run
whose stream nobody opens would keep all others waiting. A short time without a stream is normal.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from urllib.parse import parse_qs

from gradio.blocks import Blocks
from gradio.queueing import Event, Queue
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tabs import i18n
from tabs.lane import LANE
from tabs.server import limits, waiting

_DATA = re.compile(r"/queue/data/?$")
_CALL = re.compile(r"/call/(?:v2/)?[^/]+/(?P<event>[^/]+)/?$")
_JOIN = re.compile(r"/(?:queue/join|call/(?:v2/)?[^/]+)/?$")

_UNKNOWN = "No run of this name waits for a reader; it may have ended long ago."
_LOOK_SECONDS = 0.25  # between two looks at the queue
_UNREAD_SECONDS = 60.0  # how long results stay that nobody has read
_STALLED_SECONDS = 30.0  # after which a reader that takes nothing counts as gone


class _StalledError(OSError):
    """A reader keeps its stream open, but takes nothing from it."""


class Listeners:
    """ASGI middleware that knows which streams are open, and ends the runs that nobody reads.

    Args:
        app: the app behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._streams: Counter[str] = Counter()
        self._watch: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if scope["method"] == "POST" and _JOIN.search(scope["path"]):
            await self._app(scope, receive, send)
            return self._start_watch(waiting.blocks_of(scope))
        session = _session_of_stream(scope)
        if session is None:
            return await self._app(scope, receive, send)
        if session not in waiting.blocks_of(scope)._queue.pending_messages_per_session:
            # Gradio would begin a stream and break it.
            answer = JSONResponse({"detail": _UNKNOWN, "error": _UNKNOWN}, status_code=404)
            return await answer(scope, receive, send)
        self._streams[session] += 1
        try:
            await self._app(scope, receive, _impatient(send))
        except (_StalledError, ClientDisconnect):
            return None
        finally:
            self._streams[session] -= 1
            if not self._streams[session]:
                del self._streams[session]

    def _start_watch(self, blocks: Blocks) -> None:
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._watch_queue(blocks._queue))

    async def _watch_queue(self, queue: Queue) -> None:
        """Looks at the queue again and again, until nothing is left in it."""
        runs, sessions, places = _Unheard(), _Unheard(), []
        while queue.pending_event_ids_session and not queue.stopped:
            await self._end_unheard(queue, runs)
            self._forget_unread(queue, sessions)
            before, places = places, waiting.waiting(queue)
            if places and places != before:  # Gradio tells nobody when a waiting run is cancelled
                queue.broadcast_estimations(LANE)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _end_unheard(self, queue: Queue, runs: _Unheard) -> None:
        """Ends the runs that nobody has read for too long."""
        waits, draws = waiting.waiting(queue), waiting.running(queue)
        runs.keep({event._id for event in waits + draws})
        for event in waits:
            seconds = runs.seconds(event._id, "waits", self._is_heard(event))
            if seconds > limits.unheard_waiting_seconds():
                await waiting.end(queue, event, _message())
        for event in draws:
            seconds = runs.seconds(event._id, "draws", self._is_heard(event))
            if event.alive and seconds > limits.unheard_running_seconds():
                await waiting.end(queue, event, _message())

    def _is_heard(self, event: Event) -> bool:
        return event.session_hash in self._streams

    def _forget_unread(self, queue: Queue, sessions: _Unheard) -> None:
        """Drops the results that nobody has read, of sessions without runs."""
        busy = {event.session_hash for event in queue.event_ids_to_events.values()}
        idle = set(queue.pending_event_ids_session) - busy - set(self._streams)
        sessions.keep(idle)
        for session in idle:
            if sessions.seconds(session, "idle", False) > _UNREAD_SECONDS:
                waiting.forget(queue, session)


class _Unheard:
    """Since when nobody has read something, by its name and what it does."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[str, float]] = {}

    def keep(self, names: set[str]) -> None:
        """Drops all other names."""
        self._since = {name: since for name, since in self._since.items() if name in names}

    def seconds(self, name: str, does: str, is_heard: bool) -> float:
        """Returns for how long nobody has read something since it does what it does now."""
        now = time.monotonic()
        did, since = self._since.get(name, (does, now))
        if is_heard or did != does:
            since = now
        self._since[name] = does, since
        return now - since


def _message() -> str:
    return i18n.translate(i18n.DEFAULT, "status.unheard")


def _session_of_stream(scope: Scope) -> str | None:
    """Returns the session whose results a request reads; None for other requests."""
    if scope["method"] != "GET":
        return None
    if _DATA.search(scope["path"]):
        return parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[0]
    found = _CALL.search(scope["path"])
    if found is None:
        return None
    event = waiting.blocks_of(scope)._queue.event_ids_to_events.get(found["event"])
    return event.session_hash if event else found["event"]


def _impatient(send: Send) -> Send:
    """Returns `send` that fails when the reader takes nothing for long."""

    async def send_in_time(message: Message) -> None:
        try:
            await asyncio.wait_for(send(message), _STALLED_SECONDS)
        except TimeoutError:
            raise _StalledError("the reader takes nothing") from None

    return send_in_time
