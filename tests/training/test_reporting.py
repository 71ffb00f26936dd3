"""Where curves and samples go."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.fakes.tiny_pictures import little_room
from training.core import reporting
from training.core.reporting import Reporter, make_reporter

SHEET = Image.new("L", (8, 6), 255)


def test_what_is_logged_again_after_a_resume_is_there_once(tmp_path: Path):
    for first_step in (1, 3):
        with make_reporter("tensorboard", tmp_path, first_step, {}) as reporter:
            for step in range(first_step, first_step + 4):
                reporter.scalars({"loss": float(step)}, step)
            reporter.flush()
            reporter.picture("samples", SHEET, first_step + 3)
    log = EventAccumulator(str(tmp_path / "logs")).Reload()
    assert [event.step for event in log.Scalars("loss")] == [1, 2, 3, 4, 5, 6]
    assert [(image.width, image.height) for image in log.Images("samples")][-1] == (8, 6)


def test_a_report_to_nowhere_leaves_nothing(tmp_path: Path):
    with make_reporter("none", tmp_path, 1, {}) as reporter:
        reporter.scalars({"loss": 1.0}, 1)
        reporter.picture("samples", SHEET, 1)
        reporter.flush()
    assert type(reporter) is Reporter
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_by_the_next_call_and_by_no_traceback_of_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def report_much() -> None:
        with make_reporter("tensorboard", tmp_path, 1, {}) as reporter:
            for step in range(50):
                reporter.scalars({"loss": 1.0}, step)
                reporter.flush()

    told: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_type))
    reporting._let_the_next_call_tell.cache_clear()
    with pytest.raises(OSError, match="File too large"), little_room(500):
        report_much()
    other = threading.Thread(target=lambda: 1 / 0)
    other.start()
    for thread in threading.enumerate():
        if thread is other or type(thread).__module__.startswith("tensorboard."):
            thread.join()
    reporting._let_the_next_call_tell.cache_clear()  # the hook goes with this test
    assert told == [ZeroDivisionError]


class FakeWandb(SimpleNamespace):
    """Notes what a run was started with and told."""

    def __init__(self):
        super().__init__(started=[], logged=[], finished=0)

    def init(self, **options: Any) -> FakeWandb:
        self.started.append(options)
        return self

    def log(self, values: dict[str, Any], step: int) -> None:
        self.logged.append((values, step))

    def Image(self, picture: Image.Image) -> tuple[int, int]:  # noqa: N802
        return picture.size

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)  # pyright: ignore[reportArgumentType]
    return fake


def test_wandb_gets_figures_pictures_and_recipe(wandb: FakeWandb, tmp_path: Path):
    with make_reporter("wandb", tmp_path / "run", 1, {"lr": 1}) as reporter:
        reporter.scalars({"loss": 0.5}, 1)
        reporter.picture("samples", SHEET, 1)
    assert wandb.logged == [({"loss": 0.5}, 1), ({"samples": (8, 6)}, 1)]
    assert wandb.finished == 1
    assert (wandb.started[0]["name"], wandb.started[0]["config"]) == ("run", {"lr": 1})


def test_wandb_goes_on_with_the_same_run_after_a_resume_and_not_with_another(
    wandb: FakeWandb, tmp_path: Path
):
    for first_step in (1, 5, 1):
        make_reporter("wandb", tmp_path / "run", first_step, {}).close()
    first, resumed, new = (options["id"] for options in wandb.started)
    assert first == resumed != new


def test_wandb_that_is_not_installed_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "wandb", None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"report_to must be tensorboard or none unless") as error:
        make_reporter("wandb", tmp_path, 1, {})
    assert "\n" not in str(error.value)
