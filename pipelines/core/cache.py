"""A cache of results; safe to use from several threads."""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from cachetools import LRUCache

T = TypeVar("T")


class Cache(Generic[T]):
    """Values by key; when the cache is full, the least recently used one is dropped.

    Args:
        max_size: limit on the size of all values together; infinite never drops anything.
        size_of: the size of one value, in the units of `max_size`; None counts each as 1.
    """

    def __init__(self, max_size: float = math.inf, size_of: Callable[[T], float] | None = None):
        self._values: LRUCache[Hashable, T] = LRUCache(max_size, size_of)
        self._lock = threading.Lock()
        self._making: defaultdict[Hashable, threading.Lock] = defaultdict(threading.Lock)

    def get(self, key: Hashable) -> T | None:
        """Returns the value of a key, or None if it is not cached."""
        with self._lock:
            return self._values.get(key)

    def put(self, key: Hashable, value: T) -> None:
        """Stores a value; one that is larger than the whole cache is not stored."""
        with self._lock:
            if self._values.getsizeof(value) <= self._values.maxsize:
                self._values[key] = value

    def get_or_make(self, key: Hashable, make: Callable[[], T]) -> T:
        """Returns the value of a key; the first thread that needs it makes it, the others wait.

        A failure is not cached, so that a repaired file works at the next try.
        """
        with self._lock:
            making = self._making[key]
        with making:
            value = self.get(key)
            if value is None:
                value = make()
                self.put(key, value)
            return value

    def clear(self) -> None:
        """Drops all values."""
        with self._lock:
            self._values.clear()
