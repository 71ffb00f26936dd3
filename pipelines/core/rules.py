"""What a run can be told: one frozen dataclass per product, with ranges and defaults.

Sliders, API and command line all read the ranges from here, and all pass through `validate`.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import os
import re
import secrets
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar

from pipelines.core import images
from pipelines.core.errors import Explained, Said

MAX_SEED = 2**32 - 1
RANDOM_SEED = -1
OFF = -1
MAX_DIGITS = 64
MAX_IMAGES = 8
MAX_TRIES = 32
MAX_LAMBDA = 0.5
MAX_STEPS = 250

MAX_PROMPT_LENGTH = 500

_MAX_PROMPT_WEIGHT = 5.0
_MAX_MASK_PX = 1024
_MAX_PICTURE_PX = 4096
_MAX_PALETTE_LENGTH = 400
_SHARE_TOLERANCE = 0.5
_ENTRY_END = re.compile(r"[,;](?![^(]*\))")  # not the commas inside rgb( )
_WEIGHT = re.compile(r":\s*(?P<weight>[+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*$")
_MODELS = ("paintings", "scenes", "emoji")
HUB_MODELS = ("wikiart-256", "bedrooms-256", "celebahq-256", "churches-256", "cats-256")
"""Names of the models that are fetched when they are first used."""

_CLIPS = ("clip-small", "ViT-B-32", "ViT-B-32-laion")
_CONDITIONINGS = ("embedding", "cross-attention", "channels")
_OWN = "STUDIO_CHECKPOINTS"
_OWN_ENTRY = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,40})\s*=\s*(?P<where>\S.*)")
_SHARE = re.compile(r"\s(?P<share>\d+(?:\.\d+)?)\s*%?$")


class SettingsError(Explained, ValueError):
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
                "whole", name=name, minimum=self.minimum, maximum=self.maximum, came=show(value)
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
                "real", name=name, minimum=self.minimum, maximum=self.maximum, came=show(value)
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
                "real_or_off", name=name, minimum=low, maximum=high, off=OFF, came=show(value)
            )
        return float(value)


@dataclass(frozen=True)
class Choice:
    """One of a few names."""

    options: tuple[str, ...]

    def check(self, name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in self.options:
            raise SettingsError(
                "choice", name=name, options=", ".join(self.options), came=show(value)
            )
        return value


def own_checkpoints() -> dict[str, str]:
    """The user's own models, names and the folder or Hub id of each, as `STUDIO_CHECKPOINTS` says.

    Raises:
        SettingsError: one sentence on the first entry that is wrong.
    """
    found: dict[str, str] = {}
    for entry in filter(None, map(str.strip, os.environ.get(_OWN, "").split(","))):
        parts = _OWN_ENTRY.fullmatch(entry)
        if parts is None or parts["name"] in found or parts["name"] in bundled_names():
            raise SettingsError("own_checkpoints", came=show(entry))
        found[parts["name"]] = parts["where"]
    return found


def usable_own_checkpoints() -> dict[str, str]:
    """As `own_checkpoints`, but none where they are malformed; the app does not start with that."""
    try:
        return own_checkpoints()
    except SettingsError:
        return {}


def bundled_names() -> set[str]:
    """Names of all models that are not the user's own."""
    return {
        *_MODELS,
        *HUB_MODELS,
        *_CLIPS,
        *(f"digits-{conditioning}" for conditioning in _CONDITIONINGS),
    }


@dataclass(frozen=True)
class ModelName:
    """The name of an unconditional model: bundled, of the Hub, or one of the user's own."""

    @property
    def options(self) -> tuple[str, ...]:
        """All such names, as they are now."""
        return (*_MODELS, *HUB_MODELS, *usable_own_checkpoints())

    def check(self, name: str, value: Any) -> str:
        return Choice(self.options).check(name, value)


