"""Kills trainings again and again, also while they save, and fills the disk: nothing is lost."""

from __future__ import annotations

import multiprocessing
import random
import signal
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.soak import tiny_trainings
from benchmarks.soak.report import Row, at_most
from benchmarks.soak.tiny_trainings import STEPS, TRAINERS
from training.core.state import STATE_FILE, load_state

KILLS = 30
_START_SECONDS = 120.0
_LITTLE_ROOM = 20_000  # bytes; less than a state, more than the small files beside it
_MODULE = "benchmarks.soak.tiny_trainings"


def run(scale: float, seed: int = 0) -> list[Row]:
    """Kills every trainer; returns the rows of the table."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([_MODULE])  # what takes seconds to import is there already
    kills = max(round(KILLS * scale), 2)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        tiny_trainings.write_data(place / "data")
        for trainer in TRAINERS:
            rows += _Runs(context, place, trainer).rows(kills, seed)
    return rows


class _Runs:
    """The runs of one trainer: one that nothing interrupts, one that is killed, one without room.

    Args:
        context: that starts processes.
        place: folder of the data and the runs.
        trainer: one of `TRAINERS`.
    """

    def __init__(self, context: Any, place: Path, trainer: str) -> None:
        self.context, self.place, self.trainer = context, place, trainer

    def rows(self, kills: int, seed: int) -> list[Row]:
        """Does all runs; returns the rows of the table."""
        self._finish("whole")
        killed, while_saving = self._kill(kills, seed)
        self._finish("killed")
        sentence = self._fill_disk()
        self._finish("full")
        tried = f"{self.trainer}: {killed} kills, {while_saving} of them while it saved"
        return [
            at_most("kills", f"{tried}; weights that differ", self._differing("killed"), 0),
            Row(
                "kills",
                f"{self.trainer}: a full disk",
                sentence or "no sentence",
                "a sentence",
                "Training stopped:" in sentence,
            ),
            at_most(
                "kills", f"{self.trainer}: weights that differ after it", self._differing("full"), 0
            ),
        ]

    def _folder(self, name: str) -> Path:
        return self.place / f"{self.trainer}-{name}"

    def _start(self, name: str, most_bytes: int = 0) -> BaseProcess:
        options = tiny_trainings.options(self.trainer, self.place / "data", self._folder(name))
        log = str(self.place / f"{self.trainer}-{name}.log")
        arguments = (self.trainer, options, log, most_bytes)
        process = self.context.Process(target=tiny_trainings.train, args=arguments)
        process.start()
        return process

    def _finish(self, name: str) -> None:
        process = self._start(name)
        process.join()
        if process.exitcode:
            raise RuntimeError(f"{self.trainer} failed:\n{self._printed(name)[-2000:]}")

    def _printed(self, name: str) -> str:
        return (self.place / f"{self.trainer}-{name}.log").read_text(errors="replace")

    def _kill(self, kills: int, seed: int) -> tuple[int, int]:
        """Kills a run; returns how often, and how often it was saving at that moment."""
        chance, killed, while_saving = random.Random(f"{seed} {self.trainer}"), 0, 0
        folder = self._folder("killed")
        for number in range(kills):
            process = self._start("killed")
            _wait_for_save(folder, process)
            temporary = folder / f"{STATE_FILE}.tmp"
            if number % 2:  # else at any moment
                ends = time.monotonic() + 1
                while not temporary.exists() and time.monotonic() < ends:
                    pass
            else:
                time.sleep(chance.uniform(0, 0.1))
            process.kill()
            process.join()
            if process.exitcode == -signal.SIGKILL:
                killed += 1
                while_saving += temporary.exists()
            if load_state(folder) is None:
                raise RuntimeError(f"{self.trainer} lost its state")
        return killed, while_saving

    def _fill_disk(self) -> str:
        """Leaves a run that has begun no room; returns the sentence that it ends with."""
        process = self._start("full")
        _wait_for_save(self._folder("full"), process)
        process.kill()
        process.join()
        before = (self._folder("full") / STATE_FILE).read_bytes()
        process = self._start("full", _LITTLE_ROOM)
        process.join()
        lines = self._printed("full").strip().splitlines()
        if process.exitcode != 1 or (self._folder("full") / STATE_FILE).read_bytes() != before:
            return f"exit {process.exitcode}: {lines[-1:]}"
        return next((line for line in lines if line.startswith("Training stopped:")), "")

    def _differing(self, name: str) -> int:
        """Counts the tensors of a finished run that are not those of the uninterrupted one."""
        one, two = _tensors(self._folder("whole")), _tensors(self._folder(name))
        if one.keys() != two.keys():
            return len(one)
        return sum(not torch.equal(one[key], two[key]) for key in one)


def _wait_for_save(folder: Path, process: BaseProcess) -> None:
    """Waits until a run has saved one more state."""
    before = _saved_at(folder)
    ends = time.monotonic() + _START_SECONDS
    while _saved_at(folder) == before and process.is_alive() and time.monotonic() < ends:
        time.sleep(0.001)


def _saved_at(folder: Path) -> int:
    path = folder / STATE_FILE
    return path.stat().st_mtime_ns if path.exists() else 0


def _tensors(folder: Path) -> dict[str, Tensor]:
    """Returns all weights of a finished run by name, with those that are averaged."""
    state = load_state(folder)
    if state is None or state["step"] != STEPS:
        return {}
    weights = next(state[key] for key in ("unet", "model", "clip") if key in state)
    averaged = {f"ema.{i}": tensor for i, tensor in enumerate(state["ema"]["shadow_params"])}
    return {**weights, **averaged}
