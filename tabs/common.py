"""Parts that all tabs share: event options, endpoints, throttled previews, status, controls."""

from __future__ import annotations

import errno
import html
import logging
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypedDict, TypeVar

import gradio as gr
from PIL import Image

from pipelines.core import devices
from pipelines.core.errors import UserError
from pipelines.runs import timing
from pipelines.runs.product import Product
from tabs import i18n, marked, temp_files
from tabs.lane import LANE, Turn

logger = logging.getLogger("studio")


class Concurrency(TypedDict):
    concurrency_id: str
    concurrency_limit: int | None


DEVICE_QUEUE: Concurrency = {
    "concurrency_id": LANE,
    "concurrency_limit": None if devices.ZERO_GPU else 1,
}
"""Options of all events that generate: only one runs at a time, over all tabs and the API.
On ZeroGPU every run gets its own GPU, so there is no limit."""

PREVIEW_SECONDS = 0.1

INSTANT_EVENT: dict[str, Any] = {
    "queue": False,
    "show_progress": "hidden",
    "api_visibility": "private",
}
"""Options of events that compute nothing: they skip the queue and show no progress overlay."""

BEGINS, QUIET = "begins", "quiet"
"""Kinds of a status line, see `status_line`."""

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


T = TypeVar("T")


class Preview(Protocol):
    """Type of what the three products yield; see `pipelines.products.digits.Preview`."""

    @property
    def pictures(self) -> list[Image.Image]: ...
    @property
    def step(self) -> int: ...
    @property
    def total_steps(self) -> int: ...
    @property
    def times(self) -> list[float]: ...
    @property
    def seconds(self) -> float: ...
    @property
    def settings(self) -> Any: ...
    @property
    def model(self) -> str: ...
    @property
    def revision(self) -> str: ...
    @property
    def finished(self) -> bool: ...


PreviewT = TypeVar("PreviewT", bound=Preview)


@contextmanager
def as_gradio_errors(language: str, product: Product | None = None) -> Iterator[None]:
    """Raises errors as `gr.Error`, with a message in a language.

    An error that the user can fix is shown as one sentence. Any other error is logged with an id,
    and only the id is shown.

    Args:
        language: of the messages.
        product: on whose page they are shown; see `i18n.error_message`.
    """
    try:
        yield
    except gr.Error as error:  # Gradio's own may quote what is no valid text
        error.print_exception = False
        valid = error.message.encode(errors="replace").decode()
        error.message = error.message if valid == error.message else valid
        raise
    except Exception as error:
        raise gr.Error(_error_message(error, language, product), print_exception=False) from None


@contextmanager
def as_refused_request() -> Iterator[None]:
    """Raises every error as `gr.Error` with one sentence: the request has wrong values.

    Gradio's own sentences quote the values, which may be no valid text.
    """
    try:
        yield
    except Exception:
        message = i18n.translate(i18n.DEFAULT, "status.request_values")
        raise gr.Error(message, print_exception=False) from None


def _error_message(error: Exception, language: str, product: Product | None) -> str:
    """Returns an error as one sentence; logs it if the user cannot fix it."""
    if devices.is_out_of_memory(error):
        logger.exception("out of memory")
        devices.free_memory(error)
        return i18n.translate(language, "status.out_of_memory")
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        logger.error("the disk is full: %s", error)
        return i18n.translate(language, "status.disk_full")
    if isinstance(error, UserError):
        return html.escape(i18n.error_message(language, error, product), quote=False)
    incident = secrets.token_hex(4)
    logger.exception("incident %s", incident)
    return i18n.translate(language, "status.incident", incident=incident)


def throttle_previews(
    stream: Iterator[PreviewT],
    *,
    turn: Turn | None = None,
    should_continue: Callable[[], bool] = lambda: True,
    every_seconds: float = PREVIEW_SECONDS,
) -> Iterator[PreviewT]:
    """Yields at most one preview per `every_seconds`, and always the first and the last.

    Args:
        stream: a run.
        turn: its turn in the lane; None begins one.
        should_continue: called after every step; False ends the run.
        every_seconds: shortest time between previews.

    Raises:
        Overtime: when the run passes its deadline.
    """
    turn = turn or Turn()
    last_yield = -float("inf")
    for preview in stream:
        now = time.monotonic()
        if not should_continue():
            return
        if preview.finished or now - last_yield >= every_seconds:
            last_yield = now
            yield preview
        if not preview.finished:
            turn.check("status.deadline", step=preview.step, total=preview.total_steps)


