"""Trying several seeds for each picture: the best are found, whatever the parts they come in."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from pipelines.runs import seed_search

STEPS = 20


class Runs:
    """Runs whose pictures show their seed; notes what was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.steps = 0

    def __call__(self, seeds: Sequence[int]) -> Iterator[Any]:
        self.asked.append(list(seeds))
        for _ in range(STEPS):
            self.steps += 1
            shown = torch.tensor(seeds, dtype=torch.float32).view(-1, 1, 1, 1)
            yield SimpleNamespace(preview=shown.expand(-1, 3, 4, 4))


def score(x0: Tensor) -> Tensor:
    """Best where the seed ends in 7, and the larger the better."""
    seeds = x0[:, 0, 0, 0]
    return (seeds % 10 == 7) + seeds / 1000


def found(
    num_images: int, tries: int, guided: seed_search.Guided, **options: int
) -> list[seed_search.SearchState]:
    seeds = seed_search.candidates(3, num_images, tries)
    return list(seed_search.search(guided, score, seeds, STEPS, **options))


def test_every_picture_has_seeds_of_its_own_and_the_first_picture_the_one_that_was_asked_for():
    assert seed_search.candidates(5, 3, 4) == [[5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16]]
    assert seed_search.candidates(5, 2, 1) == [[5], [6]]


@pytest.mark.parametrize("at_once", [1, 4, 6, 32])
@pytest.mark.parametrize(("num_images", "tries"), [(1, 8), (3, 8), (2, 32), (8, 5)])
def test_the_best_seed_of_each_picture_is_found_in_parts_of_any_size(
    at_once: int, num_images: int, tries: int
):
    runs = Runs()
    last = found(num_images, tries, runs, at_once=at_once)[-1]
    everything = seed_search.candidates(3, num_images, tries)
    expected = [max(row, key=lambda seed: (seed % 10 == 7, seed)) for row in everything]
    assert last.seeds == expected
    assert last.x0[:, 0, 0, 0].tolist() == expected
    assert last.scores.tolist() == pytest.approx(score(last.x0).tolist())
    assert sorted(itertools.chain(*runs.asked)) == [*itertools.chain(*everything)]
    assert max(map(len, runs.asked)) <= max(at_once, num_images)


def test_each_seed_is_tried_for_the_first_steps_only():
    runs = Runs()
    states = found(2, 32, runs)
    assert seed_search.steps_of(STEPS) == 5
    assert runs.steps == 2 * 5  # two parts
    assert len(states) == 2 * 5 + 1
    assert [seed_search.steps_of(steps) for steps in (1, 2, 10, 250)] == [1, 1, 2, 62]


def test_what_is_shown_on_the_way_has_as_many_pictures_and_never_gets_worse():
    states = found(4, 32, Runs())
    assert {len(state.seeds) for state in states} == {4}
    for before, after in itertools.pairwise(states):
        assert (after.scores >= before.scores).all()


def test_of_equals_the_first_is_taken():
    seeds = seed_search.candidates(0, 2, 32)
    *_, last = seed_search.search(Runs(), lambda x0: torch.zeros(len(x0)), seeds, STEPS)
    assert last.seeds == [0, 32]
