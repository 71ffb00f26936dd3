"""What a run that edits a picture shows: pictures, how far they are, and how well words fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from PIL import Image
from torch import Tensor

from pipelines.core.later import Later
from pipelines.diffusion import losses
from pipelines.diffusion.known import Fact
from pipelines.models.clip import Clip
from pipelines.products import words
from pipelines.products.canvas import Agreed, Canvas

Pictures = Sequence[Image.Image]


@dataclass(frozen=True)
class Words:
    """The CLIP of a run and what it compares pictures with."""

    model: Clip
    target: words.Target


def edited_and_came(
    seen: Canvas, drawn: Tensor, agreed: Agreed | None = None
) -> tuple[Pictures, Pictures]:
    """Returns edited pictures and those that came, made when somebody looks at them."""
    came = Later(partial(_originals, seen, len(drawn)))
    return Later(partial(seen.put_back, drawn, agreed)), came


def _originals(seen: Canvas, count: int) -> list[Image.Image]:
    """Returns the picture that came, once for each edited one."""
    return [seen.original()] * count


def distances(known: Sequence[Fact], picture: Tensor, x0: Tensor) -> list[float]:
    """Returns how far predictions are from what is known, else from the picture; 0 to 255."""
    facts = known or [losses.Keep(picture[0], picture.new_zeros(picture.shape[-2:]))]
    return (127.5 * torch.stack([fact(x0) for fact in facts]).amax(dim=0).sqrt()).tolist()


def scores(
    of_words: Words | None, picture: Tensor, drawn: Tensor, total: int
) -> tuple[Sequence[float], Sequence[float]]:
    """Returns the scores of the picture that came and of the edited ones; see `facts`."""
    count = len(drawn)
    if of_words:
        shown = [picture.expand(count, -1, -1, -1), drawn]
        before, after = words.scored_later(of_words.model, of_words.target, shown, total)
        return before, after
    change = (drawn - picture).square().mean(dim=(1, 2, 3)).sqrt() * 127.5
    return [0.0] * count, change.tolist()
