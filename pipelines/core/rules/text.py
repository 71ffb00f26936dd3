"""Rules for names, digits and sentences."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pipelines.core.errors import Message, Option, SettingsError, Several, show
from pipelines.core.rules.base import NONE, Rule, rule, with_current
from pipelines.core.rules.number import every

MAX_PROMPT_LENGTH = 500

_MAX_PROMPT_WEIGHT = 5.0
_MAX_TYPED_LENGTH = 20 * MAX_PROMPT_LENGTH  # with spaces, which do not count otherwise
_WEIGHT = re.compile(r":\s*(?P<weight>[+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*$")
_SENTENCES = ("a portrait of a woman", "a winter landscape with snow")


@dataclass(frozen=True)
class Choice(Rule):
    """One of a few names."""

    options: tuple[str, ...]

    control: ClassVar[str] = "radio"

    @property
    def accepts(self) -> str:
        return ", ".join(f'"{option}"' for option in self.options)

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.options)}

    def check(self, name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in self.options:
            raise SettingsError(
                "choice",
                name=name,
                options=Several(Option(name, option) for option in self.options),
                got=show(value),
            )
        return value

    def suggestions(self, current: Any) -> Sequence[str]:
        return self.options


def shown_choice(settings: Any, name: str) -> str:
    """Returns the value of a setting as errors quote it: a choice as itself, others in short."""
    value = getattr(settings, name)
    return Option(name, value) if isinstance(rule(settings, name), Choice) else show(value)


@dataclass(frozen=True)
class DigitString(Rule):
    """Characters 0-9; `0-4` in a list stands for each of these digits by itself."""

    minimum: int
    maximum: int

    may_be_empty: ClassVar[bool] = True

    @property
    def accepts(self) -> str:
        return f"{self.minimum} to {self.maximum} characters 0-9"

    def check(self, name: str, value: Any) -> str:
        are_digits = isinstance(value, str) and all(c in "0123456789" for c in value)
        if not are_digits or not self.minimum <= len(value) <= self.maximum:
            too_many = are_digits and len(value) > self.maximum
            got = Message("that_many", count=len(value)) if too_many else show(value)
            if (self.minimum, self.maximum) == (0, 1):
                raise SettingsError("digit_or_none", name=name, got=got)
            raise SettingsError(
                "digits", name=name, minimum=self.minimum, maximum=self.maximum, got=got
            )
        return value

    def values(self, name: str, entry: str, most: int) -> list[str]:
        if entry == NONE:
            return [self.check(name, "")]
        return every(lambda text: self._single(name, text), name, entry, most) or [
            self._single(name, entry)
        ]

    def suggestions(self, current: Any) -> Sequence[str]:
        return [str(digit) for digit in range(10)]

    def _single(self, name: str, text: str) -> str:
        """Returns the digit that an entry of a list is; there each stands by itself.

        Raises:
            SettingsError: if it is none, or several.
        """
        digits = self.check(name, text)
        if len(digits) > 1:
            raise SettingsError("sweep_digit", name=name, got=show(text))
        return digits


@dataclass(frozen=True)
class Prompt(Rule):
    """Sentences with weights, `snow:1 | people:-0.5`; a weight of 1 may be left out.

    Empty is off.
    """

    maximum: int = 8

    may_be_empty: ClassVar[bool] = True
    contains_commas: ClassVar[bool] = True

    @property
    def accepts(self) -> str:
        return 'sentences with weights, "snow:1 | people:-0.5"; empty is off'

    def check(self, name: str, value: Any) -> str:
        if not isinstance(value, str):
            raise SettingsError("prompt", name=name, maximum=MAX_PROMPT_LENGTH, got=show(value))
        # Spaces do not count: checking a prompt changes them, and it must still pass afterwards.
        too_long = len(value) > _MAX_TYPED_LENGTH
        length = len(value) if too_long else sum(not c.isspace() for c in value)
        if length > MAX_PROMPT_LENGTH:
            got = Message("that_many_characters", count=length)
            raise SettingsError("prompt", name=name, maximum=MAX_PROMPT_LENGTH, got=got)
        value = _without_controls(name, value)
        if not value.strip():
            return ""
        entries = value.split("|")
        if len(entries) > self.maximum:
            raise SettingsError("prompt_count", name=name, maximum=self.maximum, got=len(entries))
        return " | ".join(self._entry(name, entry) for entry in entries)

    def suggestions(self, current: Any) -> Sequence[str]:
        return with_current(current, _SENTENCES)[:2]

    def _entry(self, name: str, entry: str) -> str:
        text, weight = _weighted(entry)
        if not any(character.isalnum() for character in text):
            raise SettingsError("prompt_words", name=name, got=show(entry))
        if not 0 < abs(weight) <= _MAX_PROMPT_WEIGHT:
            raise SettingsError(
                "prompt_weight", name=name, maximum=_MAX_PROMPT_WEIGHT, got=show(entry)
            )
        # A text such as "time 12:30" keeps its weight of 1: else 30 would be read as its weight.
        without_weight = weight == 1 and not _WEIGHT.search(text)
        return text if without_weight else f"{text}:{weight:g}"


def _without_controls(name: str, text: str) -> str:
    """Returns a text without control characters such as NUL, which nobody types; spaces stay.

    Raises:
        SettingsError: if it is not valid Unicode, so that it could be neither read nor stored.
    """
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise SettingsError("prompt_unicode", name=name, got=show(text))
    return "".join(c for c in text if c.isspace() or unicodedata.category(c) != "Cc")


def _weighted(entry: str) -> tuple[str, float]:
    """Returns the sentence and the weight of an entry."""
    match = _WEIGHT.search(entry)
    if match is None:
        return " ".join(entry.split()), 1.0
    return " ".join(entry[: match.start()].split()), round(float(match["weight"]), 4)


def prompt_entries(prompt: str) -> list[tuple[str, float]]:
    """Returns the sentences and weights of a checked prompt."""
    return [_weighted(entry) for entry in prompt.split("|") if entry.strip()]
