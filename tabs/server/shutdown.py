"""Ends the app on SIGINT and SIGTERM: tells the clients, removes its files, and exits with 0.

A thread that computes in PyTorch cannot be ended from outside, and an interpreter that finalizes
beside such threads aborts. So the process ends by `os._exit`, after clients were told and logs
written.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

STOP_SECONDS = 4.5
"""Longest time between the signal and the end of the process."""

_TELL_SECONDS = 1.5  # for clients to read the last message
_CLOSE_SECONDS = 1  # for open connections to end by themselves
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Shutdown:
    """Waits for a signal and then ends the app."""

    def __init__(self) -> None:
        self._requested = threading.Event()
        self._serves = False
        self._pid = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._folder: Path | None = None

    def install(self) -> None:
        """Handles the signals from now on; until the app serves, a signal ends it at once."""
        self._pid = os.getpid()
        for number in _SIGNALS:
            signal.signal(number, self._handle)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a forked process has the handlers of its parent
            os._exit(128 + number)
        if self._requested.is_set():
            return
        self._requested.set()
        if not self._serves:
            self.end()
        watchdog = threading.Timer(STOP_SECONDS, self.end)
        watchdog.daemon = True
        watchdog.start()

    def own_temp_folder(self) -> None:
        """Gives this process a folder of its own for Gradio's files; call before `build_demo`."""
        from gradio.utils import get_upload_folder

        parent = Path(get_upload_folder())
        parent.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix=f"studio-{os.getpid()}-", dir=parent))
        os.environ["GRADIO_TEMP_DIR"] = str(self._folder)

    def prepare(self, demo: Any) -> None:
        """Remembers the event loop of an app that is about to start."""

        async def remember_loop() -> None:
            self._loop = asyncio.get_running_loop()

        demo.extra_startup_events.append(remember_loop)

    def serve(self, demo: Any) -> NoReturn:
        """Blocks until a signal or until the server is closed, and then ends the process.

        Args:
            demo: the app, started with `prevent_thread_lock=True`.
        """
        self._serves = True
        while demo.is_running and not self._requested.wait(0.2):
            pass
        self._requested.set()
        print("The app is stopping.", flush=True)
        try:
            self._close(demo)
        except Exception:
            logging.getLogger("studio").exception("the app could not be closed")
        self.end()

    def _close(self, demo: Any) -> None:
        """Tells the clients that the app stops, and closes their connections and the server."""
        server = demo.server
        server.config.timeout_graceful_shutdown = _CLOSE_SECONDS
        if self._loop is not None:
            closing = asyncio.run_coroutine_threadsafe(_end_streams(demo), self._loop)
            closing.result(timeout=_TELL_SECONDS + 0.5)
        server.should_exit = True
        server.thread.join(timeout=_CLOSE_SECONDS + 0.5)

    def end(self, code: int = 0) -> NoReturn:
        """Removes the files of the app, writes out its logs, and ends the process at once."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):  # nobody reads it any more
                continue
        os._exit(code)


async def _end_streams(demo: Any) -> None:
    """Ends all runs with a message, waits until it was read, and ends the streams."""
    queue = demo._queue
    ends = time.monotonic() + _TELL_SECONDS
    while True:
        for event in list(queue.event_ids_to_events.values()):
            if event.alive:
                _tell(queue, event)
        if time.monotonic() > ends or not any(queue.pending_event_ids_session.values()):
            break
        await asyncio.sleep(0.05)
    queue.close()
    demo.is_running = False
    demo.app.stop_event.set()


def _tell(queue: Any, event: Any) -> None:
    """Ends the run of an event with one sentence; whatever it still yields is dropped."""
    import gradio as gr
    from gradio.server_messages import ProcessCompletedMessage
    from gradio.utils import error_payload

    from tabs import i18n

    waiting = queue.event_queue_per_concurrency_id[event.concurrency_id].queue
    if event in waiting:
        waiting.remove(event)
    sentence = i18n.translate(_language_of(event), "status.stopping")
    output = error_payload(gr.Error(sentence, print_exception=False), False)
    title = str(output.get("title") or "Error")
    queue.send_message(event, ProcessCompletedMessage(output=output, title=title, success=False))
    event.alive = False


def _language_of(event: Any) -> str:
    """Returns the language of the page that an event comes from; the default for the API."""
    from tabs import i18n

    values = event.data.data if event.data is not None else []
    for component, value in zip(event.fn.inputs, values, strict=False):
        if getattr(component, "elem_id", None) == "language" and value in list(i18n.LANGUAGES):
            return value
    return i18n.DEFAULT


shutdown = Shutdown()
