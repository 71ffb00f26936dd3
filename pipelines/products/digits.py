"""Class-conditional digits: settings to a stream of pictures that form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from pipelines.core.rules import DigitsSettings, validate
from pipelines.diffusion import sampling
from pipelines.models import checkpoints, judges
from pipelines.runs import comparison
from pipelines.runs.timing import Work

NUM_CLASSES = 10


@dataclass(frozen=True)
class Preview(comparison.Preview):
    """The state of a run after one step.

    Attributes:
        sureness: per step done, one value per image: how sure a judge that generation never sees
            is of the digit asked for, 0 to 1, in what the network predicts.
        unguided_sureness: the same without guidance; empty where that is not drawn.
    """

    sureness: list[list[float]]
    unguided_sureness: list[list[float]]

    @property
    def score_before(self) -> list[float]:
        """How sure the judge is of each unguided picture; or nothing."""
        return self.unguided_sureness[-1] if self.unguided_sureness else []

    @property
    def score_after(self) -> list[float]:
        """The same per guided picture."""
        return self.sureness[-1]


def class_weights(settings: DigitsSettings) -> Tensor:
    """How much of each class an image is, `(b, 11)` float32; the last is the null class."""
    weights = torch.zeros(len(settings.digits), NUM_CLASSES + 1)
    blend = settings.blend if settings.blend_with else 0.0
    for row, digit in zip(weights, settings.digits, strict=True):
        row[int(digit)] += 1 - blend
        if settings.blend_with:
            row[int(settings.blend_with)] += blend
    return weights


@cache
def _judge() -> judges.DigitJudge:
    return judges.load_judge()


def load(settings: DigitsSettings) -> None:
    """Loads what a run needs.

    Raises:
        CheckpointError: if it cannot be loaded.
    """
    checkpoints.load(checkpoint_of(settings))


def work(settings: DigitsSettings) -> Work:
    """What a run of checked settings will compute, to tell how long it takes."""
    total = settings.num_inference_steps
    guided = total * (1 if settings.cfg_scale == 1 else 2)
    revision = checkpoints.loaded_revision(checkpoint_of(settings))
    known = revision and comparison.memory.get(_unguided_key(settings, revision)) is not None
    kind = ("digits", settings.conditioning)
    return Work(kind, guided if known else guided + total, len(settings.digits))


def generate(settings: DigitsSettings, *, compare: bool = True) -> Iterator[Preview]:
    """Draws digits, yielding once per denoising step.

    Args:
        settings: of the run.
        compare: whether the same digits are drawn without classifier-free guidance too.

    Raises:
        ValueError: if a setting is wrong; raised at once, before any step.
        CheckpointError: if the checkpoint cannot be loaded; likewise.
    """
    settings = validate(settings)
    loaded = checkpoints.load(checkpoint_of(settings))
    return _generate(settings, loaded, compare)


def checkpoint_of(settings: DigitsSettings) -> str:
    """Key of the checkpoint that draws."""
    return f"digits-{settings.conditioning}"


def _generate(
    settings: DigitsSettings, loaded: checkpoints.Loaded, compare: bool
) -> Iterator[Preview]:
    wanted = class_weights(settings)[:, :NUM_CLASSES] > 0  # (b, 10)
    judge = _judge()

    def unguided() -> Iterator[comparison.Plain]:
        key = _unguided_key(settings, loaded.revision)
        return comparison.remembered(key, lambda: _sample(settings, loaded, cfg_scale=1.0))

    guided = _sample(settings, loaded, cfg_scale=settings.cfg_scale)
    sure: list[list[float]] = []
    unguided_sure: list[list[float]] = []
    pairs = comparison.side_by_side(guided, unguided() if compare else None, settings, loaded)
    for step, plain, both in pairs:
        sure.append(judges.probability(judge, step.shown, wanted).tolist())
        if plain is not None:
            unguided_sure.append(judges.probability(judge, plain.x0, wanted).tolist())
        yield Preview(**vars(both), sureness=list(sure), unguided_sureness=list(unguided_sure))


def _unguided_key(settings: DigitsSettings, revision: str) -> tuple:
    """What decides a run without guidance."""
    return (
        revision,
        settings.digits,
        settings.blend_with and (settings.blend_with, settings.blend),
        settings.solver,
        settings.eta,
        settings.seed,
        settings.num_inference_steps,
    )


def _sample(
    settings: DigitsSettings, loaded: checkpoints.Loaded, *, cfg_scale: float
) -> Iterator[sampling.SampleStep]:
    size_px = loaded.checkpoint.size_px
    device = next(loaded.unet.parameters()).device
    generators = sampling.image_generators(settings.seed, len(settings.digits))
    noise = sampling.draw_noise(generators, (1, size_px, size_px))  # (b, 1, 28, 28)
    return sampling.sample(
        sampling.classifier_free_guidance(
            loaded.unet, class_weights(settings).to(device), cfg_scale
        ),
        noise.to(device),
        sampling.make_scheduler(
            loaded.scheduler_config,
            solver=settings.solver,
            num_inference_steps=settings.num_inference_steps,
            device=device,
        ),
        prediction_type=loaded.scheduler_config["prediction_type"],
        eta=settings.eta,
        generators=generators,
    )
