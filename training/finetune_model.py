"""Fine-tunes an unconditional diffusion model on new pictures, or trains one from scratch.

    python -m training.finetune_model --from-scratch --dataset-name data/scenes \
        --model-save-name scenes
    python -m training.finetune_model --start-model runs/scenes/checkpoint \
        --dataset-name data/wikiart --model-save-name paintings

One process or many: `accelerate launch -m training.finetune_model ...` takes the same options to
several GPUs and machines. Stop it at any time: the same command with `--resume` goes on where it
saved last. The result, `CHECKPOINT` in the run's folder, is a diffusers pipeline with a model card.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from training.core.loop import Timing, reporter_for, run_folder, train
from training.core.options import command, option, set_threads
from training.core.refusals import one_process_in, options_refused, stopped_in_one_sentence
from training.core.reporting import Report
from training.core.run_options import every, model_save_name, push_to_hub, threads
from training.pictures.exporting import export
from training.pictures.recipe import Recipe
from training.pictures.runs import make_accelerator, prepare, saved_state
from training.publish.commands import push, reserve

CHECKPOINT = "checkpoint"


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What does not decide the weights, or decides them together with the data."""

    num_epochs: int = option(1, "times through the data", minimum=1)
    max_minutes: float = option(0, "stop after so long; --resume goes on; 0 is never", minimum=0)
    from_scratch: bool = option(False, "new weights, no start model", flag=True)
    model_save_name: str = model_save_name("paintings")
    resume: bool = option(False, "go on with the run of that name", flag=True)
    save_model_every: int = every(250, "steps between saves")
    log_samples_every: int = every(500, "steps between samples")
    report_to: Report = option("tensorboard", "where curves and samples go")
    push_to_hub: str = push_to_hub()
    threads: int = threads()

    @property
    def timing(self) -> Timing:
        """When the run does something besides training."""
        return Timing(self.save_model_every, self.log_samples_every, self.max_minutes)


@command(Recipe, RunOptions)
def main(given: dict[str, Any], others: dict[str, Any]) -> None:
    """Fine-tunes an unconditional diffusion model and saves it as a diffusers pipeline."""
    options = RunOptions(**others)
    set_threads(options.threads)
    folder = run_folder(options.model_save_name)
    with one_process_in(folder):
        _run(folder, given, options)


def _run(folder: Path, given: dict[str, Any], options: RunOptions) -> None:
    with stopped_in_one_sentence(folder), options_refused():
        accelerator = make_accelerator(given["mixed_precision"])
        is_main, repo_id = accelerator.is_main_process, options.push_to_hub
        recipe = Recipe.from_options(
            given,
            start_model="" if options.from_scratch else given["start_model"],
            max_steps=given["max_steps"] or 1,  # until the data has been counted
            num_processes=accelerator.num_processes,
            prediction=given["prediction"] or "v_prediction",
        )
        state = saved_state(folder, options.resume, accelerator)
        if is_main:
            repo_id = reserve(repo_id)
        num_epochs = 0 if given["max_steps"] else options.num_epochs
        any_prediction = given["prediction"] is None
        trainer = prepare(
            recipe, state, accelerator, num_epochs=num_epochs, any_prediction=any_prediction
        )
        reporter = reporter_for(trainer, options.report_to, folder)
    with stopped_in_one_sentence(folder):
        with reporter:
            train(trainer, folder, reporter, options.timing, trainer.judge)
        if is_main:
            export(trainer, folder / CHECKPOINT, folder.resolve().name, repo_id)
            typer.echo(folder / CHECKPOINT)
    if is_main:
        push(folder / CHECKPOINT, repo_id)
    accelerator.end_training()


if __name__ == "__main__":
    typer.run(main)
