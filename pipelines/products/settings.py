"""The settings of a run: one frozen dataclass per product, with ranges and defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, Self

from pipelines.core.rules import (
    MAX_SEED,
    OFF,
    RANDOM_SEED,
    Choice,
    Color,
    ColorOrNone,
    DigitString,
    Mask,
    Palette,
    Picture,
    Prompt,
    Real,
    RealOrOff,
    SettingsError,
    Whole,
    rule,
    setting,
    show,
)
from pipelines.diffusion.losses import REGIONS
from pipelines.diffusion.methods import MAX_LAMBDA, METHODS, TEXT_METHODS, Method
from pipelines.diffusion.schedules import MAX_STEPS
from pipelines.diffusion.solvers import SOLVERS
from pipelines.models.names import CLIPS, CONDITIONINGS, ModelName

MAX_DIGITS = 64
MAX_IMAGES = 8
MAX_TRIES = 32
SYMMETRIES = ("none", "left-right", "top-bottom")
_STEPS = ("5", "10", "20", "50")
_SCALES = ("0", "0.05", "0.1", "0.2", "0.5")
_SOLVERS = [key for key, solver in SOLVERS.items() if solver.is_offered]
_OFFERED_SOLVERS = tuple(
    sorted(_SOLVERS, key=lambda key: key != "dpm++")
)  # the default comes first


def _seeds(settings: Any) -> list[str]:
    """Returns four seeds to compare, from that of the settings on."""
    first = min(max(int(settings.seed), 0), MAX_SEED - 3)
    return [str(first + i) for i in range(4)]


def _scales(settings: GuidedSettings) -> Sequence[str]:
    """Returns strengths to compare; the course's method has a scale of its own."""
    method = method_of(settings)
    if not method.has_own_scale:
        return _SCALES
    return [f"{method.default_scale * i / 4:g}" for i in range(5)]


@dataclass(frozen=True)
class DigitsSettings:
    """The settings of a run of class-conditional digits.

    Attributes:
        digits: the digits to draw, one image per character, in order.
        cfg_scale: classifier-free guidance; 1 is off, 0 ignores the digits.
        num_inference_steps: number of denoising steps.
        seed: of the first image; image i takes seed + i. -1 draws one at random.
        conditioning: how the digit enters the network.
        blend_with: a second digit to mix into every image; empty is off.
        blend: share of the second digit in the mixture of the class embeddings, 0 to 1.
        solver: "dpm++", "ddim" or "heun", which needs two network evaluations per step.
        eta: fresh noise per step, "ddim" only: 0 is deterministic, 1 is as much as DDPM.
        symmetry: a mirror axis for the loss guidance; "none" is off.
        brightness: wanted mean luma, 0 black to 1 white; -1 is off.
        contrast: wanted standard deviation of luma, 0 flat to 0.5 the maximum; -1 is off.
        guidance_scale: strength of symmetry, brightness and contrast: 0 is off, 0.05 subtle, 0.5
            the maximum.
        method: method of their guidance, one of `methods`.
        start: share of the steps after which their guidance begins.
        stop: share of the steps after which their guidance ends.
        cfg_start: share of the steps after which classifier-free guidance begins.
        cfg_stop: share of the steps after which classifier-free guidance ends.
    """

    # "fast" differs from "balanced" in solver and fresh noise alone, which are settings here.
    methods: ClassVar[Mapping[str, Method]] = {
        name: METHODS[name] for name in ("balanced", "thorough")
    }

    digits: str = setting(
        "0123456789", DigitString(1, MAX_DIGITS), suggested=("0", "1", "2", "3", "4", "5")
    )
    cfg_scale: float = setting(2.2, Real(0.0, 10.0), suggested=("0", "1", "2.2", "4", "8"))
    num_inference_steps: int = setting(10, Whole(1, MAX_STEPS), suggested=_STEPS)
    seed: int = setting(0, Whole(RANDOM_SEED, MAX_SEED), suggested=_seeds)
    conditioning: str = setting("embedding", Choice(CONDITIONINGS))
    blend_with: str = setting("", DigitString(0, 1), suggested=("0", "1", "3", "8"))
    blend: float = setting(0.5, Real(0.0, 1.0, step=0.05))
    solver: str = setting("dpm++", Choice(_OFFERED_SOLVERS))
    eta: float = setting(0.0, Real(0.0, 1.0, step=0.05))
    symmetry: str = setting("none", Choice(SYMMETRIES))
    brightness: float = setting(-1.0, RealOrOff(0.0, 1.0, step=0.05))
    contrast: float = setting(-1.0, RealOrOff(0.0, 0.5, step=0.02))
    guidance_scale: float = setting(0.0, Real(0.0, MAX_LAMBDA, step=0.01), suggested=_SCALES)
    method: str = setting("balanced", Choice(tuple(methods)))
    start: float = setting(0.0, Real(0.0, 1.0, step=0.05))
    stop: float = setting(1.0, Real(0.0, 1.0, step=0.05))
    cfg_start: float = setting(0.0, Real(0.0, 1.0, step=0.05))
    cfg_stop: float = setting(1.0, Real(0.0, 1.0, step=0.05))

    @property
    def count(self) -> int:
        return len(self.digits)

    def of_one_picture(self) -> Self:
        digits = rule(self, "digits").check("digits", self.digits)
        return replace(self, digits=digits[:1])

    def check_together(self) -> None:
        if self.eta > 0 and self.solver != "ddim":
            raise SettingsError("eta_solver", got=self.eta)
        check_start_stop("start", self.start, "stop", self.stop)
        check_start_stop("cfg_start", self.cfg_start, "cfg_stop", self.cfg_stop)


