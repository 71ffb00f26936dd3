"""Class-conditional digits: from settings to a stream of pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor

from pipelines.core.rules import validate
from pipelines.diffusion import losses
from pipelines.diffusion.denoisers import class_condition
from pipelines.diffusion.guidance import Guide
from pipelines.diffusion.solvers import SOLVERS
from pipelines.models import checkpoints, judges
from pipelines.products.guided import evaluations_of, extra_losses
from pipelines.products.settings import DigitsSettings, method_of
from pipelines.runs import comparison
from pipelines.runs.run import Plan, Run, cfg_interval
from pipelines.runs.timing import Work

NUM_CLASSES = 10


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
    return _generate(settings, loaded, compare)


def checkpoint_of(settings: DigitsSettings) -> str:
    """Returns the key of the checkpoint of a run."""
    return f"digits-{settings.conditioning}"


def _generate(
    settings: DigitsSettings, loaded: checkpoints.Loaded, compare: bool
) -> Iterator[Preview]:
    wanted = class_weights(settings)[:, :NUM_CLASSES] > 0  # (b, 10)
    judge, run = _judge(), run_of(settings, loaded)
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
