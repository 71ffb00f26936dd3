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

import json
import math
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin, broadcast_object_list
from tqdm import tqdm

from training.core import loop
from training.core.backgrounds import Grounds
from training.core.data import Pictures, load_pictures
from training.core.loop import Prediction
from training.core.refusals import options_refused, stopped_in_one_sentence
from training.core.reporting import Report, Reporter, make_reporter
from training.pictures import start_models
from training.pictures.exporting import export
from training.pictures.recipe import Precision, Recipe, channels_to_read, steps_per_epoch
from training.pictures.trainer import Trainer
from training.publish import commands

RUNS = Path("runs")
CHECKPOINT = "checkpoint"


def main(
    image_size: Annotated[int, typer.Option(help="side of the training pictures")] = 64,
    batch_size: Annotated[int, typer.Option(help="pictures per process and pass")] = 32,
    grad_accumulation_steps: Annotated[int, typer.Option(help="passes per step")] = 1,
    num_epochs: Annotated[int, typer.Option(min=1, help="times through the data")] = 1,
    max_steps: Annotated[int, typer.Option(min=0, help="length in steps; 0: num-epochs")] = 0,
    max_minutes: Annotated[
        float, typer.Option(min=0, help="stop after so long; --resume goes on; 0 is never")
    ] = 0,
    start_model: Annotated[str, typer.Option(help="bundled key, folder or Hub id")] = "scenes",
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="new weights, no start model")
    ] = False,
    dataset_name: Annotated[
        str, typer.Option(help="Hub id, folder of parquet files or of pictures; several by commas")
    ] = "huggan/wikiart",
    image_column: Annotated[str, typer.Option(help="column; without: the only one")] = "",
    model_save_name: Annotated[
        str, typer.Option(help="the run lies in runs/NAME; a path is taken as it is")
    ] = "paintings",
    lr: Annotated[float, typer.Option(help="peak learning rate; halve it if loss jumps")] = 4e-4,
    warmup_steps: Annotated[int, typer.Option(help="steps to reach it")] = 100,
    ema_decay: Annotated[float, typer.Option(help="of the averaged weights")] = 0.999,
    snr_gamma: Annotated[float, typer.Option(help="min-SNR clamp; 0 is off")] = 5.0,
    flip: Annotated[bool, typer.Option(help="mirror half of the pictures")] = True,
    grounds: Annotated[
        Grounds, typer.Option(help="what transparent pictures stand on; colors: any, every time")
    ] = "white",
    exclude: Annotated[
        str, typer.Option(help="rows to leave out, like 'category=People & Body, Flags'")
    ] = "",
    focus: Annotated[
        str, typer.Option(help="rows that about half of all steps show, like 'name=.* heart'")
    ] = "",
    recolor: Annotated[
        float, typer.Option(help="share of transparent pictures given other hues every time")
    ] = 0,
    prediction: Annotated[
        Prediction | None,
        typer.Option(help="network output; without: the start model's, v_prediction from scratch"),
    ] = None,
    mixed_precision: Annotated[Precision, typer.Option(help="arithmetic of the passes")] = "no",
    seed: Annotated[int, typer.Option(help="of everything random")] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on with the run of that name")
    ] = False,
    save_model_every: Annotated[int, typer.Option(min=1, help="steps between saves")] = 250,
    log_samples_every: Annotated[int, typer.Option(min=1, help="steps between samples")] = 500,
    report_to: Annotated[Report, typer.Option(help="where curves and samples go")] = "tensorboard",
    push_to_hub: Annotated[
        str, typer.Option(help="Hub id of a model repository to upload the result to")
    ] = "",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 is PyTorch's choice")] = 0,
) -> None:
    """Fine-tunes an unconditional diffusion model and saves it as a diffusers pipeline."""
    if threads:
        torch.set_num_threads(threads)
    folder = run_folder(model_save_name)
    with stopped_in_one_sentence(folder), options_refused():
        accelerator = make_accelerator(mixed_precision)
        recipe = Recipe(
            start_model="" if from_scratch else start_model,
            dataset_name=dataset_name,
            image_column=image_column,
            image_size=image_size,
            max_steps=max_steps or 1,  # until the data has been counted
            batch_size=batch_size,
            grad_accumulation_steps=grad_accumulation_steps,
            num_processes=accelerator.num_processes,
            lr=lr,
            warmup_steps=warmup_steps,
            ema_decay=ema_decay,
            snr_gamma=snr_gamma,
            flip=flip,
            mixed_precision=mixed_precision,
            seed=seed,
            prediction=prediction or "v_prediction",
            grounds=grounds,
            exclude=exclude,
            focus=focus,
            recolor=recolor,
        )
        state = saved_state(folder, resume, accelerator)
        repo_id = push_to_hub
        if push_to_hub and accelerator.is_main_process:
            repo_id = commands.reserve(push_to_hub)
        trainer = prepare(
            recipe,
            state,
            accelerator,
            num_epochs=0 if max_steps else num_epochs,
            any_prediction=prediction is None,
        )
        reporter = _reporter(report_to, folder, trainer)
    with stopped_in_one_sentence(folder):
        with reporter:
            train(trainer, folder, reporter, save_model_every, log_samples_every, max_minutes)
        if accelerator.is_main_process:
            export(trainer, folder / CHECKPOINT, folder.resolve().name, repo_id)
            typer.echo(folder / CHECKPOINT)
    if accelerator.is_main_process:
        commands.push(folder / CHECKPOINT, repo_id)
    accelerator.end_training()


