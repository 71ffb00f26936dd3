"""A cache of results; safe to use from several threads."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from cachetools import LRUCache

T = TypeVar("T")


@dataclass
class _Making:
    """The lock of the threads that need one missing value, and their number."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    threads: int = 0


class Cache(Generic[T]):
    """Values by key; when the cache is full, the least recently used one is dropped.

    Args:
        max_size: limit on the size of all values together, or a function that returns it;
            infinite never drops anything.
        size_of: the size of one value, in the units of `max_size`; None counts each as 1.
    """

    def __init__(
        self,
        max_size: float | Callable[[], float] = math.inf,
        size_of: Callable[[T], float] | None = None,
    ):
        self._max_size = max_size
        self._values: LRUCache[Hashable, T] = LRUCache(math.inf, size_of)
        self._lock = threading.Lock()
        self._making: dict[Hashable, _Making] = {}

    @property
    def max_size(self) -> float:
        """The limit on the size of all values together."""
        return self._max_size() if callable(self._max_size) else self._max_size

    def get(self, key: Hashable) -> T | None:
        """Returns the value of a key, or None if it is not cached."""
        with self._lock:
            return self._values.get(key)

    def put(self, key: Hashable, value: T) -> None:
        """Stores a value; one that is larger than the whole cache is not stored."""
        size, most = self._values.getsizeof(value), self.max_size
        with self._lock:
            self._values.pop(key, None)
            if size > most:
                return
            while self._values.currsize + size > most:
                self._values.popitem()
            self._values[key] = value

    def get_or_make(self, key: Hashable, make: Callable[[], T]) -> T:
        """Returns the value of a key; the first thread that needs it makes it, the others wait.

        A failure is not cached, so that a repaired file works at the next try.
        """
        with self._lock:
            making = self._making.setdefault(key, _Making())
            making.threads += 1
        try:
            with making.lock:
                value = self.get(key)
                if value is None:
                    value = make()
                    self.put(key, value)
                return value
        finally:
            with self._lock:
                making.threads -= 1
                if not making.threads:
                    del self._making[key]

    def clear(self, chosen: Callable[[Hashable], bool] = lambda _: True) -> None:
        """Drops all values, or those whose keys are chosen."""
        with self._lock:
            for key in [key for key in self._values if chosen(key)]:
                del self._values[key]
