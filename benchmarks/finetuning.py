"""Compares fine-tuning from scenes with training from scratch, with equal pictures and steps.

    python -m benchmarks.finetuning --figure assets/finetuning.png

Trains both arms with `training.finetune_model`, resuming where it stopped, and prints the error of
the predicted picture on held-out pictures at equal steps. The figure shows these errors, and
samples from the same noise. The two arms differ only in their initial weights.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import typer
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from benchmarks.scoring import markdown
from pipelines.core import devices
from training.cards.parts import SAMPLES_FILE
from training.core.state import STATE_FILE, load_state
from training.finetune_model import CHECKPOINT
from training.pictures.trainer import SAMPLE_COLUMNS

ARMS = {"fine-tuned from scenes": ["--start-model", "scenes"], "from scratch": ["--from-scratch"]}
POINTS = 8
SHOWN = 5  # samples in a row and a column of the figure
GAP = 2  # pixels between the samples on a sheet
_TAG = "validation/x0_error_t"
_COLORS = ("#0f6fb5", "#b5500f")


@dataclass(frozen=True)
class Curve:
    """The measurements of one arm.

    Attributes:
        name: of the arm.
        errors: step to timestep to mean squared error of the predicted picture in [-1, 1].
        samples: the sheet of unguided pictures after the last step.
    """

    name: str
    errors: dict[int, dict[int, float]]
    samples: Image.Image

    @property
    def means(self) -> dict[int, float]:
        """Step to error, the mean over the timesteps."""
        return {step: mean(errors.values()) for step, errors in self.errors.items()}


def train(folder: Path, options: Sequence[str]) -> None:
    """Trains one arm to its end; a finished one only writes its checkpoint again.

    Raises:
        CalledProcessError: if the training fails; its output has the reason.
    """
    resume = ["--resume"] if (folder / STATE_FILE).is_file() else []
    command = [sys.executable, "-m", "training.finetune_model", *options, *resume]
    subprocess.run([*command, "--model-save-name", str(folder)], check=True)


def read(name: str, folder: Path) -> Curve:
    """Reads the curve from TensorBoard's files in a run's folder, and the run's samples."""
    log = EventAccumulator(str(folder / "logs"), size_guidance={"scalars": 0})
    log.Reload()
    errors: dict[int, dict[int, float]] = {}
    for tag in log.Tags()["scalars"]:
        if tag.startswith(_TAG):
            for event in log.Scalars(tag):
                errors.setdefault(event.step, {})[int(tag.removeprefix(_TAG))] = event.value
    with Image.open(folder / CHECKPOINT / SAMPLES_FILE) as samples:
        return Curve(name, dict(sorted(errors.items())), samples.convert("RGB"))


def check_alike(folders: Sequence[Path]) -> None:
    """Checks that the arms have the same network, schedule and recipe.

    Raises:
        ValueError: if they differ; it names the differences.
    """
    first, second = (_what_was_trained(folder) for folder in folders)
    differing = [name for name in first if first[name] != second[name]]
    if differing:
        raise ValueError(
            f"arms must differ in their first weights alone, got another {', '.join(differing)}"
        )


def _what_was_trained(folder: Path) -> dict[str, Any]:
    state = load_state(folder) or {}
    return {
        **{name: value for name, value in state["recipe"].items() if name != "start_model"},
        "network": _settings(state["unet_config"]),
        "schedule": _settings(state["scheduler_config"]),
    }


def _settings(config: str) -> dict[str, Any]:
    """Returns a config without diffusers' entries on version and origin."""
    return {name: value for name, value in json.loads(config).items() if name[:1] != "_"}


def table(curves: Sequence[Curve]) -> str:
    """Returns the table of both arms at equal steps."""
    levels = sorted(next(iter(curves[0].errors.values())))
    header = ["arm", "steps", *(f"t = {level}" for level in levels), "mean"]
    rows = [
        [curve.name, f"{step:,}", *(f"{errors[t]:.4f}" for t in levels), f"{curve.means[step]:.4f}"]
        for curve in curves
        for step, errors in curve.errors.items()
    ]
    return markdown(header, rows)


def in_words(tuned: Curve, scratch: Curve) -> str:
    """Returns a sentence about the steps that fine-tuning saves."""
    last, error = list(scratch.means.items())[-1]
    goal = f"the error that training from scratch has after {last:,} steps, {error:.4f}"
    reached = [step for step, tuned_error in tuned.means.items() if tuned_error <= error]
    if not reached:
        return f"Fine-tuning does not reach {goal}."
    return f"Fine-tuning reaches {goal}, by step {reached[0]:,}."


