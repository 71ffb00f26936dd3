"""What a solver is: one row, and a function that goes from one noise level to the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from pipelines.diffusion.schedules import Schedule, Spacing


@dataclass(frozen=True)
class Estimate:
    """The clean images that noisy ones were taken for, each `(b, c, h, w)`.

    Attributes:
        x0: guided.
        x0_network: what the network alone predicted.
    """

    x0: Tensor
    x0_network: Tensor


@dataclass(frozen=True)
class SolverStep:
    """All that a solver may know when it makes one step.

    Attributes:
        schedule: of the run.
        index: of the step, from 0.
        x_t: `(b, c, h, w)`, where the step starts.
        now: what `x_t` was taken for.
        before: what the last steps on the same path were taken for, the latest first; at most two.
        eta: fresh noise, 0 for none, 1 as much as DDPM.
        fresh: `(b, c, h, w)`, standard normal; None where `eta` is 0.
        estimate: `(x_t, index)` to what other noisy images are taken for: another evaluation of
            the network, guided like the first.
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
    """A way from noise to picture.

    Attributes:
        key: its name.
        summary: what it is, with its paper.
        spacing: where its timesteps lie.
        advance: a step to `x_prev` `(b, c, h, w)`, the images at the next noise level.
        order: how its error falls with the length of a step.
        evaluations: of the network per step.
        takes_noise: whether it can add fresh noise, so that `eta` may be above 0.
        is_offered: whether visitors may choose it where a solver is a setting; others are tuned to
            a method of guidance.
        measured: the figure that speaks for it, from `benchmarks.steps`; empty where there is none.
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
        """Whether it looks back: its order is more than one evaluation a step can give."""
        return self.order > self.evaluations
