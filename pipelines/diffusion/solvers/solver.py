"""The type of a solver: one row, with a function that goes from one noise level to the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from pipelines.diffusion.schedules import Schedule, Spacing


@dataclass(frozen=True)
class Estimate:
    """The clean images estimated from noisy ones, each `(b, c, h, w)`.

    Attributes:
        x0: guided.
        x0_network: the network's prediction, not guided.
    """

    x0: Tensor
    x0_network: Tensor


@dataclass(frozen=True)
class SolverStep:
    """The input of a solver for one step.

    Attributes:
        schedule: of the run.
        index: of the step, from 0.
        x_t: `(b, c, h, w)`, the noisy images at the start of the step.
        now: the estimate from `x_t`.
        before: the estimates of up to two earlier steps of the same path, the latest first.
        eta: fresh noise; 0 is none, 1 as much as DDPM.
        fresh: `(b, c, h, w)`, standard normal; None where `eta` is 0.
        estimate: `(x_t, index)` to the estimate from other noisy images: another evaluation of the
            network, guided like the first.
    """

    schedule: Schedule
    index: int
    x_t: Tensor
    now: Estimate
    before: Sequence[Estimate]
    eta: float
    fresh: Tensor | None
    estimate: Callable[[Tensor, int], Estimate]

    @property
    def is_last(self) -> bool:
        """Whether the step ends at the clean picture, without noise."""
        return self.index + 1 == len(self.schedule)


@dataclass(frozen=True)
class Solver:
    """One solver.

    Attributes:
        key: its name.
        summary: a description in a few words, with its paper.
        spacing: the spacing of its timesteps.
        advance: a step to `x_prev` `(b, c, h, w)`, the images at the next noise level.
        order: order of its error in the length of a step.
        evaluations: network evaluations per step.
        takes_noise: whether it can add fresh noise, so that `eta` may be above 0.
        is_offered: whether it is an option where a solver is a setting; others are tuned to a
            guidance method.
        measured: its measured result, from `benchmarks.steps`; empty if there is none.
    """

    key: str
    summary: str
    spacing: Spacing
    advance: Callable[[SolverStep], Tensor]
    order: int = 1
    evaluations: int = 1
    takes_noise: bool = True
    is_offered: bool = False
    measured: str = ""

    @property
    def is_multistep(self) -> bool:
        """Whether it uses earlier steps: its order is higher than its evaluations per step."""
        return self.order > self.evaluations
