"""The noise levels of a run: a `Schedule` of plain tensors, and the spacings of timesteps.

Notation, for a timestep t: `x_t = alpha * x0 + sigma * eps` with `alpha**2 + sigma**2 = 1`, so
`alpha**2` is alpha_bar_t.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

MAX_STEPS = 250
"""The maximum number of steps; a schedule must have at least as many training timesteps."""

# At the noisy end of a cosine schedule half log-SNR goes towards minus infinity, so it is cut off
# as in diffusers.
_LAMBDA_MIN = -5.1
_LEAST_ALPHA_BAR = 2.0**-24

Spacing = Callable[[Tensor, int], list[int]]
"""`(alpha_bar (num_timesteps,), num_inference_steps)` to strictly falling timesteps."""


@dataclass(frozen=True)
class Schedule:
    """The noise levels of one run, from pure noise to the clean picture.

    Attributes:
        solver: key of `solvers.SOLVERS`.
        timesteps: `(n,)` int64 on the device of the run, falling: 999 is pure noise.
        alpha: `(n + 1,)` float32, signal level of each step; the last is 1, the clean picture.
        sigma: `(n + 1,)` float32, noise level; the last is 0.
        alpha_bar: `(num_timesteps,)` float32, of all training timesteps, falling.
    """

    solver: str
    timesteps: Tensor
    alpha: Tensor
    sigma: Tensor
    alpha_bar: Tensor

    def __len__(self) -> int:
        return len(self.timesteps)

    @functools.cached_property
    def half_log_snr(self) -> Tensor:
        """`log(alpha / sigma)` `(n + 1,)`, the time of multistep solvers; the last is infinite."""
        return torch.log(self.alpha / self.sigma)


def schedule_at(
    timesteps: list[int],
    alpha_bar: Tensor,
    *,
    solver: str,
    device: torch.device | str,
    by_ratio: bool = False,
) -> Schedule:
    """Returns the schedule with the given timesteps.

    Args:
        timesteps: falling, at least one.
        alpha_bar: `(num_timesteps,)`, falling.
        solver: key of `solvers.SOLVERS`.
        device: of the timesteps; levels stay on the CPU and act as numbers.
        by_ratio: whether levels are computed from `sigma / alpha`, as in diffusers' multistep
            solvers; at high noise the rounding of alpha matters.
    """
    chosen = alpha_bar[timesteps]  # (n,)
    alpha, sigma = chosen**0.5, (1 - chosen) ** 0.5
    if by_ratio:
        ratio = ((1 - alpha_bar) / alpha_bar) ** 0.5  # (num_timesteps,)
        alpha = torch.stack([(1 + ratio[t] ** 2) ** -0.5 for t in timesteps])
        sigma = ratio[timesteps] * alpha
    return Schedule(
        solver=solver,
        timesteps=torch.tensor(timesteps, device=device),
        alpha=torch.cat([alpha, torch.ones(1)]),
        sigma=torch.cat([sigma, torch.zeros(1)]),
        alpha_bar=alpha_bar,
    )


def alphas_cumprod(config: Mapping[str, Any]) -> Tensor:
    """Returns alpha_bar `(num_timesteps,)` float32 of a checkpoint's scheduler configuration.

    Every schedule that diffusers' DDPMScheduler makes is known. Betas that are rescaled to no
    signal at the end leave a little, as in diffusers' EulerDiscreteScheduler, so that no division
    is by zero.

    Raises:
        ValueError: if diffusers does not know the schedule of betas.
    """
    return _alphas_cumprod(json.dumps(dict(config), sort_keys=True, default=list)).clone()


@functools.lru_cache(maxsize=64)  # every run needs it
def _alphas_cumprod(config: str) -> Tensor:
    from diffusers import DDPMScheduler  # takes seconds to import

    changes = {"prediction_type": "sample", "clip_sample": False}
    scheduler = cast("DDPMScheduler", DDPMScheduler.from_config(json.loads(config), **changes))
    alpha_bar = scheduler.alphas_cumprod
    if len(alpha_bar) > 1 and alpha_bar[-1] == 0 < alpha_bar[-2]:
        alpha_bar[-1] = min(_LEAST_ALPHA_BAR, float(alpha_bar[-2]) / 2)
    return alpha_bar


def trailing(alpha_bar: Tensor, num_inference_steps: int) -> list[int]:
    """Returns timesteps even in t, noisiest first (Lin et al. 2023, arXiv:2305.08891, table 2)."""
    count = len(alpha_bar)
    stride = count / num_inference_steps
    return [round(count - i * stride) - 1 for i in range(num_inference_steps)]


def leading(alpha_bar: Tensor, num_inference_steps: int) -> list[int]:
    """Returns timesteps even in t without the noisiest: diffusers' default, used by the course."""
    stride = len(alpha_bar) // num_inference_steps
    return [i * stride for i in reversed(range(num_inference_steps))]


@dataclass(frozen=True)
class Mixed:
    """Spacing that is even in a mixture of t and half log-SNR.

    Multistep solvers are formulated in half log-SNR. On a cosine schedule, steps that are even in
    it lie mostly at the two ends. Pictures get their detail at the clean end; digits have none.

    Attributes:
        log_snr: 1 is even in half log-SNR, 0 even in t, other values a mixture.
        cleanest: distance of the last timestep from no noise, in steps.
    """

    log_snr: float
    cleanest: float

    def __call__(self, alpha_bar: Tensor, num_inference_steps: int) -> list[int]:
        """Returns strictly falling timesteps, from the noisiest.

        Args:
            alpha_bar: `(num_timesteps,)`, falling.
            num_inference_steps: 1 or more, at most half of the training timesteps.
        """
        half_log_snr = (0.5 * torch.logit(alpha_bar.double())).clamp(min=_LAMBDA_MIN)
        rising = (half_log_snr[0] - half_log_snr) / (half_log_snr[0] - half_log_snr[-1])  # 0 to 1
        time = torch.linspace(0, 1, len(alpha_bar), dtype=torch.float64)
        warped = (1 - self.log_snr) * time + self.log_snr * rising
        cleanest = self.cleanest / num_inference_steps
        grid = torch.linspace(1, cleanest, num_inference_steps, dtype=torch.float64).flip(0)
        chosen: list[int] = []
        for i, t in enumerate(torch.searchsorted(warped, grid).tolist()):
            latest = len(warped) - num_inference_steps + i  # leaves room for the remaining ones
            chosen.append(min(max(t, chosen[-1] + 1) if chosen else t, latest))
        return chosen[::-1]
