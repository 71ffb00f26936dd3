"""Class-conditional digits: from settings to a stream of pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from pipelines.core.rules import (
    Choice,
    DigitString,
    Real,
    SettingsError,
    off_at,
    rule,
    setting,
    validate,
)
from pipelines.diffusion import denoisers, losses
from pipelines.diffusion.denoisers import class_condition
from pipelines.diffusion.guidance import Guide
from pipelines.diffusion.methods import MAX_LAMBDA, METHODS, Method
from pipelines.diffusion.solvers import SOLVERS
from pipelines.models import checkpoints, judges
from pipelines.models.names import CONDITIONINGS
from pipelines.products import guided_settings as shared
from pipelines.products.guided import evaluations_of, extra_losses
from pipelines.products.guided_settings import check_start_stop, method_of
from pipelines.runs import comparison
from pipelines.runs.explanation import LOOP, SOLVER_LINKS, STEP, Excerpt, Explanation
from pipelines.runs.product import Curve, Product, mean
from pipelines.runs.run import Plan, Run, cfg_interval
from pipelines.runs.timing import Work

NUM_CLASSES = 10
MAX_DIGITS = 64
_SOLVERS = [key for key, solver in SOLVERS.items() if solver.is_offered]
_CFG_OFF_BY = off_at("cfg_scale", 1)
_OFFERED_SOLVERS = tuple(
    sorted(_SOLVERS, key=lambda key: key != "dpm++")
)  # the default comes first


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
        computed_by: how networks are computed: "measured" as this machine found fastest, or one of
            the ways by name; a machine may not have all of them.
    """

    # "fast" differs from "balanced" in solver and fresh noise alone, which are settings here.
    methods: ClassVar[Mapping[str, Method]] = {
        name: METHODS[name] for name in ("balanced", "thorough")
    }

    digits: str = setting(
        "0123456789",
        DigitString(1, MAX_DIGITS),
        "Digits to draw",
        "0-9, up to 64; one image each",
        group="wish",
        suggested=("0", "1", "2", "3", "4", "5"),
    )
    cfg_scale: float = setting(
        2.2,
        Real(0.0, 10.0),
        "CFG scale",
        "1: off. More: clearer digits, less variety",
        suggested=("0", "1", "2.2", "4", "8"),
    )
    num_inference_steps: int = shared.num_inference_steps(10)
    seed: int = shared.seed()
    conditioning: str = setting(
        "embedding", Choice(CONDITIONINGS), "How the network is told of the class"
    )
    blend_with: str = setting(
        "", DigitString(0, 1), "Blend with", "A second digit", suggested=("0", "1", "3", "8")
    )
    blend: float = setting(
        0.5,
        Real(0.0, 1.0, step=0.05),
        "Blend",
        "0: first digit, 1: second",
        needs=("blend_with",),
    )
    solver: str = setting("dpm++", Choice(_OFFERED_SOLVERS), "Solver", group="advanced")
    eta: float = setting(
        0.0,
        Real(0.0, 1.0, step=0.05),
        "eta",
        "Fresh noise per step, ddim only. 0: none, 1: as much as DDPM",
        group="advanced",
    )
    symmetry: str = shared.symmetry("steer")
    brightness: float = shared.brightness("steer")
    contrast: float = shared.contrast("steer")
    guidance_scale: float = setting(
        0.0,
        Real(0.0, MAX_LAMBDA, step=0.01),
        "Guidance scale",
        "0: off. 0.05: subtle. 0.2: clear. 0.5: the most",
        group="steer",
        suggested=shared.SCALES,
        needs=shared.EXTRAS,
    )
    method: str = shared.method(methods, group="steer", needs=shared.EXTRAS)
    start: float = shared.start("steer", needs=shared.EXTRAS)
    stop: float = shared.stop(group="steer", needs=shared.EXTRAS)
    cfg_start: float = shared.start(label="CFG from", overruled=_CFG_OFF_BY)
    cfg_stop: float = shared.stop(label="CFG until", overruled=_CFG_OFF_BY)
    computed_by: str = shared.computed_by()

    @property
    def count(self) -> int:
        return len(self.digits)

    def of_one_picture(self) -> Self:
        digits = rule(self, "digits").check("digits", self.digits)
        return replace(self, digits=digits[:1])

    def check_together(self) -> None:
        if self.eta > 0 and self.solver != "ddim":
            raise SettingsError("eta_solver", got=self.eta)
        shared.check_computed_by(self.computed_by)
        check_start_stop("start", self.start, "stop", self.stop)
        check_start_stop("cfg_start", self.cfg_start, "cfg_stop", self.cfg_stop)


