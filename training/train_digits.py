"""Trains a class-conditional diffusion model of handwritten digits.

    python -m training.train_digits --conditioning embedding

Runs on the CPU or a GPU, whichever is there. Stop it at any time: the same command goes on where
it saved last. The finished checkpoint is a diffusers folder with a model card.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import typer
from accelerate import Accelerator
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from training.core import loop
from training.core.data import default_mnist, load_digits
from training.core.loop import Prediction
from training.core.refusals import options_refused, stopped_in_one_sentence
from training.digits.exporting import export
from training.digits.trainer import Conditioning, Recipe, Trainer
from training.publish import commands

Precision = Literal["no", "bf16", "fp16"]


def main(
    conditioning: Annotated[Conditioning, typer.Option(help="how the network learns the label")],
    dataset_name: Annotated[str, typer.Option(help="Hub id or folder; without: MNIST")] = "",
    output: Annotated[
        Path | None, typer.Option(help="run folder; without: runs/digits-CONDITIONING")
    ] = None,
    max_steps: Annotated[int, typer.Option(help="length of the run")] = 8000,
    batch_size: Annotated[int, typer.Option(help="pictures per step")] = 32,
    lr: Annotated[
        float, typer.Option(help="peak learning rate; halve it if the loss jumps")
    ] = 1e-3,
    warmup_steps: Annotated[int, typer.Option(help="steps to reach it")] = 200,
    ema_decay: Annotated[float, typer.Option(help="of the averaged weights")] = 0.999,
    label_dropout: Annotated[float, typer.Option(help="share of labels dropped")] = 0.1,
    prediction: Annotated[Prediction, typer.Option(help="network output")] = "v_prediction",
    snr_gamma: Annotated[float, typer.Option(help="min-SNR clamp; 0 is off")] = 5.0,
    seed: Annotated[int, typer.Option(help="of everything random")] = 0,
    mixed_precision: Annotated[Precision, typer.Option(help="arithmetic; slower on CPUs")] = "no",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 is PyTorch's choice")] = 0,
    save_every: Annotated[int, typer.Option(min=1, help="steps between saved states")] = 200,
    log_samples_every: Annotated[int, typer.Option(min=1, help="steps between samples")] = 500,
    push_to_hub: Annotated[
        str, typer.Option(help="Hub id of a model repository to upload the result to")
    ] = "",
) -> None:
    """Trains one of the three digit models and saves it as a diffusers folder."""
    if threads:
        torch.set_num_threads(threads)
    folder = output or Path("runs") / f"digits-{conditioning}"
    with options_refused():
        recipe = Recipe(
            conditioning=conditioning,
            dataset_name=dataset_name or default_mnist(),
            max_steps=max_steps,
            batch_size=batch_size,
            lr=lr,
            warmup_steps=warmup_steps,
            ema_decay=ema_decay,
            label_dropout=label_dropout,
            prediction=prediction,
            snr_gamma=snr_gamma,
            seed=seed,
        )
        repo_id = commands.reserve(push_to_hub)
        accelerator = Accelerator(mixed_precision=mixed_precision)
        trainer = prepare(recipe, folder, accelerator)
    with stopped_in_one_sentence(folder):
        train(trainer, folder, save_every, log_samples_every)
        export(trainer, folder / "checkpoint")
    commands.push(folder / "checkpoint", repo_id)


def prepare(recipe: Recipe, folder: Path, accelerator: Accelerator) -> Trainer:
    """A new run, or the one that was saved in the folder.

    Raises:
        ValueError: if the folder holds a run of another recipe, or the data cannot be read.
    """
    state = loop.load_state(folder)
    if state is not None:
        recipe.check_same(state["recipe"])
    trainer = Trainer(recipe, load_digits(recipe.dataset_name, "train"), accelerator)
    if state is not None:
        trainer.restore(state)
    return trainer


def train(trainer: Trainer, folder: Path, save_every: int, log_samples_every: int) -> None:
    """Trains to the end, saving and logging on the way; a finished run is left as it is.

    Raises:
        FloatingPointError: if the loss is no longer finite.
        OSError: if the state or the log cannot be written.
    """
    total = trainer.recipe.max_steps
    if trainer.step >= total:
        return
    # What was logged after the last saved state is logged anew.
    writer = SummaryWriter(str(folder / "logs"), purge_step=trainer.step + 1)
    with writer, tqdm(total=total, initial=trainer.step, unit="step") as bar:
        while trainer.step < total:
            loss = trainer.train_step()
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            bar.update()
            writer.add_scalar("loss", loss, trainer.step)
            last = trainer.step == total
            if trainer.step % log_samples_every == 0 or last:
                log_progress(trainer, writer, bar)
            if trainer.step % save_every == 0 or last:
                writer.flush()  # a resumed run logs only what came after the saved state
                loop.save_state(folder, trainer.state())


def log_progress(trainer: Trainer, writer: SummaryWriter, bar: tqdm) -> None:
    """Logs the errors on held-out pictures and a sheet of samples, and prints the errors."""
    errors = trainer.validate()
    for level, error in errors.items():
        writer.add_scalar(f"validation/x0_error_t{level}", error, trainer.step)
    sheet = np.asarray(trainer.draw_samples())  # (h, w)
    writer.add_image("samples", sheet, trainer.step, dataformats="HW")
    line = {"step": trainer.step, "seconds": round(trainer.seconds), "x0_error": errors}
    bar.write(json.dumps(line))


if __name__ == "__main__":
    typer.run(main)
