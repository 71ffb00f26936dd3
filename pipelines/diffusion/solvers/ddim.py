"""DDIM (Song et al. 2021, arXiv:2010.02502): a straight step towards the predicted x0."""

from __future__ import annotations

from torch import Tensor

from pipelines.diffusion.schedules import leading, trailing
from pipelines.diffusion.solvers.solver import Solver, SolverStep


def advance(step: SolverStep) -> Tensor:
    """Returns x_prev `(b, c, h, w)` after one step of DDIM."""
    return towards(step, step.now.x0, step.eta)


def towards(step: SolverStep, x0: Tensor, eta: float) -> Tensor:
    """Returns x_prev after a step of DDIM towards an x0 `(b, c, h, w)`, perhaps extrapolated."""
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
    """Returns x_prev `(b, c, h, w)` of DDIM (Song et al. 2021, arXiv:2010.02502, eq. 12 and 16).

    With an extrapolated x0 it is a step of DPM-Solver++(2M): of the ODE with eta 0, of the SDE with
    eta 1 (Lu et al. 2022, arXiv:2211.01095).

    The step ends exactly at the noise level where the next one begins. The step of diffusers
    assumes steps of equal length, so it misses that level whenever the number of steps does not
    divide the number of training timesteps.

    Args:
        x0: `(b, c, h, w)`, the predicted clean images.
        x_t: `(b, c, h, w)`.
        alpha: signal level of `x_t`, `()`.
        sigma: noise level of `x_t`, `()`.
        alpha_prev: signal level after the step, `()`.
        eta: share of DDPM's fresh noise.
        fresh: `(b, c, h, w)`, standard normal; needed when `eta` is above 0.
    """
    eps = (x_t - alpha * x0) / sigma
    sigma_prev = (1 - alpha_prev**2) ** 0.5
    if fresh is None:
        return alpha_prev * x0 + sigma_prev * eps
    spread = eta * sigma_prev / sigma * (1 - (alpha / alpha_prev) ** 2) ** 0.5
    direct = (sigma_prev**2 - spread**2).clamp(min=0) ** 0.5  # weight of the predicted noise
    return alpha_prev * x0 + direct * eps + spread * fresh.to(x_t)


SOLVERS = (
    Solver("ddim", "DDIM, arXiv:2010.02502", trailing, advance, is_offered=True),
    Solver("ddim-leading", "DDIM at the timesteps of the course's notebook", leading, advance),
)