@dataclass(frozen=True)
class Preview(comparison.Preview):
    """The state of a run after one step.

    Attributes:
        confidence: per finished step, one value per image: the probability, 0 to 1, that a judge
            gives the wanted digit in the network's prediction; guidance never uses the judge.
        unguided_confidence: the same without guidance; empty without unguided pictures.
        losses: per step with loss guidance, one value per image: the loss of the network's
            prediction.
    """

    confidence: list[list[float]]
    unguided_confidence: list[list[float]]
    losses: list[list[float]] = field(default_factory=list)

    @property
    def score_before(self) -> list[float]:
        """The judge's confidence in each unguided picture; empty if none are drawn."""
        return self.unguided_confidence[-1] if self.unguided_confidence else []

    @property
    def score_after(self) -> list[float]:
        """The judge's confidence in each guided picture."""
        return self.confidence[-1]


def class_weights(settings: DigitsSettings) -> Tensor:
    """Returns the class weights of each image, `(b, 11)` float32; the last is the null class."""
    weights = torch.zeros(len(settings.digits), NUM_CLASSES + 1)
    blend = settings.blend if settings.blend_with else 0.0
    for row, digit in zip(weights, settings.digits, strict=True):
        row[int(digit)] += 1 - blend
        if settings.blend_with:
            row[int(settings.blend_with)] += blend
    return weights


@cache
def _judge() -> judges.DigitJudge:
    return judges.load_bundled_judge()


def load(settings: DigitsSettings) -> None:
    """Loads the model of a run.

    Raises:
        CheckpointError: if it cannot be loaded.
    """
    _judge()
    checkpoints.load(checkpoint_of(settings))


def terms_of(settings: DigitsSettings) -> list[losses.Term]:
    """Returns the loss terms of a run, besides its classes."""
    return [losses.Term(loss) for loss in extra_losses(settings)]


def guide_of(settings: DigitsSettings) -> Guide:
    """Returns the loss guidance of a run, besides its classes."""
    return Guide(
        method_of(settings),
        terms_of(settings),
        settings.guidance_scale,
        start=settings.start,
        stop=settings.stop,
    )


def plan_of(settings: DigitsSettings) -> Plan:
    """Returns everything that determines the unguided digits."""
    return Plan(
        model=checkpoint_of(settings),
        seeds=tuple(settings.seed + i for i in range(len(settings.digits))),
        num_inference_steps=settings.num_inference_steps,
        solver=settings.solver,
        eta=settings.eta,
        condition=class_condition(class_weights(settings)),
        computed_by=settings.computed_by,
    )


def run_of(settings: DigitsSettings, loaded: checkpoints.Loaded) -> Run:
    """Returns a run that is ready to draw; the settings must be checked."""
    return Run(
        plan_of(settings),
        loaded,
        guide_of(settings),
        cfg_scale=settings.cfg_scale,
        cfg_start=settings.cfg_start,
        cfg_stop=settings.cfg_stop,
    )


def work(settings: DigitsSettings, *, compare: bool = True) -> Work:
    """Returns the work of a run with checked settings, to estimate its time."""
    total, plan = settings.num_inference_steps, plan_of(settings)
    costs = evaluations_of(guide_of(settings), settings.solver, total)
    first, end = cfg_interval(total, settings.cfg_start, settings.cfg_stop)
    doubled = costs[first:end] if settings.cfg_scale != 1 else []
    is_drawn = compare and not comparison.is_cached(plan)
    unguided = total * SOLVERS[settings.solver].evaluations if is_drawn else 0
    kind = ("digits", settings.conditioning)
    return Work(kind, sum(costs) + sum(doubled) + unguided, len(settings.digits))


def generate(settings: DigitsSettings, *, compare: bool = True) -> Iterator[Preview]:
    """Draws digits; yields once per denoising step.

    Args:
        settings: of the run.
        compare: whether to draw the same digits without any guidance too.

    Raises:
        ValueError: if a setting is wrong; raised at once, before any step.
        CheckpointError: if the checkpoint cannot be loaded; raised at once too.
    """
    settings = validate(settings)
    loaded = checkpoints.load(checkpoint_of(settings))
    return _previews(run_of(settings, loaded), _judge(), settings, compare)


def checkpoint_of(settings: DigitsSettings) -> str:
    """Returns the key of the checkpoint of a run."""
    return f"digits-{settings.conditioning}"


