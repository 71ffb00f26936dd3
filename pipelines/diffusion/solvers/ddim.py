"""DDIM (Song et al. 2021, arXiv:2010.02502): straight towards the predicted x0."""

from __future__ import annotations

from torch import Tensor

from pipelines.diffusion.schedules import leading, trailing
from pipelines.diffusion.solvers.solver import Solver, SolverStep


def advance(step: SolverStep) -> Tensor:
    """One step of DDIM."""
    return towards(step, step.now.x0, step.eta)


def towards(step: SolverStep, x0: Tensor, eta: float) -> Tensor:
    """The step that DDIM makes towards some x0 `(b, c, h, w)`, which may be an extrapolated one."""
    alpha, sigma = step.schedule.alpha[step.index], step.schedule.sigma[step.index]
    alpha_prev = step.schedule.alpha[step.index + 1]
    return ddim_step(x0, step.x_t, alpha, sigma, alpha_prev, eta, step.fresh)


def ddim_step(
    x0: Tensor,
    x_t: Tensor,
    alpha: Tensor,
    sigma: Tensor,
    alpha_prev: Tensor,
    eta: float = 0.0,
    fresh: Tensor | None = None,
) -> Tensor:
    """One step of DDIM (Song et al. 2021, arXiv:2010.02502, eq. 12 and 16).

    Towards an extrapolated x0 it is a step of DPM-Solver++(2M): with eta 0 for the ODE, with eta 1
    for the SDE (Lu et al. 2022, arXiv:2211.01095).

    It ends at the noise level where the next step begins. diffusers' own, which takes every step
    to be as long as the rest, misses that level wherever the number of steps does not divide that
    of the timesteps.

    Args:
        x0: `(b, c, h, w)`, the clean images to go towards.
        x_t: `(b, c, h, w)`.
        alpha: signal level of `x_t`, `()`.
        sigma: noise level of `x_t`, `()`.
        alpha_prev: signal level to reach, `()`.
        eta: share of DDPM's fresh noise.
        fresh: `(b, c, h, w)`, standard normal; needed when `eta` is above 0.
    """
    eps = (x_t - alpha * x0) / sigma
    sigma_prev = (1 - alpha_prev**2) ** 0.5
    if fresh is None:
        return alpha_prev * x0 + sigma_prev * eps
    spread = eta * sigma_prev / sigma * (1 - (alpha / alpha_prev) ** 2) ** 0.5
    kept = (sigma_prev**2 - spread**2).clamp(min=0) ** 0.5
    return alpha_prev * x0 + kept * eps + spread * fresh.to(x_t)


SOLVERS = (
    Solver("ddim", "DDIM, arXiv:2010.02502", trailing, advance, is_offered=True),
    Solver("ddim-leading", "DDIM at the timesteps of the course's notebook", leading, advance),
)
