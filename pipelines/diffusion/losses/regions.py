"""Parts of a picture."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

REGIONS = ("all", "top", "bottom", "left", "right", "centre")


def region_mask(region: str, height: int, width: int) -> Tensor | None:
    """`(h, w)` of 0 and 1 for a named region; None for all of the picture.

    Halves of the picture; the centre is half of its height and width.

    Raises:
        ValueError: for another name.
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
    """A mask `(h, w)` in [0, 1] of any size, averaged or repeated to the size of the picture."""
    return F.interpolate(mask[None, None].float(), (height, width), mode="area")[0, 0]
