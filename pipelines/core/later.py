"""Lists that are computed when somebody looks at them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

T = TypeVar("T")


class Later(Sequence[T]):
    """A list whose items are computed together, when one of them is first looked at.

    It is equal to a list of the same items, and pickled as one.
    """

    def __init__(self, compute: Callable[[], Sequence[T]]) -> None:
        """Keeps the function; it is called once at most, by any thread."""
        self._compute: Callable[[], Sequence[T]] | None = compute
        self._items: list[T] | None = None
        self._lock = threading.RLock()

    @classmethod
    def of(cls, function: Callable[[Any], T], items: Sequence[Any]) -> Later[T]:
        """Returns the values of a function of other items."""
        return cls(lambda: [function(item) for item in items])

    @classmethod
    def part(cls, whole: Sequence[T], of_whole: slice) -> Later[T]:
        """Returns a part of another list, which is not looked at before."""
        return cls(lambda: whole[of_whole])

    @property
    def items(self) -> list[T]:
        """The items."""
        with self._lock:
            if self._items is None:
                assert self._compute is not None
                self._items = [*self._compute()]
                self._compute = None  # what it holds is no longer needed
            return self._items

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index: int | slice) -> T | list[T]:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Later):
            return self.items == other.items
        return self.items == other if isinstance(other, list) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self.items)

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (self.items,)
