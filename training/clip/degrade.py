"""Pictures as guidance sees them: cropped, turned, blurred, noisy, half formed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.core import images

LEAST_SIDE = 0.55
MAX_ANGLE = 0.12  # radians
NOISY, BLURRED = 0.35, 0.35
MAX_NOISE = 0.5
LEAST_BLURRED_PX = 8


def degraded(x0: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """A random crop of each picture, mirrored or not, some blurred, some noisy.

    Args:
        x0: `(b, 3, h, w)` in [-1, 1].
        size: side of the result.
        generator: of everything random, on the CPU.

    Returns:
        `(b, 3, size, size)`.
    """
    count, device = len(x0), x0.device

    def uniform(low: float, high: float) -> Tensor:
        return (low + (high - low) * torch.rand(count, generator=generator)).to(device)

    side = uniform(LEAST_SIDE**2, 1.0).sqrt()
    mirrored = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    angle = uniform(-MAX_ANGLE, MAX_ANGLE)
    shift_x, shift_y = uniform(-1, 1) * (1 - side), uniform(-1, 1) * (1 - side)
    x = images.crops(x0, side, angle, mirrored, torch.stack([shift_x, shift_y]), size)
    blurred = uniform(0, 1) < BLURRED
    small = int(torch.randint(LEAST_BLURRED_PX, size // 2 + 1, (), generator=generator))
    rough = F.interpolate(x, size=small, mode="area")
    rough = F.interpolate(rough, size=size, mode="bilinear", align_corners=False)
    x = torch.where(blurred.view(-1, 1, 1, 1), rough, x)
    strength = torch.where(uniform(0, 1) < NOISY, uniform(0, MAX_NOISE), torch.zeros_like(side))
    noise = torch.empty_like(x).normal_(generator=_on(device, generator))
    return x + strength.view(-1, 1, 1, 1) * noise


def _on(device: torch.device, generator: torch.Generator) -> torch.Generator:
    """A generator of a device, begun by a number from another of the CPU."""
    seed = torch.randint(2**62, (), generator=generator)
    return torch.Generator(device).manual_seed(int(seed))
