"""Seed search: tries several seeds for each picture and draws the best one.

The noise determines early what a picture shows; guidance seldom changes it to something else. So
several seeds are guided for the first part of the steps, and the one with the best score of the
predicted picture is drawn in full. It is best-of-N sampling with an early decision; Ma et al. 2025
(arXiv:2501.09732) compare such searches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from pipelines.diffusion.sampling import SampleStep

SHARE = 0.25
"""Share of the steps after which the score decides; by then the content can be seen."""

_MAX_BATCH = 32  # bounds memory, and the time of a step

Guided = Callable[[Sequence[int]], Iterator[SampleStep]]
"""Seeds to the steps of a guided run, one picture per seed."""

Score = Callable[[Tensor], Tensor]
"""Pictures `(b, c, h, w)` in [-1, 1] to scores `(b,)`; higher is better."""


@dataclass(frozen=True)
class SearchState:
    """The state of a search after one step.

    Attributes:
        seeds: per picture, the best seed so far.
        x0: `(n, c, h, w)`, the network's predictions for these seeds.
        scores: `(n,)`, of these predictions.
    """

    seeds: list[int]
    x0: Tensor
    scores: Tensor

    def or_better(self, other: SearchState) -> SearchState:
        """Returns the better seed of the two states for each picture; on a tie this state's."""
        better = other.scores > self.scores  # (n,)
        pairs = zip(better.tolist(), other.seeds, self.seeds, strict=True)
        return SearchState(
            [other_seed if is_better else seed for is_better, other_seed, seed in pairs],
            torch.where(better.view(-1, 1, 1, 1), other.x0, self.x0),
            torch.where(better, other.scores, self.scores),
        )


def candidates(seed: int, num_images: int, tries: int) -> list[list[int]]:
    """Returns the seeds to try: for picture i, `tries` seeds from `seed + i * tries` on."""
    firsts = (seed + i * tries for i in range(num_images))
    return [list(range(first, first + tries)) for first in firsts]


def steps_of(num_inference_steps: int) -> int:
    """Returns for how many steps of a run of that length each seed is tried."""
    return max(1, round(SHARE * num_inference_steps))


def search(
    guided: Guided,
    score: Score,
    seeds: Sequence[Sequence[int]],
    num_inference_steps: int,
    *,
    at_once: int = _MAX_BATCH,
) -> Iterator[SearchState]:
    """Tries the seeds of all pictures; yields states, the last one with the best seeds.

    Args:
        guided: starts a guided run with some seeds.
        score: of predicted pictures.
        seeds: the seeds of each picture, equally many; on a tie the first wins.
        num_inference_steps: of a full run.
        at_once: pictures that are drawn together at most, unless there are more pictures.
    """
    tries, per_part = len(seeds[0]), max(1, at_once // len(seeds))
    best: SearchState | None = None
    for first in range(0, tries, per_part):
        part = [row[first : first + per_part] for row in seeds]
        flat = [seed for row in part for seed in row]
        state = None
        for step in islice(guided(flat), steps_of(num_inference_steps)):
            state = _best_of_each(part, step.preview, score(step.preview))
            yield state if best is None else best
        assert state is not None
        best = state if best is None else best.or_better(state)
    assert best is not None
    yield best


def _best_of_each(seeds: Sequence[Sequence[int]], x0: Tensor, scores: Tensor) -> SearchState:
    """Returns the best seed of each picture; `x0` and `scores` go by picture, then by seed."""
    tries = len(seeds[0])
    best = scores.view(-1, tries).argmax(dim=1)  # (n,)
    rows = best + torch.arange(len(seeds), device=best.device) * tries
    best_seeds = [row[i] for row, i in zip(seeds, best.tolist(), strict=True)]
    return SearchState(best_seeds, x0[rows], scores[rows])
