"""Which run of a page is the latest, so that a newer one ends those before it, and what it showed.

A page and a tab in it have a token, `page:number`, that travels with every run. The page numbers
what is pressed, Paint and Stop alike, so that it does not matter in which order the server hears of
it: a run ends, or does not begin, if something was pressed after it.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

_PAGES = 512
_KEPT = 64
_MAX_DIGITS = 18  # of a number; a token comes from anywhere


@dataclass
class _Page:
    latest: int = 0
    begun: int = 0


class Runs:
    """The latest runs of every page; safe from several threads."""

    def __init__(self) -> None:
        self._pages: OrderedDict[str, _Page] = OrderedDict()
        self._shown: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()

    def announce(self, token: str | None) -> str:
        """Makes the run of a press the latest of its page; returns the token of the latest.

        That is another one if a later press was heard of before.
        """
        name, number = _parts(token)
        if not name:
            name, number = _parts(new_token())
        with self._lock:
            page = self._page(name)
            page.latest = max(page.latest, number)
            return f"{name}:{page.latest}"

    def halt(self, token: str | None) -> None:
        """Makes every run before that press old, with none in its place."""
        name, number = _parts(token)
        with self._lock:
            page = self._page(name)
            page.latest = max(page.latest, number)
            page.begun = max(page.begun, number)

    def begin(self, token: str) -> bool:
        """Whether a run should begin: it is the latest, and did not begin before."""
        name, number = _parts(token)
        with self._lock:
            page = self._page(name)
            if number != page.latest or number <= page.begun:
                return False
            page.begun = number
            return True

    def is_latest(self, token: str) -> bool:
        """Whether a run should go on."""
        name, number = _parts(token)
        with self._lock:
            return self._page(name).latest == number

    def keep(self, token: str, shown: Any) -> None:
        """Remembers what a page shows, to show it again in another language."""
        name = _parts(token)[0]
        if not name:  # what nobody shows, everybody could be shown
            return
        with self._lock:
            self._shown[name] = shown
            self._shown.move_to_end(name)
            while len(self._shown) > _KEPT:
                self._shown.popitem(last=False)

    def shown(self, token: str | None) -> Any:
        """What a page shows; None if nothing, or if that was long ago."""
        with self._lock:
            return self._shown.get(_parts(token)[0])

    def _page(self, name: str) -> _Page:
        self._pages.setdefault(name, _Page())
        self._pages.move_to_end(name)
        while len(self._pages) > _PAGES:
            self._pages.popitem(last=False)
        return self._pages[name]


def new_token() -> str:
    """The token of a first run; pages number their own (`assets/studio.js`)."""
    return f"{secrets.token_hex(8)}:1"


def _parts(token: str | None) -> tuple[str, int]:
    """Page and number; what is no token is that of nobody's page."""
    name, _, number = (token or "").rpartition(":")
    return name, int(number) if number.isdecimal() and len(number) <= _MAX_DIGITS else 0


runs = Runs()
