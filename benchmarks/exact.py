"""Measures colour guidance against the exact distribution, which is known for this model.

    python -m benchmarks.exact
    python -m benchmarks.exact --quick

The model is a mixture of Gaussians (`benchmarks.mixture`), so the distribution of the pictures with
a wanted mean colour has a closed form. A perfect method draws from it: it reaches the colour and
changes nothing else. The benchmark measures the colour error and the Fréchet distance to that
distribution; its floor is the distance of equally many exact draws.

Our methods run at fixed scales. Published methods run at their best scale per number of steps,
chosen by the distance with other colours and seeds than those reported. All follow the same loss,
the squared error of the mean colour. The course's own loss, the absolute error of every pixel, has
another target, so the course runs with both. FreeDoM, MPGD and TFG run without time travel, and TFG
with one iteration and no smoothing, which a quadratic loss does not need.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor
from tqdm import tqdm

from benchmarks import frechet
from benchmarks.digits import write_json
from benchmarks.mixture import SHAPE, Mixture, load_mixture
from benchmarks.scoring import markdown
from pipelines.core import devices
from pipelines.diffusion import plugins, sampling
from pipelines.diffusion.denoisers import PlainPredictor
from pipelines.diffusion.guidance import Guide
from pipelines.diffusion.losses import MeanColor, TargetColor, Term
from pipelines.diffusion.methods import METHODS, PUBLISHED
from pipelines.diffusion.noise import draw_noise, image_generators
from pipelines.diffusion.solvers import make_schedule

STEPS = (10, 20, 50)
CURVE = (0.05, 0.2, 0.5)
REPORT_SEED = 1_000_000
TUNING_SEED = 500_000
CONFIG: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "linear",  # the published methods are made for it
    "prediction_type": "sample",
}

# Scales to try for published methods, in each method's own unit. The course's scales are those of
# one image: its loss is a mean over the batch, which `measure` undoes.
OWN_LOSS = "course, its own loss"
GRIDS: dict[str, Sequence[float]] = {
    OWN_LOSS: (3, 10, 30, 100, 300),
    "course": (0.1, 0.3, 1, 3, 10),
    "course, through the network": (3, 10, 20, 30, 50),
    "DPS": (1, 3, 5, 10, 20),
    "FreeDoM": (0.05, 0.1, 0.2, 0.3, 0.5),
    "UGD": (10, 30, 60, 100, 300),
    "MPGD": (0.1, 0.2, 0.3, 0.5, 1),
    "TFG": (10, 20, 30, 50, 100),
}
OURS = ("fast", "balanced", "thorough")
HEADER = ("method", "scale", *(f"{steps} steps" for steps in STEPS), "passes")


@dataclass(frozen=True)
class Task:
    """A colour, and the distribution of pictures with that mean colour.

    Attributes:
        color: `(3,)` in [-1, 1].
        truth: moments of the exact distribution.
        floor: Fréchet distance to it of `num_samples` exact draws.
        seed: of the first sample.
        num_samples: number of samples.
    """

    color: Tensor
    truth: frechet.Gaussian
    floor: float
    seed: int
    num_samples: int


@dataclass(frozen=True)
class Result:
    """The mean results of one method over all tasks.

    Attributes:
        method: name of the method.
        scale: its guidance scale.
        num_inference_steps: number of steps.
        color_error: root mean square error of the mean colour, on the scale of 0 to 255.
        distance: Fréchet distance to the exact distribution.
        forward_passes: of the network, per picture.
        backward_passes: through the network, per picture.
    """

    method: str
    scale: float
    num_inference_steps: int
    color_error: float
    distance: float
    forward_passes: float
    backward_passes: float


class Counter:
    """A predictor that counts its forward and backward passes."""

    def __init__(self, predict: PlainPredictor):
        self.forward = self.backward = 0
        self._predict = predict

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.forward += 1
        output = self._predict(x_t, t)
        if output.requires_grad:
            output.register_hook(self._count)
        return output

    def _count(self, gradient: Tensor) -> None:
        self.backward += 1


def make_tasks(mixture: Mixture, *, count: int, num_samples: int, seed: int) -> list[Task]:
    """Returns tasks whose colours are those of pictures clearly off the mixture's mean."""
    means = mixture.sample(64 * count, seed).mean(dim=(2, 3))  # (n, 3)
    distances = (means - means.mean(dim=0)).norm(dim=1)
    inside = (means.abs() < 0.8).all(dim=1)
    colors = means[(distances > distances.median()) & inside][:count]
    tasks = []
    for i, color in enumerate(colors):
        posterior = mixture.given_mean_color(color)
        truth = posterior.moments()
        floor = distance_to(posterior.sample(num_samples, seed + i), truth)
        tasks.append(Task(color, truth, floor, seed + i * num_samples, num_samples))
    return tasks


def distance_to(pictures: Tensor, truth: frechet.Gaussian) -> float:
    """Returns the Fréchet distance of pictures `(n, 3, 8, 8)` to moments; infinite if diverged."""
    if not pictures.isfinite().all():
        return math.inf
    return frechet.between(frechet.fit(pictures.flatten(1).double().numpy()), truth)


def color_error(pictures: Tensor, color: Tensor) -> float:
    """Returns the root mean square error of the mean colour, on the scale of 0 to 255."""
    return float((pictures.mean(dim=(2, 3)) - color).square().mean().sqrt()) * 127.5


