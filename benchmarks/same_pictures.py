"""Whether this tree draws the same pictures as version 0.2, on this machine.

    python -m benchmarks.same_pictures            # after moving code: every bit must be equal
    python -m benchmarks.same_pictures --rewrite  # after rewriting it: rounding may differ
    python -m benchmarks.same_pictures --quick    # a small subset, in a minute or two

It checks version 0.2 out into a temporary worktree, draws the cases of `same_pictures_draw.py` with
both trees at once, each in a process of its own with as many threads, and compares every array.
Both draw on this machine's CPU, since another processor or number of threads rounds otherwise.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "benchmarks" / "same_pictures_draw.py"
OWN_MODELS = ROOT / "tests" / "fixtures" / "version-0.2" / "models"
BASELINE = "f985293"
"""The commit of version 0.2."""

FIRST_STEP_TOLERANCE = 1e-5
PATH_TOLERANCE = 1e-3
"""Largest differences of x0 that `--rewrite` accepts, in the first step and in all of them."""

_PICTURES = ("pictures", "unguided")
_STEPS = ("x_t", "x0", "x_prev")
_HALF_RANGE = 127.5  # steps of 255 in a difference of 1 on the scale [-1, 1]

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Difference:
    """How far two drawings of one case are from each other; 0 where there is nothing to compare.

    Attributes:
        case: `kind: what`.
        pictures: largest difference of a pixel, in steps of 255.
        first_step: largest difference of x0 in the first step, on the scale [-1, 1].
        path: the same of all steps.
        numbers: largest difference of any other number.
        equal: whether all arrays are equal bit for bit.
        problem: why the case cannot be compared; empty if it can.
    """

    case: str
    pictures: float = 0.0
    first_step: float = 0.0
    path: float = 0.0
    numbers: float = 0.0
    equal: bool = False
    problem: str = ""

    @property
    def kind(self) -> str:
        """The part of the name before the colon: "color", "text", "digits" or "steps"."""
        return self.case.partition(":")[0]


def is_accepted(found: Difference, *, tolerance: float, rewrite: bool) -> bool:
    """Whether a case may differ as much as it does.

    Args:
        found: the difference.
        tolerance: steps of 255 that pixels, and x0 on the same scale, may differ by; with 0, every
            array must be equal bit for bit.
        rewrite: judges by kind instead: pictures of colours and digits by 1 step of 255, x0 by
            `FIRST_STEP_TOLERANCE` and `PATH_TOLERANCE`, and words not at all, since gradients
            through a CLIP let the last bit grow.
    """
    if found.problem or found.equal:
        return found.equal
    if not rewrite:
        return 0 < tolerance >= max(found.pictures, found.path * _HALF_RANGE)
    if found.kind == "steps":
        return found.first_step <= FIRST_STEP_TOLERANCE and found.path <= PATH_TOLERANCE
    return found.kind == "text" or found.pictures <= 1


def largest(a: NDArray[Any], b: NDArray[Any]) -> float:
    """The largest difference of two arrays, infinite if their shapes or what is finite differ."""
    if a.shape != b.shape:
        return math.inf
    if a.tobytes() == b.tobytes() or not a.size:
        return 0.0
    first, second = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid="ignore"):
        apart = np.abs(first - second)
    same = (first == second) | (np.isnan(first) & np.isnan(second))
    apart[same] = 0.0
    return float(np.nan_to_num(apart, nan=math.inf, posinf=math.inf).max())


def difference(case: str, before: Arrays, after: Arrays) -> Difference:
    """How two drawings of a case differ.

    Args:
        case: its name.
        before: arrays of the baseline.
        after: arrays of this tree, with the same names.
    """
    if "error" in before or "error" in after:
        failed = [
            f"{tree}: {bytes(arrays['error']).decode()}"
            for tree, arrays in (("version 0.2", before), ("this tree", after))
            if "error" in arrays
        ]
        return Difference(case, problem="; ".join(failed))
    if set(before) != set(after):
        only = ", ".join(sorted(set(before) ^ set(after)))
        return Difference(case, problem=f"only one tree has {only}")
    apart = {name: largest(before[name], after[name]) for name in before}
    other = [value for name, value in apart.items() if name not in (*_PICTURES, *_STEPS)]
    equal = all(
        before[name].dtype == after[name].dtype and before[name].tobytes() == after[name].tobytes()
        for name in before
        if apart[name] == 0
    )
    has_steps = "x0" in before and before["x0"].shape == after["x0"].shape
    return Difference(
        case,
        pictures=max((apart[name] for name in _PICTURES if name in apart), default=0.0),
        first_step=largest(before["x0"][0], after["x0"][0]) if has_steps else 0.0,
        path=apart.get("x0", 0.0),
        numbers=max(other, default=0.0),
        equal=equal and not any(apart.values()),
    )


def compared(before: Path, after: Path) -> Iterator[Difference]:
    """The difference of every case of two files that `same_pictures_draw.py` wrote."""
    with np.load(before) as first, np.load(after) as second:
        names = [by_case(file.files) for file in (first, second)]
        for case in dict.fromkeys((*names[0], *names[1])):
            if case not in names[0] or case not in names[1]:
                yield Difference(case, problem="only one tree has this case")
                continue
            yield difference(
                case,
                {name: first[f"{case}/{name}"] for name in names[0][case]},
                {name: second[f"{case}/{name}"] for name in names[1][case]},
            )


def by_case(keys: list[str]) -> dict[str, list[str]]:
    """Names of arrays, `case/array`, as the arrays of each case."""
    found: dict[str, list[str]] = {}
    for key in keys:
        case, _, name = key.rpartition("/")
        found.setdefault(case, []).append(name)
    return found


def git(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    """Runs git in this tree."""
    return subprocess.run(["git", *arguments], cwd=ROOT, check=check, capture_output=True)


def has_baseline() -> bool:
    """Whether the history of this tree goes back to version 0.2; a shallow clone's may not."""
    try:
        return git("cat-file", "-e", f"{BASELINE}^{{commit}}", check=False).returncode == 0
    except OSError:  # there is no git
        return False


