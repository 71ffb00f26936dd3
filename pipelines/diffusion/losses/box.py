"""Projections that stay inside the range of pixels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

BOX = (-1.0, 1.0)
"""The range of pixels."""

_BISECTIONS = 40


def shifted(
    x0: Tensor,
    direction: Tensor | float,
    measure: Callable[[Tensor], Tensor],
    wanted: Tensor,
    box: tuple[float, float] = BOX,
) -> Tensor:
    """Returns `clamp(x0 + shift * direction)`, with the shift at which a measure is as wanted.

    Where the measure is the inner product of a picture and `direction`, it is the nearest picture
    inside the box whose measure is `wanted`: the exact projection. A measure that no picture of the
    box has is met as nearly as possible.

    Args:
        x0: `(b, c, h, w)`.
        direction: broadcasts to `x0`, 0 or more.
        measure: pictures `(b, c, h, w)` to values that broadcast to them; it rises with the shift.
        wanted: like the values.
        box: least and largest value of a pixel.
    """
    directed = torch.as_tensor(direction).to(x0)
    least = directed[directed > 0].amin()  # of the pixels that move, the slowest
    highest, lowest = x0.amax(dim=(1, 2, 3), keepdim=True), x0.amin(dim=(1, 2, 3), keepdim=True)
    # Far enough that every pixel is at a bound of the box, or beyond it.
    low = torch.zeros_like(measure(x0)) + ((box[0] - highest) / least).clamp(max=0)
    high = torch.zeros_like(low) + ((box[1] - lowest) / least).clamp(min=0)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        too_low = measure((x0 + middle * directed).clamp(*box)) < wanted
        low, high = torch.where(too_low, middle, low), torch.where(too_low, high, middle)
    return (x0 + (low + high) / 2 * directed).clamp(*box)
