"""Where words act in a picture: what each place attends to, and places that words belong to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.diffusion.denoisers import Network
from pipelines.diffusion.unets import WordAttention, WordsUNet2DModel

MAP_PX = 16
"""Side of the maps of words."""


class WordMaps:
    """What each place of the pictures attends to, a mean over layers (DAAM, arXiv:2210.04885).

    Attributes:
        latest: `(b, l, MAP_PX, MAP_PX)`, of each word in the latest forward pass; the words of a
            place sum to 1.
    """

    def __init__(self) -> None:
        self._of_pass: list[Tensor] = []

    @property
    def latest(self) -> Tensor:
        return torch.stack(self._of_pass).mean(dim=0)

    def _begin(self, *_: Any) -> None:
        self._of_pass = []

    def _add(self, site: WordAttention, inputs: tuple[Any, ...], _: Tensor) -> None:
        size = (MAP_PX, MAP_PX)
        maps = F.interpolate(site.maps(*inputs).float(), size, mode="bilinear", align_corners=False)
        self._of_pass.append(maps)


@contextmanager
def watched(unet: WordsUNet2DModel) -> Iterator[WordMaps]:
    """Watches what a network attends to; it predicts the same, a little more slowly."""
    maps = WordMaps()
    hooks = [unet.register_forward_pre_hook(maps._begin)]
    hooks += [site.register_forward_hook(maps._add) for site in unet.word_attentions]
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()


def painted(unet: Network, alpha_bar: Tensor, strength: float) -> Network:
    """Returns a network whose condition may say where words belong ("paint with words").

    Places are drawn to their words while there is much noise, by
    `strength * log(1 + sigma / alpha)` times the highest score (eDiff-I, Balaji et al. 2022,
    arXiv:2211.01324, 5.3).

    Args:
        unet: takes `word_pull`.
        alpha_bar: of each timestep, `(num_timesteps,)`.
        strength: 0 is off.

    Returns:
        A network that takes `word_places` as well, `(b, l, h, w)` in [0, 1]: 1 where a word
        belongs.
    """

    def predict(x_t: Tensor, t: Tensor, *, word_places: Tensor, **inputs: Tensor) -> Any:
        level = alpha_bar[t]
        pull = strength * torch.log1p(((1 - level) / level).sqrt())
        return unet(x_t, t, word_pull=pull * word_places, **inputs)

    return predict
