"""Which recipe learns most in a given time? Trains each at the same cost, from scratch.

    python -m benchmarks.recipes

Every arm is the base recipe with one thing changed, and gets as many steps as cost what
`base_steps` of the base recipe cost; they are timed in turns, since the speed of a machine changes
more than most arms differ. Judged by the error of the predicted picture on held-out ones, per noise
level, and by the Fréchet distance of drawn pictures to real ones in the features of
`benchmarks.judges.genre_judge`. An arm that is done is kept in a file and not trained again; to
have all of them anew, delete the file.
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
    """The base recipe with something changed.

    Attributes:
        name: what is changed.
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
    """What was measured of one arm.

    Attributes:
        name: of the arm.
        parameters: of the network.
        forward: what one evaluation of one picture costs, as a multiple of the base's.
        steps: of training, at the cost that all arms had.
        errors: level of noise to mean squared error of the predicted picture in [-1, 1].
        distance: Fréchet distance of drawn pictures to real ones.
        device: that trained it.
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
    """What every arm changes one thing of; its length follows from the cost."""
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
    """A run of an arm, at its first step."""
    recipe = replace(common, **arm.recipe)
    torch.manual_seed(recipe.seed)
    unet = SpaceToDepthUNet2DModel(sample_size=recipe.image_size, **arm.network)
    schedule = {"beta_schedule": "squaredcos_cap_v2", **arm.schedule}
    scheduler = DDPMScheduler(prediction_type=recipe.prediction, **schedule)
    return Trainer(
        recipe, unet, scheduler, data, Accelerator(mixed_precision=recipe.mixed_precision)
    )


def cost_beside(dear: Callable[[], object], base: Callable[[], object], turns: int) -> float:
    """What one thing takes as a multiple of another: the median of turns taken."""
    ratios = []
    for _ in range(turns):
        began = time.perf_counter()
        base()
        between = time.perf_counter()
        dear()
        ratios.append((time.perf_counter() - between) / (between - began))
    return statistics.median(ratios)


def affordable_steps(trial: Trainer, base: Trainer, base_steps: int) -> int:
    """How many steps of an arm cost what `base_steps` of the base recipe cost."""
    return max(1, round(base_steps / cost_beside(trial.train_step, base.train_step, STEPS_TIMED)))


@torch.no_grad()
def forward_beside(trial: Trainer, base: Trainer) -> float:
    """What one evaluation of one picture costs, as a multiple of the base's."""

    def forward(trainer: Trainer) -> Callable[[], object]:
        unet, size = trainer.averaged(), trainer.recipe.image_size
        x_t = torch.randn(1, 3, size, size, device=trainer.device)
        t = torch.tensor([500], device=trainer.device)
        return lambda: unet(x_t, t).sample.sum().item()

    return cost_beside(forward(trial), forward(base), _FORWARDS)


def errors_of(trainer: Trainer) -> dict[str, float]:
    """The errors at the same levels of noise for every arm, whatever its schedule."""
    sigmas = (1 - trainer.alpha_bar).sqrt().cpu()  # (num_timesteps,)
    nearest = {level: int((sigmas - level).abs().argmin()) for level in NOISE_LEVELS}
    errors = trainer.validate(sorted(set(nearest.values())))
    return {str(level): errors[t] for level, t in nearest.items()}


def looks(pictures: Tensor) -> frechet.Gaussian:
    """What pictures `(n, 3, size, size)` look like to the genre judge, which sees them at 64 px."""
    side = (genre_judge.SIZE_PX, genre_judge.SIZE_PX)
    if pictures.shape[-2:] != side:
        pictures = interpolate(pictures, side, mode="bicubic", antialias=True).clamp(-1, 1)
    return frechet.fit(judge.features(genre_judge.load(), pictures).double().numpy())


def measure(
    arm: Arm, common: Recipe, data: Pictures, base_steps: int, count: int, real: frechet.Gaussian
) -> Result:
    """Trains an arm at the cost that all have, and judges it."""
    trial, beside = trainer_of(arm, common, data), trainer_of(ARMS[0], common, data)
    steps = affordable_steps(trial, beside, base_steps) if arm != ARMS[0] else base_steps
    forward = forward_beside(trial, beside) if arm != ARMS[0] else 1.0
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
    """All arms, best distance first."""
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
            found.name,
            f"{found.parameters / 1e6:.1f}",
            f"{found.forward:.2f}×",
            f"{found.steps:,}",
            *(f"{found.errors[level]:.4f}" for level in levels),
            f"{found.distance:.2f}",
        ]
        for found in sorted(results, key=lambda found: found.distance)
    ]
    return markdown(header, rows)


def kept(path: Path, conditions: Mapping[str, Any]) -> list[Result]:
    """The arms that were measured before under the same conditions."""
    if not path.is_file():
        return []
    stored = json.loads(path.read_text(encoding="utf-8"))
    return [Result(**row) for row in stored["arms"]] if stored["conditions"] == conditions else []


def keep(path: Path, conditions: Mapping[str, Any], results: Sequence[Result]) -> None:
    """Stores what was measured so far."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = {"conditions": conditions, "arms": [vars(found) for found in results]}
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
    shown = data.take(torch.arange(min(len(data), 2000)))
    real = looks(images.from_uint8(shown))
    results = kept(output, conditions)
    known = {found.name for found in results}
    wanted = [arm for arm in ARMS if any(part.strip() in arm.name for part in only.split(","))]
    for arm in (arm for arm in wanted if arm.name not in known):
        results.append(measure(arm, common, data, base_steps, count, real))
        keep(output, conditions, results)
    print(table(results))
    trained_on = ", ".join(sorted({found.device for found in results}))
    told = ", ".join(f"{name} {value}" for name, value in conditions.items())
    print(f"\n{told}. Trained on {trained_on}.")


if __name__ == "__main__":
    typer.run(main)