@dataclass(frozen=True)
class ColorSettings:
    """The settings of a run of colour guidance.

    Attributes:
        color: the colour to steer towards.
        guidance_scale: strength: 0 is off, 0.05 subtle, 0.5 the maximum; for method "course" it is
            the course's own scale, about 40.
        num_inference_steps: number of denoising steps.
        num_images: number of pictures, with consecutive seeds.
        seed: of the first picture; picture i takes seed + i. -1 draws one at random.
        model: key of an unconditional checkpoint.
        method: one of `methods`.
        loss: "mean" guides the mean colour, "pixels" every pixel, as in the course.
        region: the part of the picture for `color`.
        mask: another part: white in a picture given as a data address; empty is off.
        palette: up to five colours with shares, instead of `color`; empty is off.
        brightness: wanted mean luma, 0 black to 1 white; -1 is off.
        contrast: wanted standard deviation of luma, 0 flat to 0.5 the maximum; -1 is off.
        symmetry: a mirror axis; "none" is off.
        extras_weight: weight of brightness, contrast and symmetry; the colour has weight 1.
        start: share of the steps after which guidance begins.
        stop: share of the steps after which guidance ends.
        every: guide only every n-th step, n times as strongly; 1 is every step.
        repeats: how often each middle step is done (recurrence); 0 is the method's own number.
        eta: fresh noise per step, 0 none, 1 as much as DDPM; -1 is the method's own value.
    """

    methods: ClassVar[Mapping[str, Method]] = METHODS

    color: str = setting("#44CCAA", Color())
    guidance_scale: float = setting(0.2, Real(0.0, 1000.0, step=0.01), suggested=_scales)
    num_inference_steps: int = setting(20, Whole(1, MAX_STEPS), suggested=_STEPS)
    num_images: int = setting(1, Whole(1, MAX_IMAGES), in_sweeps=False)
    seed: int = setting(0, Whole(RANDOM_SEED, MAX_SEED), suggested=_seeds)
    model: str = setting("paintings", ModelName())
    method: str = setting("balanced", Choice(tuple(METHODS)))
    loss: str = setting("mean", Choice(("mean", "pixels")))
    region: str = setting("all", Choice(REGIONS))
    mask: str = setting("", Mask(), in_sweeps=False)
    palette: str = setting("", Palette())
    brightness: float = setting(-1.0, RealOrOff(0.0, 1.0, step=0.05))
    contrast: float = setting(-1.0, RealOrOff(0.0, 0.5, step=0.02))
    symmetry: str = setting("none", Choice(SYMMETRIES))
    extras_weight: float = setting(1.0, Real(0.0, 1.0, step=0.05))
    start: float = setting(0.0, Real(0.0, 1.0, step=0.05))
    stop: float = setting(1.0, Real(0.0, 1.0, step=0.05))
    every: int = setting(1, Whole(1, 10))
    repeats: int = setting(0, Whole(0, 4))
    eta: float = setting(-1.0, RealOrOff(0.0, 1.0, step=0.05))

    @property
    def count(self) -> int:
        return self.num_images

    def of_one_picture(self) -> Self:
        return replace(self, num_images=1)

    def check_together(self) -> None:
        check_guidance(self)
        if self.mask and self.region != "all":
            raise SettingsError("region_or_mask", got=self.region)
        if self.loss == "pixels" and (self.region != "all" or self.mask or self.palette):
            raise SettingsError("loss_pixels")
        if method_of(self).is_bare and self.only_ours():
            name = self.only_ours()[0]
            raise SettingsError("course_only", name=name, got=show(getattr(self, name)))

    def only_ours(self) -> list[str]:
        """Returns the names of settings in use that the course's notebook does not have."""
        names = ("region", "mask", "palette", "brightness", "contrast", "symmetry")
        return [n for n in names if getattr(self, n) != getattr(type(self), n)]


