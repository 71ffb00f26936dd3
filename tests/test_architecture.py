"""The shape of the house: imports run one way, and only the tabs know Gradio."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# What each module may import from the project; a package name stands for all of its modules.
MAY_IMPORT: dict[str, set[str]] = {
    "pipelines.settings": set(),
    "pipelines.images": set(),
    "pipelines.unets": set(),
    "pipelines.runtime": {"pipelines.settings", "pipelines.images"},
    "pipelines.checkpoints": {"pipelines.settings", "pipelines.runtime", "pipelines.unets"},
    "pipelines.sampling": {"pipelines.settings", "pipelines.runtime", "pipelines.checkpoints"},
    "pipelines.digits": {
        "pipelines.settings",
        "pipelines.images",
        "pipelines.runtime",
        "pipelines.checkpoints",
        "pipelines.sampling",
    },
    "tabs": {"pipelines", "tabs"},
    "app": {"tabs"},
    "training": {
        "training",
        "pipelines.settings",
        "pipelines.images",
        "pipelines.runtime",
        "pipelines.checkpoints",
        "pipelines.sampling",
        "pipelines.unets",
    },
    "benchmarks": {"benchmarks", "pipelines", "training"},
}
PROJECT = {name.split(".")[0] for name in MAY_IMPORT}
MODULES = sorted(
    [ROOT / "app.py"]
    + [
        path
        for name in PROJECT - {"app"}
        for path in (ROOT / name).glob("*.py")
        if path.stat().st_size
    ]
)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imported(path: Path) -> set[str]:
    """Full names of all modules that a file imports, at its top or inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def within(name: str, allowed: set[str]) -> bool:
    return any(name == entry or name.startswith(f"{entry}.") for entry in allowed)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_run_one_way(path: Path):
    name = module_name(path)
    allowed = MAY_IMPORT.get(name) or MAY_IMPORT.get(name.split(".")[0], set())
    foreign = {n for n in imported(path) if n.split(".")[0] in PROJECT and not within(n, allowed)}
    assert not foreign


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_only_the_tabs_and_the_app_know_gradio(path: Path):
    knows = any(name.split(".")[0] == "gradio" for name in imported(path))
    assert not knows or module_name(path).split(".")[0] in {"tabs", "app"}
