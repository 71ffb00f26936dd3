"""What a diffusion model learns: noise levels, targets and weights of the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from pipelines.diffusion.denoisers import predict_x0
from training.core.reporting import Reporter

Prediction = Literal["epsilon", "v_prediction", "sample"]

VALIDATION_TIMESTEPS = (100, 300, 500, 700, 900)


def stratified_timesteps(batch_size: int, num_timesteps: int, generator: torch.Generator) -> Tensor:
    """Timesteps `(b,)` spread evenly over 0..num_timesteps-1, each equally likely.

    One draw shifts an even grid (low-discrepancy sampling, Kingma et al. 2021, arXiv:2107.00630,
    appendix I.1), which makes the loss of a small batch far less noisy.
    """
    shift = torch.rand((), generator=generator)
    spread = (shift + torch.arange(batch_size) / batch_size) % 1  # (b,) in [0, 1)
    return (spread * num_timesteps).long()


def training_target(
    x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor, prediction: str
) -> Tensor:
    """What the network should answer: eps, `v = alpha * eps - sigma * x0`, or x0.

    The inverse of `sampling.predict_x0`.

    Args:
        x0: clean pictures `(b, c, h, w)` in [-1, 1].
        eps: standard normal noise `(b, c, h, w)`.
        alpha: signal level `(b, 1, 1, 1)`.
        sigma: noise level `(b, 1, 1, 1)`; `alpha**2 + sigma**2 = 1`.
        prediction: "epsilon", "v_prediction" or "sample".

    Returns:
        `(b, c, h, w)`.

    Raises:
        ValueError: for another prediction.
    """
    match prediction:
        case "epsilon":
            return eps
        case "v_prediction":
            return alpha * eps - sigma * x0
        case "sample":
            return x0
    raise ValueError(f"prediction must be epsilon, v_prediction or sample, got {prediction!r}")


def loss_weights(alpha_bar: Tensor, prediction: str, snr_gamma: float) -> Tensor:
    """Min-SNR weights `(b,)` (Hang et al. 2023, arXiv:2303.09556).

    In x0 space the weight is `min(SNR, gamma)`; here it is divided by what the prediction type
    already implies.

    Args:
        alpha_bar: `(b,)`, above 0 and below 1.
        prediction: "epsilon", "v_prediction" or "sample".
        snr_gamma: the clamp; 0 is off: all ones.

    Raises:
        ValueError: for another prediction.
    """
    if snr_gamma == 0:
        return torch.ones_like(alpha_bar)
    snr = alpha_bar / (1 - alpha_bar)
    clamped = snr.clamp(max=snr_gamma)
    match prediction:
        case "epsilon":
            return clamped / snr
        case "v_prediction":
            return clamped / (snr + 1)
        case "sample":
            return clamped
    raise ValueError(f"prediction must be epsilon, v_prediction or sample, got {prediction!r}")


@dataclass(frozen=True)
class Objective:
    """What a network is trained to predict, and how its errors count.

    Attributes:
        alpha_bar: of each timestep, `(num_timesteps,)`.
        prediction: "epsilon", "v_prediction" or "sample".
        snr_gamma: clamp of the min-SNR weights; 0 is off.
    """

    alpha_bar: Tensor
    prediction: str
    snr_gamma: float

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Returns signal and noise level of each timestep, `(b, 1, 1, 1)` each."""
        alpha_bar = self.alpha_bar[t].view(-1, 1, 1, 1)
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    def noised(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """Returns `x_t`, `(b, c, h, w)`."""
        alpha, sigma = self.levels(t)
        return alpha * x0 + sigma * eps

    def loss(self, output: Tensor, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """Returns the weighted mean squared error `()` of what a network predicted for `x_t`."""
        alpha, sigma = self.levels(t)
        target = training_target(x0, eps, alpha, sigma, self.prediction)
        weights = loss_weights(self.alpha_bar[t], self.prediction, self.snr_gamma)
        return (weights * (output.float() - target).square().mean(dim=(1, 2, 3))).mean()

    @torch.no_grad()
    def x0_error(
        self,
        predict: Callable[..., Tensor],
        x0: Tensor,
        eps: Tensor,
        level: int,
        *,
        batch_size: int,
    ) -> float:
        """Returns the mean squared error of the predicted x0 in [-1, 1] at one timestep.

        Args:
            predict: of `x_t` `(b, c, h, w)`, `t` `(b,)` and the numbers of the pictures `(b,)`.
            x0: `(n, c, h, w)`.
            eps: `(n, c, h, w)`.
            level: the timestep.
            batch_size: pictures per forward pass.
        """
        errors = []
        for rows in torch.arange(len(x0), device=x0.device).split(batch_size):
            t = torch.full((len(rows),), level, device=x0.device)
            alpha, sigma = self.levels(t)
            x_t = alpha * x0[rows] + sigma * eps[rows]
            output = predict(x_t, t, rows)
            prediction = predict_x0(output, x_t, alpha, sigma, self.prediction)
            error = functional.mse_loss(prediction, x0[rows], reduction="none")
            errors.append(error.mean(dim=(1, 2, 3)))
        return torch.cat(errors).mean().item()


def report_x0_errors(errors: Mapping[int, float], reporter: Reporter, step: int) -> dict[str, Any]:
    """Reports the errors on held-out pictures, per timestep; returns them as they are printed."""
    reporter.scalars({f"validation/x0_error_t{t}": e for t, e in errors.items()}, step)
    return {"x0_error": dict(errors)}