@dataclass(frozen=True)
class TextSettings:
    """The settings of a run of CLIP text guidance.

    Attributes:
        prompt: a sentence to guide towards, or several with weights.
        negative_prompt: sentences to guide away from; empty is off.
        guidance_scale: strength: 0 is off, 0.05 subtle, 0.5 the maximum; for method "course" it is
            the course's own scale, about 8.
        num_inference_steps: number of denoising steps.
        num_images: number of pictures, with consecutive seeds.
        seed: of the first picture; picture i takes seed + i. -1 draws one at random.
        model: key of an unconditional checkpoint.
        method: one of `methods`.
        clip_model: key of the CLIP that compares picture and words.
        image_prompt: a picture to guide towards, as a data address; empty is off.
        image_weight: weight of that picture; a sentence has weight 1.
        color: a mean colour to guide towards too; empty is off.
        color_weight: weight of the colour; the words have weight 1.
        cutouts: number of crops of the picture that CLIP sees in each guided step.
        start: share of the steps after which guidance begins.
        stop: share of the steps after which guidance ends.
        every: guide only every n-th step, n times as strongly; 1 is every step.
        repeats: how often each middle step is done (recurrence); 0 is the method's own number.
        eta: fresh noise per step, 0 none, 1 as much as DDPM; -1 is the method's own value.
        tries: seeds tried for each picture; the one that fits best after the first steps is drawn.
            Picture i tries the seeds from seed + i * tries on. 1 is off.
    """

    methods: ClassVar[Mapping[str, Method]] = TEXT_METHODS

    prompt: str = setting("a landscape with trees", Prompt())
    negative_prompt: str = setting("", Prompt())
    guidance_scale: float = setting(0.2, Real(0.0, 1000.0, step=0.01), suggested=_scales)
    num_inference_steps: int = setting(20, Whole(1, MAX_STEPS), suggested=_STEPS)
    num_images: int = setting(1, Whole(1, MAX_IMAGES), in_sweeps=False)
    seed: int = setting(0, Whole(RANDOM_SEED, MAX_SEED), suggested=_seeds)
    model: str = setting("paintings", ModelName())
    method: str = setting("balanced", Choice(tuple(TEXT_METHODS)))
    clip_model: str = setting("clip-small", Choice(CLIPS))
    image_prompt: str = setting("", Picture(), in_sweeps=False)
    image_weight: float = setting(1.0, Real(0.0, 5.0))
    color: str = setting("", ColorOrNone())
    color_weight: float = setting(1.0, Real(0.0, 1.0, step=0.05))
    cutouts: int = setting(1, Whole(1, 16))
    start: float = setting(0.0, Real(0.0, 1.0, step=0.05))
    stop: float = setting(0.8, Real(0.0, 1.0, step=0.05))
    every: int = setting(1, Whole(1, 10))
    repeats: int = setting(0, Whole(0, 4))
    eta: float = setting(-1.0, RealOrOff(0.0, 1.0, step=0.05))
    tries: int = setting(1, Whole(1, MAX_TRIES))

    @property
    def count(self) -> int:
        return self.num_images

    def of_one_picture(self) -> Self:
        return replace(self, num_images=1)

    def check_together(self) -> None:
        if not self.prompt and not (self.image_prompt and self.image_weight):
            raise SettingsError("prompt_missing")
        check_guidance(self)
        if method_of(self).is_bare and self.color:
            raise SettingsError("course_color", got=show(self.color))


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


def method_of(settings: GuidedSettings) -> Method:
    """Returns the guidance method of a run."""
    return settings.methods[settings.method]


def check_guidance(settings: NoisySettings) -> None:
    """Checks the settings of a run's guidance against each other.

    Raises:
        SettingsError: if two of them contradict each other.
    """
    method, scale = method_of(settings), settings.guidance_scale
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
            "start_stop", start_name=start_name, stop_name=stop_name, start=start, stop=stop
        )
