"""Runs a training to its end, saving and reporting on the way."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from tqdm import tqdm

from training.core.reporting import Report, Reporter, make_reporter
from training.core.state import save_state
from training.core.trainer import BaseTrainer

RUNS = Path("runs")

Judge = Callable[[Reporter], dict[str, Any]]
"""Reports how good the weights are, and returns the figures that are printed."""


@dataclass(frozen=True)
class Timing:
    """When a run does something besides training.

    Attributes:
        save_every: steps between saved states.
        judge_every: steps between judgements.
        max_minutes: when to stop; 0 is at the end.
        save_minutes: minutes after which the state is saved at the latest.
    """

    save_every: int
    judge_every: int
    max_minutes: float = 0
    save_minutes: float = 5


def run_folder(model_save_name: str) -> Path:
    """Returns the folder of a run: `runs/NAME`; a path is taken as it is."""
    named = Path(model_save_name)
    return named if len(named.parts) > 1 else RUNS / named


def reporter_for(run: BaseTrainer[Any, Any], report_to: Report, folder: Path) -> Reporter:
    """Returns where a run reports to: only the main process of an unfinished run does.

    Raises:
        ValueError: if wandb was asked for and cannot be used.
        OSError: if the log cannot be written.
    """
    finished = run.step >= run.recipe.max_steps
    is_needed = run.accelerator.is_main_process and not finished
    config = asdict(run.recipe)
    return make_reporter(report_to if is_needed else "none", folder, run.step + 1, config)


def train(
    run: BaseTrainer[Any, Any], folder: Path, reporter: Reporter, timing: Timing, judge: Judge
) -> None:
    """Trains to the end or until time is up; a finished run is left as it is.

    The state is saved before the first step, also of an extended run, every `timing.save_every`
    steps or `timing.save_minutes`, whichever comes first, and before it is judged.

    Raises:
        FloatingPointError: if the loss is no longer finite.
        OSError: if the state or the log cannot be written.
    """
    is_main, total = run.accelerator.is_main_process, run.recipe.max_steps
    ends = time.monotonic() + (timing.max_minutes * 60 or math.inf)
    if is_main and run.step == run.schedule_start < total:
        save_state(folder, run.state())
    saved = time.monotonic()
    with tqdm(total=total, initial=run.step, unit="step", disable=not is_main) as bar:
        while run.step < total:
            loss = run.train_step()
            last = run.step == total or _time_is_up(run, ends)
            if is_main:
                bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
                bar.update()
                reporter.scalars({"loss": loss}, run.step)
                judged = run.step % timing.judge_every == 0 or last
                late = time.monotonic() >= saved + timing.save_minutes * 60
                if judged or late or run.step % timing.save_every == 0:
                    reporter.flush()  # a resumed run logs only what came after the saved state
                    save_state(folder, run.state())
                    saved = time.monotonic()
                if judged:
                    figures = judge(reporter)
                    line = {"step": run.step, "seconds": round(run.seconds), **figures}
                    bar.write(json.dumps(line))
            if last:
                return


def _time_is_up(run: BaseTrainer[Any, Any], ends: float) -> bool:
    """Whether to stop, decided by the main process for all."""
    up = [time.monotonic() >= ends]
    if run.accelerator.num_processes > 1 and ends < math.inf:
        broadcast_object_list(up)
    return up[0]
