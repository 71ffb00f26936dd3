"""What settings accept: one rule per kind of value, and `validate`, which all of them pass.

Settings are frozen dataclasses whose fields carry a rule each. Sliders, API and command line all
read the ranges from these rules.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import re
import secrets
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar

from pipelines.core import images
from pipelines.core.errors import Message, UserError

MAX_SEED = 2**32 - 1
RANDOM_SEED = -1
OFF = -1
MAX_PROMPT_LENGTH = 500

_MAX_PROMPT_WEIGHT = 5.0
_MAX_MASK_PX = 1024
_MAX_PICTURE_PX = 4096
_MAX_PALETTE_LENGTH = 400
_SHARE_TOLERANCE = 0.5
_ENTRY_END = re.compile(r"[,;](?![^(]*\))")  # not the commas inside rgb( )
_WEIGHT = re.compile(r":\s*(?P<weight>[+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*$")
_SHARE = re.compile(r"\s(?P<share>\d+(?:\.\d+)?)\s*%?$")


class SettingsError(UserError, ValueError):
    """A setting is wrong; the message is one sentence for people and safe to show."""


class Rule(Protocol):
    """What one setting accepts."""

    def check(self, name: str, value: Any) -> Any:
        """The value in its proper type.

        Raises:
            SettingsError: one sentence that names the setting, what is accepted and what came.
        """
        ...


@dataclass(frozen=True)
class Whole:
    """A whole number between two bounds, both included."""

    minimum: int
    maximum: int

    def check(self, name: str, value: Any) -> int:
        # JSON from JavaScript cannot tell 10.0 from 10, hence whole floats pass.
        # A whole number may be larger than any float, so only the others are asked for their end.
        whole = _is_number(value) and (
            isinstance(value, int) or (math.isfinite(value) and value == int(value))
        )
        if not whole or not self.minimum <= value <= self.maximum:
            raise SettingsError(
                "whole", name=name, minimum=self.minimum, maximum=self.maximum, got=show(value)
            )
        return int(value)


@dataclass(frozen=True)
class Real:
    """A number between two bounds, both included. `step` is what a slider moves by."""

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
        # NaN compares false with everything, so it fails the range as it should.
        return _is_number(value) and self.minimum <= value <= self.maximum


@dataclass(frozen=True)
class RealOrOff(Real):
    """As `Real`, or below 0 down to -1, which leaves it off and becomes -1."""

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
        digits = isinstance(value, str) and all(c in "0123456789" for c in value)
        if not digits or not self.minimum <= len(value) <= self.maximum:
            many = digits and len(value) > self.maximum
            came = Message("that_many", count=len(value)) if many else show(value)
            raise SettingsError(
                "digits", name=name, minimum=self.minimum, maximum=self.maximum, got=came
            )
        return value


@dataclass(frozen=True)
class Color:
    """A colour in any of the ways that `images.parse_color` reads; becomes `#RRGGBB`."""

    def check(self, name: str, value: Any) -> str:
        try:
            return images.to_hex(images.parse_color(value))
        except (ValueError, AttributeError, TypeError):
            raise SettingsError("color", name=name, got=show(value)) from None


@dataclass(frozen=True)
class Palette:
    """Up to `maximum` colours with shares, `#102040 60, gold 40`; empty is none.

    Shares are percentages that add up to 100; without any, all are equal.
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
        """A colour and its share, if it gives one."""
        found = _SHARE.search(entry)
        color = entry[: found.start()] if found else entry
        checked = Color().check(name, color)
        share = float(found["share"]) if found else None
        if share is not None and not 0 < share <= 100:
            raise SettingsError("palette_share", name=name, got=show(entry))
        return checked, share


def palette_entries(palette: str) -> list[tuple[str, float]]:
    """Colours `#RRGGBB` and shares (sum 1) of a checked palette."""
    pairs = [entry.rsplit(" ", 1) for entry in palette.split(", ") if entry]
    whole = sum(float(share) for _, share in pairs)
    return [(color, float(share) / whole) for color, share in pairs]


