"""Fresh noise from the same Brownian path for every number of steps.

Runs with different numbers of steps then differ only by their steps and not also by chance, so that
fewer pictures are needed to compare them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipelines.diffusion.noise import seeded, spawn
from pipelines.diffusion.schedules import Schedule

_STREAM = 7  # a stream apart from that of the initial noise


class BrownianPaths:
    """One Brownian path per image, for one run from noise to picture.

    Its clock is `exp(2 * eta**2 * half_log_snr)`: fresh noise is even in half log-SNR, but noise
    from early in a step has faded by its end. The noise of a step is a weighted sum of one draw per
    training timestep, scaled to a standard normal. So any number of steps uses the same draws in
    the same order, and gives the same picture if x0 is constant.
    """

    def __init__(
        self, seeds: Sequence[int], shape: Sequence[int], alphas_cumprod: Tensor, eta: float
    ):
        """Starts at the noisiest timestep.

        Args:
            seeds: of the images.
            shape: of one image, `(c, h, w)`.
            alphas_cumprod: `(num_timesteps,)`, falling.
            eta: of the run, with a multistep solver; above 0.
        """
        self._generators = [spawn(g, _STREAM) for g in seeded(seeds)]
        self._shape = tuple(shape)
        half_log_snr = 0.5 * torch.logit(alphas_cumprod.double().cpu())
        clock = torch.exp(2 * eta**2 * half_log_snr)
        self._weights = (clock[:-1] - clock[1:]).sqrt()  # of the draw from t + 1 to t
        self._t = len(clock) - 1

    def __call__(self, scheduler: Schedule, index: int) -> Tensor:
        """Returns the fresh noise `(b, c, h, w)` of a step; steps must come in order."""
        timesteps = scheduler.timesteps.tolist()
        self._between(self._t, timesteps[index])  # before the first step
        following = timesteps[index + 1] if index + 1 < len(timesteps) else 0
        return self._between(timesteps[index], following)

    def _between(self, t: int, following: int) -> Tensor:
        """Returns the noise between two timesteps, noisier first, and moves on to the second."""
        if following > t:
            raise ValueError(f"the path stands at timestep {t}, beyond {following}")
        self._t = following
        weights = self._weights[following:t].flip(0).float()  # (n,)
        weights = weights / weights.square().sum().sqrt().clamp(min=1e-12)
        return torch.stack([self._sum(weights, generator) for generator in self._generators])

    def _sum(self, weights: Tensor, generator: torch.Generator) -> Tensor:
        total = torch.zeros(self._shape)
        for weight in weights.tolist():
            total.add_(torch.randn(self._shape, generator=generator), alpha=weight)
        return total
