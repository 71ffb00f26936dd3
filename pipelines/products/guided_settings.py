"""What products with loss guidance set alike: declared once, and checked against each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Protocol, Self

from pipelines.core import devices
from pipelines.core.errors import Setting, Several
from pipelines.core.rules import (
    OFF,
    Choice,
    Overruled,
    Palette,
    Prompt,
    Real,
    RealOrOff,
    Seed,
    SettingsError,
    Whole,
    off_at,
    setting,
)
from pipelines.diffusion.guidance import switched_off_by
from pipelines.diffusion.methods import Method
from pipelines.diffusion.schedules import MAX_STEPS
from pipelines.models import ways
from pipelines.models.names import CLIPS, ModelName
from pipelines.models.timesteps import CHOICES, is_learned_for, learned

MAX_IMAGES = 8
EXTRAS = ("symmetry", "brightness", "contrast")
"""Names of the settings that steer by more than a colour or a class."""

SYMMETRIES = ("none", "left-right", "top-bottom")
SCALES = ("0", "0.05", "0.1", "0.2", "0.5")
_SHARE = Real(0.0, 1.0, step=0.05)
_STRENGTH_OFF_BY = off_at("guidance_scale", 0)


class GuidedSettings(Protocol):
    """The common settings of runs with loss guidance."""

    methods: ClassVar[Mapping[str, Method]]

    @property
    def guidance_scale(self) -> float: ...
    @property
    def method(self) -> str: ...
    @property
    def start(self) -> float: ...
    @property
    def stop(self) -> float: ...


class NoisySettings(GuidedSettings, Protocol):
    """The common settings of runs whose method also determines solver and fresh noise."""

    @property
    def num_inference_steps(self) -> int: ...
    @property
    def num_images(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def model(self) -> str: ...
    @property
    def every(self) -> int: ...
    @property
    def repeats(self) -> int: ...
    @property
    def eta(self) -> float: ...
    @property
    def timesteps(self) -> str: ...
    @property
    def computed_by(self) -> str: ...


class SeveralPictures:
    """Settings of a run of `num_images` pictures; see `rules.Settings`.

    Attributes:
        timesteps: the solver's own, in products without such a setting.
        computed_by: as this machine chooses, likewise.
    """

    num_images: int
    timesteps: str = "spaced"
    computed_by: str = ways.MEASURED

    @property
    def count(self) -> int:
        return self.num_images

    def of_one_picture(self) -> Self:
        one: Any = self
        return replace(one, num_images=1)


def method_of(settings: GuidedSettings) -> Method:
    """Returns the guidance method of a run."""
    return settings.methods[settings.method]


def check_guidance(settings: NoisySettings) -> None:
    """Checks the settings of a run's guidance against each other.

    Raises:
        SettingsError: if two of them contradict each other.
    """
    method, scale = method_of(settings), settings.guidance_scale
    check_computed_by(settings.computed_by)
    if scale > method.max_scale:
        raise SettingsError("scale_of_course", maximum=method.max_scale, got=scale)
    check_start_stop("start", settings.start, "stop", settings.stop)
    if not method.takes_noise and settings.eta > 0:
        raise SettingsError("fast_eta", off=OFF, got=settings.eta)
    if not method.takes_noise and settings.repeats > 1:
        raise SettingsError("fast_repeats", got=settings.repeats)


def check_start_stop(start_name: str, start: float, stop_name: str, stop: float) -> None:
    """Checks that an interval of steps does not end before it begins.

    Raises:
        SettingsError: if it does.
    """
    if start > stop:
        raise SettingsError(
            "start_stop",
            start_name=Setting(start_name),
            stop_name=Setting(stop_name),
            start=start,
            stop=stop,
        )


def _scales(settings: GuidedSettings) -> Sequence[str]:
    """Returns strengths to compare; the course's method has a scale of its own."""
    method = method_of(settings)
    if not method.has_own_scale:
        return SCALES
    return [f"{method.default_scale * i / 4:g}" for i in range(5)]


def guidance_scale(needs: Sequence[str] = ()) -> Any:
    """Declares the strength of loss guidance; methods with a scale of their own go to 1000."""
    return setting(
        0.2,
        Real(0.0, 1000.0, step=0.01),
        "Guidance scale",
        "0: off. 0.05: subtle. 0.2: clear. 0.5: the most",
        suggested=_scales,
        needs=needs,
    )


def num_inference_steps(default: int) -> Any:
    """Declares the number of denoising steps."""
    rule = Whole(1, MAX_STEPS)
    return setting(default, rule, "Steps", "More: slower, finer", suggested=("5", "10", "20", "50"))


def num_images() -> Any:
    """Declares the number of pictures."""
    return setting(
        1, Whole(1, MAX_IMAGES), "Pictures", "Of seeds that follow each other", in_sweeps=False
    )


def seed() -> Any:
    """Declares the seed of the first picture."""
    return setting(0, Seed(), "Seed", "-1: random")


def model() -> Any:
    """Declares the unconditional model."""
    return setting("paintings", ModelName(), "Model")


def method(methods: Mapping[str, Method], *, group: str = "main", needs: Sequence[str] = ()) -> Any:
    """Declares the method of guidance."""
    rule = Choice(tuple(methods))
    return setting("balanced", rule, "Method", group=group, needs=needs, overruled=switched_off_by)


