"""Compares training recipes: trains each from scratch at the same cost.

    python -m benchmarks.recipes

Every arm is the base recipe with one change. It gets as many steps as cost the same as `base_steps`
of the base recipe; both are timed in turns, because the speed of a machine varies more than most
arms differ. The measures are the error of the predicted picture on held-out pictures, per noise
level, and the Fréchet distance of drawn to real pictures in the features of
`benchmarks.judges.genre_judge`. Results are stored in a file and not measured again; delete the
file to measure all arms again.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from accelerate import Accelerator
from diffusers import DDPMScheduler
from torch import Tensor
from torch.nn.functional import interpolate
from tqdm import tqdm

from benchmarks import frechet
from benchmarks.judges import genre_judge, judge
from benchmarks.scoring import markdown
from pipelines.core import devices, images
from pipelines.diffusion.unets import SpaceToDepthUNet2DModel
from training.core.recipe import Precision
from training.pictures.data import Pictures, load_pictures
from training.pictures.recipe import Recipe
from training.pictures.trainer import Trainer

RESULTS = Path(__file__).resolve().parent / "results"
DATA = Path("../shared/data")
NOISE_LEVELS = (0.2, 0.5, 0.75, 0.9, 0.98)
STEPS_TIMED = 8
_FORWARDS = 15


@dataclass(frozen=True)
class Arm:
    """The base recipe with one change.

    Attributes:
        name: names the change.
        network: arguments of `SpaceToDepthUNet2DModel`.
        schedule: arguments of `DDPMScheduler`.
        recipe: fields of `Recipe`.
    """

    name: str
    network: Mapping[str, Any] = field(default_factory=dict)
    schedule: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)


def _two_levels(*channels: int) -> dict[str, Any]:
    return {
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": channels,
    }


def _four_levels(*channels: int) -> dict[str, Any]:
    return {
        "down_block_types": (*["DownBlock2D"] * 3, "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", *["UpBlock2D"] * 3),
        "block_out_channels": channels,
    }


ARMS = (
    Arm("base"),
    Arm("predicts the noise", recipe={"prediction": "epsilon"}),
    Arm("predicts the picture", recipe={"prediction": "sample"}),
    Arm("no loss weights", recipe={"snr_gamma": 0.0}),
    Arm("linear schedule", schedule={"beta_schedule": "linear"}),
    Arm(
        "linear schedule, zero terminal SNR",
        schedule={"beta_schedule": "linear", "rescale_betas_zero_snr": True},
    ),
    Arm(
        "narrower: 32-64-128",
        network={"block_out_channels": (32, 64, 128), "attention_head_dim": 32},
    ),
    Arm(
        "wider: 96-160-256",
        network={"block_out_channels": (96, 160, 256), "attention_head_dim": 32},
    ),
    Arm("deeper: 2 layers", network={"layers_per_block": 2}),
    Arm("4x4 patches, 128-256", network={"patch_size": 4, **_two_levels(128, 256)}),
    Arm("no patches, 32-64-128-192", network={"patch_size": 1, **_four_levels(32, 64, 128, 192)}),
    Arm("shorter average: 0.99", recipe={"ema_decay": 0.99}),
    Arm("longer average: 0.9995", recipe={"ema_decay": 0.9995}),
    Arm("no mirroring", recipe={"flip": False}),
    Arm("dropout 0.1", network={"dropout": 0.1}),
)


@dataclass(frozen=True)
class Result:
    """The measurements of one arm.

    Attributes:
        name: of the arm.
        parameters: of the network.
        forward: cost of one network evaluation of one picture, as a multiple of the base's.
        steps: training steps, at the same cost for all arms.
        errors: noise level to mean squared error of the predicted picture in [-1, 1].
        distance: Fréchet distance of drawn pictures to real ones.
        device: that it was trained on.
    """

    name: str
    parameters: int
    forward: float
    steps: int
    errors: dict[str, float]
    distance: float
    device: str = ""


def base(
    dataset_name: str, image_size: int, batch_size: int, precision: Precision, seed: int
) -> Recipe:
    """Returns the base recipe; its number of steps is set later."""
    return Recipe(
        start_model="",
        dataset_name=dataset_name,
        image_column="",
        image_size=image_size,
        max_steps=1,
        batch_size=batch_size,
        grad_accumulation_steps=1,
        num_processes=1,
        lr=8e-4,
        warmup_steps=50,
        ema_decay=0.998,
        snr_gamma=5.0,
        flip=True,
        mixed_precision=precision,
        seed=seed,
    )


def trainer_of(arm: Arm, common: Recipe, data: Pictures) -> Trainer:
    """Returns the trainer of an arm, at its first step."""
    recipe = replace(common, **arm.recipe)
    torch.manual_seed(recipe.seed)
    unet = SpaceToDepthUNet2DModel(sample_size=recipe.image_size, **arm.network)
    schedule = {"beta_schedule": "squaredcos_cap_v2", **arm.schedule}
    scheduler = DDPMScheduler(prediction_type=recipe.prediction, **schedule)
    return Trainer(
        recipe, unet, scheduler, data, Accelerator(mixed_precision=recipe.mixed_precision)
    )


def cost_beside(work: Callable[[], object], base: Callable[[], object], turns: int) -> float:
    """Returns the cost of one function as a multiple of another's: the median of all turns."""
    ratios = []
    for _ in range(turns):
        began = time.perf_counter()
        base()
        middle = time.perf_counter()
        work()
        ratios.append((time.perf_counter() - middle) / (middle - began))
    return statistics.median(ratios)


