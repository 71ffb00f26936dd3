"""Rules for numbers, and the ranges in which people write several of them at once."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pipelines.core.errors import Message, SettingsError, show
from pipelines.core.rules.base import MAX_SEED, RANDOM_SEED, Rule
from pipelines.core.typed import plain_number

OFF = -1

_NUMBER = r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)"
_FROM_TO = re.compile(r"(?P<first>\d+)\s*-\s*(?P<last>\d+)")
_SPREAD = re.compile(
    rf"(?P<first>{_NUMBER})\s*\.\.\.??\s*(?P<last>{_NUMBER})(?:\s*[x×*]\s*(?P<count>\d{{1,6}}))?"
)
_RANGE_LENGTH = 5
_EVERY_COMMA = re.compile(r"\s*,\s*")
_IN_A_NUMBER = re.compile(r"(?<=\d),(?=\d)")
_THOUSANDS = re.compile(r"\d,0\d")  # 1,000
_DECIMAL_COMMA = re.compile(r"([+-]?\d+),(\d{1,2}|\d{4,})")
_THREE_POINTS = re.compile(r"\d\.\.\.(?=\d)")  # 1...6 is 1 to 6, or to 0.6


@dataclass(frozen=True)
class Number(Rule):
    """A number between two bounds, both included; -1 may be off.

    `1-6` in a list stands for every whole number from 1 to 6, `0..0.5 x 6` for six evenly spread
    numbers, five without `x`.
    """

    minimum: float
    maximum: float

    control: ClassVar[str] = "slider"

    @property
    def accepts(self) -> str:
        return f"{self.minimum:g} to {self.maximum:g}"

    def schema(self) -> dict[str, Any]:
        return {"minimum": self.minimum, "maximum": self.maximum}

    def parse(self, text: str) -> int | float | str:
        for convert in (int, float):
            try:
                return convert(plain_number(text))
            except ValueError:
                continue
        return text

    def check_list(self, name: str, text: str) -> None:
        if _THREE_POINTS.search(text):
            raise SettingsError("sweep_dots", name=name, got=show(text))
        if ";" in text:
            return
        if _THOUSANDS.search(text):
            raise SettingsError("sweep_thousands", name=name, got=show(text))
        if self._has_decimal_commas(text):
            raise SettingsError("sweep_comma", name=name, got=show(text))

    def _has_decimal_commas(self, text: str) -> bool:
        """Returns whether commas in a list may be those of `0,5`, for one half."""
        return False

    def values(self, name: str, entry: str, most: int) -> list[Any]:
        entry = plain_number(entry)
        match = _SPREAD.fullmatch(entry)
        if match is None:
            values = every(lambda text: self._read(name, text), name, entry, most)
            return values or super().values(name, entry, most)
        first, last = (self._read(name, match[end]) for end in ("first", "last"))
        count = int(match["count"]) if match["count"] else self._usual_count(first, last)
        _check_length(name, entry, count, most)
        return [self.check(name, self._nearest(n)) for n in spread(first, last, count)]

    def suggestions(self, current: Any) -> Sequence[str]:
        return [f"{number:g}" for number in spread(self.minimum, self.maximum, _RANGE_LENGTH)]

    def _read(self, name: str, text: str) -> Any:
        return self.check(name, self.parse(text))

    def _usual_count(self, first: float, last: float) -> int:
        return _RANGE_LENGTH

    def _nearest(self, number: float) -> float:
        """Returns the number nearest to another one that may be accepted."""
        return number


@dataclass(frozen=True)
class Whole(Number):
    """A whole number between two bounds, both included."""

    minimum: int
    maximum: int

    step: ClassVar[int] = 1

    def check(self, name: str, value: Any) -> int:
        # JSON from JavaScript cannot tell 10.0 from 10, so whole floats are accepted.
        # `math.isfinite` would overflow for an int that is larger than any float.
        is_whole = _is_number(value) and (
            isinstance(value, int) or (math.isfinite(value) and value == int(value))
        )
        if not is_whole or not self.minimum <= value <= self.maximum:
            raise SettingsError(
                "whole", name=name, minimum=self.minimum, maximum=self.maximum, got=_given(value)
            )
        return int(value)

    def suggestions(self, current: Any) -> Sequence[str]:
        span = range(self.minimum, self.maximum + 1)
        few = list(span) if len(span) <= _RANGE_LENGTH else [1, 2, 4, 8, 16]
        return [str(number) for number in few if number in span]

    def _usual_count(self, first: float, last: float) -> int:
        return min(_RANGE_LENGTH, abs(int(last) - int(first)) + 1)  # 1..3 has only three

    def _nearest(self, number: float) -> int:
        return round(number)


@dataclass(frozen=True)
class Seed(Whole):
    """A seed; -1 stands for a random one, which `validate` draws."""

    minimum: int = RANDOM_SEED
    maximum: int = MAX_SEED

    control: ClassVar[str] = "seed"

    @property
    def accepts(self) -> str:
        return f"0 to {self.maximum}; {RANDOM_SEED} is random and reported"

    def suggestions(self, current: Any) -> Sequence[str]:
        first = min(max(int(current), 0), MAX_SEED - 3)
        return [str(first + i) for i in range(4)]


@dataclass(frozen=True)
class Real(Number):
    """A number between two bounds, both included; `step` is that of a slider."""

    step: float = 0.1

    def check(self, name: str, value: Any) -> float:
        if not self._accepts(value):
            raise SettingsError(
                "real", name=name, minimum=self.minimum, maximum=self.maximum, got=_given(value)
            )
        return float(value)

    def parse(self, text: str) -> int | float | str:
        number = super().parse(_DECIMAL_COMMA.sub(r"\1.\2", plain_number(text)))
        return text if isinstance(number, str) else number

    def _has_decimal_commas(self, text: str) -> bool:
        tight, all_commas = len(_IN_A_NUMBER.findall(text)), len(_EVERY_COMMA.findall(text))
        if not tight or "." in text.replace("..", ""):
            return False
        return tight == 1 or tight < all_commas or ".." in text or "\n" in text

    def _accepts(self, value: Any) -> bool:
        # NaN compares false with everything, so this refuses it.
        return _is_number(value) and self.minimum <= value <= self.maximum


@dataclass(frozen=True)
class RealOrOff(Real):
    """Like `Real`, or off: any number from -1 to below 0, which becomes -1."""

    @property
    def accepts(self) -> str:
        return f"{super().accepts}; from {OFF} to below 0 is off"

    def schema(self) -> dict[str, Any]:
        return {"minimum": OFF, "maximum": self.maximum}

    def check(self, name: str, value: Any) -> float:
        if _is_number(value) and OFF <= value < 0:
            return float(OFF)
        if not self._accepts(value):
            low, high = self.minimum, self.maximum
            raise SettingsError(
                "real_or_off", name=name, minimum=low, maximum=high, off=OFF, got=_given(value)
            )
        return float(value)

    def suggestions(self, current: Any) -> Sequence[str]:
        return [f"{n:g}" for n in (OFF, *spread(self.minimum, self.maximum, 3))]


def every(read: Callable[[str], Any], name: str, entry: str, most: int) -> list[Any]:
    """Returns the values of every whole number of a range such as `1-6`; empty if it is none.

    Args:
        read: returns the checked value of a number that is written out.
        name: of the setting.
        entry: as people write it.
        most: values that the range may have.

    Raises:
        SettingsError: if an end is not accepted, or the range has too few or too many values.
    """
    match = _FROM_TO.fullmatch(entry)
    if match is None:
        return []
    first, last = (int(read(match[end])) for end in ("first", "last"))
    step = 1 if first <= last else -1
    span = range(first, last + step, step)
    _check_length(name, entry, len(span), most)
    return [read(str(number)) for number in span]


def spread(first: float, last: float, count: int) -> list[float]:
    """Returns evenly spread numbers; the first and last are exact, the others rounded."""
    step = (last - first) / (count - 1)
    digits = max(4, 2 - math.floor(math.log10(abs(step)))) if step else 4
    between = [round(first + step * i, digits) for i in range(1, count - 1)]
    return [first, *between, last]


def _check_length(name: str, entry: str, count: int, most: int) -> None:
    if not 2 <= count <= most:
        raise SettingsError("sweep_range", name=name, maximum=most, got=show(entry))


def _given(value: Any) -> str:
    """Returns how errors quote a value; a text may be a number in quotation marks."""
    if isinstance(value, str) and plain_number(value).strip(" +-.").replace(".", "").isdigit():
        return Message("number_as_text", got=show(value))
    return show(value)


def _is_number(value: Any) -> bool:
    """Returns whether a value is a real number; `True` is not, although Python counts it as 1."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
