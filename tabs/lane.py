"""The lane: all runs wait in one queue, and each of them has the same deadline."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

import gradio as gr
from gradio.context import LocalContext

from pipelines.core import devices
from pipelines.runs import zero_gpu
from tabs import i18n
from tabs.server import limits

LANE = "gpu"
"""Gradio's `concurrency_id` of all events that generate."""

_ENDING_SHARE, _MOST_ENDING_SECONDS = 0.01, 1.0  # of the deadline, to send what has been drawn
_POLL_SECONDS = 0.4  # between two looks at a function that still computes

_task: contextvars.ContextVar[asyncio.Task[Any] | None]
_task = contextvars.ContextVar("task", default=None)

T = TypeVar("T")


class Overtime(gr.Error):
    """A run has passed its deadline; what it has drawn so far stays."""


def deadline_seconds() -> float:
    """Returns the longest time of one run: the deadline, and on ZeroGPU at most the lease."""
    seconds = limits.deadline_seconds()
    return min(seconds, zero_gpu.MAX_SECONDS) if devices.ZERO_GPU else seconds


class Turn:
    """The turn of one run in the lane, from when it begins; create it inside the run's event.

    Args:
        language: language of the error messages.
        seconds: longest time of the run; None is `deadline_seconds()`.
    """

    def __init__(self, language: str = i18n.DEFAULT, *, seconds: float | None = None) -> None:
        self._language = language
        self._seconds = deadline_seconds() if seconds is None else seconds
        self._began = self._checked = time.monotonic()
        self._event, self._task = _current_event(), _task.get()

    @property
    def is_heard(self) -> bool:
        """Whether the caller still waits for the result: has neither left nor cancelled it."""
        is_cancelled = self._task is not None and self._task.cancelling() > 0
        return not is_cancelled and (self._event is None or self._event.alive)

    def check(self, key: str, **values: Any) -> None:
        """Checks the deadline: that there is time for another step as long as the one before.

        Args:
            key: of the message; it may contain `{seconds}`.
            values: other values of the message.

        Raises:
            Overtime: if the deadline has passed, or would pass during the next step.
        """
        now = time.monotonic()
        step, self._checked = now - self._checked, now
        ending = min(_ENDING_SHARE * self._seconds, _MOST_ENDING_SECONDS)
        if now - self._began + step > self._seconds - ending:
            seconds = f"{self._seconds:g}"
            message = i18n.translate(self._language, key, seconds=seconds, **values)
            raise Overtime(message, print_exception=False)

    def poll(self, function: Callable[[], T]) -> Iterator[None]:
        """Calls a function that may take long, such as a loader, and yields while it computes.

        The function goes on in its own thread if the run ends before it, so that a download is not
        in vain.

        Raises:
            Overtime: if the deadline passes before the function returns.
            gr.Error: if nobody waits for the result any more.
            Exception: the error of the function.
        """
        yield from self._until_done(_started(function))

    def wait(self, function: Callable[[], T]) -> T:
        """Returns what a function returns that may take long; see `poll`."""
        future = _started(function)
        for _ in self._until_done(future):
            pass
        return future.result()

    def _until_done(self, future: Future[Any]) -> Iterator[None]:
        while True:
            is_done = not wait([future], timeout=_POLL_SECONDS).not_done
            if not self.is_heard:
                raise gr.Error(
                    i18n.translate(self._language, "status.unheard"), print_exception=False
                )
            if is_done:
                break
            self.check("status.deadline_loading")
            yield
        future.result()


def note_task() -> None:
    """Notes the task that runs an event, by which Gradio cancels it; call it in the event loop."""
    _task.set(asyncio.current_task())


def _started(function: Callable[[], T]) -> Future[T]:
    pool = ThreadPoolExecutor(max_workers=1)
    future = pool.submit(contextvars.copy_context().run, function)
    pool.shutdown(wait=False)
    return future


def _current_event() -> Any:
    """Returns Gradio's event of the current call; None outside the queue."""
    blocks, event_id = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
    if blocks is None or event_id is None:
        return None
    return blocks._queue.event_ids_to_events.get(event_id)
