"""What a run can be told: one frozen dataclass per product, with ranges and defaults.

Sliders, API and command line all read the ranges from here, and all pass through `validate`.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import secrets
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar

MAX_SEED = 2**32 - 1
RANDOM_SEED = -1
MAX_DIGITS = 64


class SettingsError(ValueError):
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
        whole = _is_number(value) and math.isfinite(value) and value == int(value)
        if not whole or not self.minimum <= value <= self.maximum:
            raise SettingsError(
                f"{name} must be a whole number from {self.minimum} to {self.maximum}, "
                f"got {show(value)}"
            )
        return int(value)


@dataclass(frozen=True)
class Real:
    """A number between two bounds, both included. `step` is what a slider moves by."""

    minimum: float
    maximum: float
    step: float = 0.1

    def check(self, name: str, value: Any) -> float:
        # NaN compares false with everything, so it fails the range as it should.
        if not _is_number(value) or not self.minimum <= value <= self.maximum:
            raise SettingsError(
                f"{name} must be a number from {self.minimum:g} to {self.maximum:g}, "
                f"got {show(value)}"
            )
        return float(value)


@dataclass(frozen=True)
class Choice:
    """One of a few names."""

    options: tuple[str, ...]

    def check(self, name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in self.options:
            raise SettingsError(
                f"{name} must be one of {', '.join(self.options)}, got {show(value)}"
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
            came = show(value)
            if digits and len(value) > self.maximum:
                came = f"{len(value)} of them"
            length = f"{self.minimum} to {self.maximum}"
            raise SettingsError(f"{name} must be {length} characters 0-9, got {came}")
        return value


def _is_number(value: Any) -> bool:
    """Whether a value is a real number; `True` is none, although Python counts it as one."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def show(value: Any) -> str:
    """A value as an error message quotes it: short, and without characters that are HTML."""
    text = repr(value) if not isinstance(value, str) else f"'{value}'"
    text = "".join(c if c.isprintable() and c not in "<>&" else "?" for c in text)
    return "nothing" if text == "''" else text if len(text) <= 40 else text[:37] + "..."


def rule(settings: Any, name: str) -> Any:
    """The rule of one setting, for instance to read a slider's bounds from."""
    return next(f for f in dataclasses.fields(settings) if f.name == name).metadata["rule"]


def _setting(default: Any, accepted: Rule) -> Any:
    return field(default=default, metadata={"rule": accepted})


@dataclass(frozen=True)
class DigitsSettings:
    """A run of class-conditional digits.

    Attributes:
        digits: what to draw, one image per character, in order.
        cfg_scale: classifier-free guidance; 1 is off, 0 ignores the digits.
        num_inference_steps: denoising steps.
        seed: of the first image; image i takes seed + i. -1 draws one at random.
        conditioning: how the network is told of the digit.
        blend_with: a second digit that every image is mixed with; empty is off.
        blend: how much of it, 0 none, 1 nothing else; mixes the two class embeddings.
        solver: "dpm++" or "ddim".
        eta: fresh noise per step, "ddim" only: 0 is deterministic, 1 is as much as DDPM.
    """

    digits: str = _setting("0123456789", DigitString(1, MAX_DIGITS))
    cfg_scale: float = _setting(2.2, Real(0.0, 10.0))
    num_inference_steps: int = _setting(10, Whole(1, 250))
    seed: int = _setting(0, Whole(RANDOM_SEED, MAX_SEED))
    conditioning: str = _setting("embedding", Choice(("embedding", "cross-attention", "channels")))
    blend_with: str = _setting("", DigitString(0, 1))
    blend: float = _setting(0.5, Real(0.0, 1.0, step=0.05))
    solver: str = _setting("dpm++", Choice(("dpm++", "ddim")))
    eta: float = _setting(0.0, Real(0.0, 1.0, step=0.05))

    def check_together(self) -> None:
        if self.eta > 0 and self.solver != "ddim":
            raise SettingsError(f"eta must be 0 unless solver is ddim, got {self.eta:g}")


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
