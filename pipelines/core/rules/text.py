"""Rules for names, digits and sentences."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pipelines.core.errors import Message, Option, SettingsError, Several, show
from pipelines.core.rules import weights
from pipelines.core.rules.base import NONE, Rule, rule, with_current
from pipelines.core.rules.number import every
from pipelines.core.typed import plain, plain_number

MAX_PROMPT_LENGTH = 500

_MAX_TYPED_LENGTH = 20 * MAX_PROMPT_LENGTH  # with spaces, which do not count otherwise
_MAX_WRITTEN_LENGTH = 2 * MAX_PROMPT_LENGTH  # with weights, which do not count at the end
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
        value = plain_number(value) if isinstance(value, str) else value
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
        entry = plain_number(entry)
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

    Empty is off. `pipelines.core.rules.weights` is the grammar.
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
        if len(value) > _MAX_TYPED_LENGTH:
            raise _too_long(name, len(value))
        value = _without_controls(name, value)
        if not value.strip():
            return ""
        if (length := _length(plain(value))) > _MAX_WRITTEN_LENGTH:
            raise _too_long(name, length)
        typed = weights.split(value)
        if len(typed) > self.maximum:
            raise SettingsError("prompt_count", name=name, maximum=self.maximum, got=len(typed))
        entries = weights.read_all(name, typed)
        for entry, as_typed in zip(entries, typed, strict=True):
            _check_entry(name, entry, as_typed)
        # Weights do not count: checking a prompt may write them anew, and it must still pass.
        if (length := sum(_length(entry.text) for entry in entries)) > MAX_PROMPT_LENGTH:
            raise _too_long(name, length)
        return " | ".join(map(weights.write, entries))

    def suggestions(self, current: Any) -> Sequence[str]:
        return with_current(current, _SENTENCES)[:2]


def _check_entry(name: str, entry: weights.Entry, typed: str) -> None:
    """Checks that an entry of a prompt has words, and a weight that is accepted."""
    if not any(character.isalnum() for character in entry.text):
        if entry.text:
            raise SettingsError("prompt_letters", name=name, got=show(typed))
        raise SettingsError("prompt_words", name=name, got=show(typed))
    if not entry.weight and set(typed).intersection("123456789"):
        raise SettingsError("prompt_tiny", name=name, got=show(typed))
    if not 0 < abs(entry.weight) <= weights.MAX_WEIGHT:
        raise SettingsError("prompt_weight", name=name, maximum=weights.MAX_WEIGHT, got=show(typed))


def _length(text: str) -> int:
    """Returns the number of characters; spaces do not count, since checking changes them."""
    return sum(not character.isspace() for character in text)


def _too_long(name: str, length: int) -> SettingsError:
    got = Message("that_many_characters", count=length)
    return SettingsError("prompt", name=name, maximum=MAX_PROMPT_LENGTH, got=got)


def _without_controls(name: str, text: str) -> str:
    """Returns a text without control characters such as NUL, which nobody types; spaces stay.

    Raises:
        SettingsError: if it is not valid Unicode, so that it could be neither read nor stored.
    """
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise SettingsError("prompt_unicode", name=name, got=show(text))
    return "".join(c for c in text if c.isspace() or unicodedata.category(c) != "Cc")


def prompt_entries(prompt: str) -> list[tuple[str, float]]:
    """Returns the sentences and weights of a checked prompt."""
    typed = [entry for entry in weights.split(prompt) if entry.strip()]
    return [(entry.text, entry.weight) for entry in weights.read_all("prompt", typed)]
