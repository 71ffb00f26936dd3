"""DPM-Solver++ (Lu et al. 2022, arXiv:2211.01095): multistep, towards an extrapolated x0.

With fresh noise a step solves the SDE of that eta (Xue et al. 2023, arXiv:2309.05019, whose tau it
is). h is the length of a step in half log-SNR.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pipelines.diffusion.schedules import Mixed, Schedule
from pipelines.diffusion.solvers.ddim import towards
from pipelines.diffusion.solvers.solver import Solver, SolverStep
from pipelines.diffusion.tensors import rms


def advance(step: SolverStep) -> Tensor:
    """One step of DPM-Solver++(2M)."""
    return towards(step, second_order(step), share_of_noise(step.schedule, step.index, step.eta))


def advance_third_order(step: SolverStep) -> Tensor:
    """One step with the third order of the same paper, where two earlier x0 are known."""
    x0 = second_order(step)
    if len(step.before) > 1 and not step.is_last:
        known = [step.now, *step.before]
        own = [estimate.x0_network for estimate in known]
        changes = [estimate.x0 - estimate.x0_network for estimate in known]
        x0 = x0 + third_order(step.schedule, step.index, own, changes, step.eta)
    return towards(step, x0, share_of_noise(step.schedule, step.index, step.eta))


def second_order(step: SolverStep) -> Tensor:
    """x0 halfway through a step, `(b, c, h, w)`, on the line through the last two (algorithm 2).

    The first step knows only one x0, and the last has no end in log-SNR: both take x0 as it is.
    """
    if not step.before or step.is_last:
        return step.now.x0
    i, x0 = step.index, step.now.x0
    earlier, now, after = (step.schedule.half_log_snr(j) for j in (i - 1, i, i + 1))
    return x0 + (after - now) / (2 * (now - earlier)) * (x0 - step.before[0].x0)


def share_of_noise(schedule: Schedule, index: int, eta: float) -> float:
    """The `eta` of `ddim_step` with which a step adds the fresh noise of its SDE.

    That is `sigma_prev * sqrt(1 - exp(-2 * eta**2 * h))`. DDIM's own share falls as steps get
    longer, so that few steps would solve another equation than many.

    Args:
        schedule: of the run.
        index: of the step.
        eta: of the run.
    """
    if eta == 0 or index + 1 == len(schedule):  # the last step ends without noise
        return eta
    h = float(schedule.half_log_snr(index + 1) - schedule.half_log_snr(index))
    return math.sqrt(math.expm1(-2 * eta**2 * h) / math.expm1(-2 * h))


def third_order(
    schedule: Schedule, index: int, x0: Sequence[Tensor], changes: Sequence[Tensor], eta: float
) -> Tensor:
    """What the third order adds to `second_order`, `(b, c, h, w)`.

    The x0 of three steps lie on a parabola in half log-SNR, of which a step takes the mean, with
    the weights of its exponential integrator (section 4). What guidance changes is not as smooth,
    and its pull on the network's own x0 makes a parabola overshoot: the added term fades, to a half
    where guidance moves x0 as much as the last step did. An image that guidance leaves alone has
    all of it.

    Args:
        schedule: of the run.
        index: of the step, 2 or more; not of the last.
        x0: three times `(b, c, h, w)`, what the network alone predicted, the latest first.
        changes: as many, what guidance added to each.
        eta: of the run; fresh noise makes a step forget sooner, so that its end counts for more.
    """
    earlier, before, now, after = (
        float(schedule.half_log_snr(i)) for i in range(index - 2, index + 2)
    )
    h, h_before, h_earlier = after - now, now - before, before - earlier
    rate = 1 + eta**2
    weight = -math.expm1(-rate * h)
    mean = h / weight - 1 / rate  # of the way gone, 0 to h
    mean_square = h * h / weight - 2 * mean / rate
    slope = (x0[0] - x0[1]) / h_before
    bend = (slope - (x0[1] - x0[2]) / h_earlier) / (h_before + h_earlier)
    added = (mean - h / 2) * slope + (mean_square + h_before * mean) * bend
    pull = torch.stack([rms(change) for change in changes]).amax(dim=0)  # (b, 1, 1, 1)
    fade = 1 / (1 + (pull / rms(x0[0] - x0[1])) ** 2)
    return fade * added


SOLVERS = (
    Solver(
        "dpm++",
        "DPM-Solver++(2M), arXiv:2211.01095",
        Mixed(log_snr=0.3, cleanest=0.5),
        advance,
        order=2,
        is_offered=True,
        measured="digits: 10 steps are as good as 100",
    ),
    Solver(
        "dpm++-guided",
        "the same with more of its steps at low noise, and enough for words at middle noise",
        Mixed(log_snr=0.6, cleanest=0.75),
        advance,
        order=2,
    ),
    Solver(
        "dpm++-logsnr",
        "the same at timesteps even in log-SNR, which suits pictures with detail",
        Mixed(log_snr=1.0, cleanest=1.0),
        advance,
        order=2,
    ),
    Solver(
        "dpm++-3m",
        "third order, nearer to even in log-SNR",
        Mixed(log_snr=0.8, cleanest=0.75),
        advance_third_order,
        order=3,
        measured="paintings: Fréchet distance 2.78 in 20 steps, 2.73 in 100",
    ),
)
