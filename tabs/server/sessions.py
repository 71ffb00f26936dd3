"""Bounds what Gradio keeps of every session and every call, and would keep without end.

A session is a page, or one connection of an API client. Gradio keeps a copy of the configuration of
the whole page for each, up to 10,000 of them: about 0.6 MB each.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

import gradio as gr
from gradio import routes
from gradio.queueing import Queue
from gradio.utils import LRUCache

from pipelines.core.limits import limit

UNREAD_SECONDS = 120.0
"""Messages of a run that has ended, and that nobody has read, are kept for this long."""

_MAX_MAILBOXES = 2000
_MAX_EVENTS = 100  # whose times Gradio sums up again after each event
_MAX_UPLOADS = 64  # whose progress is kept, if nobody asks for it


def max_sessions() -> int:
    """Returns how many sessions are kept: `STUDIO_MAX_SESSIONS`, 300 by default.

    Raises:
        ValueError: if the variable is not a whole number of 1 or more.
    """
    return limit("STUDIO_MAX_SESSIONS", 300)


def bound(demo: gr.Blocks) -> None:
    """Bounds what an app keeps; call after `queue`, before `launch` or `mount_gradio_app`."""
    demo.state_session_capacity = max_sessions()
    queue = demo._queue
    queue.ANALYTICS_MAX_EVENTS = _MAX_EVENTS
    queue.pending_messages_per_session = _Sessions(queue)  # pyright: ignore
    queue.pending_event_ids_session = _Sessions(queue)  # pyright: ignore
    # The progress of uploads, under names that the callers choose.
    routes.file_upload_statuses._statuses = LRUCache(_MAX_UPLOADS)


class _Sessions(MutableMapping[str, Any]):
    """Values by session; drops those of sessions that ended.

    A session goes on while an event of it waits or runs. Its values are not dropped then.

    Args:
        queue: knows the events.
        clock: returns seconds that never go back.
    """

    def __init__(self, queue: Queue, clock: Callable[[], float] = time.monotonic) -> None:
        self._queue, self._clock = queue, clock
        self._values: OrderedDict[str, Any] = OrderedDict()  # used longest ago first
        self._used_at: dict[str, float] = {}

    def __getitem__(self, session: str) -> Any:
        value = self._values[session]
        self._use(session)
        return value

    def __setitem__(self, session: str, value: Any) -> None:
        self._drop_ended()
        self._values[session] = value
        self._use(session)

    def __delitem__(self, session: str) -> None:
        self._values.pop(session, None)
        self._used_at.pop(session, None)

    def __contains__(self, session: object) -> bool:
        return session in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._values))

    def __len__(self) -> int:
        return len(self._values)

    def items(self) -> Any:
        """Returns all sessions with their values, without using any."""
        return list(self._values.items())

    def _use(self, session: str) -> None:
        self._values.move_to_end(session)
        self._used_at[session] = self._clock()

    def _drop_ended(self) -> None:
        going_on = {event.session_hash for event in self._queue.event_ids_to_events.values()}
        for session in self:
            is_recent = self._clock() - self._used_at[session] <= UNREAD_SECONDS
            if is_recent and len(self) < _MAX_MAILBOXES:
                return
            if session not in going_on:
                del self[session]
