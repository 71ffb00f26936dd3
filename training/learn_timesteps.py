"""Learns the timesteps of few steps for a bundled model, see `training.timesteps.learning`.

python -m training.learn_timesteps paintings --steps 4,6,8,12
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from pipelines.diffusion.solvers import SOLVERS
from pipelines.models import checkpoints, timesteps
from training.timesteps.learning import learn, task_of

SEED = 20_000
HELD_OUT_SEED = 30_000


def main(
    model: Annotated[str, typer.Argument(help="key of a bundled model")],
    steps: Annotated[str, typer.Option(help="numbers of steps, with commas")] = "4,6,8,12",
    solver: Annotated[str, typer.Option(help="that takes the steps")] = "dpm++-logsnr",
    pictures: Annotated[int, typer.Option(min=2, help="to learn from")] = 16,
    teacher_steps: Annotated[int, typer.Option(min=20, help="of the pictures")] = 60,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 is PyTorch's choice")] = 0,
    output: Annotated[Path, typer.Option(help="where they are kept")] = timesteps.FILE,
) -> None:
    """Learns from some seeds, tells the error on others, and keeps what is better there."""
    if threads:
        torch.set_num_threads(threads)
    loaded = checkpoints.load(model)
    task, held_out = (
        task_of(loaded, solver, seed=seed, num_images=pictures, teacher_steps=teacher_steps)
        for seed in (SEED, HELD_OUT_SEED)
    )
    for count in map(int, steps.split(",")):
        learned, spaced = learn(task, count), SOLVERS[solver].spacing(task.alpha_bar, count)
        before, after = held_out.error(spaced), held_out.error(learned)
        print(f"{model}, {count} steps: error {before:.5f} spaced, {after:.5f} learned: {learned}")
        if after < before:
            timesteps.keep(model, solver, learned, output)


if __name__ == "__main__":
    typer.run(main)
