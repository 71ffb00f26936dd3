"""Luma: brightness without colour."""

from __future__ import annotations

import torch
from torch import Tensor

LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in luma (ITU-R BT.601)."""


def luma(x0: Tensor) -> Tensor:
    """Returns the luma `(b, h, w)` of `(b, c, h, w)` on the same scale; grey is its own luma."""
    if x0.shape[1] == 1:
        return x0[:, 0]
    return torch.einsum("bchw,c->bhw", x0, x0.new_tensor(LUMINANCE))
