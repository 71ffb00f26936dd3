"""Trains the small CLIP that comes with the app, from pictures and sentences alone.

    python -m training.train_clip

Runs on the CPU or a GPU, whichever is there. Stop it at any time: the same command goes on where
it saved last. The result, `checkpoint` in the run's folder, is an open_clip folder with a model
card: `open_clip.create_model_from_pretrained("local-dir:...")` loads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import typer

from training.clip.exporting import CHECKPOINT, export
from training.clip.judging import judge_trainer, report_judgement
from training.clip.recipe import Recipe, dataset_names
from training.clip.runs import DATA, prepare
from training.core.loop import Timing, reporter_for, run_folder, train
from training.core.options import command, option, set_threads
from training.core.refusals import one_process_in, options_refused, stopped_in_one_sentence
from training.core.reporting import Report
from training.core.run_options import every, model_save_name, push_to_hub, save_minutes, threads
from training.publish.commands import push, reserve


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What does not decide the weights."""

    data_folder: Path = option(DATA, "where the data sets lie")
    model_save_name: str = model_save_name("clip-small")
    save_every: int = every(50, "steps between saved states")
    save_minutes: float = save_minutes()
    judge_every: int = every(400, "steps between judgements")
    report_to: Report = option("tensorboard", "where curves go")
    push_to_hub: str = push_to_hub()
    threads: int = threads()


@command(Recipe, RunOptions)
def main(given: dict[str, Any], others: dict[str, Any]) -> None:
    """Trains a small CLIP and saves it as an open_clip folder."""
    options = RunOptions(**others)
    set_threads(options.threads)
    folder = run_folder(options.model_save_name)
    with one_process_in(folder):
        _run(folder, given, options)


def _run(folder: Path, given: dict[str, Any], options: RunOptions) -> None:
    with stopped_in_one_sentence(folder), options_refused():
        recipe = Recipe.from_options(given, datasets=dataset_names(given["datasets"]))
        repo_id = reserve(options.push_to_hub)
        trainer, held_out = prepare(recipe, folder, options.data_folder)
        reporter = reporter_for(trainer, options.report_to, folder)
    with stopped_in_one_sentence(folder):
        with reporter:
            timing = Timing(
                options.save_every, options.judge_every, save_minutes=options.save_minutes
            )
            judge = partial(report_judgement, trainer, held_out)
            train(trainer, folder, reporter, timing, judge)
        figures = judge_trainer(trainer, held_out)
        export(trainer, folder / CHECKPOINT, folder.name, figures)
        typer.echo(folder / CHECKPOINT)
    push(folder / CHECKPOINT, repo_id)


if __name__ == "__main__":
    typer.run(main)
