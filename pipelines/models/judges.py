"""A classifier of handwritten digits that says what a drawn digit looks like.

Generation never sees it: it only judges. `benchmarks.judges.judge` trained it, on MNIST.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from pipelines.core.assets import ASSETS

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
    """A classifier whose last layer but one tells how alike pictures are."""

    def features(self, pixels: Tensor) -> Tensor:
        """The last layer but one, `(n, d)`, of `(n, c, h, w)` in [-1, 1]."""
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
        """The last layer but one, `(n, 64)`, of `(n, 1, 28, 28)` in [-1, 1]."""
        return self.bottleneck(self.body(pixels))  # (n, 576) -> (n, 64)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits `(n, 10)` of `(n, 1, 28, 28)` in [-1, 1]."""
        return self.head(self.features(pixels))


def load_judge(path: Path = WEIGHTS) -> DigitJudge:
    """The trained judge, frozen, in evaluation mode, on the CPU.

    Raises:
        FileNotFoundError: if it was never trained; the message says how to.
    """
    return with_weights(DigitJudge(), path, "python -m benchmarks.judges.judge")


def with_weights(judge: JudgeT, path: Path, command: str) -> JudgeT:
    """A judge with the weights of a file, frozen, in evaluation mode.

    Raises:
        FileNotFoundError: if there is none; the message names the command that makes it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; {command} makes it")
    judge.load_state_dict(load_file(path))
    return judge.eval().requires_grad_(False)


def stored_accuracy(path: Path = WEIGHTS) -> float:
    """Share of MNIST's test pictures it got right after training, in [0, 1]."""
    with safe_open(path, framework="pt") as file:
        return float(file.metadata()["test_accuracy"])


def probability(judge: DigitJudge, pixels: Tensor, wanted: Tensor) -> Tensor:
    """How sure the judge is of the digits that were asked for, `(n,)` in [0, 1].

    Args:
        judge: of `load_judge`.
        pixels: `(n, 1, 28, 28)` in [-1, 1], on any device.
        wanted: `(n, 10)`, true where a digit was asked for; of several, all count.
    """
    with torch.no_grad():
        sure = judge(pixels.cpu().clamp(-1, 1)).softmax(dim=1)  # (n, 10)
    return (sure * wanted).sum(dim=1)