def _previews(
    run: Run, judge: judges.DigitJudge, settings: DigitsSettings, compare: bool
) -> Iterator[Preview]:
    wanted = class_weights(settings)[:, :NUM_CLASSES] > 0  # (b, 10)
    confidence: list[list[float]] = []
    unguided_confidence: list[list[float]] = []
    losses_so_far: list[list[float]] = []
    for step, unguided, preview in comparison.compared(run, settings, compare=compare):
        confidence.append(judges.probability(judge, step.preview, wanted).tolist())
        if step.loss is not None:
            losses_so_far.append(step.loss.tolist())
        if unguided is not None:
            unguided_confidence.append(judges.probability(judge, unguided.x0, wanted).tolist())
        yield Preview(
            **vars(preview),
            confidence=list(confidence),
            unguided_confidence=list(unguided_confidence),
            losses=list(losses_so_far),
        )


def facts(preview: Preview) -> dict[str, Any]:
    """Returns the judge's probabilities, and the losses if any, for API callers and files."""
    rounded = [[round(value, 5) for value in step] for step in preview.losses]
    return ({"loss": rounded} if rounded else {}) | {
        "score": "probability of the digit, by a judge that generation never sees",
        "score_before": [round(value, 4) for value in preview.score_before],
        "score_after": [round(value, 4) for value in preview.score_after],
    }


def curve(preview: Preview) -> Curve:
    """Returns the judge's mean probability of the digits in the predicted pictures, per step."""
    return Curve(
        "curve",
        [mean(step) for step in preview.confidence],
        [mean(step) for step in preview.unguided_confidence],
    )


_EXPLANATION = Explanation(
    equations=(
        r"v = v_\varnothing + w\,(v_c - v_\varnothing)",
        r"x_0 = \alpha_t\,x_t - \sigma_t\,v",
        STEP,
    ),
    excerpts=(LOOP, Excerpt("mix", denoisers.denoiser, "def predict")),
    links=("course", *SOLVER_LINKS, "cfg", "glide", "interval", "autoguidance"),
)

_TEXTS = {
    "title": "Digits",
    "introduction": (
        "Type digits and press **Draw**. A diffusion model starts from pure noise and "
        "removes a little of it in every step; the class embedding of your digit tells it "
        "what to find there, and classifier-free guidance exaggerates that."
    ),
    "run": "Draw",
    "alt": "Handwritten digit {digit}",
    "alt_blend": "Handwritten digit {digit} blended with {other}",
    "no_blend": "off",
    "sure": "A judge is {after} sure of these digits, unguided {before}",
    "loss": (
        "Loss of symmetry, brightness and contrast: {first} in the first guided step, {last} "
        "in the last"
    ),
    "judge": "The judge is a classifier that generation never sees; 99.7 % right on real digits.",
    "cell_note": "How sure the judge is of the digit: higher is better.",
    "curve": "How sure the judge is of what the network predicts",
    "idea": (
        "This model was trained with labels: in every step it is told which digit to find in "
        "the noise. In training the label was left out now and then, so it can also do "
        "without. Classifier-free guidance asks it twice, with the digit and without, and "
        "exaggerates the difference: above 1, digits become clearer and less varied."
    ),
    "symbols": (
        "*v*<sub>c</sub>, *v*<sub>∅</sub>: what the network answers with the digit and "
        "without one. *w*: the guidance scale, 1 is off. *x*<sub>t</sub>: the noisy picture, "
        "whose parts of picture and of noise are α<sub>t</sub> and σ<sub>t</sub>. "
        "*x*<sub>0</sub>: the finished picture that *v* implies. ε: the noise that it "
        "leaves. *s*: the next, less noisy step. The last line is DDIM with eta 0; "
        "DPM-Solver++ also looks back at the step before."
    ),
    "caption.mix": (
        "Inside a step, the network is asked without the digit and with it, in one batch."
    ),
    "group.steer": "Steer by more than the class",
    "group_help.steer": (
        "A loss can steer a class-conditional model too: choose what to steer towards, and "
        "how strongly."
    ),
}

PRODUCT = Product(
    name="digits",
    settings=DigitsSettings,
    preview=Preview,
    generate=generate,
    checkpoints=lambda settings: (checkpoint_of(settings),),
    load=load,
    work=work,
    facts=facts,
    details=lambda preview: {},
    unguided=lambda preview, index: replace(preview.settings, cfg_scale=1.0, guidance_scale=0.0),
    curve=curve,
    noise_shape=(1, 28, 28),
    first_sweep=("cfg_scale", "digits"),
    explanation=_EXPLANATION,
    texts=_TEXTS,
    description="""Draws handwritten digits, one image per character.

Streams `(images, info)`: PNG files and a dict with seed, step, total_steps, seconds, model,
revision, settings, versions, score_before and score_after (per image: probability of the digit,
without and with guidance, by a judge that generation never sees), and loss (per guided step,
per image) if symmetry, brightness or contrast guide too. The last result is complete.""",
    only_setting="digits",
    file_name="digit",
    columns=(10, 5, 8),
    scale=8,
    crisp=True,
    position=3,
)