def affordable_steps(trial: Trainer, base: Trainer, base_steps: int) -> int:
    """Returns how many steps of an arm cost the same as `base_steps` of the base recipe."""
    return max(1, round(base_steps / cost_beside(trial.train_step, base.train_step, STEPS_TIMED)))


@torch.no_grad()
def forward_beside(trial: Trainer, base: Trainer) -> float:
    """Returns the cost of one network evaluation of one picture, as a multiple of the base's."""

    def forward(trainer: Trainer) -> Callable[[], object]:
        unet, size = trainer.averaged(), trainer.recipe.image_size
        x_t = torch.randn(1, 3, size, size, device=trainer.device)
        t = torch.tensor([500], device=trainer.device)
        return lambda: unet(x_t, t).sample.sum().item()

    return cost_beside(forward(trial), forward(base), _FORWARDS)


def errors_of(trainer: Trainer) -> dict[str, float]:
    """Returns the errors at the same noise levels for every arm, whatever its schedule."""
    sigmas = (1 - trainer.objective.alpha_bar).sqrt().cpu()  # (num_timesteps,)
    nearest = {level: int((sigmas - level).abs().argmin()) for level in NOISE_LEVELS}
    errors = trainer.validate(sorted(set(nearest.values())))
    return {str(level): errors[t] for level, t in nearest.items()}


def looks(pictures: Tensor) -> frechet.Gaussian:
    """Returns the moments of the genre judge's features of pictures, resized to 64 px."""
    side = (genre_judge.SIZE_PX, genre_judge.SIZE_PX)
    if pictures.shape[-2:] != side:
        pictures = interpolate(pictures, side, mode="bicubic", antialias=True).clamp(-1, 1)
    return frechet.fit(judge.features(genre_judge.load(), pictures).double().numpy())


