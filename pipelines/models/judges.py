"""A classifier of handwritten digits that judges the drawn digits.

Guidance never uses it. `benchmarks.judges.judge` trained it on MNIST.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from pipelines.core.assets import ASSETS
from pipelines.core.errors import CheckpointError
from pipelines.models import integrity

WEIGHTS = ASSETS / "digit_judge.safetensors"
NUM_CLASSES = 10
NUM_FEATURES = 64


def _block(in_channels: int, out_channels: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, size, stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


class Judge(nn.Module):
    """A classifier whose last layer but one measures the similarity of pictures."""

    def features(self, pixels: Tensor) -> Tensor:
        """Returns the last layer but one, `(n, d)`, for pixels `(n, c, h, w)` in [-1, 1]."""
        raise NotImplementedError


JudgeT = TypeVar("JudgeT", bound=Judge)


class DigitJudge(Judge):
    """A small convolutional classifier of 28x28 grey pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _block(1, 32, size=5, stride=2),  # (n, 32, 14, 14)
            _block(32, 64, stride=2),  # (n, 64, 7, 7)
            _block(64, 64),
            _block(64, 64),
            nn.MaxPool2d(2),  # (n, 64, 3, 3)
            nn.Flatten(),
        )
        self.bottleneck = nn.Sequential(
            nn.Linear(64 * 3 * 3, NUM_FEATURES, bias=False),
            nn.BatchNorm1d(NUM_FEATURES),
            nn.ReLU(),
        )
        self.head = nn.Linear(NUM_FEATURES, NUM_CLASSES)

    def features(self, pixels: Tensor) -> Tensor:
        """Returns the last layer but one, `(n, 64)`, for pixels `(n, 1, 28, 28)` in [-1, 1]."""
        return self.bottleneck(self.body(pixels))  # (n, 576) -> (n, 64)

    def forward(self, pixels: Tensor) -> Tensor:
        """Returns logits `(n, 10)` for pixels `(n, 1, 28, 28)` in [-1, 1]."""
        return self.head(self.features(pixels))


def load_judge(path: Path = WEIGHTS) -> DigitJudge:
    """Returns the trained judge, frozen, in evaluation mode, on the CPU.

    Raises:
        FileNotFoundError: without a weights file; the message says how to train it.
    """
    return with_weights(DigitJudge(), path, "python -m benchmarks.judges.judge")


def load_bundled_judge() -> DigitJudge:
    """Returns the bundled judge, like `load_judge`.

    Raises:
        CheckpointError: if its file is missing or damaged.
    """
    key, assets = WEIGHTS.stem, WEIGHTS.parent
    if not WEIGHTS.is_file():
        raise CheckpointError("files_missing", key=key, files=WEIGHTS.name)
    integrity.check_bundled(key, assets, {WEIGHTS: integrity.sha256_of(WEIGHTS)})
    try:
        return load_judge(WEIGHTS)
    except Exception as error:  # safetensors and torch each have errors of their own
        raise CheckpointError("files_damaged", key=key) from error


def with_weights(judge: JudgeT, path: Path, command: str) -> JudgeT:
    """Loads the weights of a file into a judge; returns it frozen, in evaluation mode.

    Raises:
        FileNotFoundError: without that file; the message names the command that makes it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; {command} makes it")
    judge.load_state_dict(load_file(path))
    return judge.eval().requires_grad_(False)


def stored_accuracy(path: Path = WEIGHTS) -> float:
    """Returns the judge's accuracy on MNIST's test pictures after training, in [0, 1]."""
    with safe_open(path, framework="pt") as file:
        return float(file.metadata()["test_accuracy"])


def probability(judge: DigitJudge, pixels: Tensor, wanted: Tensor) -> Tensor:
    """Returns the judge's probability of the wanted digits, `(n,)` in [0, 1].

    Args:
        judge: from `load_judge`.
        pixels: `(n, 1, 28, 28)` in [-1, 1], on any device.
        wanted: `(n, 10)`, true for wanted digits; the probabilities of several are added.
    """
    with torch.no_grad():
        probabilities = judge(pixels.cpu().clamp(-1, 1)).softmax(dim=1)  # (n, 10)
    return (probabilities * wanted).sum(dim=1)