def draw(curves: Sequence[Curve], path: Path) -> None:
    """Draws the figure of the README, curves and samples, on an opaque white background."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    with rc_context({"font.size": 12, "axes.titlesize": 12}):
        figure = Figure(figsize=(12.6, 4.4), facecolor="white", layout=layout)
        curve_axes, *sheets = figure.subplots(1, 3, width_ratios=[1.15, 1, 1])
        _draw_errors(curve_axes, curves)
        for axes, curve in zip(sheets, curves, strict=True):
            axes.imshow(_corner(curve.samples), interpolation="lanczos")
            axes.set_title(f"{curve.name}, {max(curve.errors):,} steps")
            axes.axis("off")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120, facecolor="white", transparent=False)


def _draw_errors(axes: Any, curves: Sequence[Curve]) -> None:
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    for curve, marker, color in zip(curves, ("o-", "s--"), _COLORS, strict=True):
        steps, errors = zip(*curve.means.items(), strict=True)
        axes.loglog(steps, errors, marker, color=color, label=curve.name)
    steps = list(curves[0].errors)
    axes.set_xticks(steps, [_label(step, steps) for step in steps])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 6, 8)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.minorticks_off()
    axes.set(xlabel="training steps", ylabel="error on held-out pictures")
    axes.set_title("mean squared error of the predicted picture")
    axes.grid(color="#dddddd", linewidth=0.8)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _label(step: int, steps: Sequence[int]) -> str:
    """Returns the label of a step, or nothing if a logarithmic axis has no room for it."""
    doubled = {steps[0] * 2**i for i in range(len(steps))}
    return f"{step:,}" if step in doubled or step == steps[-1] else ""


def _corner(sheet: Image.Image) -> Image.Image:
    """Returns the first samples of the first rows, with white between them."""
    pitch = (sheet.width + GAP) // SAMPLE_COLUMNS
    side = SHOWN * pitch - GAP
    corner = Image.new("RGB", (side, side), "white")
    for left, top in product(range(0, side, pitch), repeat=2):
        tile = sheet.crop((left, top, left + pitch - GAP, top + pitch - GAP))
        corner.paste(tile, (left, top))
    return corner


def main(
    dataset_name: Annotated[str, typer.Option(help="Hub id or folder")] = "../shared/data/wikiart",
    steps: Annotated[int, typer.Option(min=2, help="of each arm")] = 300,
    image_size: Annotated[int, typer.Option(help="side in pixels")] = 64,
    batch_size: Annotated[int, typer.Option(help="pictures per step")] = 32,
    lr: Annotated[float, typer.Option(help="peak learning rate")] = 6e-4,
    mixed_precision: Annotated[str, typer.Option(help="no, bf16 or fp16")] = "no",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 is PyTorch's choice")] = 0,
    runs: Annotated[Path, typer.Option(help="where the runs lie")] = Path("runs/bench/finetuning"),
    figure: Annotated[Path | None, typer.Option(help="picture to write")] = None,
) -> None:
    """Trains both arms and prints how they compare."""
    every = math.ceil(steps / POINTS)
    shared = {
        "dataset-name": dataset_name,
        "max-steps": steps,
        "image-size": image_size,
        "batch-size": batch_size,
        "lr": lr,
        "mixed-precision": mixed_precision,
        "log-samples-every": every,
        "save-model-every": every,
        "threads": threads,
        "report-to": "tensorboard",
    }
    options = [text for name, value in shared.items() for text in (f"--{name}", str(value))]
    folders = {name: runs / name.replace(" ", "-") for name in ARMS}
    try:
        for name, start in ARMS.items():
            train(folders[name], [*options, *start])
        check_alike(list(folders.values()))
    except (subprocess.CalledProcessError, ValueError) as error:
        typer.echo(f"Nothing was compared: {error}", err=True)
        raise typer.Exit(1) from error
    tuned, scratch = (read(name, folder) for name, folder in folders.items())
    print(f"{table([tuned, scratch])}\n\n{in_words(tuned, scratch)}")
    print(
        f"\nOne run each, measured on {devices.describe_device()}: {batch_size} pictures a step, "
        f"peak learning rate {lr:g}; held-out pictures, averaged weights."
    )
    if figure:
        draw([tuned, scratch], figure)


if __name__ == "__main__":
    typer.run(main)
