"""The design document: its path through the code, and that what it says of new parts is true."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.test_architecture import ROOT, lines_of_code

pytestmark = pytest.mark.slow

DOCUMENT = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
STOPS = re.findall(r"^\| \d+ \| `(\S+)` \| ([^|]+) \|", DOCUMENT, re.MULTILINE)
MOST_LINES = 400


def lines_to_read(file: str, names: list[str]) -> int:
    """Lines of code of some functions and classes of a file, of all of it without names."""
    source = (ROOT / file).read_text(encoding="utf-8")
    lines = lines_of_code(source)
    if not names:
        return len(lines)
    parts = {
        n.name: n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef | ast.ClassDef)
    }
    spans = [range(parts[n].lineno, (parts[n].end_lineno or 0) + 1) for n in names]
    return len(lines & {line for span in spans for line in span})


def test_a_newcomer_reads_at_most_400_lines_from_checkpoint_to_pixel():
    assert len(STOPS) == 8
    counts = [lines_to_read(file, re.findall(r"`(\w+)`", names)) for file, names in STOPS]
    assert sum(counts) <= MOST_LINES


def test_the_sampler_fits_on_a_screen():
    assert lines_to_read("pipelines/diffusion/sampling.py", ["sample"]) <= 40


def code_under(heading: str) -> str:
    """The example below a heading of the document."""
    section = DOCUMENT.split(f"## {heading}\n", 1)[1]
    return section.split("```python\n", 1)[1].split("```", 1)[0]


DRAW = """
import torch
from pipelines.diffusion import losses
from pipelines.diffusion.guidance import Guide
from pipelines.diffusion.losses.warmth import warmth
from pipelines.diffusion.methods import METHODS
from pipelines.models import checkpoints
from pipelines.products import digits
from pipelines.products.settings import DigitsSettings
from pipelines.runs.run import Plan, Run

torch.set_num_threads(1)
drawn = {}
for solver in ("euler", "ddim"):
    settings = DigitsSettings(digits="7", solver=solver, num_inference_steps=4)
    *_, last = digits.generate(settings, compare=False)
    drawn[solver] = last.pictures[0].tobytes()
assert drawn["euler"] == drawn["ddim"]

run = Run(Plan("emoji", (0, 1), 4, "euler", 0.0), checkpoints.load("emoji"))
guide = Guide(METHODS["balanced"], [losses.Term(warmth)], 0.2)
*_, plain = run.steps()
*_, warm = Run(run.plan, run.loaded, guide).steps()
assert (warmth(warm.x_prev) < 0.7 * warmth(plain.x_prev)).all()
print("drawn")
"""


@pytest.mark.timeout(200)
@pytest.mark.thorough
def test_a_solver_and_a_loss_are_added_by_one_file_each(tmp_path: Path):
    """The document's own examples, in a copy of the project that differs by these two files."""
    shutil.copytree(ROOT / "pipelines", tmp_path / "pipelines")
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    folder = tmp_path / "pipelines" / "diffusion"
    (folder / "solvers" / "euler.py").write_text(code_under("Adding a solver"))
    (folder / "losses" / "warmth.py").write_text(code_under("Adding a loss"))
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", DRAW], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout == "drawn\n", done.stderr
