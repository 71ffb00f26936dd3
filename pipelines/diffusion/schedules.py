"""Which noise levels a run goes through: a `Schedule` of plain tensors, and how timesteps spread.

Notation, for a timestep t: `x_t = alpha * x0 + sigma * eps` with `alpha**2 + sigma**2 = 1`, so
`alpha**2` is alpha_bar_t.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

MAX_STEPS = 250
"""The most steps of a run; a schedule must have at least as many training timesteps."""

# A cosine schedule ends at almost no signal, where half log-SNR runs away; cut off as diffusers
# does for such schedules.
_LAMBDA_MIN = -5.1

Spacing = Callable[[Tensor, int], list[int]]
"""`(alpha_bar (num_timesteps,), num_inference_steps)` to timesteps, falling, each different."""


@dataclass(frozen=True)
class Schedule:
    """The noise levels of one run, from the noisiest to the clean picture.

    Attributes:
        solver: key of `solvers.SOLVERS`, which goes from level to level.
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

    def half_log_snr(self, index: int) -> Tensor:
        """`log(alpha / sigma)` `()` of step `index`; multistep solvers measure steps in it."""
        return torch.log(self.alpha[index] / self.sigma[index])


def schedule_at(
    timesteps: list[int],
    alpha_bar: Tensor,
    *,
    solver: str,
    device: torch.device | str,
    by_ratio: bool = False,
) -> Schedule:
    """The schedule that goes through some timesteps.

    Args:
        timesteps: falling, at least one.
        alpha_bar: `(num_timesteps,)`, falling.
        solver: key of `solvers.SOLVERS`.
        device: where the run computes; levels stay on the CPU, as numbers.
        by_ratio: whether levels are rounded as those of diffusers' multistep solvers, which know
            only `sigma / alpha`. Where there is almost no signal, the last digit of alpha shows.
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
    """alpha_bar `(num_timesteps,)` float32 of a checkpoint's scheduler configuration.

    Raises:
        ValueError: if diffusers knows no such schedule of betas.
    """
    from diffusers import DDIMScheduler  # takes seconds to import, hence at the first run

    changes = {"prediction_type": "sample", "clip_sample": False}
    return cast("DDIMScheduler", DDIMScheduler.from_config(dict(config), **changes)).alphas_cumprod


def trailing(alpha_bar: Tensor, num_inference_steps: int) -> list[int]:
    """Even in t, from the noisiest on (Lin et al. 2023, arXiv:2305.08891, table 2)."""
    count = len(alpha_bar)
    stride = count / num_inference_steps
    return [round(count - i * stride) - 1 for i in range(num_inference_steps)]


def leading(alpha_bar: Tensor, num_inference_steps: int) -> list[int]:
    """Even in t, the noisiest left out: what diffusers takes by default, and so the course."""
    stride = len(alpha_bar) // num_inference_steps
    return [i * stride for i in reversed(range(num_inference_steps))]


@dataclass(frozen=True)
class Mixed:
    """Even in a mixture of t and half log-SNR.

    Half log-SNR alone, in which the formulas of multistep solvers are written, spends most of few
    steps at the two ends of a cosine schedule: at the clean end pictures get their detail, of which
    digits have none.

    Attributes:
        log_snr: 1 is even in half log-SNR, 0 even in t; in between, a mixture.
        cleanest: where the last timestep lies, in steps from no noise.
    """

    log_snr: float
    cleanest: float

    def __call__(self, alpha_bar: Tensor, num_inference_steps: int) -> list[int]:
        """Timesteps, falling from the noisiest, each different.

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
        for place, t in enumerate(torch.searchsorted(warped, grid).tolist()):
            latest = len(warped) - num_inference_steps + place  # leaves room for those to come
            chosen.append(min(max(t, chosen[-1] + 1) if chosen else t, latest))
        return chosen[::-1]
