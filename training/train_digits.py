"""Trains a class-conditional diffusion model of handwritten digits.

    python -m training.train_digits --conditioning embedding

Runs on the CPU or a GPU, whichever is there. Stop it at any time: the same command goes on where
it saved last. The finished checkpoint is a diffusers folder with a model card.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from accelerate import Accelerator

from training.core.loop import RUNS, Timing, reporter_for, train
from training.core.options import command, option, set_threads
from training.core.recipe import Precision
from training.core.refusals import one_process_in, options_refused, stopped_in_one_sentence
from training.core.run_options import every, push_to_hub, save_minutes, threads
from training.digits.data import default_mnist
from training.digits.exporting import export
from training.digits.recipe import Recipe
from training.digits.runs import prepare
from training.publish.commands import push, reserve


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What does not decide the weights."""

    output: Path | None = option(None, "run folder; without: runs/digits-CONDITIONING")
    mixed_precision: Precision = option("no", "arithmetic; slower on CPUs")
    threads: int = threads()
    save_every: int = every(200, "steps between saved states")
    save_minutes: float = save_minutes()
    log_samples_every: int = every(500, "steps between samples")
    push_to_hub: str = push_to_hub()


@command(Recipe, RunOptions)
def main(given: dict[str, Any], others: dict[str, Any]) -> None:
    """Trains one of the three digit models and saves it as a diffusers folder."""
    options = RunOptions(**others)
    set_threads(options.threads)
    folder = options.output or RUNS / f"digits-{given['conditioning']}"
    with one_process_in(folder):
        _run(folder, given, options)


def _run(folder: Path, given: dict[str, Any], options: RunOptions) -> None:
    with options_refused():
        dataset_name = given["dataset_name"] or default_mnist()
        recipe = Recipe.from_options(given, dataset_name=dataset_name)
        repo_id = reserve(options.push_to_hub)
        accelerator = Accelerator(mixed_precision=options.mixed_precision)
        trainer = prepare(recipe, folder, accelerator)
    with stopped_in_one_sentence(folder):
        with reporter_for(trainer, "tensorboard", folder) as reporter:
            timing = Timing(
                options.save_every, options.log_samples_every, save_minutes=options.save_minutes
            )
            train(trainer, folder, reporter, timing, trainer.judge)
        export(trainer, folder / "checkpoint")
    push(folder / "checkpoint", repo_id)


if __name__ == "__main__":
    typer.run(main)
