"""The latest run of every page, which ends the runs before it, and the preview that it showed.

Every run has a token, `page:number`, where a page is a tab in a visitor's browser. The browser
numbers the presses of Paint and Stop, so the order in which the server receives them does not
matter: a press ends all runs with a lower number, or prevents their start.

Anyone can send a token, so tokens have a fixed form and only the last pages are known. A run whose
page is not known any more begins and goes on: nobody can end it by making up pages.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

_MAX_PAGES = 512
_MAX_PREVIEWS = 64
_MAX_PREVIEW_BYTES = 256 * 2**20

_TOKEN = re.compile(r"(?P<page>[0-9a-f]{16}):(?P<number>[0-9]{1,18})")
"""The form of a token, as `assets/studio.js` and `new_token` make it."""


@dataclass
class _Page:
    """A page.

    Attributes:
        latest: number of its latest press.
        started: number of its latest begun run.
        ended: number of its latest ended run.
        language: its language if it has changed since it was opened; else empty.
    """

    latest: int = 0
    started: int = 0
    ended: int = 0
    language: str = ""

    @property
    def is_idle(self) -> bool:
        """Whether no run of the page waits or is being drawn."""
        return self.latest <= self.started <= self.ended


class Runs:
    """The latest runs of every page; thread-safe."""

    def __init__(self) -> None:
        self._pages: OrderedDict[str, _Page] = OrderedDict()
        self._previews: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()

    def announce(self, token: str | None) -> str:
        """Makes the run of a press the latest of its page; returns the token of the latest run.

        The returned token is another one if a later press has arrived before.
        """
        name, number = _parse_token(token)
        if not name:
            name, number = _parse_token(new_token())
        with self._lock:
            page = self._page(name)
            page.latest = max(page.latest, number)
            return f"{name}:{page.latest}"

    def halt(self, token: str | None) -> None:
        """Ends every run up to a press, without a new run; ignores what is no token."""
        name, number = _parse_token(token)
        if not name:
            return
        with self._lock:
            page = self._page(name)
            page.latest = max(page.latest, number)
            page.started = max(page.started, number)
            page.ended = max(page.ended, number)

    def begin(self, token: str | None) -> bool:
        """Returns whether a run should start: it is the latest, and has not started before."""
        name, number = _parse_token(token)
        if not name:
            return False
        with self._lock:
            is_known = name in self._pages
            page = self._page(name)
            if is_known and (number != page.latest or number <= page.started):
                return False
            page.latest = page.started = number
            return True

    def is_latest(self, token: str) -> bool:
        """Returns whether a run should continue; also if its page is not known any more."""
        name, number = _parse_token(token)
        with self._lock:
            if name not in self._pages:
                return bool(name)
            return self._page(name).latest == number

    def speak(self, token: str | None, language: str) -> None:
        """Notes the language of a page, so that its runs go on in it; ignores unknown pages."""
        with self._lock:
            page = self._pages.get(_parse_token(token)[0])
            if page is not None:
                page.language = language

    def language(self, token: str | None, default: str) -> str:
        """Returns the language of a page; the default if it has not changed."""
        with self._lock:
            page = self._pages.get(_parse_token(token)[0])
            return page.language if page and page.language else default

    def is_drawing(self, token: str | None) -> bool:
        """Returns whether a run of the page of a token goes on."""
        with self._lock:
            page = self._pages.get(_parse_token(token)[0])
            return page is not None and page.started > page.ended

    def end(self, token: str) -> None:
        """Notes that a run has ended, so that its page may be forgotten."""
        name, number = _parse_token(token)
        with self._lock:
            if name in self._pages:
                self._pages[name].ended = max(self._pages[name].ended, number)

    def remember(self, token: str, preview: Any) -> None:
        """Stores the preview that a page shows, to show it again or to take it away.

        That of a run that is not the latest any more is not stored, nor is None.
        """
        name, number = _parse_token(token)
        if not name or preview is None:
            return
        with self._lock:
            if name in self._pages and self._pages[name].latest > number:
                return
            self._previews[name] = preview
            self._previews.move_to_end(name)
            while len(self._previews) > _MAX_PREVIEWS or self._bytes() > _MAX_PREVIEW_BYTES:
                self._previews.popitem(last=False)

    def _bytes(self) -> int:
        """Returns the memory of the previews of all pages."""
        return sum(getattr(preview, "num_bytes", 0) for preview in self._previews.values())

    def preview(self, token: str | None) -> Any:
        """Returns the preview that a page shows; None if there is none or if it was dropped."""
        with self._lock:
            return self._previews.get(_parse_token(token)[0])

    def _page(self, name: str) -> _Page:
        page = self._pages.setdefault(name, _Page())
        self._pages.move_to_end(name)
        if len(self._pages) > _MAX_PAGES:
            others = (n for n, other in self._pages.items() if other.is_idle and n != name)
            del self._pages[next(others, next(iter(self._pages)))]
        return page


def new_token() -> str:
    """Returns a token of a first run; browsers make their own (`assets/studio.js`)."""
    return f"{secrets.token_hex(8)}:1"


def is_token(token: Any) -> bool:
    """Returns whether a value is a token; only those begin runs."""
    return bool(_parse_token(token)[0])


def _parse_token(token: Any) -> tuple[str, int]:
    """Returns page and number of a token; of anything else an empty name and 0."""
    found = _TOKEN.fullmatch(token) if isinstance(token, str) else None
    return (found["page"], int(found["number"])) if found else ("", 0)


runs = Runs()
