"""A classifier of painting genres that judges text guidance.

    python -m benchmarks.judges.genre_judge

Guidance never uses it. It shares nothing with the CLIP that guides: it is a plain convolutional
network that learns labels, not sentences. It is trained on paintings that are not held out; the
held-out ones are used once, at the end, for the accuracies that are stored with the weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn

from benchmarks.judges import judge
from pipelines.core.images import from_uint8
from pipelines.models import judges
from training.clip.degrade import degraded
from training.clip.pairs import Pairs, load_pairs
from training.clip.towers import centred
from training.core.batches import step_generator
from training.core.captions import GENRES

WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "genre_judge.safetensors"
DATA = Path("../shared/data")
KINDS = tuple(GENRES)
NUM_FEATURES = 256
_WIDTHS = (32, 64, 128, NUM_FEATURES)
_WEIGHT_DECAY = 5e-4
_SMOOTHING = 0.1
SIZE_PX = 64


class _Block(nn.Module):
    """Two convolutions with a skip connection (He et al. 2016, arXiv:1512.03385)."""

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        around: nn.Module = nn.Identity()
        if stride > 1 or in_channels != channels:
            around = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
        self.around = around

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.around(x))


class GenreJudge(judges.Judge):
    """A small residual classifier of 64x64 pictures."""

    def __init__(self, num_classes: int = len(KINDS), widths: Sequence[int] = ()) -> None:
        super().__init__()
        widths = widths or _WIDTHS
        before = widths[0]
        stem = nn.Conv2d(3, before, 3, 2, padding=1, bias=False)  # (n, widths[0], 32, 32)
        blocks: list[nn.Module] = [stem, nn.BatchNorm2d(before), nn.ReLU()]
        for i, width in enumerate(widths):
            blocks += [_Block(before, width, 2 if i else 1), _Block(width, width, 1)]
            before = width
        self.body = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(before, num_classes)

    def features(self, pixels: Tensor) -> Tensor:
        """Returns the last layer but one, `(n, widths[-1])`, for `(n, 3, 64, 64)` in [-1, 1]."""
        return self.body(pixels)

    def forward(self, pixels: Tensor) -> Tensor:
        """Returns logits `(n, num_classes)` for `(n, 3, 64, 64)` in [-1, 1]."""
        return self.head(self.features(pixels))


def load(path: Path = WEIGHTS) -> GenreJudge:
    """Returns the trained judge, frozen, in evaluation mode, on the CPU.

    Raises:
        FileNotFoundError: without a weights file; the message says how to train it.
    """
    return judges.with_weights(GenreJudge(), path, "python -m benchmarks.judges.genre_judge")


def stored_accuracies(path: Path = WEIGHTS) -> dict[str, float]:
    """Returns the judge's accuracies on held-out paintings after training, by kind and "all"."""
    return judge.stored_accuracies(path)


def labelled(pairs: Pairs) -> tuple[Pairs, Tensor]:
    """Returns the paintings of known genre, and the genres as indices in `KINDS` `(n,)` int64."""
    numbers = {texts[0]: number for number, texts in enumerate(GENRES.values())}
    indices = [i for i, label in enumerate(pairs.labels) if label]
    selected = pairs.select(torch.tensor(indices))
    return selected, torch.tensor([numbers[label] for label in selected.labels])


def accuracies(model: GenreJudge, pairs: Pairs, labels: Tensor) -> dict[str, float]:
    """Returns the judge's accuracies, by kind and "all"."""
    right = judge.classify(model, centred(pairs.pixels)) == labels
    by_kind = {kind: right[labels == i] for i, kind in enumerate(KINDS)} | {"all": right}
    return {kind: r.double().mean().item() for kind, r in by_kind.items() if len(r)}


def train(
    pairs: Pairs, labels: Tensor, *, epochs: int, batch_size: int, lr: float, seed: int
) -> GenreJudge:
    """Trains a judge; oversamples rare kinds."""
    torch.manual_seed(seed)
    model = GenreJudge().train()
    probabilities = rare_first(labels, len(KINDS))

    def loss_of(step: int) -> Tensor:
        generator = step_generator(seed, step)
        chosen = torch.multinomial(probabilities, batch_size, generator=generator)
        pictures = degraded(from_uint8(pairs.pixels[chosen]), SIZE_PX, generator)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(pictures).float()
        return F.cross_entropy(logits, labels[chosen], label_smoothing=_SMOOTHING)

    steps = epochs * math.ceil(len(pairs) / batch_size)
    return judge.fit(model, loss_of, steps=steps, lr=lr, weight_decay=_WEIGHT_DECAY)


def rare_first(labels: Tensor, num_classes: int) -> Tensor:
    """Returns sampling weights `(n,)`, so that a class has the root of its frequency."""
    return torch.bincount(labels, minlength=num_classes).float().rsqrt()[labels]


def main(
    data_folder: Annotated[Path, typer.Option(help="where the data sets lie")] = DATA,
    epochs: Annotated[int, typer.Option(min=1)] = 16,
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    lr: Annotated[float, typer.Option(help="peak of the one cycle")] = 2e-3,
    seed: int = 0,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 is PyTorch's choice")] = 0,
    output: Annotated[Path, typer.Option(help="where the weights go")] = WEIGHTS,
) -> None:
    """Trains the judge, prints its accuracies on held-out paintings and stores both."""
    if threads:
        torch.set_num_threads(threads)
    train_data, held_out_data = (labelled(part) for part in load_pairs(data_folder, "wikiart"))
    model = train(*train_data, epochs=epochs, batch_size=batch_size, lr=lr, seed=seed)
    recipe = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed}
    measured = accuracies(model, *held_out_data)
    judge.save_measured(model, output, "wikiart, not held out", recipe, measured)


if __name__ == "__main__":
    typer.run(main)
