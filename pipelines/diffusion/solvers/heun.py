"""Heun's method (Karras et al. 2022, arXiv:2206.00364, algorithm 1): second order, single-step.

A step evaluates the network twice: at its start and at the end of Euler's step. It uses the mean of
the two slopes, so it needs no earlier steps.

The mean of two slopes holds where noise levels differ by a factor of a few. So timesteps are even
in log-SNR, where every step has the same factor; five steps are the fewest that draw well.
"""

from __future__ import annotations

from torch import Tensor

from pipelines.diffusion.schedules import Mixed
from pipelines.diffusion.solvers.ddim import towards
from pipelines.diffusion.solvers.solver import Solver, SolverStep


def advance(step: SolverStep) -> Tensor:
    """Returns x_prev `(b, c, h, w)` after a step of Heun's method; the last step is Euler's.

    In the paper's variables, `x = x_t / alpha` with noise level `s = sigma / alpha`, Euler's step
    is `x + (s_next - s) * d` along the slope `d = (x - x0) / s`, which is DDIM's.
    """
    euler = towards(step, step.now.x0, eta=0.0)
    if step.is_last:
        return euler
    i, schedule = step.index, step.schedule
    alpha, alpha_next = schedule.alpha[i], schedule.alpha[i + 1]
    s, s_next = schedule.sigma[i] / alpha, schedule.sigma[i + 1] / alpha_next
    x, x_next = step.x_t / alpha, euler / alpha_next
    slope = (x - step.now.x0) / s
    slope_next = (x_next - step.estimate(euler, i + 1).x0) / s_next
    return alpha_next * (x + (s_next - s) * (slope + slope_next) / 2)


SOLVERS = (
    Solver(
        "heun",
        "Heun's second order, arXiv:2206.00364, algorithm 1; two evaluations a step",
        Mixed(log_snr=1.0, cleanest=0.5),
        advance,
        order=2,
        evaluations=2,
        takes_noise=False,
        is_offered=True,
    ),
)
