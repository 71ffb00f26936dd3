"""Shared code of products with loss guidance: from settings to a run and its cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from pipelines.core import images
from pipelines.core.rules import OFF, palette_entries
from pipelines.diffusion import losses, sampling
from pipelines.diffusion.guidance import Guide
from pipelines.diffusion.solvers import SOLVERS
from pipelines.models.checkpoints import Loaded
from pipelines.models.timesteps import learned
from pipelines.products.guided_settings import NoisySettings, method_of
from pipelines.runs import comparison, seed_search
from pipelines.runs.run import Plan, Run
from pipelines.runs.timing import Work

_BACKWARD = 2.0  # what a backward pass costs, in evaluations of the network


class ExtraSettings(Protocol):
    """Settings that steer by more than a colour or a class."""

    @property
    def symmetry(self) -> str: ...
    @property
    def contrast(self) -> float: ...
    @property
    def brightness(self) -> float: ...


def extra_losses(settings: ExtraSettings) -> list[losses.Loss]:
    """Returns the losses of symmetry, contrast and brightness, of those that are on."""
    extras: list[losses.Loss] = []
    if settings.symmetry != "none":
        extras.append(losses.Symmetry(settings.symmetry))
    if settings.contrast != OFF:
        extras.append(losses.Contrast(2 * settings.contrast))  # [0, 1] to [-1, 1]
    if settings.brightness != OFF:
        extras.append(losses.Brightness(2 * settings.brightness - 1))
    return extras


def palette_loss(palette: str, mask: Tensor | None) -> losses.Palette:
    """Returns the loss of a checked palette, for the pixels of a mask `(h, w)`, or for all."""
    entries = palette_entries(palette)
    colors = torch.stack([images.color_to_tensor(color) for color, _ in entries])  # (k, 3)
    return losses.Palette(colors, torch.tensor([share for _, share in entries]), mask)


def guide_of(settings: NoisySettings, terms: Sequence[losses.Term]) -> Guide:
    """Returns the loss guidance of a run."""
    return Guide(
        method_of(settings),
        terms,
        settings.guidance_scale,
        start=settings.start,
        stop=settings.stop,
        every=settings.every,
        repeats=settings.repeats or None,
    )


def plan_of(settings: NoisySettings, seeds: Sequence[int] | None = None) -> Plan:
    """Returns everything that determines the unguided pictures.

    Args:
        settings: checked.
        seeds: of the pictures; None is `seeds_of(settings)`.
    """
    method, count = method_of(settings), settings.num_inference_steps
    is_learned = settings.timesteps == "learned"
    return Plan(
        model=settings.model,
        seeds=seeds_of(settings) if seeds is None else tuple(seeds),
        num_inference_steps=count,
        solver=method.solver,
        computed_by=settings.computed_by,
        timesteps=learned(settings.model, method.solver, count) if is_learned else (),
        eta=method.eta if settings.eta == OFF else settings.eta,
    )


def run_of(
    settings: NoisySettings,
    loaded: Loaded,
    terms: Sequence[losses.Term],
    seeds: Sequence[int] | None = None,
) -> Run:
    """Returns a run that is ready to draw; arguments as in `plan_of` and `guide_of`."""
    return Run(plan_of(settings, seeds), loaded, guide_of(settings, terms))


def seeds_of(settings: NoisySettings) -> tuple[int, ...]:
    """Returns the seed of each picture when only one seed is tried for each."""
    return tuple(settings.seed + i for i in range(settings.num_images))


def evaluations_of(guide: sampling.Guide, solver: str, num_inference_steps: int) -> list[float]:
    """Returns the cost of each step of a guided run, in network evaluations.

    Args:
        guide: of the run.
        solver: key of `solvers.SOLVERS`.
        num_inference_steps: of the run.
    """
    total, per_step = num_inference_steps, SOLVERS[solver].evaluations
    return [
        per_step * guide.recurrence(i, total) * (1 + _BACKWARD * guide.differentiates(i, total))
        for i in range(total)
    ]


def work_of(
    settings: NoisySettings,
    kind: Sequence[str],
    terms: Sequence[losses.Term],
    tries: int = 1,
    *,
    compare: bool = True,
) -> Work:
    """Returns the work of a run, to estimate its time.

    Args:
        settings: checked.
        kind: of the run, from general to specific; see `timing.Work`.
        terms: of the guidance; only their number matters, and empty is unguided.
        tries: seeds tried for each picture; 1 is no search.
        compare: whether the unguided pictures are drawn too.
    """
    plan, total = plan_of(settings), settings.num_inference_steps
    costs = evaluations_of(guide_of(settings, terms), plan.solver, total)
    evaluations = sum(costs)
    if tries > 1:
        evaluations += tries * sum(costs[: seed_search.steps_of(total)])
    if compare and (tries > 1 or not comparison.is_cached(plan)):
        evaluations += total * SOLVERS[plan.solver].evaluations
    return Work(tuple(kind), evaluations, settings.num_images)
