"""Scores sets of digits with the judge, and prints tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks import frechet
from benchmarks.judges.judge import classify, features
from pipelines.core.images import from_uint8
from pipelines.models.judges import NUM_CLASSES, DigitJudge
from training.digits.data import Digits

HEADER = ("digits", "n", "judged as asked (95 %)", "worst class", "Fréchet distance (95 %)")


@dataclass(frozen=True)
class Score:
    """The judge's results for one set of pictures.

    Attributes:
        name: of the set.
        num_digits: number of digits.
        accuracy: share judged to be the wanted digit.
        worst_digit: the class with the lowest accuracy.
        worst_accuracy: its accuracy.
        distance: Fréchet distance to the reference pictures.
    """

    name: str
    num_digits: int
    accuracy: frechet.Interval
    worst_digit: int
    worst_accuracy: frechet.Interval
    distance: frechet.Interval


class Scorer:
    """A judge and reference pictures to score sets of pictures with."""

    def __init__(self, judge: DigitJudge, reference: Digits):
        self.judge = judge
        self.reference = frechet.fit(features(judge, from_uint8(reference.pixels)).numpy())

    def score(self, name: str, data: Digits) -> Score:
        """Scores 8-bit pictures; the labels are the wanted digits, and every class must occur."""
        pixels = from_uint8(data.pixels)
        right = classify(self.judge, pixels) == data.labels  # (n,)
        shares = [_share(right[data.labels == digit]) for digit in range(NUM_CLASSES)]
        worst = min(range(NUM_CLASSES), key=lambda digit: shares[digit].value)
        embedded = features(self.judge, pixels).numpy()  # (n, 64)
        distance = frechet.bootstrap_distance(embedded, self.reference)
        return Score(name, len(data), _share(right), worst, shares[worst], distance)


def _share(right: Tensor) -> frechet.Interval:
    return frechet.wilson(int(right.sum()), len(right))


def cycled_labels(count: int, start: int = 0) -> Tensor:
    """Returns labels `(count,)` 0, 1, ... 9, 0, 1, ...: picture i has the label i modulo 10."""
    return torch.arange(start, start + count) % NUM_CLASSES


def balanced_sample(data: Digits, count: int, seed: int = 0) -> Digits:
    """Returns `count` of the pictures, equally many of each class, determined by the seed.

    Raises:
        ValueError: if some class has too few.
    """
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    labels, per_class = data.labels[order], count // NUM_CLASSES
    chosen = [order[labels == digit][:per_class] for digit in range(NUM_CLASSES)]
    if min(len(part) for part in chosen) < per_class:
        raise ValueError(f"data must hold {per_class} pictures of each class, got fewer")
    return data.select(torch.cat(chosen))


def row(score: Score) -> list[str]:
    """Returns a row of the table with `HEADER`."""
    accuracy, distance = score.accuracy, score.distance
    return [
        score.name,
        f"{score.num_digits:,}",
        f"{100 * accuracy.value:.1f} % ({100 * accuracy.low:.1f}-{100 * accuracy.high:.1f})",
        f"{score.worst_digit}: {100 * score.worst_accuracy.value:.0f} %",
        f"{distance.value:.2f} ({distance.low:.2f}-{distance.high:.2f})",
    ]


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
