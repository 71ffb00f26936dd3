"""Fresh noise that is the same Brownian path in few steps and in many.

Runs that differ in their steps alone then differ by their steps alone, not by chance as well, so
that fewer pictures tell them apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipelines.diffusion.noise import seeded, spawn
from pipelines.diffusion.schedules import Schedule

_STREAM = 7  # of the offspring of an image's generator, so that its first noise is another one


class BrownianPaths:
    """One Brownian path per image, for one run from noise to picture.

    Its clock is `exp(2 * eta**2 * half_log_snr)`: fresh noise is even in half log-SNR, but what
    comes early in a step has faded by its end. A step takes the sum of what lies on its way, one
    draw a training timestep, made standard normal again: many steps or few draw the same numbers in
    the same order, and where x0 stands still come to the same picture.
    """

    def __init__(
        self, seeds: Sequence[int], shape: Sequence[int], alphas_cumprod: Tensor, eta: float
    ):
        """Starts at the noisiest timestep.

        Args:
            seeds: of the images.
            shape: of one image, `(c, h, w)`.
            alphas_cumprod: `(num_timesteps,)`, falling.
            eta: of the run, of a multistep solver; above 0, without which there is no fresh noise.
        """
        self._generators = [spawn(g, _STREAM) for g in seeded(seeds)]
        self._shape = tuple(shape)
        half_log_snr = 0.5 * torch.logit(alphas_cumprod.double().cpu())
        clock = torch.exp(2 * eta**2 * half_log_snr)
        self._weights = (clock[:-1] - clock[1:]).sqrt()  # of the draw from t + 1 to t
        self._t = len(clock) - 1

    def __call__(self, scheduler: Schedule, index: int) -> Tensor:
        """The fresh noise `(b, c, h, w)` of a step, standard normal; there is no way back."""
        timesteps = scheduler.timesteps.tolist()
        self._between(self._t, timesteps[index])  # before the first step
        following = timesteps[index + 1] if index + 1 < len(timesteps) else 0
        return self._between(timesteps[index], following)

    def _between(self, t: int, following: int) -> Tensor:
        """What lies between two timesteps, the noisier first; the path goes on to the second."""
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
