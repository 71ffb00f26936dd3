"""From a picture back to the noise that it would be drawn from, and to neighbours of that noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pipelines.core import devices
from pipelines.diffusion.denoisers import PlainPredictor, predict_x0
from pipelines.diffusion.schedules import Schedule

EVALUATIONS = 2
"""Network evaluations per step of an inversion."""


def inverted(
    predict: PlainPredictor, x0: Tensor, schedule: Schedule, *, prediction_type: str
) -> Tensor:
    """Returns the noise `(b, c, h, w)` from which the pictures would be drawn (DDIM inversion).

    It goes the way of DDIM with eta 0 backwards (Song et al. 2021, arXiv:2010.02502, section 4.3).
    A step back needs the noise that the network would find at its noisier end, which is not known
    yet; so it is taken from the step before, and found anew there (fixed-point iteration, Pan et
    al. 2023, arXiv:2309.04907).

    Args:
        predict: the network, without condition.
        x0: `(b, c, h, w)` in [-1, 1], on the device of the run.
        schedule: of the run that would draw them.
        prediction_type: meaning of the network's output; see `denoisers.predict_x0`.
    """
    x, eps = x0, torch.zeros_like(x0)
    with devices.device_lock(x.device), torch.no_grad():
        for index in reversed(range(len(schedule))):
            alpha, sigma = schedule.alpha[index], schedule.sigma[index]
            alpha_prev, sigma_prev = schedule.alpha[index + 1], schedule.sigma[index + 1]
            for _ in range(EVALUATIONS):
                noisier = alpha * (x - sigma_prev * eps) / alpha_prev + sigma * eps
                output = predict(noisier, schedule.timesteps[index])
                clean = predict_x0(output, noisier, alpha, sigma, prediction_type)
                eps = (noisier - alpha * clean) / sigma
            x = alpha * (x - sigma_prev * eps) / alpha_prev + sigma * eps
    return x


def neighbours(noise: Tensor, others: Tensor, shares: Sequence[float]) -> Tensor:
    """Returns noise `(b, c, h, w)` on the great circles from one noise to others.

    Args:
        noise: `(1, c, h, w)`, from which all begin.
        others: `(b, c, h, w)`, standard normal.
        shares: of the way of each: 0 is `noise` itself, 1 the other one.
    """
    angles = [share * math.pi / 2 for share in shares]
    of_noise = torch.tensor([math.cos(angle) for angle in angles]).to(noise).view(-1, 1, 1, 1)
    of_others = torch.tensor([math.sin(angle) for angle in angles]).to(noise).view(-1, 1, 1, 1)
    return of_noise * noise + of_others * others.to(noise)
