"""A process killed at any moment leaves a run that goes on to the weights of an undisturbed one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.fakes.tiny_pictures import SIZE, encoded, landscape, save_stock
from training.core import loop
from training.core.loop import Timing, train
from training.core.state import load_state

ROOT = Path(__file__).resolve().parents[2]
STEPS = 6
DIES = """
import os, runpy, signal, sys
from training.pictures import exporting
from training.pictures.trainer import Trainer

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

exporting.NUM_SAMPLES = 8
Trainer.draw_samples = lambda self, count=8: __import__("PIL.Image").Image.new("RGB", (8, 8))
moment = sys.argv.pop(1)
step = Trainer.train_step
if moment == "start":
    Trainer.train_step = die
if moment == "middle":
    Trainer.train_step = lambda self: die() if self.step == 4 else step(self)
if moment == "evaluation":
    Trainer.validate = die
runpy.run_module("training.finetune_model", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    save_stock(folder / "stock")
    (folder / "photos").mkdir()
    for i in range(24):
        (folder / "photos" / f"{i}.png").write_bytes(encoded(landscape(i)))
    return folder


def run(place: Path, name: str, moment: str, *more: str) -> int:
    values = {
        "start-model": place / "stock",
        "dataset-name": place / "photos",
        "model-save-name": place / name,
        "image-size": SIZE,
        "max-steps": STEPS,
        "batch-size": 8,
        "save-model-every": 3,
        "report-to": "none",
        "threads": 1,
    }
    options = [f"--{key}={value}" for key, value in values.items()]
    environment = os.environ | {
        "HF_DATASETS_CACHE": str(place / "cache"),
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
    }
    command = [sys.executable, "-c", DIES, moment, *options, *more]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True).returncode


def state_of(folder: Path) -> dict[str, Any]:
    state = load_state(folder)
    assert state is not None
    return state


@pytest.fixture(scope="module")
def whole(place: Path) -> dict[str, Any]:
    assert run(place, "whole", "never") == 0
    return state_of(place / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(("moment", "saved"), [("start", 0), ("middle", 3), ("evaluation", STEPS)])
def test_a_run_killed_at_any_moment_goes_on(
    moment: str, saved: int, place: Path, whole: dict[str, Any]
):
    assert run(place, moment, moment) == -signal.SIGKILL
    assert state_of(place / moment)["step"] == saved
    assert run(place, moment, "never", "--resume") == 0
    found = state_of(place / moment)
    assert found["step"] == STEPS
    for name in ("unet", "optimizer"):
        torch.testing.assert_close(found[name], whole[name], rtol=1e-3, atol=1e-4)
    assert (place / moment / "checkpoint" / "README.md").is_file()


class Counting:
    """A run whose steps only count."""

    def __init__(self, steps: int):
        self.recipe = SimpleNamespace(max_steps=steps)
        self.accelerator = SimpleNamespace(is_main_process=True, num_processes=1)
        self.step, self.schedule_start, self.seconds = 0, 0, 0.0

    def train_step(self) -> float:
        self.step += 1
        return 0.0

    def state(self) -> dict[str, Any]:
        return {"step": self.step}


def saved_steps(monkeypatch: pytest.MonkeyPatch, timing: Timing) -> list[int]:
    """At which steps a run of 12 steps, each of a minute, is saved."""
    saved: list[int] = []
    counting = Counting(12)
    clock = SimpleNamespace(monotonic=lambda: 60.0 * counting.step)
    monkeypatch.setattr(loop, "time", clock)
    monkeypatch.setattr(loop, "save_state", lambda _, state: saved.append(state["step"]))
    judge: Any = lambda reporter: saved.append(-counting.step) or {}  # noqa: E731
    reporter: Any = SimpleNamespace(scalars=lambda *_: None, flush=lambda: None)
    run: Any = counting
    train(run, Path("nowhere"), reporter, timing, judge)
    return saved


def test_a_state_is_saved_every_few_minutes_or_steps_and_before_each_judgement(
    monkeypatch: pytest.MonkeyPatch,
):
    assert saved_steps(monkeypatch, Timing(100, 100)) == [0, 5, 10, 12, -12]
    assert saved_steps(monkeypatch, Timing(4, 100, save_minutes=9)) == [0, 4, 8, 12, -12]
    assert saved_steps(monkeypatch, Timing(100, 7, save_minutes=9)) == [0, 7, -7, 12, -12]