@dataclass(frozen=True)
class Prompt:
    """Sentences with weights, `snow:1 | people:-0.5`; a weight of 1 may be left out.

    Empty is none.
    """

    maximum: int = 8

    def check(self, name: str, value: Any) -> str:
        # Spaces do not count, for a checked prompt has other ones than what came.
        length = sum(not c.isspace() for c in value) if isinstance(value, str) else 0
        if not isinstance(value, str) or length > MAX_PROMPT_LENGTH:
            many = Message("that_many_characters", count=length)
            came = many if isinstance(value, str) else show(value)
            raise SettingsError("prompt", name=name, maximum=MAX_PROMPT_LENGTH, got=came)
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
        # A text such as "time 12:30" would be read as one with a weight, were its own left out.
        plain = weight == 1 and not _WEIGHT.search(text)
        return text if plain else f"{text}:{weight:g}"


def _weighted(entry: str) -> tuple[str, float]:
    """A sentence and its weight."""
    found = _WEIGHT.search(entry)
    if found is None:
        return " ".join(entry.split()), 1.0
    return " ".join(entry[: found.start()].split()), round(float(found["weight"]), 4)


def prompt_entries(prompt: str) -> list[tuple[str, float]]:
    """Sentences and weights of a checked prompt."""
    return [_weighted(entry) for entry in prompt.split("|") if entry.strip()]


@dataclass(frozen=True)
class Picture:
    """A picture as a `data:image/png;base64,` address; empty is none."""

    def check(self, name: str, value: Any) -> str:
        if value == "":
            return ""
        try:
            picture = images.from_data_uri(value)
        except (ValueError, AttributeError, TypeError) as error:
            raise SettingsError("picture", name=name, got=show(value)) from error
        if max(picture.size) > _MAX_PICTURE_PX:
            width, height = picture.size
            raise SettingsError(
                "picture_size", name=name, maximum=_MAX_PICTURE_PX, width=width, height=height
            )
        return value


@dataclass(frozen=True)
class ColorOrNone(Color):
    """As `Color`, or empty for none."""

    def check(self, name: str, value: Any) -> str:
        if isinstance(value, str) and not value.strip():
            return ""
        return super().check(name, value)


@dataclass(frozen=True)
class Mask:
    """A picture as a `data:image/png;base64,` address, white where it counts; empty is none."""

    def check(self, name: str, value: Any) -> str:
        if value == "":
            return ""
        try:
            mask = images.to_mask(images.from_data_uri(value))
        except (ValueError, AttributeError, TypeError) as error:
            raise SettingsError("picture", name=name, got=show(value)) from error
        height, width = mask.shape
        if height != width:
            raise SettingsError("mask_square", name=name, width=width, height=height)
        if height > _MAX_MASK_PX:
            raise SettingsError("mask_size", name=name, maximum=_MAX_MASK_PX, got=width)
        if float(mask.max()) < 0.5:
            raise SettingsError("mask_black", name=name)
        return value


def _is_number(value: Any) -> bool:
    """Whether a value is a real number; `True` is none, although Python counts it as one."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def show(value: Any) -> str:
    """A value as an error message quotes it: short, and without characters that are HTML."""
    text = repr(value) if not isinstance(value, str) else f"'{value}'"
    text = "".join(c if c.isprintable() and c not in "<>&" else "?" for c in text)
    if text == "''":
        return Message("nothing")
    return text if len(text) <= 40 else text[:37] + "..."


def rule(settings: Any, name: str) -> Any:
    """The rule of one setting, for instance to read a slider's bounds from."""
    return next(f for f in dataclasses.fields(settings) if f.name == name).metadata["rule"]


def setting(default: Any, accepted: Rule) -> Any:
    return field(default=default, metadata={"rule": accepted})


class Settings(Protocol):
    """What `validate` takes: a frozen dataclass whose fields carry a rule each."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def seed(self) -> int: ...

    def check_together(self) -> None:
        """Checks what no single rule can see.

        Raises:
            SettingsError: if two settings contradict each other.
        """
        ...


S = TypeVar("S", bound=Settings)


def validate(settings: S) -> S:
    """The settings with every value checked and in its proper type, and a seed drawn if asked.

    Raises:
        SettingsError: one sentence on the first setting that is wrong.
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
