"""Grounds for pictures with transparency: a plain colour behind each, another one every time."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pipelines import images

Grounds = Literal["white", "colors"]

_PALE = 0.25  # share of grounds from white to grey


def draw_grounds(count: int, generator: torch.Generator) -> Tensor:
    """Colours for so many grounds: three in four of any hue, the others from white to grey.

    Args:
        count: how many.
        generator: of the random numbers, on the CPU.

    Returns:
        `(count, 3, 1, 1)` sRGB in [-1, 1].
    """
    hue, saturation, value, kind = torch.rand(4, count, generator=generator)
    saturation = torch.where(kind < _PALE, 0.0, 0.15 + 0.75 * saturation)
    value = 1 - 0.45 * value.square()
    offsets = torch.tensor([[5.0], [3.0], [1.0]])  # of red, green and blue on the circle of hues
    sector = (offsets + hue * 6) % 6  # (3, count)
    share = torch.minimum(sector, 4 - sector).clamp(0, 1)
    rgb = value * (1 - saturation * share)
    return (rgb * 2 - 1).T[..., None, None]


def laid_on(pixels: Tensor, grounds: Tensor) -> Tensor:
    """Pictures with transparency on their grounds.

    Args:
        pixels: `(n, 4, h, w)` uint8, RGBA.
        grounds: `(n, 3, 1, 1)` in [-1, 1], on the same device.

    Returns:
        `(n, 3, h, w)` in [-1, 1].
    """
    alpha = pixels[:, 3:].float() / 255
    return images.from_uint8(pixels[:, :3]) * alpha + grounds * (1 - alpha)
