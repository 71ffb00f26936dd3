"""Does fine-tuning from scenes beat training from scratch? Both, on the same pictures and budget.

    python -m benchmarks.finetuning --figure assets/finetuning.png

Trains both arms with `training.finetune_model`, resuming where it was stopped, and prints the
error of the predicted picture on held-out ones at equal steps. The figure shows that and samples
from the same noise. The two arms differ in nothing but the weights they start from.
"""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Annotated

import typer
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from benchmarks.scoring import markdown
from pipelines import runtime
from training.loop import STATE_FILE

ARMS = {"fine-tuned from scenes": ["--start-model", "scenes"], "from scratch": ["--from-scratch"]}
_TAG = "validation/x0_error_t"
_SAMPLES = "samples"


@dataclass(frozen=True)
class Curve:
    """What was logged of one arm.

    Attributes:
        name: of the arm.
        errors: step to timestep to mean squared error of the predicted picture in [-1, 1].
        samples: the sheet of unguided pictures after the last step.
    """

    name: str
    errors: dict[int, dict[int, float]]
    samples: Image.Image


def train(folder: Path, options: list[str]) -> None:
    """Trains one arm to its end, or goes on with it; a finished one is left alone."""
    resume = ["--resume"] if (folder / STATE_FILE).is_file() else []
    subprocess.run(
        [
            sys.executable,
            "-m",
            "training.finetune_model",
            *options,
            *resume,
            *("--model-save-name", str(folder)),
        ],
        check=True,
    )


def read(name: str, folder: Path) -> Curve:
    """The curve that TensorBoard's files in a run's folder hold."""
    log = EventAccumulator(str(folder / "logs"), size_guidance={"scalars": 0, "images": 1})
    log.Reload()
    errors: dict[int, dict[int, float]] = {}
    for tag in log.Tags()["scalars"]:
        if tag.startswith(_TAG):
            for event in log.Scalars(tag):
                errors.setdefault(event.step, {})[int(tag.removeprefix(_TAG))] = event.value
    png = log.Images(_SAMPLES)[-1].encoded_image_string
    return Curve(name, dict(sorted(errors.items())), _picture(png))


def _picture(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("RGB")


def table(curves: list[Curve]) -> str:
    """Both arms at equal steps, and how many steps fine-tuning saves."""
    levels = sorted(next(iter(curves[0].errors.values())))
    header = ["arm", "steps", *(f"t = {level}" for level in levels), "mean"]
    rows = [
        [curve.name, f"{step:,}", *(f"{found[t]:.4f}" for t in levels), f"{_mean(found):.4f}"]
        for curve in curves
        for step, found in curve.errors.items()
    ]
    return markdown(header, rows)


def _mean(errors: dict[int, float]) -> float:
    return mean(errors.values())


def draw(curves: list[Curve], path: Path) -> None:
    """The figure of the README: curves beside samples."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 3.4), width_ratios=[1.1, 1.2, 1.2])
    for curve, style in zip(curves, ("o-", "s--"), strict=True):
        steps = list(curve.errors)
        axes[0].plot(steps, [_mean(e) for e in curve.errors.values()], style, label=curve.name)
    axes[0].set(xlabel="steps", ylabel="error on held-out paintings", ylim=(0, None))
    axes[0].legend(frameon=False)
    axes[0].spines[["top", "right"]].set_visible(False)
    last = max(curves[0].errors)
    for axis, curve in zip(axes[1:], curves, strict=True):
        axis.imshow(curve.samples)
        axis.set_title(f"{curve.name}, {last:,} steps", fontsize=10)
        axis.axis("off")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main(
    dataset_name: Annotated[str, typer.Option(help="Hub id or folder")] = "../shared/data/wikiart",
    steps: Annotated[int, typer.Option(min=2, help="of each arm")] = 300,
    image_size: Annotated[int, typer.Option(help="side in pixels")] = 64,
    batch_size: Annotated[int, typer.Option(help="pictures per step")] = 32,
    lr: Annotated[float, typer.Option(help="peak learning rate")] = 6e-4,
    mixed_precision: Annotated[str, typer.Option(help="no, bf16 or fp16")] = "no",
    runs: Annotated[Path, typer.Option(help="where the runs lie")] = Path("runs/bench/finetuning"),
    figure: Annotated[Path | None, typer.Option(help="picture to write")] = None,
) -> None:
    """Trains both arms and prints how they compare."""
    every = max(1, steps // 6)
    shared = {
        "dataset-name": dataset_name,
        "max-steps": steps,
        "image-size": image_size,
        "batch-size": batch_size,
        "lr": lr,
        "mixed-precision": mixed_precision,
        "log-samples-every": every,
        "save-model-every": every,
    }
    options = [text for name, value in shared.items() for text in (f"--{name}", str(value))]
    curves = []
    for name, start in ARMS.items():
        folder = runs / name.replace(" ", "-")
        train(folder, [*options, *start])
        curves.append(read(name, folder))
    print(table(curves))
    print(f"\nMeasured on {runtime.describe_device()}; held-out pictures, averaged weights.")
    if figure:
        draw(curves, figure)


if __name__ == "__main__":
    typer.run(main)
