"""Class-conditional digits: settings to a stream of pictures that form."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from pipelines import checkpoints, images, sampling
from pipelines.settings import DigitsSettings, validate

NUM_CLASSES = 10


@dataclass(frozen=True)
class Preview:
    """The state of a run after one step.

    Attributes:
        pictures: one per image; the predicted clean picture, after the last step the result.
        step: steps done, from 1.
        total_steps: steps of the run.
        seconds: since the run began.
        settings: as checked, with the seed that was drawn.
        model: key of the checkpoint.
        revision: of its weights.
    """

    pictures: list[Image.Image]
    step: int
    total_steps: int
    seconds: float
    settings: DigitsSettings
    model: str
    revision: str

    @property
    def finished(self) -> bool:
        return self.step == self.total_steps


def class_weights(settings: DigitsSettings) -> Tensor:
    """How much of each class an image is, `(b, 11)` float32; the last is the null class."""
    weights = torch.zeros(len(settings.digits), NUM_CLASSES + 1)
    blend = settings.blend if settings.blend_with else 0.0
    for row, digit in zip(weights, settings.digits, strict=True):
        row[int(digit)] += 1 - blend
        if settings.blend_with:
            row[int(settings.blend_with)] += blend
    return weights


def generate(settings: DigitsSettings) -> Iterator[Preview]:
    """Draws digits, yielding once per denoising step.

    Raises:
        ValueError: if a setting is wrong; raised at once, before any step.
        CheckpointError: if the checkpoint cannot be loaded; likewise.
    """
    settings = validate(settings)
    loaded = checkpoints.load(f"digits-{settings.conditioning}")
    return _generate(settings, loaded)


def _generate(settings: DigitsSettings, loaded: checkpoints.Loaded) -> Iterator[Preview]:
    began = time.monotonic()
    size_px = loaded.checkpoint.size_px
    device = next(loaded.unet.parameters()).device
    generators = sampling.image_generators(settings.seed, len(settings.digits))
    noise = sampling.draw_noise(generators, (1, size_px, size_px)).to(device)  # (b, 1, 28, 28)
    steps = sampling.sample(
        sampling.classifier_free_guidance(
            loaded.unet, class_weights(settings).to(device), settings.cfg_scale
        ),
        noise,
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
    for step in steps:
        last = step.index + 1 == step.total
        yield Preview(
            pictures=images.to_pil(step.x_prev if last else step.x0),
            step=step.index + 1,
            total_steps=step.total,
            seconds=time.monotonic() - began,
            settings=settings,
            model=loaded.checkpoint.key,
            revision=loaded.revision,
        )
