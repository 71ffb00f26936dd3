"""The tasks of editing: what each takes as known, where it begins, and how often it repeats."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pipelines.core.errors import SettingsError
from pipelines.core.rules import OFF
from pipelines.diffusion import denoisers, losses, plugins
from pipelines.diffusion.inversion import inverted, neighbours
from pipelines.diffusion.known import Fact, Known
from pipelines.diffusion.losses import luma
from pipelines.diffusion.schedules import Schedule, Spacing, alphas_cumprod
from pipelines.diffusion.solvers import SOLVERS
from pipelines.models import ways
from pipelines.models.checkpoints import Loaded
from pipelines.products import guided
from pipelines.products.canvas import Canvas, canvas, enlarged
from pipelines.runs.run import Plan

if TYPE_CHECKING:
    from pipelines.products.edit import EditSettings

NAMES = ("fill", "restyle", "colorize", "sharpen", "vary")
FACTORS = (2, 4, 8, 16)

WISHES = ("prompt", "color", "palette", "symmetry")
"""Names of the settings that guidance moves a picture towards."""

_SPACED_FOR_INVERSION = "dpm++-logsnr"  # with others, the way back is far from the way there
_MOST_STEPS = 500  # of the spacing that part of a run is taken from


def canvas_of(settings: EditSettings, size_px: int) -> Canvas:
    """Returns the canvas of a run with checked settings, for a model of a size."""
    takes_transparency = settings.task == "fill"
    found = canvas(
        settings.image, settings.mask, settings.crop, takes_transparency=takes_transparency
    )
    if settings.task in ("restyle", "vary") and settings.strength == 0:
        return replace(found, redrawn=torch.zeros_like(found.redrawn), has_mask=True)
    grows = settings.task == "sharpen" and not settings.mask
    return enlarged(found, size_px) if grows else found


def check_canvas(settings: EditSettings) -> None:
    """Checks picture, mask and crop against each other.

    Raises:
        SettingsError: if they do not fit, or leave nothing to redraw or nothing to keep.
    """
    is_fill = settings.task == "fill"
    found = canvas(settings.image, settings.mask, settings.crop, takes_transparency=is_fill)
    width, height = found.size
    if found.redrawn.shape != found.pixels.shape[1:]:
        mask_height, mask_width = found.redrawn.shape
        raise SettingsError(
            "mask_size", width=width, height=height, mask_width=mask_width, mask_height=mask_height
        )
    left, top, side = found.square
    if settings.crop and (left + side > width or top + side > height):
        raise SettingsError("crop_outside", width=width, height=height, got=settings.crop)
    inside = found.inside
    if found.has_mask and float(inside.amax()) == 0:
        if float(found.redrawn.amax()) > 0:
            raise SettingsError("mask_nothing_in_crop")
        raise SettingsError("mask_nothing")
    if settings.task == "fill" and float(inside.amin()) == 1:
        if found.has_mask and float(found.redrawn.amin()) < 1:
            raise SettingsError("fill_all_in_crop")
        if found.has_mask:
            raise SettingsError("fill_all")
        raise SettingsError("fill_no_mask")


def has_facts(settings: EditSettings) -> bool:
    """Returns whether anything of the picture is known, besides where the run begins."""
    return settings.task in ("fill", "colorize", "sharpen") or bool(settings.mask)


def has_wishes(settings: EditSettings) -> bool:
    """Returns whether anything is wished besides what is known."""
    own = plugins.losses_used_by(settings)
    if settings.task in ("restyle", "vary") and settings.strength == 0:
        return False  # nothing is redrawn
    return bool(settings.prompt or has_color(settings) or settings.palette or own) or (
        settings.symmetry != "none"
    )


def has_color(settings: EditSettings) -> bool:
    """Returns whether a mean colour is wished, and not known already."""
    return bool(settings.color) and settings.task != "sharpen"


def facts_of(settings: EditSettings, seen: Canvas, size_px: int) -> list[Fact]:
    """Returns what is known of the picture; what the mask leaves comes last, and wins.

    Raises:
        SettingsError: if the model cannot draw a picture that becomes the known small one.
    """
    picture, facts = seen.seen(size_px), list[Fact]()
    if settings.task == "colorize":
        facts.append(losses.GreyIs(luma(picture)[0]))
    if settings.task == "sharpen":
        if size_px % settings.factor:
            raise SettingsError("factor_of_model", side=size_px, got=settings.factor)
        own = canvas(settings.image, settings.mask, settings.crop, takes_transparency=False)
        small = own.seen(size_px // settings.factor)[0]  # of the picture as it came
        facts.append(losses.Downsampled(small, settings.factor))
    if seen.has_mask:
        facts.append(losses.Keep(picture[0], seen.free(size_px)))
    return facts


def agreed(squares: Tensor, own: Tensor) -> Tensor:
    """Returns coloured squares `(b, 3, s, s)` with every detail of the grey of `own`."""
    return losses.GreyIs(luma(own)[0]).project(squares)


def guide_of(settings: EditSettings, facts: Sequence[Fact], wishes: Sequence[losses.Term]) -> Known:
    """Returns what guides a run: what is known, around the guidance by wishes."""
    wished = guided.guide_of(settings, wishes) if wishes and settings.guidance_scale else None
    return Known(facts, wished, settings.repeats or 1)


def steps_of(settings: EditSettings) -> int:
    """Returns the number of steps of a run; of a very weak one, there are fewer than set."""
    count, most = settings.num_inference_steps, math.floor(settings.strength * _MOST_STEPS)
    return min(count, max(1, most)) if _is_part(settings) else count


def _is_part(settings: EditSettings) -> bool:
    """Returns whether a run goes only the last part of the way from noise to picture."""
    return settings.task == "restyle" and 0 < settings.strength < 1


def plan_of(settings: EditSettings, loaded: Loaded) -> Plan:
    """Returns what determines the pictures besides guidance.

    A run of strength s has all its steps in the last share 1 - (1 - s)^2 of the training timesteps,
    so that what is kept of a picture falls evenly with the strength. The way back to a picture's
    noise is that of DDIM, and so is the way there.
    """
    plan, count = guided.plan_of(settings), steps_of(settings)
    alpha_bar = alphas_cumprod(loaded.scheduler_config)
    if settings.task == "vary":  # fresh noise would lead away from the picture
        timesteps = SOLVERS[_SPACED_FOR_INVERSION].spacing(alpha_bar, count)
        eta = 0.0 if settings.eta == OFF else settings.eta
        return replace(plan, solver="ddim", timesteps=tuple(timesteps), eta=eta)
    if not _is_part(settings):
        return plan
    share = 1 - (1 - settings.strength) ** 2  # of the way: a picture shows through much noise
    noisiest = round(share * (len(alpha_bar) - 1))
    timesteps = _part_of(SOLVERS[plan.solver].spacing, alpha_bar, noisiest, count)
    return replace(plan, num_inference_steps=len(timesteps), timesteps=tuple(timesteps))


def _part_of(spacing: Spacing, alpha_bar: Tensor, noisiest: int, count: int) -> list[int]:
    """Returns the last timesteps of the shortest run that has `count` up to `noisiest`.

    Fewer, where even the longest run has fewer.
    """

    def inside(whole: int) -> list[int]:
        return [t for t in spacing(alpha_bar, whole) if t <= noisiest]

    lengths = range(count, max(count, _MOST_STEPS) + 1)
    at = bisect.bisect_left(lengths, count, key=lambda whole: len(inside(whole)))
    found = inside(lengths[min(at, len(lengths) - 1)])
    return found[-count:] or spacing(alpha_bar, _MOST_STEPS)[-1:]


def begin_of(
    settings: EditSettings, loaded: Loaded, picture: Tensor
) -> Callable[[Tensor, Schedule], Tensor] | None:
    """Returns how a run begins, see `Run.begin`: None is with noise.

    Args:
        settings: checked.
        loaded: the model.
        picture: as the model sees it, `(1, 3, s, s)` in [-1, 1].
    """
    picture = picture.to(loaded.device)
    if settings.task == "restyle" and settings.strength < 1:
        return lambda noise, schedule: schedule.alpha[0] * picture + schedule.sigma[0] * noise
    if settings.task != "vary":
        return None
    count = settings.num_images
    shares = [(settings.strength * (i + 1) / count) ** 2 for i in range(count)]
    way = ways.asked(settings.computed_by, loaded.device)
    predict = denoisers.unconditional(loaded.denoise.by(way))
    prediction_type = loaded.scheduler_config["prediction_type"]

    def varied(noise: Tensor, schedule: Schedule) -> Tensor:
        own = inverted(predict, picture, schedule, prediction_type=prediction_type)
        return neighbours(own, noise, shares)

    return varied