def throttle(stream: Iterator[T], seconds: float) -> Iterator[T]:
    """Yields the first and the last item of a stream, and at most one per `seconds` between.

    If the stream raises, the item before the error is the last.
    """
    last_yield, pending = -float("inf"), None
    try:
        for pending in stream:
            if time.monotonic() - last_yield >= seconds:
                last_yield = time.monotonic()
                yield pending
                pending = None
    except Exception:
        if pending is not None:
            yield pending
        raise
    if pending is not None:
        yield pending


def run_status(preview: Preview, language: str) -> str:
    """Returns the status line of a run: step, total and time left; at the end, time and seed."""
    total = preview.total_steps
    if preview.finished:
        done = i18n.translate(
            language,
            "status.done",
            seconds=f"{preview.seconds:.1f}",
            total=total,
            seed=preview.settings.seed,
            model=preview.model,
        )
        return status_line(done)
    if preview.step == 0:
        trying = i18n.translate(language, "status.trying", tries=preview.settings.tries)
        return status_line(trying, kind=QUIET)
    left = timing.remaining(preview.times, total)
    running = i18n.translate(
        language, "status.step", step=preview.step, total=total, left=f"{left:.1f}"
    )
    return status_line(running, done=preview.step, total=total)


def status_line(*texts: str, done: int = 0, total: int = 0, kind: str = "") -> str:
    """Returns text as HTML for the status component.

    `assets/access.js` announces it to screen readers: of lines with a bar, one in the middle.

    Args:
        texts: sentences of one line.
        done: number of finished steps, for a progress bar.
        total: number of all steps; 0 shows no bar.
        kind: `BEGINS` of a run's first line, `QUIET` of one that is not announced.
    """
    of_kind = f' data-kind="{kind}"' if kind else ""
    attributes = f'class="status"{of_kind}'
    if len(texts) == 1:
        line = marked.element("p", texts[0], attributes)
    else:
        spans = " ".join(marked.element("span", text) for text in texts)
        line = f"<p {attributes}>{spans}</p>"
    bar = f'<progress value="{done}" max="{total}" aria-hidden="true"></progress>' if total else ""
    return line + bar


def translated_status(status: Any, language: str) -> str:
    """Returns a status line in a language, marked as translated for `assets/*.js`.

    Args:
        status: as the page shows it.
        language: its code.
    """
    line = marked.translated(status, language)
    return line.replace('class="status"', 'class="status translated"', 1)


def stopped_status(preview: Preview, language: str) -> str:
    """Returns the status line after Stop, with the step that the run had reached."""
    key = "status.stopped" if preview.step else "status.stopped_trying"
    return status_line(i18n.translate(language, key, step=preview.step, total=preview.total_steps))


def status_before_pictures(status: str | None, language: str) -> str:
    """Returns the status line after Stop, of a run that had not shown a picture yet."""
    if not isinstance(status, str):
        return ""
    began = (i18n.translate(known, "status.begins") for known in i18n.LANGUAGES)
    loads = (i18n.translate(known, "status.loading") for known in i18n.LANGUAGES)
    is_going = "<progress" in status or any(text in status for text in (*began, *loads))
    return status_line(i18n.translate(language, "status.stopped_early")) if is_going else status


def press_script(part: str) -> str:
    """Returns JavaScript that numbers a press, and replaces the first input by its token.

    Args:
        part: name of what is pressed; its presses are numbered apart.
    """
    number = f"window.studio?.pressed('{part}') ?? token"  # `studio` may not be loaded yet
    return f"(token, ...others) => [{number}, ...others]"


def save_png(picture: Image.Image, name: str) -> str:
    """Saves a picture as PNG in Gradio's cache, the only folder it serves; returns the path."""
    return temp_files.files.save_png(picture, name)


def save_pictures(pictures: Sequence[Image.Image], name: str) -> list[gr.FileData]:
    """Saves every picture as a PNG file, with the metadata that it has."""
    paths = [save_png(picture, f"{name}-{i}") for i, picture in enumerate(pictures)]
    return [gr.FileData(path=path) for path in paths]
