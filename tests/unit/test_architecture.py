"""The shape of the house: imports run one way, only the pages know Gradio, modules stay small."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("pipelines", "tabs", "training", "benchmarks")
MODULES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
MOST_LINES = 300
LONGER = {"pipelines/diffusion/unets.py": 350}  # goes to the Hub with a model, as one file
MOST_LINES_OF_A_FUNCTION = 40


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def lines_of_code(source: str) -> set[int]:
    """Numbers of the lines that hold code: no blank ones, comments or docstrings."""
    silent = (
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    )
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    spans = (range(t.start[0], t.end[0] + 1) for t in tokens if t.type not in silent)
    strings = (
        range(node.lineno, (node.end_lineno or node.lineno) + 1)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
    return {n for span in spans for n in span} - {n for span in strings for n in span}


def test_imports_keep_to_their_layers():
    """The contracts stand in `pyproject.toml`."""
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command as run;run()",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_is_tracked():
    """A pattern of `.gitignore` once hid a whole folder."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    ignored = subprocess.run(
        ["git", "check-ignore", "--stdin"],
        cwd=ROOT,
        input="\n".join(str(path.relative_to(ROOT)) for path in MODULES),
        capture_output=True,
        text=True,
    )
    assert ignored.stdout == ""


@pytest.mark.parametrize(
    "path",
    sorted(path for name in ("pipelines", "tabs") for path in (ROOT / name).rglob("*.py")),
    ids=module_name,
)
def test_a_module_fits_into_a_head(path: Path):
    source = path.read_text(encoding="utf-8")
    lines = lines_of_code(source)
    assert len(lines) <= LONGER.get(path.relative_to(ROOT).as_posix(), MOST_LINES)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            own = lines & set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
            assert len(own) <= MOST_LINES_OF_A_FUNCTION, node.name


OLD_NAMES = (
    "checkpoints",
    "clip",
    "color",
    "colorimetry",
    "comparison",
    "digit_judge",
    "digits",
    "guidance",
    "hub",
    "images",
    "lending",
    "losses",
    "own_checkpoints",
    "pace",
    "record",
    "runtime",
    "sampling",
    "search",
    "sentences",
    "settings",
    "sheet",
    "sweep",
    "text",
    "trace",
    "unets",
    "zero_shot",
)


@pytest.mark.parametrize("name", OLD_NAMES)
def test_a_module_of_version_0_2_is_still_found_by_its_name(name: str):
    pipelines = import_module("pipelines")
    found = getattr(pipelines, name, None) or import_module(f"pipelines.{name}")
    assert found.__name__.startswith("pipelines.")


@pytest.mark.parametrize("name", ["color", "digits", "text"])
def test_a_product_of_version_0_2_is_imported_as_then(name: str):
    assert callable(import_module(f"pipelines.{name}").generate)


def test_a_name_that_never_was_is_missed_as_usual():
    with pytest.raises(AttributeError, match="nothing_like_this"):
        _ = import_module("pipelines").nothing_like_this
