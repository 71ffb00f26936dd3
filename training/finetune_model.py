"""Fine-tunes a diffusion model on new pictures, or trains one from scratch.

    python -m training.finetune_model --dataset-name photos --max-minutes 10

chooses everything else from the pictures and the device. Every choice is an option, too:

    python -m training.finetune_model --from-scratch --dataset-name data/scenes \
        --max-steps 2921 --model-save-name scenes

One process or many: `accelerate launch -m training.finetune_model ...` takes the same options to
several GPUs and machines. Stop it at any time: the same command with `--resume` goes on where it
saved last. The result, `CHECKPOINT` in the run's folder, is a diffusers pipeline with a model card.
With `--condition words` the model learns to draw what captions say, and brings the CLIP that reads
them with it, in `clip/`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import typer
from accelerate import Accelerator

from training.core.fingerprint import OtherDataError
from training.core.loop import Timing, reporter_for, run_folder, train
from training.core.options import Given, command, option, set_threads
from training.core.refusals import one_process_in, options_refused, stopped_in_one_sentence
from training.core.reporting import Report
from training.core.run_options import every, model_save_name, push_to_hub, save_minutes, threads
from training.pictures.exporting import export
from training.pictures.naming import name_of_data, new_run_command, open_command
from training.pictures.plan import Plan, Wish, plan
from training.pictures.recipe import Recipe
from training.pictures.runs import (
    describe_steps,
    make_accelerator,
    precision_of,
    prepare,
    recipe_of,
    saved_recipe,
    saved_state,
)
from training.pictures.trainer import Trainer
from training.publish.commands import push, reserve

CHECKPOINT = "checkpoint"


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What does not decide the weights, or decides them together with the data."""

    num_epochs: int = option(1, "times through the data; without: chosen", minimum=1)
    max_minutes: float = option(
        0,
        "minutes that the command takes, which decide its steps; with max-steps or num-epochs: "
        "stop after so long; --resume goes on; 0: no limit",
        minimum=0,
    )
    from_scratch: bool = option(False, "new weights, no start model", flag=True)
    model_save_name: str = model_save_name("paintings")
    resume: bool = option(False, "go on with the run of that name", flag=True)
    save_model_every: int = every(250, "steps between saves")
    save_minutes: float = save_minutes()
    log_samples_every: int = every(500, "steps between samples")
    report_to: Report = option("tensorboard", "where curves and samples go")
    push_to_hub: str = push_to_hub()
    threads: int = threads()


@command(Recipe, RunOptions)
def main(given: Given, others: Given) -> None:
    """Fine-tunes a diffusion model, of words with --condition, and saves it with a model card."""
    options = RunOptions(**others)
    if "model_save_name" not in others.explicit:
        name = name_of_data(given["dataset_name"], options.model_save_name)
        options = replace(options, model_save_name=name)
    set_threads(options.threads)
    folder = run_folder(options.model_save_name)
    with one_process_in(folder):
        _run(folder, given, others, options)


def _run(folder: Path, given: Given, others: Given, options: RunOptions) -> None:
    with stopped_in_one_sentence(folder), options_refused():
        accelerator = make_accelerator(precision_of(folder, given, options.resume))
        wish = _wish(given, others, options)
        trainer, repo_id = _trainer(folder, given, options, accelerator, wish)
        chosen = plan(trainer, wish)
        if accelerator.is_main_process:
            typer.echo("\n".join([*chosen.lines, describe_steps(trainer)]))
        reporter = reporter_for(trainer, options.report_to, folder)
    with stopped_in_one_sentence(folder):
        with reporter:
            train(trainer, folder, reporter, _timing(options, chosen), trainer.judge)
        if accelerator.is_main_process:
            name, num_samples = folder.resolve().name, chosen.num_samples
            export(trainer, folder / CHECKPOINT, name, repo_id, num_samples)
    if accelerator.is_main_process:
        typer.echo("\n".join(_closing_words(trainer, folder)))
        push(folder / CHECKPOINT, repo_id)
    accelerator.end_training()


def _trainer(
    folder: Path, given: Given, options: RunOptions, accelerator: Accelerator, wish: Wish
) -> tuple[Trainer, str]:
    """Returns a new run or the saved one, and where on the Hub the result goes.

    Raises:
        ValueError: one sentence, if the options, the data or the saved run do not fit.
    """
    processes, repo_id = accelerator.num_processes, options.push_to_hub
    planned = not (wish.max_steps or wish.num_epochs)
    recipe = recipe_of(given, options.from_scratch, processes, planned=planned)
    state = saved_state(folder, options.resume, accelerator)
    if state is not None:
        recipe = saved_recipe(given, options.from_scratch, processes, state)
        recipe.check_same(state["recipe"], moved=True)
    if accelerator.is_main_process:
        repo_id = reserve(repo_id)
    try:
        trainer = prepare(recipe, state, accelerator, folder, written=given.explicit)
        return trainer, repo_id
    except OtherDataError as error:
        more = {"dataset_name": recipe.dataset_name, "image_size": recipe.image_size}
        more |= {"max_minutes": options.max_minutes} if options.max_minutes else {}
        command = new_run_command(folder, **more)
        raise OtherDataError(error.saved, error.got, command) from error


def _wish(given: Given, others: Given, options: RunOptions) -> Wish:
    """What the options say of the length; the minutes began when this process did."""
    return Wish(
        max_steps=given["max_steps"],
        num_epochs=options.num_epochs if "num_epochs" in others.explicit else 0,
        ends=_process_began() + options.max_minutes * 60 if options.max_minutes else 0,
        judge_every=options.log_samples_every,
        written=given.explicit,
    )


def _process_began() -> float:
    """On the clock of `time.monotonic`."""
    return time.monotonic() - (time.time() - psutil.Process().create_time())


def _timing(options: RunOptions, chosen: Plan) -> Timing:
    return Timing(
        options.save_model_every,
        options.log_samples_every,
        chosen.training_minutes or options.max_minutes,
        options.save_minutes,
    )


def _closing_words(trainer: Trainer, folder: Path) -> list[str]:
    """How far the run came, and the command that opens the app with it."""
    total = trainer.recipe.max_steps
    lines = []
    if trainer.step < total:
        lines.append(
            f"Stopped after {trainer.step:,} of {total:,} steps, as the time was up; --resume goes "
            "on"
        )
    return [*lines, "Open the app with the model:", open_command(folder / CHECKPOINT)]


if __name__ == "__main__":
    typer.run(main)
