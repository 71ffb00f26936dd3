"""Masks of parts of a picture."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

REGIONS = ("all", "top", "bottom", "left", "right", "centre")


def region_mask(region: str, height: int, width: int) -> Tensor | None:
    """Returns the mask `(h, w)` of 0 and 1 of a named region; None for the full picture.

    The regions are halves of the picture; the centre has half of its height and width.

    Raises:
        ValueError: for an unknown name.
    """
    if region == "all":
        return None
    mask = torch.zeros(height, width)
    match region:
        case "top":
            mask[: height // 2] = 1
        case "bottom":
            mask[height - height // 2 :] = 1
        case "left":
            mask[:, : width // 2] = 1
        case "right":
            mask[:, width - width // 2 :] = 1
        case "centre":
            mask[height // 4 : height - height // 4, width // 4 : width - width // 4] = 1
        case _:
            raise ValueError(f"region must be one of {', '.join(REGIONS)}, got {region!r}")
    return mask


def resized_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """Returns a mask `(h, w)` in [0, 1], resized by averaging or repeating its pixels."""
    return F.interpolate(mask[None, None].float(), (height, width), mode="area")[0, 0]
