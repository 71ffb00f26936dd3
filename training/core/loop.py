"""What every training script here shares: noise levels, targets, weights, schedule, saved state."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor

from pipelines.core import devices

Prediction = Literal["epsilon", "v_prediction", "sample"]

STATE_FILE = "state.pt"
ADAM_BETAS = (0.9, 0.99)
MAX_GRADIENT_NORM = 1.0


def device_in_words(accelerator: Accelerator) -> str:
    """What a card calls the device, with the arithmetic if it is not float32."""
    precision, name = accelerator.mixed_precision, devices.describe_device(accelerator.device)
    return name if precision == "no" else f"{name}, {precision}"


def step_generator(seed: int, step: int) -> torch.Generator:
    """The CPU generator of one training step.

    All randomness of a step comes from it, so a resumed run repeats an uninterrupted one without
    any saved random state.
    """
    return torch.Generator("cpu").manual_seed(seed * 1_000_003 + step)


def epoch_order(num_examples: int, seed: int, epoch: int) -> Tensor:
    """A permutation of the data `(n,)`, the same for the same seed and epoch."""
    generator = torch.Generator("cpu").manual_seed(seed * 7_368_787 + epoch)
    return torch.randperm(num_examples, generator=generator)


def batch_indices(num_examples: int, batch_size: int, seed: int, step: int) -> Tensor:
    """Which examples step `step` (from 0) trains on, `(batch_size,)`; every epoch sees each once.

    The last incomplete batch of an epoch is dropped.

    Raises:
        ValueError: if there are fewer examples than one batch.
    """
    per_epoch = num_examples // batch_size
    if per_epoch == 0:
        raise ValueError(
            f"batch_size must be at most the number of pictures, {num_examples}, got {batch_size}"
        )
    epoch, position = divmod(step, per_epoch)
    order = epoch_order(num_examples, seed, epoch)
    return order[position * batch_size : (position + 1) * batch_size]


def slot_noise(
    seed: int, step: int, slots: Tensor, shape: Sequence[int], device: torch.device
) -> Tensor:
    """Standard normal noise `(len(slots), *shape)` for some of the pictures of one step.

    Each slot has its own generator, so a picture gets the same noise whichever process or forward
    pass it falls to.
    """
    generator = torch.Generator(device)
    noise = torch.empty((len(slots), *shape), device=device)
    for row, slot in zip(noise, slots.tolist(), strict=True):
        generator.manual_seed(((seed * 1_000_003 + step) * 65_537 + slot) % 2**63)
        row.normal_(generator=generator)
    return noise


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


def learning_rate(step: int, *, peak: float, warmup_steps: int, max_steps: int) -> float:
    """Linear warm-up to `peak`, then a half cosine down to 1 % of it at `max_steps`.

    Args:
        step: steps done before this one, from 0.
        peak: the highest rate.
        warmup_steps: step `warmup_steps - 1` is the first at `peak`; 0 is off.
        max_steps: length of the run.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, max_steps - warmup_steps)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


class Pace(Protocol):
    """What of a recipe decides the learning rate."""

    @property
    def lr(self) -> float: ...
    @property
    def warmup_steps(self) -> int: ...
    @property
    def max_steps(self) -> int: ...


def set_learning_rate(optimizer: torch.optim.Optimizer, step: int, recipe: Pace) -> None:
    """Gives the optimizer the rate of a step, see `learning_rate`."""
    rate = learning_rate(
        step, peak=recipe.lr, warmup_steps=recipe.warmup_steps, max_steps=recipe.max_steps
    )
    for group in optimizer.param_groups:
        group["lr"] = rate


def refuse_another(differing: Sequence[str]) -> None:
    """Refuses to go on from a run of another recipe.

    Raises:
        ValueError: naming what differs, if anything does.
    """
    if differing:
        raise ValueError(
            "model_save_name must be a new name or that of a run of the same recipe, got one "
            f"with another {', '.join(differing)}"
        )


def check_finite(loss: float, gradient_norm: float, *, step: int, scaled: bool = False) -> None:
    """Stops a run that has gone astray before it changes a weight.

    Args:
        loss: of this step.
        gradient_norm: of all weights.
        step: the one at work, from 1.
        scaled: whether a gradient scaler is at work, which meets infinite gradients on purpose and
            skips such steps itself.

    Raises:
        FloatingPointError: if one of them is not finite.
    """
    if math.isfinite(loss) and (scaled or math.isfinite(gradient_norm)):
        return
    raise FloatingPointError(
        f"loss must stay finite, got {loss} with a gradient of norm {gradient_norm} at step "
        f"{step}; start again with a lower lr"
    )


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Writes the training state so that a kill at any moment leaves the old or the new one whole.

    Raises:
        OSError: if the disk is full, for instance; the old state is still there.
    """
    buffer = io.BytesIO()  # writing to the file itself, torch hides a full disk in a RuntimeError
    torch.save(state, buffer)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{STATE_FILE}.tmp"
    try:
        with temporary.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, folder / STATE_FILE)
    finally:
        temporary.unlink(missing_ok=True)


def load_state(folder: Path) -> dict[str, Any] | None:
    """The state that `save_state` wrote last, or None if there is none.

    Raises:
        ValueError: if the file is damaged, or holds pickled code, which is never run.
        OSError: if it cannot be read.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # unpickling what is no state raises all kinds
        raise ValueError(
            f"{path} must be a training state, got a damaged file; delete it to start again"
        ) from error
