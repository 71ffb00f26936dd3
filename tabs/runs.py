"""Which run of a page is the latest, so that a newer one ends those before it, and what it showed.

A page and a tab in it have a token, `page:number`, that travels with every run. Pressing Paint
announces the next number; a run that is no longer the latest ends at its next step.
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
        """The token of a new run of the page, which makes those before it old."""
        name, _ = _parts(token)
        token = token if name else new_token()
        with self._lock:
            page = self._page(token)
            page.latest += 1
            return f"{_parts(token)[0]}:{page.latest}"

    def halt(self, token: str | None) -> None:
        """Makes the run of the page old, with none in its place."""
        with self._lock:
            self._page(token).latest += 1

    def begin(self, token: str) -> bool:
        """Whether a run should begin: it is the latest, and did not begin before."""
        number = _parts(token)[1]
        with self._lock:
            page = self._page(token)
            if number != page.latest or number <= page.begun:
                return False
            page.begun = number
            return True

    def is_latest(self, token: str) -> bool:
        """Whether a run should go on."""
        with self._lock:
            return self._page(token).latest == _parts(token)[1]

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

    def _page(self, token: str | None) -> _Page:
        name, number = _parts(token)
        if name not in self._pages:  # of a page that is older than this server, or forgotten
            self._pages[name] = _Page(latest=number)
        self._pages.move_to_end(name)
        while len(self._pages) > _PAGES:
            self._pages.popitem(last=False)
        return self._pages[name]


def new_token() -> str:
    """The token of a page that ran nothing yet."""
    return f"{secrets.token_hex(8)}:0"


def _parts(token: str | None) -> tuple[str, int]:
    """Page and number; what is no token is that of nobody's page."""
    name, _, number = (token or "").rpartition(":")
    return name, int(number) if number.isdecimal() and len(number) <= _MAX_DIGITS else 0


runs = Runs()
