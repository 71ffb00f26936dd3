"""What products that steer by a loss share: settings to a run, and to how long it takes."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.core.rules import OFF
from pipelines.diffusion import losses
from pipelines.diffusion.guidance import Guide
from pipelines.diffusion.solvers import SOLVERS
from pipelines.models.checkpoints import Loaded
from pipelines.products.settings import NoisySettings, method_of
from pipelines.runs import comparison, seed_search
from pipelines.runs.run import Plan, Run
from pipelines.runs.timing import Work

_BACKWARD = 2.0  # what a backward pass costs, in evaluations of the network


def guide_of(settings: NoisySettings, terms: Sequence[losses.Term]) -> Guide:
    """How a run is guided, as its settings say."""
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
    """What decides the unguided pictures.

    Args:
        settings: as checked.
        seeds: of the pictures; None is as the settings say, from `seed` on.
    """
    method = method_of(settings)
    return Plan(
        model=settings.model,
        seeds=seeds_of(settings) if seeds is None else tuple(seeds),
        num_inference_steps=settings.num_inference_steps,
        solver=method.solver,
        eta=method.eta if settings.eta == OFF else settings.eta,
    )


def run_of(
    settings: NoisySettings,
    loaded: Loaded,
    terms: Sequence[losses.Term],
    seeds: Sequence[int] | None = None,
) -> Run:
    """A run, ready to draw; arguments as in `plan_of` and `guide_of`."""
    return Run(plan_of(settings, seeds), loaded, guide_of(settings, terms))


def seeds_of(settings: NoisySettings) -> tuple[int, ...]:
    """The seed of every picture, unless several are tried for each."""
    return tuple(settings.seed + i for i in range(settings.num_images))


def evaluations_of(guide: Guide, solver: str, num_inference_steps: int) -> list[float]:
    """What each step of a guided run costs, in evaluations of the network.

    Args:
        guide: how it is guided.
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
) -> Work:
    """What a run will compute, to tell how long it takes.

    Args:
        settings: as checked.
        kind: of the run, from general to particular.
        terms: towards what; how many, and none if guidance is off.
        tries: seeds of each picture.
    """
    plan, total = plan_of(settings), settings.num_inference_steps
    costs = evaluations_of(guide_of(settings, terms), plan.solver, total)
    evaluations = sum(costs)
    if tries > 1:
        evaluations += tries * sum(costs[: seed_search.steps_of(total)])
    if tries > 1 or not comparison.is_cached(plan):
        evaluations += total * SOLVERS[plan.solver].evaluations
    return Work(tuple(kind), evaluations, settings.num_images)
