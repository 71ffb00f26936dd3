"""Results that are kept for the next time, safe from several threads."""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from cachetools import LRUCache

T = TypeVar("T")


class Cache(Generic[T]):
    """Values by key; where room is short, the one that was used longest ago is dropped.

    Args:
        max_size: of all values together; without one, nothing is dropped.
        size_of: of one value, in the units of `max_size`; without one, each counts 1.
    """

    def __init__(self, max_size: float = math.inf, size_of: Callable[[T], float] | None = None):
        self._values: LRUCache[Hashable, T] = LRUCache(max_size, size_of)
        self._lock = threading.Lock()
        self._making: defaultdict[Hashable, threading.Lock] = defaultdict(threading.Lock)

    def get(self, key: Hashable) -> T | None:
        """The value of a key, if it is here."""
        with self._lock:
            return self._values.get(key)

    def put(self, key: Hashable, value: T) -> None:
        """Keeps a value; one that is larger than all room is left out."""
        with self._lock:
            if self._values.getsizeof(value) <= self._values.maxsize:
                self._values[key] = value

    def get_or_make(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of a key, made when it is first asked for: one thread makes it, others wait.

        A failure is not kept, so that a repaired file works at the next try.
        """
        with self._lock:
            making = self._making[key]
        with making:
            found = self.get(key)
            if found is None:
                found = make()
                self.put(key, found)
            return found

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._values.clear()