def make_accelerator(mixed_precision: Precision) -> Accelerator:
    """What spreads the work over processes and devices.

    Passes are counted here and the loss is divided here, whatever `accelerate launch` was told.

    Raises:
        ValueError: if the device has no such arithmetic.
    """
    torch.backends.cudnn.benchmark = True  # all batches are of one shape
    return Accelerator(
        mixed_precision=mixed_precision,
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
    )


def run_folder(model_save_name: str) -> Path:
    """Where a run of that name lies."""
    named = Path(model_save_name)
    return named if len(named.parts) > 1 else RUNS / named


def saved_state(folder: Path, resume: bool, accelerator: Accelerator) -> dict[str, Any] | None:
    """The state to go on from, the same for every process; None is a new run.

    Only the main process reads it, so the other machines need no copy of the folder. A run that was
    killed before it saved anything has none, and begins again.

    Raises:
        ValueError: if there is a run and `resume` was not asked for, or it is damaged.
    """
    found: list[Any] = [None, ""]
    if accelerator.is_main_process:
        found = _found_state(folder, resume)
    if accelerator.num_processes > 1:
        broadcast_object_list(found)
    state, problem = found
    if problem:
        raise ValueError(problem)
    return state


def _found_state(folder: Path, resume: bool) -> list[Any]:
    try:
        state = loop.load_state(folder)
    except ValueError as error:
        return [None, str(error)]
    if state is not None and not resume:
        return [
            None,
            f"model_save_name must be a new name, got {str(folder)!r} with a run of "
            f"{state['step']:,} steps; add --resume to go on with it",
        ]
    if state is None and resume:
        typer.echo(f"{folder} holds no saved state to resume: the run begins at its first step")
    return [state, ""]


