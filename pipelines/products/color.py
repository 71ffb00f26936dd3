"""Colour guidance: settings to a stream of guided pictures, each beside the unguided one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from PIL import Image
from torch import Tensor

from pipelines.core import colorimetry, images
from pipelines.core.rules import OFF, palette_entries, validate
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
        losses: per step done, one value per image: of what the network predicts.
        unguided_losses: the same without guidance; empty where that is not drawn, as are:
        score_before: per unguided picture the distance to the target, see `score`.
        score_after: the same per guided picture.
    """

    losses: list[list[float]]
    unguided_losses: list[list[float]]
    score_before: list[float]
    score_after: list[float]


def region_of(settings: ColorSettings, size_px: int) -> Tensor | None:
    """The mask `(h, w)` of the part that the colour is for; None is all."""
    if settings.mask:
        return _read_mask(settings.mask, size_px)
    return losses.region_mask(settings.region, size_px, size_px)


@lru_cache(maxsize=4)  # it is asked for in every step, by every picture's score
def _read_mask(address: str, size_px: int) -> Tensor:
    """`(h, w)`, 1 at its brightest, so that a spot smaller than a pixel still counts."""
    mask = losses.resized_mask(images.to_mask(images.from_data_uri(address)), size_px, size_px)
    return mask / mask.amax()


def color_loss(settings: ColorSettings, size_px: int) -> losses.Loss:
    """The loss of the colour, or of the palette in its place."""
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
    """Whether every pixel is to have the colour, and not their mean."""
    return method_of(settings).is_bare or settings.loss == "pixels"


def terms_of(settings: ColorSettings, size_px: int) -> list[losses.Term]:
    """Everything that the picture is pulled towards; the colour has the last word."""
    extras: list[losses.Loss] = []
    if settings.symmetry != "none":
        extras.append(losses.Symmetry(settings.symmetry))
    if settings.contrast != OFF:
        extras.append(losses.Contrast(2 * settings.contrast))  # [0, 1] to [-1, 1]
    if settings.brightness != OFF:
        extras.append(losses.Brightness(2 * settings.brightness - 1))
    weighted = [losses.Term(loss, settings.extras_weight) for loss in extras]
    return [*weighted, losses.Term(color_loss(settings, size_px))]


def score(picture: Image.Image, settings: ColorSettings) -> float:
    """How far a picture is from its target.

    CIEDE2000 of the mean colour (of the region) to the wanted one; for a palette, the root of its
    loss in steps of 255.
    """
    if settings.palette:
        loss = color_loss(settings, picture.width)(images.to_tensor(picture))
        return float(loss.sqrt()) * 127.5
    found = images.mean_rgb(picture, region_of(settings, picture.width))
    return colorimetry.difference(found, images.parse_color(settings.color))


def mean_color(picture: Image.Image, settings: ColorSettings) -> str:
    """The mean colour of the picture, or of the region, as `#RRGGBB`."""
    found = images.mean_rgb(picture, region_of(settings, picture.width))
    return images.to_hex([round(value) for value in found])


def load(settings: ColorSettings) -> None:
    """Loads what a run needs, and fetches what is not here yet.

    Raises:
        CheckpointError: if it cannot be had.
    """
    checkpoints.load(settings.model)


def work(settings: ColorSettings) -> Work:
    """What a run of checked settings will compute, to tell how long it takes."""
    kind = ("color", settings.model, settings.method)
    return guided.work_of(settings, kind, terms_of(settings, size_px=8))


def generate(settings: ColorSettings, *, compare: bool = True) -> Iterator[Preview]:
    """Draws guided and unguided pictures of the same seeds, yielding once per step.

    Args:
        settings: of the run.
        compare: whether the unguided pictures are drawn too.

    Raises:
        ValueError: if a setting is wrong; raised at once, before any step.
        CheckpointError: if the checkpoint cannot be loaded; likewise.
    """
    settings = validate(settings)
    loaded = checkpoints.load(settings.model)
    return _generate(settings, loaded, compare)


def _generate(
    settings: ColorSettings, loaded: checkpoints.Loaded, compare: bool
) -> Iterator[Preview]:
    terms = terms_of(settings, loaded.checkpoint.size_px)
    loss, run = losses.total(terms), guided.run_of(settings, loaded, terms)
    values: list[list[float]] = []
    unguided_values: list[list[float]] = []
    for step, unguided, preview in comparison.compared(run, settings, compare=compare):
        values.append(loss(step.x0_network).tolist())
        if unguided is not None:
            unguided_values.append(loss(unguided.x0_network).tolist())
        yield Preview(
            **vars(preview),
            losses=list(values),
            unguided_losses=list(unguided_values),
            score_before=[score(picture, settings) for picture in preview.unguided],
            score_after=[score(picture, settings) for picture in preview.pictures],
        )
