"""Which noise to begin with: several seeds for each picture, of which the best goes on.

What a picture will show is settled early, by its noise: guidance can bend what the network sees in
it, and seldom make it something else. So several seeds are guided for the first part of the steps,
and the one whose predicted picture scores best then is drawn in full. It is best-of-N sampling
with an early judgement; Ma et al. 2025 (arXiv:2501.09732) compare searches of this kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from pipelines.diffusion.sampling import SampleStep

SHARE = 0.25
"""Of the steps, after which seeds are judged: what a picture becomes can be seen by then."""

_AT_ONCE = 32  # pictures, to bound memory

Guided = Callable[[Sequence[int]], Iterator[SampleStep]]
"""Seeds to a guided run of theirs, one picture each."""

Score = Callable[[Tensor], Tensor]
"""`(b, c, h, w)` in [-1, 1] to how good each is, `(b,)`."""


@dataclass(frozen=True)
class Found:
    """The state of a search after one step.

    Attributes:
        seeds: per picture, the best so far.
        x0: `(n, c, h, w)`, what the network predicts for them.
        scores: `(n,)`.
    """

    seeds: list[int]
    x0: Tensor
    scores: Tensor

    def or_better(self, other: Found) -> Found:
        """Per picture, the better of two."""
        better = other.scores > self.scores  # (n,)
        pairs = zip(better.tolist(), other.seeds, self.seeds, strict=True)
        return Found(
            [theirs if wins else mine for wins, theirs, mine in pairs],
            torch.where(better.view(-1, 1, 1, 1), other.x0, self.x0),
            torch.where(better, other.scores, self.scores),
        )


def candidates(seed: int, num_images: int, tries: int) -> list[list[int]]:
    """Per picture, the seeds that are tried: picture i has `tries` from `seed + i * tries` on."""
    firsts = (seed + i * tries for i in range(num_images))
    return [list(range(first, first + tries)) for first in firsts]


def steps_of(num_inference_steps: int) -> int:
    """How many steps of a run of that length each seed is tried for."""
    return max(1, round(SHARE * num_inference_steps))


def search(
    guided: Guided, score: Score, seeds: Sequence[Sequence[int]], num_inference_steps: int
) -> Iterator[Found]:
    """Tries the seeds of every picture; the last state holds the best ones.

    Args:
        guided: how a run of some seeds begins.
        score: how good predicted pictures are.
        seeds: per picture as many; on a tie the first wins.
        num_inference_steps: of a whole run.
    """
    tries, per_part = len(seeds[0]), max(1, _AT_ONCE // len(seeds))
    best: Found | None = None
    for first in range(0, tries, per_part):
        part = [row[first : first + per_part] for row in seeds]
        flat = [seed for row in part for seed in row]
        now = None
        for step in islice(guided(flat), steps_of(num_inference_steps)):
            now = _best_of_each(part, step.preview, score(step.preview))
            yield now if best is None else best
        assert now is not None
        best = now if best is None else best.or_better(now)
    assert best is not None
    yield best


def _best_of_each(seeds: Sequence[Sequence[int]], x0: Tensor, scores: Tensor) -> Found:
    """Of pictures that lie one picture's seeds after the other's."""
    number = len(seeds[0])
    best = scores.view(-1, number).argmax(dim=1)  # (n,)
    chosen = best + torch.arange(len(seeds), device=best.device) * number
    kept = [row[place] for row, place in zip(seeds, best.tolist(), strict=True)]
    return Found(kept, x0[chosen], scores[chosen])
