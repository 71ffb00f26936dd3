"""Measures filling against the exact answer, which is known for a mixture of Gaussians.

    python -m benchmarks.exact_edit

The model is the one of `benchmarks.mixture`. Of a picture that was drawn from it, some pixels are
known; the distribution of all pictures that have them is another mixture, in closed form. A perfect
method draws from it. Measured are, for each mask:

- the error of the mean: how far the mean of what a method draws is from the exact mean, in the
  pixels that are filled, as root mean square, 0 to 255;
- the Fréchet distance to the exact distribution.

Both have a floor, since means and covariances of few pictures are not exact: that of as many exact
draws stands below. All methods take as many evaluations, where a backward pass counts two. The
scale of DPS is the best of several on other pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import typer
from torch import Tensor
from tqdm import tqdm

from benchmarks import edit, frechet
from benchmarks.edit import Arm
from benchmarks.exact import CONFIG, REPORT_SEED, TUNING_SEED, distance_to
from benchmarks.mixture import SHAPE, Mixture, load_mixture
from benchmarks.scoring import markdown
from pipelines.core import devices

MASKS = ("block", "half", "border")
DPS_SCALES = (1.0, 3.0, 10.0, 30.0)


@dataclass(frozen=True)
class Task:
    """A picture of which some pixels are known, and the exact answer.

    Attributes:
        picture: `SHAPE`.
        redrawn: `(8, 8)`, 1 where it is filled.
        posterior: the exact distribution.
        truth: its moments.
        seed: of the first draw.
    """

    picture: Tensor
    redrawn: Tensor
    posterior: Mixture
    truth: frechet.Gaussian
    seed: int


@dataclass(frozen=True)
class Result:
    """Error of the mean, 0 to 255, and Fréchet distance, both means over pictures."""

    mean_error: float
    distance: float


def make_tasks(mixture: Mixture, kind: str, *, count: int, seed: int) -> list[Task]:
    """Returns pictures drawn from the mixture, each with a mask over it."""
    redrawn = edit.mask_of(kind, SHAPE[-1])
    tasks = []
    for i, picture in enumerate(mixture.sample(count, seed)):
        posterior = mixture.given_pixels(picture, redrawn)
        moments = posterior.moments()
        tasks.append(Task(picture, redrawn, posterior, moments, seed + 1000 * (i + 1)))
    return tasks


def of_draws(task: Task, drawn: Tensor) -> Result:
    """Returns the result of draws `(n, 3, 8, 8)` for one task."""
    exact = torch.from_numpy(task.truth.mean).view(SHAPE)
    difference = (drawn.double().mean(dim=0) - exact).square().mean(dim=0)  # (8, 8)
    error = float((difference * task.redrawn).sum() / task.redrawn.sum()) ** 0.5 * 127.5
    return Result(error, distance_to(drawn, task.truth))


def measure(mixture: Mixture, arm: Arm, tasks: Sequence[Task], samples: int) -> Result:
    """Returns the mean results of a method on tasks."""
    predict, results = mixture.predictor(CONFIG), []
    for task in tasks:
        pictures = task.picture.expand(samples, *SHAPE)
        drawn = edit.draw(predict, CONFIG, arm, pictures, task.redrawn, task.seed, clip=False)
        results.append(of_draws(task, torch.lerp(pictures, drawn, task.redrawn)))
    return _mean(results)


def floor(tasks: Sequence[Task], samples: int) -> Result:
    """Returns the results of exact draws."""
    return _mean([of_draws(task, task.posterior.sample(samples, task.seed)) for task in tasks])


def _mean(results: Sequence[Result]) -> Result:
    count = len(results)
    errors = sum(result.mean_error for result in results) / count
    return Result(errors, sum(result.distance for result in results) / count)


def arms(mixture: Mixture, samples: int) -> dict[str, Arm]:
    """Returns the methods at equal cost; DPS at the scale that is best on other pictures."""
    tuning = make_tasks(mixture, "half", count=2, seed=TUNING_SEED)
    steps = edit.ARMS["DPS"].steps
    tried = {
        scale: measure(mixture, edit.dps(steps, scale), tuning, samples) for scale in DPS_SCALES
    }
    best = min(tried, key=lambda scale: tried[scale].distance)
    twice = edit.ours(10, 2, eta=1.0, repeats_from=0.0, repeats_to=1.0)
    return {**edit.ARMS, "ours, eta 1, twice": twice, "DPS": edit.dps(steps, best)}


def main(
    samples: Annotated[int, typer.Option(min=32, help="pictures per task")] = 256,
    pictures: Annotated[int, typer.Option(min=1, help="pictures per mask")] = 6,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads")] = 1,
) -> None:
    """Prints error of the mean and Fréchet distance of every method of filling."""
    torch.set_num_threads(threads)
    mixture = load_mixture()
    tasks = {
        kind: make_tasks(mixture, kind, count=pictures, seed=REPORT_SEED + 10 * i)
        for i, kind in enumerate(MASKS)
    }
    rows = []
    for name, arm in tqdm(arms(mixture, samples).items(), unit="method"):
        results = [measure(mixture, arm, tasks[kind], samples) for kind in MASKS]
        rows.append([name, f"{arm.evaluations():g}", *map(_cell, results)])
    rows.append(["exact draws", "", *(_cell(floor(tasks[kind], samples)) for kind in MASKS)])
    print(markdown(("method", "evaluations", *MASKS), rows))
    print(
        f"\nEach cell: error of the mean, 0 to 255 / Fréchet distance to the exact distribution. "
        f"{pictures} pictures per mask, {samples} draws each. Measured on "
        f"{devices.describe_device(torch.device('cpu'))}, PyTorch {torch.__version__}."
    )


def _cell(result: Result) -> str:
    return f"{result.mean_error:.1f} / {result.distance:.2f}"


if __name__ == "__main__":
    typer.run(main)