def extras_off_by(settings: Any) -> str:
    """Returns the name of the setting that leaves symmetry and its like without effect, or ""."""
    if getattr(settings, "extras_weight", 1.0) == 0:
        return "extras_weight"
    return switched_off_by(settings)


def symmetry(group: str) -> Any:
    """Declares a mirror axis to steer towards."""
    return setting("none", Choice(SYMMETRIES), "Symmetry", group=group, overruled=extras_off_by)


def brightness(group: str) -> Any:
    """Declares a mean luma to steer towards."""
    rule, words = RealOrOff(0.0, 1.0, step=0.05), "0: black, 1: white, -1: off"
    return setting(-1.0, rule, "Brightness", words, group=group, overruled=extras_off_by)


def contrast(group: str) -> Any:
    """Declares a standard deviation of luma to steer towards."""
    rule, words = RealOrOff(0.0, 0.5, step=0.02), "0: flat, 0.5: the most, -1: off"
    return setting(-1.0, rule, "Contrast", words, group=group, overruled=extras_off_by)


def palette() -> Any:
    """Declares colours with shares to steer towards, instead of one colour."""
    return setting(
        "",
        Palette(),
        "Palette, instead of the colour",
        "Up to five colours with shares: #102040 60, gold 40",
        short="Palette",
        group="more",
        overruled=switched_off_by,
    )


def negative_prompt(group: str, overruled: Overruled, needs: Sequence[str] = ()) -> Any:
    """Declares sentences to guide away from."""
    label, words = "Negative prompt", "What it should not be like"
    return setting("", Prompt(), label, words, group=group, needs=needs, overruled=overruled)


def clip_model(needs: Sequence[str] = ()) -> Any:
    """Declares the CLIP that compares picture and words."""
    return setting(
        "clip-small",
        Choice(CLIPS),
        "CLIP model",
        "clip-small is here; the others are fetched from the Hub",
        group="advanced",
        needs=needs,
    )


def weight(rule: Real, what: str, help: str, of: str, overruled: Overruled) -> Any:
    """Declares the weight of something else; it has no part in a run without that.

    Args:
        rule: what it accepts; 1 is usual.
        what: English name of what it weighs.
        help: English line below the control.
        of: name of the setting that it weighs.
        overruled: see `rules.Overruled`.
    """
    label = f"Weight of {what}"
    return setting(1.0, rule, label, help, group="more", needs=(of,), overruled=overruled)


def start(
    group: str = "advanced",
    label: str = "Guide from",
    needs: Sequence[str] = (),
    overruled: Overruled = _STRENGTH_OFF_BY,
) -> Any:
    """Declares the share of the steps after which guidance begins."""
    return setting(
        0.0, _SHARE, label, "Share of the steps", group=group, needs=needs, overruled=overruled
    )


def stop(
    default: float = 1.0,
    group: str = "advanced",
    label: str = "Guide until",
    needs: Sequence[str] = (),
    overruled: Overruled = _STRENGTH_OFF_BY,
) -> Any:
    """Declares the share of the steps after which guidance ends."""
    return setting(
        default, _SHARE, label, "Share of the steps", group=group, needs=needs, overruled=overruled
    )


def every() -> Any:
    """Declares between how many steps there is guidance."""
    return setting(
        1,
        Whole(1, 10),
        "Guide every so many steps",
        "Each that much more strongly",
        short="Guide every",
        group="advanced",
        overruled=switched_off_by,
    )


def repeats(overruled: Overruled = switched_off_by) -> Any:
    """Declares how often middle steps are done."""
    return setting(
        0,
        Whole(0, 4),
        "Repeats",
        "Middle steps; 0: as the method says",
        group="advanced",
        overruled=overruled,
    )


def noise() -> Any:
    """Declares the fresh noise per step, which else the method determines."""
    rule = RealOrOff(0.0, 1.0, step=0.05)
    return setting(
        -1.0, rule, "eta", "Fresh noise per step; -1: as the method says", group="advanced"
    )


def _timesteps_off_by(settings: NoisySettings) -> str:
    """Returns the name of the setting without which there would be learned timesteps, or ""."""
    solver = method_of(settings).solver
    if not is_learned_for(solver):
        return "method"
    if not is_learned_for(solver, settings.model):
        return "model"
    count = settings.num_inference_steps
    return "" if learned(settings.model, solver, count) else "num_inference_steps"


def timesteps() -> Any:
    """Declares where the timesteps come from; older pictures and links know only the solver's."""
    return setting(
        "learned",
        Choice(CHOICES),
        "Timesteps",
        "Learned for each model, with fast in 4, 6, 8 or 12 steps",
        group="advanced",
        overruled=_timesteps_off_by,
        absent="spaced",
    )


def computed_by() -> Any:
    """Declares how networks are computed; a picture asks for the way in which it was drawn."""
    return setting(
        ways.MEASURED,
        Choice(ways.CHOICES),
        "Computed by",
        "measured: what this machine found fastest",
        group="advanced",
    )


def check_computed_by(name: str) -> None:
    """Checks that this machine can compute in a way of `ways.CHOICES`.

    Raises:
        SettingsError: if it cannot.
    """
    options = [ways.MEASURED, *ways.possible(devices.device())] if name != ways.MEASURED else [name]
    if name not in options:
        raise SettingsError("computed_by_here", accepted=Several(options), got=name)


def changed(settings: Any, names: Iterable[str]) -> list[str]:
    """Returns those of some names whose settings differ from their defaults."""
    return [name for name in names if getattr(settings, name) != getattr(type(settings), name)]
