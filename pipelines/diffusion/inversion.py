"""From a picture back to the noise that it would be drawn from, and to neighbours of that noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pipelines.core import devices
from pipelines.diffusion.denoisers import PlainPredictor, predict_x0
from pipelines.diffusion.schedules import Schedule


def inverted(
    predict: PlainPredictor, x0: Tensor, schedule: Schedule, *, prediction_type: str
) -> Tensor:
    """Returns the noise `(b, c, h, w)` from which the pictures would be drawn (DDIM inversion).

    It goes the way of DDIM with eta 0 backwards (Song et al. 2021, arXiv:2010.02502, section 4.3).
    Each step takes the network's prediction at its less noisy end, so that the way back is only
    nearly the way there.

    Args:
        predict: the network, without condition.
        x0: `(b, c, h, w)` in [-1, 1], on the device of the run.
        schedule: of the run that would draw them.
        prediction_type: meaning of the network's output; see `denoisers.predict_x0`.
    """
    x = x0
    with devices.device_lock(x.device), torch.no_grad():
        for index in reversed(range(len(schedule))):
            is_clean = index + 1 == len(schedule)
            at = index if is_clean else index + 1  # no network knows a picture without noise
            output = predict(x, schedule.timesteps[at])
            level = (schedule.alpha[at], schedule.sigma[at])
            predicted = predict_x0(output, x, *level, prediction_type)
            eps = (x - level[0] * predicted) / level[1]
            clean = x0 if is_clean else predicted
            x = schedule.alpha[index] * clean + schedule.sigma[index] * eps
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