def prepare(
    recipe: Recipe,
    state: dict[str, Any] | None,
    accelerator: Accelerator,
    *,
    num_epochs: int,
    any_prediction: bool,
) -> Trainer:
    """A new run, or the one that was saved.

    Args:
        recipe: as far as the options tell it.
        state: of the saved run, None for a new one.
        accelerator: what it runs on.
        num_epochs: replaces the recipe's `max_steps`; 0 is off.
        any_prediction: whether to take whatever the start model predicts for the recipe's.

    Raises:
        ValueError: if start model or data cannot be used, or the saved run has another recipe.
    """
    unet, scheduler = start_models.network_of(recipe, state)
    predicted = scheduler.config["prediction_type"]
    if not any_prediction and predicted != recipe.prediction:
        raise ValueError(
            f"prediction must be that of the start model, {predicted}, got {recipe.prediction}"
        )
    with accelerator.main_process_first():
        data = load_pictures(
            recipe.dataset_name,
            image_size=recipe.image_size,
            channels=channels_to_read(recipe, unet.config["in_channels"]),
            image_column=recipe.image_column,
            exclude=recipe.exclude,
            focus=recipe.focus,
        )
    if num_epochs:
        recipe = replace(recipe, max_steps=num_epochs * steps_per_epoch(recipe, len(data)))
    trainer = Trainer(replace(recipe, prediction=predicted), unet, scheduler, data, accelerator)
    if state is not None:
        trainer.restore(state)
    if accelerator.is_main_process:
        typer.echo(in_words(trainer, data))
    return trainer


def _reporter(report_to: Report, folder: Path, trainer: Trainer) -> Reporter:
    """Only the main process of an unfinished run has something to report."""
    finished = trainer.step >= trainer.recipe.max_steps
    wanted = trainer.accelerator.is_main_process and not finished
    config = asdict(trainer.recipe)
    return make_reporter(report_to if wanted else "none", folder, trainer.step + 1, config)


def in_words(trainer: Trainer, data: Pictures) -> str:
    """What is about to happen, in one line per fact."""
    recipe = trainer.recipe
    lines = [
        f"{len(trainer.train):,} pictures of {recipe.image_size} px to train on, "
        f"{len(trainer.validation)} held out",
        f"steps {trainer.step:,} to {recipe.max_steps:,}, {recipe.pictures_per_step} pictures each",
    ]
    if data.skipped:
        lines.append(f"{data.skipped:,} pictures cannot be read and are skipped")
    if data.enlarged:
        lines.append(f"{data.enlarged:,} pictures are smaller and are scaled up")
    return "\n".join(lines)


def train(
    trainer: Trainer,
    folder: Path,
    reporter: Reporter,
    save_model_every: int,
    log_samples_every: int,
    max_minutes: float,
) -> None:
    """Trains to the end or until time is up, saving and logging on the way.

    Raises:
        FloatingPointError: if the loss is no longer finite.
        OSError: if the state or the log cannot be written.
    """
    main_process = trainer.accelerator.is_main_process
    total = trainer.recipe.max_steps
    ends = time.monotonic() + (max_minutes * 60 or math.inf)
    with tqdm(total=total, initial=trainer.step, unit="step", disable=not main_process) as bar:
        while trainer.step < total:
            loss = trainer.train_step()
            last = trainer.step == total or _time_is_up(trainer, ends)
            if main_process:
                bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
                bar.update()
                reporter.scalars({"loss": loss}, trainer.step)
                if trainer.step % log_samples_every == 0 or last:
                    log_progress(trainer, reporter, bar)
                if trainer.step % save_model_every == 0 or last:
                    reporter.flush()  # a resumed run logs only what came after the saved state
                    loop.save_state(folder, trainer.state())
            if last:
                return


def _time_is_up(trainer: Trainer, ends: float) -> bool:
    """Whether to stop, decided by the main process for all."""
    up = [time.monotonic() >= ends]
    if trainer.accelerator.num_processes > 1 and ends < math.inf:
        broadcast_object_list(up)
    return up[0]


def log_progress(trainer: Trainer, reporter: Reporter, bar: tqdm) -> None:
    """Logs the errors on held-out pictures and a sheet of samples, and prints the errors."""
    errors = trainer.validate()
    reporter.scalars({f"validation/x0_error_t{t}": e for t, e in errors.items()}, trainer.step)
    reporter.picture("samples", trainer.draw_samples(), trainer.step)
    line = {"step": trainer.step, "seconds": round(trainer.seconds), "x0_error": errors}
    bar.write(json.dumps(line))


if __name__ == "__main__":
    typer.run(main)
