"""The latest run of every page, which ends the runs before it, and the preview that it showed.

Every run has a token, `page:number`, where a page is a tab in a visitor's browser. The browser
numbers the presses of Paint and Stop, so the order in which the server receives them does not
matter: a press ends all runs with a lower number, or prevents their start.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

_MAX_PAGES = 512
_MAX_PREVIEWS = 64
_MAX_PREVIEW_BYTES = 256 * 2**20
_MAX_DIGITS = 18  # of the number in a token, because anyone can send a token


@dataclass
class _Page:
    latest: int = 0
    started: int = 0


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
        """Ends every run up to a press, without a new run."""
        name, number = _parse_token(token)
        with self._lock:
            page = self._page(name)
            page.latest = max(page.latest, number)
            page.started = max(page.started, number)

    def begin(self, token: str) -> bool:
        """Returns whether a run should start: it is the latest, and has not started before."""
        name, number = _parse_token(token)
        with self._lock:
            page = self._page(name)
            if number != page.latest or number <= page.started:
                return False
            page.started = number
            return True

    def is_latest(self, token: str) -> bool:
        """Returns whether a run should continue."""
        name, number = _parse_token(token)
        with self._lock:
            return self._page(name).latest == number

    def remember(self, token: str, preview: Any) -> None:
        """Stores the preview that a page shows, to show it again in another language."""
        name = _parse_token(token)[0]
        if not name:  # anonymous pages share one key; storing would leak previews to others
            return
        with self._lock:
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
        self._pages.setdefault(name, _Page())
        self._pages.move_to_end(name)
        while len(self._pages) > _MAX_PAGES:
            self._pages.popitem(last=False)
        return self._pages[name]


def new_token() -> str:
    """Returns a token of a first run; browsers make their own (`assets/studio.js`)."""
    return f"{secrets.token_hex(8)}:1"


def _parse_token(token: str | None) -> tuple[str, int]:
    """Returns page and number of a token; a missing page is empty, a malformed number 0."""
    name, _, number = (token or "").rpartition(":")
    return name, int(number) if number.isdecimal() and len(number) <= _MAX_DIGITS else 0


runs = Runs()