def measure(
    arm: Arm, common: Recipe, data: Pictures, base_steps: int, count: int, real: frechet.Gaussian
) -> Result:
    """Trains an arm at the common cost, and measures it."""
    trial, base_trainer = trainer_of(arm, common, data), trainer_of(ARMS[0], common, data)
    steps = affordable_steps(trial, base_trainer, base_steps) if arm != ARMS[0] else base_steps
    forward = forward_beside(trial, base_trainer) if arm != ARMS[0] else 1.0
    trainer = trainer_of(arm, replace(common, max_steps=steps), data)
    for _ in tqdm(range(steps), desc=arm.name, unit="step", leave=False):
        trainer.train_step()
    pictures = torch.cat(list(trainer.draw(count))).cpu()
    return Result(
        name=arm.name,
        parameters=sum(p.numel() for p in trainer.averaged().parameters()),
        forward=forward,
        steps=steps,
        errors=errors_of(trainer),
        distance=frechet.between(looks(pictures), real),
        device=devices.describe_device(),
    )


def table(results: Sequence[Result]) -> str:
    """Returns the table of all arms, best distance first."""
    levels = list(results[0].errors)
    header = [
        "recipe",
        "M",
        "forward",
        "steps",
        *(f"σ = {level}" for level in levels),
        "Fréchet distance",
    ]
    rows = [
        [
            result.name,
            f"{result.parameters / 1e6:.1f}",
            f"{result.forward:.2f}×",
            f"{result.steps:,}",
            *(f"{result.errors[level]:.4f}" for level in levels),
            f"{result.distance:.2f}",
        ]
        for result in sorted(results, key=lambda result: result.distance)
    ]
    return markdown(header, rows)


def kept(path: Path, conditions: Mapping[str, Any]) -> list[Result]:
    """Returns the stored results that were measured under the same conditions."""
    if not path.is_file():
        return []
    stored = json.loads(path.read_text(encoding="utf-8"))
    return [Result(**row) for row in stored["arms"]] if stored["conditions"] == conditions else []


def keep(path: Path, conditions: Mapping[str, Any], results: Sequence[Result]) -> None:
    """Stores the results so far."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = {"conditions": conditions, "arms": [vars(result) for result in results]}
    path.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


def main(
    dataset: Annotated[Path, typer.Option(help="what is trained on")] = DATA / "scenes",
    image_size: Annotated[int, typer.Option(help="side in pixels")] = 32,
    base_steps: Annotated[
        int, typer.Option(min=1, help="of the base recipe; the others get what costs the same")
    ] = 300,
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    mixed_precision: Annotated[Precision, typer.Option(help="arithmetic of training")] = "no",
    count: Annotated[int, typer.Option(min=2, help="pictures drawn of each arm")] = 128,
    only: Annotated[
        str, typer.Option(help="arms whose name has one of these, by commas, in it")
    ] = "",
    seed: int = 0,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 is PyTorch's choice")] = 0,
    output: Annotated[
        Path | None, typer.Option(help="where results are kept; without: a file for each size")
    ] = None,
) -> None:
    """Measures the arms that were not yet, and prints all."""
    output = output or RESULTS / f"recipes-{image_size}.json"
    if threads:
        torch.set_num_threads(threads)
    conditions = {
        "dataset": dataset.name,
        "image_size": image_size,
        "base_steps": base_steps,
        "batch_size": batch_size,
        "mixed_precision": mixed_precision,
        "count": count,
        "seed": seed,
    }
    data = load_pictures(str(dataset), image_size=image_size)
    common = base(str(dataset), image_size, batch_size, mixed_precision, seed)
    sample = data.take(torch.arange(min(len(data), 2000)))
    real = looks(images.from_uint8(sample))
    results = kept(output, conditions)
    measured = {result.name for result in results}
    selected = [arm for arm in ARMS if any(part.strip() in arm.name for part in only.split(","))]
    for arm in (arm for arm in selected if arm.name not in measured):
        results.append(measure(arm, common, data, base_steps, count, real))
        keep(output, conditions, results)
    print(table(results))
    trained_on = ", ".join(sorted({result.device for result in results}))
    conditions_text = ", ".join(f"{name} {value}" for name, value in conditions.items())
    print(f"\n{conditions_text}. Trained on {trained_on}.")


if __name__ == "__main__":
    typer.run(main)