@dataclass(frozen=True)
class DigitString:
    """Characters 0-9."""

    minimum: int
    maximum: int

    def check(self, name: str, value: Any) -> str:
        digits = isinstance(value, str) and all(c in "0123456789" for c in value)
        if not digits or not self.minimum <= len(value) <= self.maximum:
            many = digits and len(value) > self.maximum
            came = Said("that_many", count=len(value)) if many else show(value)
            raise SettingsError(
                "digits", name=name, minimum=self.minimum, maximum=self.maximum, came=came
            )
        return value


@dataclass(frozen=True)
class Color:
    """A colour in any of the ways that `images.parse_color` reads; becomes `#RRGGBB`."""

    def check(self, name: str, value: Any) -> str:
        try:
            return images.to_hex(images.parse_color(value))
        except (ValueError, AttributeError, TypeError):
            raise SettingsError("color", name=name, came=show(value)) from None


@dataclass(frozen=True)
class Palette:
    """Up to `maximum` colours with shares, `#102040 60, gold 40`; empty is none.

    Shares are percentages that add up to 100; without any, all are equal.
    """

    maximum: int = 5

    def check(self, name: str, value: Any) -> str:
        if not isinstance(value, str) or len(value) > _MAX_PALETTE_LENGTH:
            raise SettingsError("palette", name=name, maximum=self.maximum, came=show(value))
        entries = [entry.strip() for entry in _ENTRY_END.split(value) if entry.strip()]
        if not entries:
            return ""
        if len(entries) > self.maximum:
            raise SettingsError("palette_count", name=name, maximum=self.maximum, came=len(entries))
        pairs = [self._pair(name, entry) for entry in entries]
        shares = [share for _, share in pairs if share is not None]
        if shares and len(shares) < len(pairs):
            raise SettingsError(
                "palette_some_shares", name=name, shared=len(shares), count=len(pairs)
            )
        if not shares:
            shares = [100 / len(pairs)] * len(pairs)
        elif abs(sum(shares) - 100) > _SHARE_TOLERANCE:
            raise SettingsError("palette_sum", name=name, came=sum(shares))
        return ", ".join(f"{c} {s:g}" for (c, _), s in zip(pairs, shares, strict=True))

    def _pair(self, name: str, entry: str) -> tuple[str, float | None]:
        """A colour and its share, if it gives one."""
        found = _SHARE.search(entry)
        color = entry[: found.start()] if found else entry
        checked = Color().check(name, color)
        share = float(found["share"]) if found else None
        if share is not None and not 0 < share <= 100:
            raise SettingsError("palette_share", name=name, came=show(entry))
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
            many = Said("that_many_characters", count=length)
            came = many if isinstance(value, str) else show(value)
            raise SettingsError("prompt", name=name, maximum=MAX_PROMPT_LENGTH, came=came)
        if not value.strip():
            return ""
        entries = value.split("|")
        if len(entries) > self.maximum:
            raise SettingsError("prompt_count", name=name, maximum=self.maximum, came=len(entries))
        return " | ".join(self._entry(name, entry) for entry in entries)

    def _entry(self, name: str, entry: str) -> str:
        text, weight = _weighted(entry)
        if not any(character.isalnum() for character in text):
            raise SettingsError("prompt_words", name=name, came=show(entry))
        if not 0 < abs(weight) <= _MAX_PROMPT_WEIGHT:
            raise SettingsError(
                "prompt_weight", name=name, maximum=_MAX_PROMPT_WEIGHT, came=show(entry)
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
            raise SettingsError("picture", name=name, came=show(value)) from error
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
            raise SettingsError("picture", name=name, came=show(value)) from error
        height, width = mask.shape
        if height != width:
            raise SettingsError("mask_square", name=name, width=width, height=height)
        if height > _MAX_MASK_PX:
            raise SettingsError("mask_size", name=name, maximum=_MAX_MASK_PX, came=width)
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
        return Said("nothing")
    return text if len(text) <= 40 else text[:37] + "..."


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
    num_inference_steps: int = _setting(10, Whole(1, MAX_STEPS))
    seed: int = _setting(0, Whole(RANDOM_SEED, MAX_SEED))
    conditioning: str = _setting("embedding", Choice(_CONDITIONINGS))
    blend_with: str = _setting("", DigitString(0, 1))
    blend: float = _setting(0.5, Real(0.0, 1.0, step=0.05))
    solver: str = _setting("dpm++", Choice(("dpm++", "ddim")))
    eta: float = _setting(0.0, Real(0.0, 1.0, step=0.05))

    def check_together(self) -> None:
        if self.eta > 0 and self.solver != "ddim":
            raise SettingsError("eta_solver", came=self.eta)


@dataclass(frozen=True)
class ColorSettings:
    """A run of colour guidance.

    Attributes:
        color: the colour to steer towards.
        guidance_scale: how strongly: 0 is off, 0.05 subtle, 0.5 the most; for method "course" it
            is the course's own scale, about 40.
        num_inference_steps: denoising steps.
        num_images: pictures, of seeds that follow each other.
        seed: of the first picture; picture i takes seed + i. -1 draws one at random.
        model: key of an unconditional checkpoint.
        method: one of `guidance.METHODS`.
        loss: "mean": the mean colour is the wanted one. "pixels": every pixel is, the course's.
        region: the part of the picture that `color` is for.
        mask: another part, white in a picture given as a data address; empty is none.
        palette: up to five colours with shares, instead of `color`; empty is none.
        brightness: wanted mean luma, 0 black to 1 white; -1 is off.
        contrast: wanted standard deviation of luma, 0 flat to 0.5 the most; -1 is off.
        symmetry: a mirror axis; "none" is off.
        extras_weight: of brightness, contrast and symmetry beside the colour.
        start: share of the steps after which guidance begins.
        stop: share of the steps after which it ends.
        every: guide every so many steps, each that much more strongly.
        repeats: how often each middle step is done; 0 is as the method says.
        eta: fresh noise per step, 0 none, 1 as much as DDPM; -1 is as the method says.
    """

    color: str = _setting("#44CCAA", Color())
    guidance_scale: float = _setting(0.2, Real(0.0, 1000.0, step=0.01))
    num_inference_steps: int = _setting(20, Whole(1, MAX_STEPS))
    num_images: int = _setting(1, Whole(1, MAX_IMAGES))
    seed: int = _setting(0, Whole(RANDOM_SEED, MAX_SEED))
    model: str = _setting("paintings", ModelName())
    method: str = _setting("balanced", Choice(("fast", "balanced", "thorough", "course")))
    loss: str = _setting("mean", Choice(("mean", "pixels")))
    region: str = _setting("all", Choice(("all", "top", "bottom", "left", "right", "centre")))
    mask: str = _setting("", Mask())
    palette: str = _setting("", Palette())
    brightness: float = _setting(-1.0, RealOrOff(0.0, 1.0, step=0.05))
    contrast: float = _setting(-1.0, RealOrOff(0.0, 0.5, step=0.02))
    symmetry: str = _setting("none", Choice(("none", "left-right", "top-bottom")))
    extras_weight: float = _setting(1.0, Real(0.0, 1.0, step=0.05))
    start: float = _setting(0.0, Real(0.0, 1.0, step=0.05))
    stop: float = _setting(1.0, Real(0.0, 1.0, step=0.05))
    every: int = _setting(1, Whole(1, 10))
    repeats: int = _setting(0, Whole(0, 4))
    eta: float = _setting(-1.0, RealOrOff(0.0, 1.0, step=0.05))

    def check_together(self) -> None:
        _check_guidance(self)
        if self.mask and self.region != "all":
            raise SettingsError("region_or_mask", came=self.region)
        if self.loss == "pixels" and (self.region != "all" or self.mask or self.palette):
            raise SettingsError("loss_pixels")
        if self.method == "course" and self.only_ours():
            name = self.only_ours()[0]
            raise SettingsError("course_only", name=name, came=show(getattr(self, name)))

    def only_ours(self) -> list[str]:
        """Settings in use that the course's notebook does not have."""
        names = ("region", "mask", "palette", "brightness", "contrast", "symmetry")
        return [n for n in names if getattr(self, n) != getattr(type(self), n)]


@dataclass(frozen=True)
class TextSettings:
    """A run of CLIP text guidance.

    Attributes:
        prompt: what to steer towards: words, or several sentences with weights.
        negative_prompt: what to steer away from.
        guidance_scale: how strongly: 0 is off, 0.05 subtle, 0.5 the most; for method "course" it
            is the course's own scale, about 8.
        num_inference_steps: denoising steps.
        num_images: pictures, of seeds that follow each other.
        seed: of the first picture; picture i takes seed + i. -1 draws one at random.
        model: key of an unconditional checkpoint.
        method: one of `guidance.TEXT_METHODS`.
        clip_model: key of the CLIP that compares picture and words.
        image_prompt: a picture to be like, as a data address; empty is none.
        image_weight: of that picture, where a sentence weighs 1.
        color: a mean colour to steer towards as well; empty is none.
        color_weight: of the colour beside the words.
        cutouts: crops of the picture that are compared in each guided step.
        start: share of the steps after which guidance begins.
        stop: share of the steps after which it ends.
        every: guide every so many steps, each that much more strongly.
        repeats: how often each middle step is done; 0 is as the method says.
        eta: fresh noise per step, 0 none, 1 as much as DDPM; -1 is as the method says.
        tries: seeds tried for each picture, of which that goes on whose picture fits best early on;
            picture i has those from seed + i * tries on.
    """

    prompt: str = _setting("a landscape with trees", Prompt())
    negative_prompt: str = _setting("", Prompt())
    guidance_scale: float = _setting(0.2, Real(0.0, 1000.0, step=0.01))
    num_inference_steps: int = _setting(20, Whole(1, MAX_STEPS))
    num_images: int = _setting(1, Whole(1, MAX_IMAGES))
    seed: int = _setting(0, Whole(RANDOM_SEED, MAX_SEED))
    model: str = _setting("paintings", ModelName())
    method: str = _setting("balanced", Choice(("fast", "balanced", "thorough", "course")))
    clip_model: str = _setting("clip-small", Choice(_CLIPS))
    image_prompt: str = _setting("", Picture())
    image_weight: float = _setting(1.0, Real(0.0, 5.0))
    color: str = _setting("", ColorOrNone())
    color_weight: float = _setting(1.0, Real(0.0, 1.0, step=0.05))
    cutouts: int = _setting(1, Whole(1, 16))
    start: float = _setting(0.0, Real(0.0, 1.0, step=0.05))
    stop: float = _setting(0.8, Real(0.0, 1.0, step=0.05))
    every: int = _setting(1, Whole(1, 10))
    repeats: int = _setting(0, Whole(0, 4))
    eta: float = _setting(-1.0, RealOrOff(0.0, 1.0, step=0.05))
    tries: int = _setting(1, Whole(1, MAX_TRIES))

    def check_together(self) -> None:
        if not self.prompt and not (self.image_prompt and self.image_weight):
            raise SettingsError("prompt_missing")
        _check_guidance(self)
        if self.method == "course" and self.color:
            raise SettingsError("course_color", came=show(self.color))


def _check_guidance(settings: ColorSettings | TextSettings) -> None:
    """What contradicts itself in how a run is guided, whatever it is guided towards."""
    scale, start, stop = settings.guidance_scale, settings.start, settings.stop
    if settings.method != "course" and scale > MAX_LAMBDA:
        raise SettingsError("scale_of_course", maximum=MAX_LAMBDA, came=scale)
    if start > stop:
        raise SettingsError("start_stop", start=start, stop=stop)
    if settings.method == "fast" and settings.eta > 0:
        raise SettingsError("fast_eta", off=OFF, came=settings.eta)
    if settings.method == "fast" and settings.repeats > 1:
        raise SettingsError("fast_repeats", came=settings.repeats)


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
