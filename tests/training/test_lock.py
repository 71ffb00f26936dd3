"""Only one process trains in a folder, and a refused one learns who does."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.tiny_pictures import invoke
from training import finetune_model, train_clip, train_digits
from training.core.lock import only_run_in

ROOT = Path(__file__).resolve().parents[2]
HOLDS = """
import sys, time
from pathlib import Path
from typing import Any
from training.core.lock import only_run_in

with only_run_in(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@contextmanager
def other_process_in(folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDS, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (train_digits.main, ["--conditioning=channels", "--output"]),
        (train_clip.main, ["--model-save-name"]),
        (finetune_model.main, ["--model-save-name"]),
    ],
)
def test_every_trainer_refuses_a_folder_in_use_and_says_who_uses_it(
    command: Any, options: list[str], tmp_path: Path
):
    folder = tmp_path / "run"
    with other_process_in(folder) as process:
        result = invoke(command, *options, str(folder))
    assert result.exit_code == 2, result.output
    told = " ".join(re.sub("[│╭╮╰╯─]", " ", result.output).split())
    assert (
        f"{folder} must be the folder of one process at a time, got a second one; "
        f"process {process.pid} on {socket.gethostname()}, since "
    ) in told
    assert "Traceback" not in result.output


def test_a_killed_process_holds_nothing(tmp_path: Path):
    with other_process_in(tmp_path) as process:
        with pytest.raises(ValueError, match=f"process {process.pid} on "), only_run_in(tmp_path):
            raise AssertionError("two processes in one folder")
        process.send_signal(signal.SIGKILL)
        process.wait()
        with only_run_in(tmp_path):
            assert str(os.getpid()) in (tmp_path / "run.lock.json").read_text()
    assert not (tmp_path / "run.lock.json").exists()


def test_other_processes_of_the_same_run_take_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with only_run_in(tmp_path):
        monkeypatch.setenv("RANK", "1")
        with only_run_in(tmp_path):
            pass


def test_a_run_that_is_refused_leaves_no_folder_behind(tmp_path: Path):
    result = invoke(finetune_model.main, f"--model-save-name={tmp_path / 'run'}", "--lr=-1")
    assert result.exit_code == 2
    assert not (tmp_path / "run").exists()
