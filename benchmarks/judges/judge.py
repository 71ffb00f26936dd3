"""A classifier of handwritten digits that judges what the diffusion models draw.

    python -m benchmarks.judges.judge

Guidance never uses it. It is trained only on the training pictures of MNIST; the test pictures are
used once, at the end, for the accuracy that is stored with the weights.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
import torch.nn.functional as F
import typer
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from pipelines.core.images import from_uint8
from pipelines.models import integrity
from pipelines.models.judges import WEIGHTS, DigitJudge, Judge
from training.core.batches import batch_indices, step_generator
from training.digits.data import Digits, default_mnist, load_digits

J = TypeVar("J", bound=Judge)

_BATCH = 500
_WEIGHT_DECAY = 0.02

# Augmentation: maximum rotation, shift, shear and scaling of a picture.
_MAX_DEGREES = 12.0
_MAX_SHIFT_PX = 2.0
_MAX_SHEAR = 0.15
_MAX_SCALE = 0.12


def classify(judge: Judge, pixels: Tensor) -> Tensor:
    """Returns the predicted class of each picture, `(n,)` int64, for `(n, c, h, w)` in [-1, 1]."""
    with torch.no_grad():
        return torch.cat([judge(part).argmax(1) for part in pixels.split(_BATCH)])


def features(judge: Judge, pixels: Tensor) -> Tensor:
    """Returns features for distances, `(n, d)` float32, for `(n, c, h, w)` in [-1, 1]."""
    with torch.no_grad():
        return torch.cat([judge.features(part) for part in pixels.split(_BATCH)])


def accuracy(judge: DigitJudge, data: Digits) -> float:
    """Returns the judge's accuracy, in [0, 1]."""
    predicted = classify(judge, from_uint8(data.pixels))
    return (predicted == data.labels).double().mean().item()


def augment(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Returns the pictures randomly rotated, sheared, scaled and shifted, with black borders.

    Args:
        pixels: `(b, 1, h, w)` in [-1, 1], where -1 is the background.
        generator: on the CPU.
    """
    draw = torch.rand(6, len(pixels), generator=generator) * 2 - 1  # (6, b) in [-1, 1]
    angle = draw[0] * math.radians(_MAX_DEGREES)
    width, height = 1 + draw[1] * _MAX_SCALE, 1 + draw[2] * _MAX_SCALE
    shear = draw[3] * _MAX_SHEAR
    shift = draw[4:] * 2 * _MAX_SHIFT_PX / pixels.shape[-1]  # (2, b)
    cos, sin = angle.cos(), angle.sin()
    rows = [
        torch.stack([width * cos, width * (shear * cos - sin), shift[0]], dim=1),
        torch.stack([height * sin, height * (shear * sin + cos), shift[1]], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels + 1, grid, align_corners=False) - 1


def train(data: Digits, *, epochs: int, batch_size: int, lr: float, seed: int) -> DigitJudge:
    """Trains a judge with AdamW on a one-cycle schedule."""
    torch.manual_seed(seed)
    judge = DigitJudge().train()
    judge.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def loss_of(step: int) -> Tensor:
        batch = data.select(batch_indices(len(data), batch_size, seed, step))
        pixels = augment(from_uint8(batch.pixels), step_generator(seed, step))
        return F.cross_entropy(judge(pixels), batch.labels)

    steps = epochs * (len(data) // batch_size)
    return fit(judge, loss_of, steps=steps, lr=lr, weight_decay=_WEIGHT_DECAY)


def fit(
    judge: J, loss_of: Callable[[int], Tensor], *, steps: int, lr: float, weight_decay: float
) -> J:
    """Trains a judge with AdamW on a one-cycle schedule, and freezes it.

    Args:
        judge: in training mode.
        loss_of: maps the index of a step, from 0, to its loss `()`.
        steps: number of steps.
        lr: peak learning rate.
        weight_decay: of AdamW.
    """
    optimizer = torch.optim.AdamW(judge.parameters(), lr=lr, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    bar = tqdm(range(steps), unit="step", mininterval=1)
    for step in bar:
        loss = loss_of(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}")
    return judge.eval().requires_grad_(False)


def stored_accuracies(path: Path) -> dict[str, float]:
    """Returns the accuracies that `save_measured` stored."""
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["accuracies"])


def save_measured(
    judge: Judge, path: Path, data: str, recipe: Mapping[str, Any], accuracies: Mapping[str, float]
) -> None:
    """Writes the weights in half precision with the accuracies, and prints the accuracies.

    Args:
        judge: trained.
        path: of the file.
        data: its training data.
        recipe: its training settings.
        accuracies: by name, in [0, 1].
    """
    rounded = {name: round(share, 4) for name, share in accuracies.items()}
    metadata = {"accuracies": json.dumps(rounded), "data": data}
    save(judge.half(), path, metadata | {key: str(value) for key, value in recipe.items()})
    for name, share in rounded.items():
        print(f"{name:20} {share:.1%}")


def save(judge: Judge, path: Path, metadata: dict[str, str]) -> None:
    """Writes the weights atomically: an interruption leaves the old or the new file complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    save_file({k: v.contiguous() for k, v in judge.state_dict().items()}, temporary, metadata)
    os.replace(temporary, path)
    integrity.replaced(path)


def main(
    dataset_name: Annotated[str, typer.Option(help="Hub id or folder [MNIST]")] = "",
    epochs: Annotated[int, typer.Option(min=1)] = 12,
    batch_size: Annotated[int, typer.Option(min=1)] = 128,
    lr: Annotated[float, typer.Option(help="peak of the one cycle")] = 8e-3,
    seed: int = 0,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 is PyTorch's choice")] = 0,
    output: Annotated[Path, typer.Option(help="where the weights go")] = WEIGHTS,
) -> None:
    """Trains the judge, prints its test accuracy and stores both."""
    if threads:
        torch.set_num_threads(threads)
    name = dataset_name or default_mnist()
    judge = train(
        load_digits(name, "train"), epochs=epochs, batch_size=batch_size, lr=lr, seed=seed
    )
    correct = accuracy(judge, load_digits(name, "test"))
    recipe = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed}
    metadata = {"test_accuracy": f"{correct:.4f}", "data": "MNIST, training split"}
    save(judge, output, metadata | {key: str(value) for key, value in recipe.items()})
    print(f"test accuracy {100 * correct:.2f} %, saved to {output}")


if __name__ == "__main__":
    typer.run(main)
