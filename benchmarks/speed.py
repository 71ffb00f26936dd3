"""Seconds of a picture, beside version 0.2 in the same minutes on this machine.

python -m benchmarks.speed

Both versions are asked for the same work in turns, each in a process of its own with as many
threads. The figures are medians, and ratios of medians; the lowest and highest ratio of a turn say
how far this machine's noise reaches. Then the loops of the course's notebooks are timed in the
process of this version.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from benchmarks.same_pictures import BASELINE, ROOT, worktree_of
from benchmarks.speed_worker import COURSE, WORK

WORKER = ROOT / "benchmarks" / "speed_worker.py"
_COURSE_TURNS = 3


@dataclass(frozen=True)
class Answer:
    """What one version took for one piece of work.

    Attributes:
        seconds: of wall-clock time.
        megabytes: the most memory that its process has had.
    """

    seconds: float
    megabytes: float


@contextmanager
def worker(tree: Path, threads: int) -> Iterator[subprocess.Popen[str]]:
    """Starts the process of one version."""
    environment = os.environ | {
        "PYTHONPATH": str(tree),
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
    }
    process = subprocess.Popen(
        [sys.executable, str(WORKER)],
        cwd=tree,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def ask(process: subprocess.Popen[str], name: str) -> Answer:
    """Lets a version do a piece of work once.

    Raises:
        RuntimeError: if it fails.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(name + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{name} failed")
    return Answer(**json.loads(line))


def table(before: dict[str, list[Answer]], after: dict[str, list[Answer]]) -> list[str]:
    """Returns the lines of a table in Markdown."""
    lines = [
        "| work | 0.2, s | here, s | ratio | of single turns |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in before:
        old, new = _seconds(before[name]), _seconds(after[name])
        ratios = [b.seconds / a.seconds for a, b in zip(before[name], after[name], strict=True)]
        lines.append(
            f"| {name} | {old:.3f} | {new:.3f} | {new / old:.2f} | "
            f"{min(ratios):.2f} to {max(ratios):.2f} |"
        )
    memory = [max(a.megabytes for name in before for a in v[name]) for v in (before, after)]
    lines.append(
        f"| most memory, MB | {memory[0]:.0f} | {memory[1]:.0f} | {memory[1] / memory[0]:.2f} | |"
    )
    return lines


def course_table(after: dict[str, list[Answer]]) -> list[str]:
    """Returns the lines of a table of the course's loops, and how much less ours take."""
    lines = ["| the course's loop | s | here instead | times less |", "| --- | --- | --- | --- |"]
    for name in COURSE:
        ours = "digits, one row" if "digits" in name else "color, fast, 6 steps"
        theirs, less = _seconds(after[name]), _seconds(after[name]) / _seconds(after[ours])
        lines.append(f"| {name} | {theirs:.3f} | {ours} | {less:.1f} |")
    return lines


def _seconds(answers: Sequence[Answer]) -> float:
    return statistics.median(answer.seconds for answer in answers)


def summary(after: dict[str, list[Answer]]) -> list[str]:
    """Returns what follows from the figures of this version alone."""
    seconds = {name: _seconds(answers) for name, answers in after.items()}
    of_eight = seconds["color, 8 pictures"] / 8 / seconds["color"]
    return [
        f"unguided over its passes: {seconds['unguided'] / seconds['passes']:.2f}",
        f"color over unguided: {seconds['color'] / seconds['unguided']:.2f}",
        f"text over unguided: {seconds['text'] / seconds['unguided']:.2f}",
        f"one of eight pictures over a single one: {of_eight:.2f}",
    ]


def main(
    turns: Annotated[int, typer.Option(min=1, help="how often each version does each work")] = 7,
    threads: Annotated[int, typer.Option(min=1, help="of both versions")] = 2,
) -> None:
    """Prints the table."""
    before: dict[str, list[Answer]] = {name: [] for name in WORK}
    after: dict[str, list[Answer]] = {name: [] for name in WORK}
    with ExitStack() as stack:
        old = stack.enter_context(worker(stack.enter_context(worktree_of(BASELINE)), threads))
        new = stack.enter_context(worker(ROOT, threads))
        for name in tqdm(WORK, unit="work"):
            for _ in range(turns):
                before[name].append(ask(old, name))
                after[name].append(ask(new, name))
        for name in tqdm(COURSE, unit="loop"):
            after[name] = [ask(new, name) for _ in range(_COURSE_TURNS)]
    print("\n".join([*table(before, after), "", *summary(after), "", *course_table(after)]))


if __name__ == "__main__":
    typer.run(main)
