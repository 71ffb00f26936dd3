"""Colour guidance: from settings to a stream of guided and unguided pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from PIL import Image
from torch import Tensor

from pipelines.core import colorimetry, images
from pipelines.core.rules import palette_entries, validate
from pipelines.diffusion import losses
from pipelines.models import checkpoints
from pipelines.products import guided
from pipelines.products.settings import ColorSettings, method_of
from pipelines.runs import comparison
from pipelines.runs.timing import Work


@dataclass(frozen=True)
class Preview(comparison.Preview):
    """The state of a run after one step.

    Attributes:
        losses: per finished step, one value per image: the loss of the network's prediction.
        unguided_losses: the same without guidance; empty without unguided pictures.
        score_before: distance of each unguided picture to the target, see `score`; empty without
            unguided pictures.
        score_after: distance of each guided picture to the target.
    """

    losses: list[list[float]]
    unguided_losses: list[list[float]]
    score_before: list[float]
    score_after: list[float]


def region_of(settings: ColorSettings, size_px: int) -> Tensor | None:
    """Returns the mask `(h, w)` of the region for the colour; None is the full picture."""
    if settings.mask:
        return _read_mask(settings.mask, size_px)
    return losses.region_mask(settings.region, size_px, size_px)


@lru_cache(maxsize=4)  # the score of every picture in every step needs it
def _read_mask(address: str, size_px: int) -> Tensor:
    """Returns a mask `(h, w)` with maximum 1, so that a spot smaller than a pixel counts too."""
    mask = losses.resized_mask(images.to_mask(images.from_data_uri(address)), size_px, size_px)
    return mask / mask.amax()


def color_loss(settings: ColorSettings, size_px: int) -> losses.Loss:
    """Returns the loss for the colour, or for the palette if there is one."""
    color = images.color_to_tensor(settings.color)  # (3,)
    if is_per_pixel(settings):
        return losses.TargetColor(color)
    mask = region_of(settings, size_px)
    if not settings.palette:
        return losses.MeanColor(color, mask)
    entries = palette_entries(settings.palette)
    colors = torch.stack([images.color_to_tensor(color) for color, _ in entries])  # (k, 3)
    return losses.Palette(colors, torch.tensor([share for _, share in entries]), mask)


def is_per_pixel(settings: ColorSettings) -> bool:
    """Returns whether every pixel shall have the colour, not only the mean of all."""
    return method_of(settings).is_bare or settings.loss == "pixels"


def terms_of(settings: ColorSettings, size_px: int) -> list[losses.Term]:
    """Returns all loss terms of a run; the colour comes last, so nothing moves x0 after it."""
    extras = guided.extra_losses(settings)
    weighted = [losses.Term(loss, settings.extras_weight) for loss in extras]
    return [*weighted, losses.Term(color_loss(settings, size_px))]


def score(picture: Image.Image, settings: ColorSettings) -> float:
    """Returns the distance of a picture to its target; 0 is reached.

    It is CIEDE2000 between the mean colour (of the region) and the wanted colour; for a palette,
    the root of its loss on the scale of 0 to 255.
    """
    if settings.palette:
        loss = color_loss(settings, picture.width)(images.to_tensor(picture))
        return float(loss.sqrt()) * 127.5
    mean = images.mean_rgb(picture, region_of(settings, picture.width))
    return colorimetry.difference(mean, images.parse_color(settings.color))


def mean_color(picture: Image.Image, settings: ColorSettings) -> str:
    """Returns the mean colour of the picture, or of the region, as `#RRGGBB`."""
    mean = images.mean_rgb(picture, region_of(settings, picture.width))
    return images.to_hex([round(value) for value in mean])


def load(settings: ColorSettings) -> None:
    """Loads the models of a run; fetches them first if needed.

    Raises:
        CheckpointError: if a model cannot be fetched or loaded.
    """
    checkpoints.load(settings.model)


def work(settings: ColorSettings, *, compare: bool = True) -> Work:
    """Returns the work of a run with checked settings, to estimate its time."""
    kind = ("color", settings.model, settings.method)
    return guided.work_of(settings, kind, terms_of(settings, size_px=8), compare=compare)


def generate(settings: ColorSettings, *, compare: bool = True) -> Iterator[Preview]:
    """Draws guided and unguided pictures from the same seeds; yields once per step.

    Args:
        settings: of the run.
        compare: whether to draw the unguided pictures too.

    Raises:
        ValueError: if a setting is wrong; raised at once, before any step.
        CheckpointError: if the checkpoint cannot be loaded; raised at once too.
    """
    settings = validate(settings)
    loaded = checkpoints.load(settings.model)
    return _generate(settings, loaded, compare)


def _generate(
    settings: ColorSettings, loaded: checkpoints.Loaded, compare: bool
) -> Iterator[Preview]:
    terms = terms_of(settings, loaded.checkpoint.size_px)
    loss, run = losses.total(terms), guided.run_of(settings, loaded, terms)
    loss_values: list[list[float]] = []
    unguided_loss_values: list[list[float]] = []
    for step, unguided, preview in comparison.compared(run, settings, compare=compare):
        loss_values.append(loss(step.x0_network).tolist())
        if unguided is not None:
            unguided_loss_values.append(loss(unguided.x0_network).tolist())
        yield Preview(
            **vars(preview),
            losses=list(loss_values),
            unguided_losses=list(unguided_loss_values),
            score_before=[score(picture, settings) for picture in preview.unguided],
            score_after=[score(picture, settings) for picture in preview.pictures],
        )
