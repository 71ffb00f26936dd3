"""The shape of the house: imports run one way, and only the tabs know Gradio."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

_PRODUCT = {
    "pipelines.settings",
    "pipelines.images",
    "pipelines.checkpoints",
    "pipelines.losses",
    "pipelines.guidance",
    "pipelines.comparison",
    "pipelines.pace",
}
_TAB = {"tabs.common", "tabs.results", "tabs.shell", "tabs.words"}
# What each module may import from the project; a package name stands for all of its modules that
# have no row of their own.
MAY_IMPORT: dict[str, set[str]] = {
    "pipelines.images": set(),
    "pipelines.sentences": set(),
    "pipelines.colorimetry": set(),
    "pipelines.unets": set(),
    "pipelines.runtime": set(),
    "pipelines.pace": set(),
    "pipelines.losses": set(),
    "pipelines.digit_judge": set(),
    "pipelines.settings": {"pipelines.images", "pipelines.sentences"},
    "pipelines.hub": {"pipelines.settings", "pipelines.sentences"},
    "pipelines.lending": {
        "pipelines.checkpoints",
        "pipelines.clip",
        "pipelines.pace",
        "pipelines.runtime",
        "pipelines.sentences",
        "pipelines.trace",
    },
    "pipelines.own_checkpoints": {
        "pipelines.settings",
        "pipelines.sentences",
        "pipelines.hub",
    },
    "pipelines.checkpoints": {
        "pipelines.settings",
        "pipelines.sentences",
        "pipelines.own_checkpoints",
        "pipelines.runtime",
        "pipelines.unets",
    },
    "pipelines.sampling": {"pipelines.runtime"},
    "pipelines.search": {"pipelines.sampling"},
    "pipelines.guidance": {"pipelines.sampling", "pipelines.losses"},
    "pipelines.trace": {"pipelines.images", "pipelines.sampling"},
    "pipelines.clip": {
        "pipelines.settings",
        "pipelines.hub",
        "pipelines.images",
        "pipelines.runtime",
        "pipelines.checkpoints",
    },
    "pipelines.zero_shot": {"pipelines.clip"},
    "pipelines.comparison": {
        "pipelines.settings",
        "pipelines.images",
        "pipelines.checkpoints",
        "pipelines.sampling",
        "pipelines.losses",
        "pipelines.guidance",
        "pipelines.search",
        "pipelines.pace",
        "pipelines.trace",
    },
    "pipelines.record": {
        "pipelines.settings",
        "pipelines.sentences",
        "pipelines.images",
        "pipelines.checkpoints",
        "pipelines.comparison",
        "pipelines.trace",
    },
    "pipelines.sweep": {"pipelines.settings", "pipelines.images"},
    "pipelines.sheet": {"pipelines.sweep"},
    "pipelines.digits": {
        "pipelines.settings",
        "pipelines.checkpoints",
        "pipelines.sampling",
        "pipelines.comparison",
        "pipelines.digit_judge",
        "pipelines.pace",
    },
    "pipelines.color": _PRODUCT | {"pipelines.colorimetry"},
    "pipelines.text": _PRODUCT
    | {
        "pipelines.clip",
        "pipelines.runtime",
        "pipelines.sampling",
        "pipelines.search",
        "pipelines.trace",
        "pipelines.zero_shot",
    },
    "tabs.charts": set(),
    "tabs.look": set(),
    "tabs.runs": set(),
    "tabs.words": {"pipelines.sentences"},
    "tabs.explain": {"pipelines", "tabs.words"},
    "tabs.common": {"pipelines", "tabs.words"},
    "tabs.inside": {"pipelines.comparison", "pipelines.trace", "tabs.words"},
    "tabs.results": {"pipelines", "tabs.charts", "tabs.common", "tabs.inside", "tabs.words"},
    "tabs.gallery": {"pipelines.images", "pipelines.record", "tabs.results", "tabs.words"},
    "tabs.sweeps": {"pipelines", "tabs.common", "tabs.results", "tabs.words"},
    "tabs.guided": {"pipelines", "tabs.common", "tabs.results", "tabs.words"},
    "tabs.shell": {
        "pipelines",
        "tabs.common",
        "tabs.explain",
        "tabs.gallery",
        "tabs.results",
        "tabs.runs",
        "tabs.sweeps",
        "tabs.words",
    },
    "tabs.page": {"pipelines", "tabs.common", "tabs.runs", "tabs.shell", "tabs.words"},
    "tabs.color": _TAB | {"pipelines", "tabs.guided"},
    "tabs.text": _TAB | {"pipelines", "tabs.guided"},
    "tabs.digits": _TAB | {"pipelines"},
    "tabs.about": {"pipelines", "tabs.common", "tabs.explain", "tabs.words"},
    "tabs.warm_up": {
        "pipelines.pace",
        "pipelines.runtime",
        "pipelines.settings",
        "tabs.color",
        "tabs.text",
        "tabs.digits",
        "tabs.results",
    },
    "app": {"tabs", "pipelines.runtime", "pipelines.settings"},
    "training": {
        "training",
        "pipelines.settings",
        "pipelines.images",
        "pipelines.runtime",
        "pipelines.checkpoints",
        "pipelines.own_checkpoints",
        "pipelines.sampling",
        "pipelines.unets",
    },
    "training.captions": {"pipelines.zero_shot"},
    "training.card_parts": set(),
    "training.data": set(),
    "training.hub": {"training.hub_access"},
    "training.hub_access": {"pipelines.hub"},
    "training.loop": {"pipelines.runtime"},
    "training.reporting": set(),
    "training.sources": set(),
    "benchmarks": {"benchmarks", "pipelines", "training"},
}
PACKAGES = {"pipelines", "tabs", "training", "benchmarks"}
PROJECT = PACKAGES | {"app", "tests"}
MODULES = sorted(
    [ROOT / "app.py"]
    + [path for name in PACKAGES for path in (ROOT / name).glob("*.py") if path.stat().st_size]
)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imported(path: Path) -> set[str]:
    """Full names of all modules that a file imports, at its top or inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), path.parent.name)
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def within(name: str, allowed: set[str]) -> bool:
    return any(name == entry or name.startswith(f"{entry}.") for entry in allowed)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_run_one_way(path: Path):
    name = module_name(path)
    allowed = MAY_IMPORT.get(name, MAY_IMPORT.get(name.split(".")[0], set()))
    foreign = {n for n in imported(path) if n.split(".")[0] in PROJECT and not within(n, allowed)}
    assert not foreign


def test_no_module_imports_itself_by_way_of_others():
    files = {module_name(path): imported(path) for path in MODULES}
    order = TopologicalSorter(
        {
            name: {m for m in files if any(within(n, {m}) for n in found)}
            for name, found in files.items()
        }
    )
    order.prepare()  # raises CycleError with the circle in it


def test_every_row_is_of_a_module_or_package_that_exists():
    assert set(MAY_IMPORT) <= {module_name(path) for path in MODULES} | PACKAGES


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_only_the_tabs_and_the_app_know_gradio(path: Path):
    knows = any(name.split(".")[0] == "gradio" for name in imported(path))
    assert not knows or module_name(path).split(".")[0] in {"tabs", "app"}


def test_every_module_of_pipelines_and_tabs_has_a_row_of_its_own():
    names = {module_name(path) for path in MODULES if path.parent.name in ("pipelines", "tabs")}
    assert names <= set(MAY_IMPORT)
