"""Rules for settings, one per kind of value, and `validate`, which applies them.

Settings are frozen dataclasses; each field carries a rule. Sliders, API and command line all read
the ranges from these rules.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import re
import secrets
import unicodedata
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar

from pipelines.core import images, pictures
from pipelines.core.errors import Message, SettingsError, show

MAX_SEED = 2**32 - 1
RANDOM_SEED = -1
OFF = -1
MAX_PROMPT_LENGTH = 500

_MAX_PROMPT_WEIGHT = 5.0
_MAX_TYPED_LENGTH = 20 * MAX_PROMPT_LENGTH  # with spaces, which do not count otherwise
_MAX_PALETTE_LENGTH = 400
_SHARE_TOLERANCE = 0.5
_ENTRY_END = re.compile(r"[,;](?![^(]*\))")  # a comma inside rgb( ) does not end an entry
_WEIGHT = re.compile(r":\s*(?P<weight>[+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*$")
_SHARE = re.compile(r"\s(?P<share>\d+(?:\.\d+)?)\s*%?$")


class Rule(Protocol):
    """The values that one setting accepts."""

    def check(self, name: str, value: Any) -> Any:
        """Returns the value, converted to the type of the setting.

        Raises:
            SettingsError: one sentence that names the setting, what is accepted and what was given.
        """
        ...


@dataclass(frozen=True)
class Whole:
    """A whole number between two bounds, both included."""

    minimum: int
    maximum: int

    def check(self, name: str, value: Any) -> int:
        # JSON from JavaScript cannot tell 10.0 from 10, so whole floats are accepted.
        # `math.isfinite` would overflow for an int that is larger than any float.
        is_whole = _is_number(value) and (
            isinstance(value, int) or (math.isfinite(value) and value == int(value))
        )
        if not is_whole or not self.minimum <= value <= self.maximum:
            raise SettingsError(
                "whole", name=name, minimum=self.minimum, maximum=self.maximum, got=show(value)
            )
        return int(value)


@dataclass(frozen=True)
class Real:
    """A number between two bounds, both included; `step` is that of a slider."""

    minimum: float
    maximum: float
    step: float = 0.1

    def check(self, name: str, value: Any) -> float:
        if not self._accepts(value):
            raise SettingsError(
                "real", name=name, minimum=self.minimum, maximum=self.maximum, got=show(value)
            )
        return float(value)

    def _accepts(self, value: Any) -> bool:
        # NaN compares false with everything, so this refuses it.
        return _is_number(value) and self.minimum <= value <= self.maximum


@dataclass(frozen=True)
class RealOrOff(Real):
    """Like `Real`, or off: any number from -1 to below 0, which becomes -1."""

    def check(self, name: str, value: Any) -> float:
        if _is_number(value) and OFF <= value < 0:
            return float(OFF)
        if not self._accepts(value):
            low, high = self.minimum, self.maximum
            raise SettingsError(
                "real_or_off", name=name, minimum=low, maximum=high, off=OFF, got=show(value)
            )
        return float(value)


@dataclass(frozen=True)
class Choice:
    """One of a few names."""

    options: tuple[str, ...]

    def check(self, name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in self.options:
            raise SettingsError(
                "choice", name=name, options=", ".join(self.options), got=show(value)
            )
        return value


@dataclass(frozen=True)
class DigitString:
    """Characters 0-9."""

    minimum: int
    maximum: int

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


@dataclass(frozen=True)
class Color:
    """A colour in any notation that `images.parse_color` reads; becomes `#RRGGBB`."""

    def check(self, name: str, value: Any) -> str:
        try:
            return images.to_hex(images.parse_color(value))
        except (ValueError, AttributeError, TypeError):
            raise SettingsError("color", name=name, got=show(value)) from None


@dataclass(frozen=True)
class Palette:
    """Up to `maximum` colours with shares, `#102040 60, gold 40`; empty is off.

    Shares are percentages that add up to 100. If none is given, all are equal.
    """

    maximum: int = 5

    def check(self, name: str, value: Any) -> str:
        if not isinstance(value, str) or len(value) > _MAX_PALETTE_LENGTH:
            raise SettingsError("palette", name=name, maximum=self.maximum, got=show(value))
        entries = [entry.strip() for entry in _ENTRY_END.split(value) if entry.strip()]
        if not entries:
            return ""
        if len(entries) > self.maximum:
            raise SettingsError("palette_count", name=name, maximum=self.maximum, got=len(entries))
        pairs = [self._pair(name, entry) for entry in entries]
        shares = [share for _, share in pairs if share is not None]
        if shares and len(shares) < len(pairs):
            raise SettingsError(
                "palette_some_shares", name=name, shared=len(shares), count=len(pairs)
            )
        if not shares:
            shares = [100 / len(pairs)] * len(pairs)
        elif abs(sum(shares) - 100) > _SHARE_TOLERANCE:
            raise SettingsError("palette_sum", name=name, got=sum(shares))
        return ", ".join(f"{c} {s:g}" for (c, _), s in zip(pairs, shares, strict=True))

    def _pair(self, name: str, entry: str) -> tuple[str, float | None]:
        """Returns the colour and the share of an entry; None without a share."""
        match = _SHARE.search(entry)
        color = entry[: match.start()] if match else entry
        checked = Color().check(name, color)
        share = float(match["share"]) if match else None
        if share is not None and not 0 < share <= 100:
            raise SettingsError("palette_share", name=name, got=show(entry))
        return checked, share


def palette_entries(palette: str) -> list[tuple[str, float]]:
    """Returns the colours `#RRGGBB` and shares (sum 1) of a checked palette."""
    pairs = [entry.rsplit(" ", 1) for entry in palette.split(", ") if entry]
    total = sum(float(share) for _, share in pairs)
    return [(color, float(share) / total) for color, share in pairs]


@dataclass(frozen=True)
class Prompt:
    """Sentences with weights, `snow:1 | people:-0.5`; a weight of 1 may be left out.

    Empty is off.
    """

    maximum: int = 8

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


@dataclass(frozen=True)
class Picture:
    """A picture, kept as a small PNG in a `data:image/png;base64,` address; empty is off.

    Accepts whatever `pictures.open_picture` opens; `max_side_px` is the longest side that is kept.
    """

    max_side_px: int = 256

    def check(self, name: str, value: Any) -> str:
        if value == "":
            return ""
        return pictures.to_setting(value, name=name, max_side_px=self.max_side_px)


@dataclass(frozen=True)
class ColorOrNone(Color):
    """Like `Color`; empty is off."""

    def check(self, name: str, value: Any) -> str:
        if isinstance(value, str) and not value.strip():
            return ""
        return super().check(name, value)


@dataclass(frozen=True)
class Mask(Picture):
    """A square mask, white where it applies, kept like a `Picture`; empty is off.

    It is kept larger, because shrinking would lose small spots.
    """

    max_side_px: int = 1024

    def check(self, name: str, value: Any) -> str:
        address = super().check(name, value)
        if not address:
            return ""
        mask = images.to_mask(images.from_data_uri(address))
        height, width = mask.shape
        if height != width:
            raise SettingsError("mask_square", name=name, width=width, height=height)
        if float(mask.max()) < 0.5:
            raise SettingsError("mask_black", name=name)
        return address


def is_picture(settings: Any, name: str) -> bool:
    """Returns whether a setting is a picture."""
    return isinstance(rule(settings, name), Picture)


def _is_number(value: Any) -> bool:
    """Returns whether a value is a real number; `True` is not, although Python counts it as 1."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def rule(settings: Any, name: str) -> Any:
    """Returns the rule of a setting, for instance to read a slider's bounds."""
    return next(f for f in dataclasses.fields(settings) if f.name == name).metadata["rule"]


def setting(default: Any, accepted: Rule) -> Any:
    """Returns a dataclass field with a default and a rule."""
    return field(default=default, metadata={"rule": accepted})


class Settings(Protocol):
    """The type that `validate` takes: a frozen dataclass whose fields each carry a rule."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def seed(self) -> int: ...

    def check_together(self) -> None:
        """Checks settings against each other.

        Raises:
            SettingsError: if two settings contradict each other.
        """
        ...


S = TypeVar("S", bound=Settings)


def validate(settings: S) -> S:
    """Returns the settings, each checked and converted; a seed of -1 becomes a random one.

    Raises:
        SettingsError: one sentence about the first setting that is wrong.
    """
    values = {
        f.name: f.metadata["rule"].check(f.name, getattr(settings, f.name))
        for f in dataclasses.fields(settings)
    }
    if values["seed"] == RANDOM_SEED:
        values["seed"] = secrets.randbelow(2**31)
    checked = dataclasses.replace(settings, **values)
    checked.check_together()
    return checked