def draw(
    predict: PlainPredictor,
    guide: Guide,
    *,
    num_inference_steps: int,
    seed: int,
    num_samples: int,
    config: dict[str, Any] = CONFIG,
) -> Tensor:
    """Draws guided pictures `(n, 3, 8, 8)`; picture i takes `seed + i`."""
    method = guide.method
    generators = image_generators(seed, num_samples)
    scheduler = make_schedule(
        config, solver=method.solver, num_inference_steps=num_inference_steps, device="cpu"
    )
    *_, last = sampling.sample(
        predict,
        draw_noise(generators, SHAPE),
        scheduler,
        prediction_type="sample",
        eta=method.eta,
        generators=generators,
        clip=False,
        guide=guide,
    )
    return last.x_prev


def measure(
    mixture: Mixture, tasks: Sequence[Task], name: str, *, scale: float, num_inference_steps: int
) -> Result:
    """Runs one method on the tasks."""
    known = {**METHODS, **PUBLISHED, OWN_LOSS: METHODS["course"]}
    # Nothing is clipped here, so the course's x0 is not clamped either.
    method = dataclasses.replace(known[name], clamped=False)
    counter = Counter(mixture.predictor(CONFIG))
    errors, distances = [], []
    for task in tasks:
        strength = scale * task.num_samples if method.batch_mean else scale
        loss = TargetColor(task.color) if name == OWN_LOSS else MeanColor(task.color, box=None)
        pictures = draw(
            counter,
            Guide(method, [Term(loss)], strength),
            num_inference_steps=num_inference_steps,
            seed=task.seed,
            num_samples=task.num_samples,
        )
        errors.append(color_error(pictures, task.color))
        distances.append(distance_to(pictures, task.truth))
    count = len(tasks)
    return Result(
        method=name,
        scale=scale,
        num_inference_steps=num_inference_steps,
        color_error=sum(errors) / count,
        distance=sum(distances) / count,
        forward_passes=counter.forward / count,
        backward_passes=counter.backward / count,
    )


def tuned_scale(mixture: Mixture, tasks: Sequence[Task], name: str, steps: int) -> float:
    """Returns the scale of the method's grid with the smallest distance."""
    results = [
        measure(mixture, tasks, name, scale=scale, num_inference_steps=steps)
        for scale in GRIDS[name]
    ]
    return min(results, key=lambda result: result.distance).scale


def row(results: Sequence[Result]) -> list[str]:
    """Returns a row of the table: a method at all numbers of steps; passes of the last one."""
    scales, last = [f"{result.scale:g}" for result in results], results[-1]
    return [
        last.method,
        scales[0] if len(set(scales)) == 1 else " / ".join(scales),
        *(f"{result.color_error:.1f} / {result.distance:.2f}" for result in results),
        f"{last.forward_passes:g} + {last.backward_passes:g}",
    ]


def main(
    samples: Annotated[int, typer.Option(min=32, help="pictures per colour")] = 256,
    quick: Annotated[bool, typer.Option("--quick", help="one colour, 64 pictures")] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="raw numbers")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads")] = 1,
) -> None:
    """Prints colour error and distance to the exact answer of every method of guidance."""
    torch.set_num_threads(threads)
    mixture = load_mixture()
    samples, colors = (64, 1) if quick else (samples, 4)
    tasks = make_tasks(mixture, count=colors, num_samples=samples, seed=REPORT_SEED)
    tuning = make_tasks(mixture, count=2, num_samples=max(samples // 2, 64), seed=TUNING_SEED)
    shown = (*OURS, *plugins.own_methods())
    plan = [(name, METHODS[name].default_scale) for name in shown]
    plan += [(name, scale) for name in OURS for scale in CURVE if (name, scale) not in plan]
    rows: list[list[Result]] = []
    for name, scale in tqdm(plan, unit="row", desc="ours"):
        rows.append([_at(mixture, tasks, name, scale, steps) for steps in STEPS])
    for name in tqdm(GRIDS, unit="row", desc="literature"):
        scales = [tuned_scale(mixture, tuning, name, steps) for steps in STEPS]
        pairs = zip(scales, STEPS, strict=True)
        rows.append([_at(mixture, tasks, name, scale, steps) for scale, steps in pairs])
    print(markdown(HEADER, [row(results) for results in rows]))
    floor = sum(task.floor for task in tasks) / len(tasks)
    print(
        f"\nEach cell: colour error of 255 / Fréchet distance to the exact distribution. Exact "
        f"draws have 0.0 / {floor:.2f}. {len(tasks)} colour(s), {samples} pictures each. Passes "
        f"(forward + backward, per picture) at {STEPS[-1]} steps. Scales "
        f"of the literature: the best of {len(GRIDS['DPS'])} per number of steps, on other colours "
        f"and seeds.\n\nMeasured on {devices.describe_device(torch.device('cpu'))}, "
        f"PyTorch {torch.__version__}."
    )
    if json_path:
        figures = [[dataclasses.asdict(result) for result in results] for results in rows]
        write_json(json_path, {"floor": floor, "rows": figures})


def _at(mixture: Mixture, tasks: Sequence[Task], name: str, scale: float, steps: int) -> Result:
    return measure(mixture, tasks, name, scale=scale, num_inference_steps=steps)


if __name__ == "__main__":
    typer.run(main)
