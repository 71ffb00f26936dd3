"""Trains the small CLIP that comes with the app, from pictures and sentences alone.

    python -m training.train_clip

Runs on the CPU or a GPU, whichever is there. Stop it at any time: the same command goes on where
it saved last. The result, `checkpoint` in the run's folder, is an open_clip folder with a model
card: `open_clip.create_model_from_pretrained("local-dir:...")` loads it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer
from tqdm import tqdm

from pipelines.core.rules import Choice
from training.clip import judging
from training.clip.exporting import CHECKPOINT, export
from training.clip.pairs import SOURCES, Pairs
from training.clip.runs import DATA, prepare
from training.clip.trainer import Architecture, Recipe, Trainer
from training.core import loop
from training.core.refusals import options_refused, stopped_in_one_sentence
from training.core.reporting import Report, Reporter, make_reporter
from training.finetune_model import run_folder
from training.pictures.recipe import Precision
from training.publish import commands


def main(
    data_folder: Annotated[Path, typer.Option(help="where the data sets lie")] = DATA,
    model_save_name: Annotated[
        str, typer.Option(help="the run lies in runs/NAME; a path is taken as it is")
    ] = "clip-small",
    datasets: Annotated[
        str, typer.Option(help="data sets by commas, those of an older run to go on with it")
    ] = ",".join(SOURCES),
    architecture: Annotated[Architecture, typer.Option(help="of the picture's tower")] = "resnet",
    max_steps: Annotated[int, typer.Option(help="length of the run")] = 1600,
    batch_size: Annotated[int, typer.Option(help="pairs per step")] = 256,
    lr: Annotated[float, typer.Option(help="peak learning rate")] = 1e-3,
    warmup_steps: Annotated[int, typer.Option(help="steps to reach it")] = 100,
    ema_decay: Annotated[float, typer.Option(help="of the averaged weights")] = 0.995,
    half_formed_by: Annotated[
        str,
        typer.Option(
            help="checkpoints, by commas, that predict half-formed pictures: of a data set that of "
            "its name, or the first; empty: none"
        ),
    ] = "paintings",
    start_model: Annotated[
        str, typer.Option(help="bundled CLIP or folder to go on from; empty: new weights")
    ] = "",
    same_source_share: Annotated[
        float, typer.Option(help="share of steps whose pairs are all of one data set")
    ] = 0.5,
    focus: Annotated[
        str,
        typer.Option(help="data sets, by commas, that most of those steps are of; empty: by size"),
    ] = "",
    adversarial_radius: Annotated[
        float, typer.Option(help="how far pictures are moved at most to be misread; 0 is off")
    ] = 0,
    mixed_precision: Annotated[Precision, typer.Option(help="arithmetic of the passes")] = "no",
    seed: Annotated[int, typer.Option(help="of everything random")] = 0,
    save_every: Annotated[int, typer.Option(min=1, help="steps between saved states")] = 50,
    judge_every: Annotated[int, typer.Option(min=1, help="steps between judgements")] = 400,
    report_to: Annotated[Report, typer.Option(help="where curves go")] = "tensorboard",
    push_to_hub: Annotated[
        str, typer.Option(help="Hub id of a model repository to upload the result to")
    ] = "",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 is PyTorch's choice")] = 0,
) -> None:
    """Trains a small CLIP and saves it as an open_clip folder."""
    if threads:
        torch.set_num_threads(threads)
    folder = run_folder(model_save_name)
    with stopped_in_one_sentence(folder), options_refused():
        recipe = Recipe(
            architecture=architecture,
            datasets=_chosen(datasets),
            half_formed=half_formed_by,
            max_steps=max_steps,
            batch_size=batch_size,
            lr=lr,
            warmup_steps=warmup_steps,
            ema_decay=ema_decay,
            mixed_precision=mixed_precision,
            seed=seed,
            start_model=start_model,
            same_source_share=same_source_share,
            focus=focus,
            adversarial_radius=adversarial_radius,
        )
        repo_id = commands.reserve(push_to_hub)
        trainer, held_out = prepare(recipe, folder, data_folder)
        reporter = make_reporter(report_to, folder, trainer.step + 1, asdict(recipe))
    with stopped_in_one_sentence(folder):
        with reporter:
            train(trainer, held_out, folder, reporter, save_every, judge_every)
        figures = judging.judge_trainer(trainer, held_out)
        export(trainer, folder / CHECKPOINT, folder.name, figures)
        typer.echo(folder / CHECKPOINT)
    commands.push(folder / CHECKPOINT, repo_id)


def _chosen(datasets: str) -> tuple[str, ...]:
    """The data sets of an option.

    Raises:
        ValueError: if one of them is unknown, or there is none.
    """
    names = tuple(name.strip() for name in datasets.split(",") if name.strip())
    for name in names or ("",):
        Choice(tuple(SOURCES)).check("datasets", name)
    return names


def train(
    trainer: Trainer,
    held_out: dict[str, Pairs],
    folder: Path,
    reporter: Reporter,
    save_every: int,
    judge_every: int,
) -> None:
    """Trains to the end, saving and judging on the way; a finished run is left as it is.

    Raises:
        FloatingPointError: if the loss is no longer finite.
        OSError: if the state or the log cannot be written.
    """
    total = trainer.recipe.max_steps
    with tqdm(total=total, initial=trainer.step, unit="step") as bar:
        while trainer.step < total:
            loss = trainer.train_step()
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            bar.update()
            reporter.scalars({"loss": loss}, trainer.step)
            last = trainer.step == total
            if trainer.step % judge_every == 0 or last:
                figures = judging.judge_trainer(trainer, held_out)
                reporter.scalars(judging.flat(figures), trainer.step)
                line = {"step": trainer.step, "seconds": round(trainer.seconds), **figures}
                bar.write(json.dumps(line))
            if trainer.step % save_every == 0 or last:
                reporter.flush()
                loop.save_state(folder, trainer.state())


if __name__ == "__main__":
    typer.run(main)
