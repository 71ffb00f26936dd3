"""What is known of a picture, kept while it is drawn: editing without training.

In each step the network predicts the clean picture x0. What is known is put into it: all of the
predicted picture moves towards those that agree with what is known (`undecided`), and the known
part is then set exactly, as in DDNM (Wang et al. 2022, arXiv:2212.00490). A guide with wishes then
moves the picture within its trust region, and what is known is put in once more: where both
contradict each other, it wins. Middle steps may be done several times, with noise added in between,
as in RePaint (Lugmayr et al. 2022, arXiv:2201.09865).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from pipelines.diffusion.guidance import Guide
from pipelines.diffusion.losses import Keep, Loss, Projectable
from pipelines.diffusion.methods import trust_radius
from pipelines.diffusion.sampling import Correction, StepContext
from pipelines.diffusion.tensors import length, rms
from pipelines.diffusion.undecided import undecided


class Fact(Loss, Projectable, Protocol):
    """A loss that says what is known of a picture, with its nearest minimum in closed form."""

    def onto(self, x: Tensor) -> Tensor:
        """Returns the part of pictures `(b, c, h, w)` that is known; a linear projection."""
        ...


@dataclass(frozen=True)
class Known:
    """A guide that keeps what is known of a picture, around another guide; see `sampling.Guide`.

    Attributes:
        facts: what is known; a later one wins over an earlier one, where both cannot be true.
        guide: moves the picture towards wishes; None is without.
        repeats: how often each middle step is done; 1 is off.
        repeats_from: share of the steps after which they begin.
        repeats_to: share of the steps after which they end.
        moves_all: whether all of the prediction follows what is known, and not only the known part.
    """

    facts: Sequence[Fact]
    guide: Guide | None = None
    repeats: int = 1
    repeats_from: float = 0.1
    repeats_to: float = 0.8
    moves_all: bool = True

    def recurrence(self, index: int, total_steps: int) -> int:
        """Returns how often step `index` is done: as often as what is known or the guide asks."""
        inside = self.repeats_from <= index / total_steps < self.repeats_to
        own = self.repeats if inside and self.facts else 1
        return max(own, self.guide.recurrence(index, total_steps) if self.guide else 1)

    def differentiates(self, index: int, total_steps: int) -> bool:
        """Returns whether the guide needs a backward pass through the network."""
        return self.guide is not None and self.guide.differentiates(index, total_steps)

    def __call__(self, context: StepContext) -> Correction:
        """Returns the correction of one step.

        Args:
            context: of the step, with the network's graph if `differentiates`.
        """
        progress = context.index / context.total
        facts = [f.at(progress) if isinstance(f, Keep) else f for f in self.facts]
        moved = extended(facts, context) if self.moves_all else context.x0
        agreed = _projected(facts, moved)
        wished = self.guide(replace(context, x0=agreed)) if self.guide else None
        if wished is None or not facts:
            return wished or _unguided(agreed, _loss(facts, context.x0), agreed - context.x0)
        x0 = _projected(facts, wished.x0)
        too_much = 1 - self._share_within_trust(x0 - agreed, context)  # 0 leaves x0 to the bit
        return replace(wished, x0=x0 - too_much * (x0 - agreed))

    def _share_within_trust(self, moved: Tensor, context: StepContext) -> Tensor:
        """Returns the share of a move by wishes, `(b, 1, 1, 1)`, that the trust region allows.

        Where most of a picture is known, the rest would else move for all of it.
        """
        assert self.guide is not None
        free = (moved != 0).any(dim=1, keepdim=True).float().mean(dim=(1, 2, 3), keepdim=True)
        of_free = rms(moved) / free.sqrt().clamp(min=1e-6)
        limit = trust_radius(context, self.guide.strength)
        return (limit / of_free).clamp(max=1.0)


def extended(facts: Sequence[Fact], context: StepContext) -> Tensor:
    """Returns the predicted pictures `(b, c, h, w)`, all of which follow what is known."""
    x0, space = context.x0, undecided(context.x0.shape[1:], context.alpha, context.sigma)
    for fact in facts:
        x0 = x0 + space.moved(fact.onto, fact.onto(fact.project(x0) - x0))
    return x0


def _projected(facts: Sequence[Fact], x0: Tensor) -> Tensor:
    """Returns the pictures `(b, c, h, w)` that agree with the facts, the later ones exactly."""
    for fact in facts:
        x0 = fact.project(x0)
    return x0


def _loss(facts: Sequence[Fact], x0: Tensor) -> Tensor:
    """Returns how far pictures are from all facts together, `(b,)`."""
    return torch.stack([fact(x0) for fact in facts] or [x0.new_zeros(len(x0))]).sum(dim=0)


def _unguided(x0: Tensor, loss: Tensor, change: Tensor) -> Correction:
    """Returns a correction to pictures that agree, without wishes."""
    return Correction(
        x0=x0,
        push=None,
        keep_eps=False,
        loss=loss,
        gradient=length(change),
        failed=torch.zeros(len(x0), dtype=torch.bool, device=x0.device),
    )