@contextmanager
def worktree_of(commit: str) -> Iterator[Path]:
    """A temporary worktree of a commit, removed afterwards; this tree stays as it is."""
    with tempfile.TemporaryDirectory(prefix="same-pictures-") as folder:
        tree = Path(folder).resolve() / "tree"
        try:
            git("worktree", "add", "--quiet", "--detach", str(tree), commit)
            yield tree
        finally:
            git("worktree", "remove", "--force", str(tree), check=False)
            git("worktree", "prune", check=False)


@dataclass(frozen=True)
class Drawing:
    """How a tree draws.

    Attributes:
        examples: folder of the examples to draw, the same for both trees.
        quick: a small subset only.
        threads: of PyTorch.
    """

    examples: Path
    quick: bool = False
    threads: int = 1

    def start(self, tree: Path, out: Path) -> subprocess.Popen[bytes]:
        """A process, in a group of its own, that draws every case with a tree into a file."""
        # -P: the folder of the script must not be searched for modules.
        command = [sys.executable, "-P", str(SCRIPT), str(out), "--examples", str(self.examples)]
        command += ["--threads", str(self.threads), *(["--quick"] if self.quick else [])]
        return subprocess.Popen(
            command, cwd=tree, env=self._environment(tree, out), start_new_session=True
        )

    def _environment(self, tree: Path, out: Path) -> dict[str, str]:
        inherited = {name: v for name, v in os.environ.items() if not name.startswith("STUDIO_")}
        own = ",".join(f"{folder.name}={folder}" for folder in sorted(OWN_MODELS.iterdir()))
        return inherited | {
            "PYTHONPATH": str(tree),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": str(self.threads),
            "MKL_NUM_THREADS": str(self.threads),
            "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin slow each other down tenfold
            "HF_HUB_OFFLINE": "1",
            # Equal pictures have equal names there, and the trees would write them at once.
            "GRADIO_TEMP_DIR": str(out.with_suffix(".gradio")),
            "STUDIO_DEVICE": "cpu",
            "STUDIO_GRAPHS": "0",  # another way of computing has other last bits
            "STUDIO_CHECKPOINTS": own,
        }


@contextmanager
def ended(processes: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Ends processes and what they started, whatever happens."""
    try:
        yield
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def differences(baseline: Path, *, quick: bool = False, threads: int = 1) -> list[Difference]:
    """How this tree's drawings differ from those of another tree, case by case.

    Args:
        baseline: root of the other tree.
        quick: a small subset only.
        threads: of PyTorch, for each tree.

    Raises:
        RuntimeError: if one of the trees cannot be drawn with.
    """
    baseline = baseline.resolve()
    drawing = Drawing(baseline / "assets" / "examples", quick, threads)
    with tempfile.TemporaryDirectory(prefix="same-pictures-") as folder:
        files = {tree: Path(folder) / f"{i}.npz" for i, tree in enumerate(("baseline", "this"))}
        trees = {"baseline": baseline, "this": ROOT}
        processes: list[subprocess.Popen[bytes]] = []
        with ended(processes):
            for name, tree in trees.items():
                processes.append(drawing.start(tree, files[name]))
            codes = [process.wait() for process in processes]
        for tree, code in zip(trees.values(), codes, strict=True):
            if code:
                raise RuntimeError(f"drawing with {tree} failed with exit code {code}")
        return list(compared(files["baseline"], files["this"]))


def table(found: list[Difference], accepted: list[bool]) -> str:
    """One row per case."""
    head = ("case", "pictures, of 255", "x0, first step", "x0, path", "numbers", "")
    rows = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for row, good in zip(found, accepted, strict=True):
        numbers = (row.first_step, row.path, row.numbers)
        cells = [f"{row.pictures:g}", *(f"{number:.1e}" for number in numbers)]
        if row.equal or row.problem:
            cells = [row.problem or "equal", "", "", ""]
        rows.append(f"| {row.case} | {' | '.join(cells)} | {'' if good else 'DIFFERS'} |")
    return "\n".join(rows)


def main(
    baseline: Annotated[
        Path | None, typer.Option(help="a worktree of version 0.2, instead of a temporary one")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, help="steps of 255 that pixels may differ by; 0: every bit")
    ] = 0.0,
    rewrite: Annotated[
        bool, typer.Option(help="accept rounding: see `is_accepted`, instead of the tolerance")
    ] = False,
    quick: Annotated[bool, typer.Option(help="a small subset only")] = False,
    threads: Annotated[int, typer.Option(min=1, help="threads of PyTorch, for each tree")] = 1,
) -> None:
    """Prints a row per case; the exit code is 1 if a case differs by more than is accepted."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is cleaned up
    if baseline is None and not has_baseline():
        print(f"the history lacks commit {BASELINE}: fetch it or give --baseline", file=sys.stderr)
        raise typer.Exit(2)
    if baseline is None:
        with worktree_of(BASELINE) as tree:
            rows = differences(tree, quick=quick, threads=threads)
    else:
        rows = differences(baseline, quick=quick, threads=threads)
    accepted = [is_accepted(row, tolerance=tolerance, rewrite=rewrite) for row in rows]
    print(table(rows, accepted))
    equal = sum(row.equal for row in rows)
    print(f"\n{len(rows)} cases: {equal} equal, {accepted.count(False)} differ by too much.")
    raise typer.Exit(0 if all(accepted) and rows else 1)


if __name__ == "__main__":
    typer.run(main)
