"""Transparent pictures in other colours: a plain colour behind each, its hues rotated."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pipelines.core import images

Backgrounds = Literal["white", "colors"]

_PALE = 0.25  # share of backgrounds from white to grey


def draw_backgrounds(count: int, generator: torch.Generator) -> Tensor:
    """Draws colours for backgrounds: three in four of any hue, the others from white to grey.

    Args:
        count: how many.
        generator: of the random numbers, on the CPU.

    Returns:
        `(count, 3, 1, 1)` sRGB in [-1, 1].
    """
    hue, saturation, value, kind = torch.rand(4, count, generator=generator)
    saturation = torch.where(kind < _PALE, 0.0, 0.15 + 0.75 * saturation)
    value = 1 - 0.45 * value.square()
    rgb = _rgb(*(channel[:, None, None] for channel in (hue * 6, value * saturation, value)))
    return rgb * 2 - 1


def composited(pixels: Tensor, backgrounds: Tensor) -> Tensor:
    """Returns transparent pictures laid on their backgrounds.

    Args:
        pixels: `(n, 4, h, w)` uint8, RGBA.
        backgrounds: `(n, 3, 1, 1)` in [-1, 1], on the same device.

    Returns:
        `(n, 3, h, w)` in [-1, 1].
    """
    alpha = pixels[:, 3:].float() / 255
    return images.from_uint8(pixels[:, :3]) * alpha + backgrounds * (1 - alpha)


def hue_rotated(pixels: Tensor, turns: Tensor) -> Tensor:
    """Rotates every hue on its circle; lightest, darkest and grey stay as they are.

    Args:
        pixels: `(n, 4, h, w)` uint8, RGBA.
        turns: `(n,)` in [0, 1], on the same device; 0 leaves a picture as it is.

    Returns:
        `(n, 4, h, w)` uint8.
    """
    red, green, blue = (pixels[:, :3].float() / 255).unbind(dim=1)  # (n, h, w) each
    value = pixels[:, :3].amax(dim=1).float() / 255
    chroma = value - pixels[:, :3].amin(dim=1).float() / 255
    divisor = chroma.clamp(min=1e-6)
    hue = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    rgb = _rgb(hue + turns.view(-1, 1, 1) * 6, chroma, value)
    return torch.cat([(rgb * 255).round().to(torch.uint8), pixels[:, 3:]], dim=1)


def _rgb(hue: Tensor, chroma: Tensor, value: Tensor) -> Tensor:
    """Colours `(n, 3, h, w)` in [0, 1].

    Args:
        hue: `(n, h, w)`, six a round.
        chroma: `(n, h, w)`, the brightest channel less the darkest.
        value: `(n, h, w)`, the brightest channel.
    """
    offsets = torch.tensor([5.0, 3.0, 1.0], device=hue.device).view(3, 1, 1)
    sector = (offsets + hue[:, None]) % 6  # (n, 3, h, w)
    share = torch.minimum(sector, 4 - sector).clamp(0, 1)
    return value[:, None] - chroma[:, None] * share
