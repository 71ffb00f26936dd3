"""The page on deployment names every variable of the limits, with its real default."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.models import memory
from tabs import temp_files
from tabs.server import limits, sessions
from tabs.server.bodies import Limits

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| `(STUDIO_\w+)` \| ([^|]+?) \|", PAGE, re.MULTILINE))
DEFAULTS: dict[str, Callable[[], float]] = {
    "STUDIO_DEADLINE_SECONDS": limits.deadline_seconds,
    "STUDIO_MAX_RUNS_PER_SESSION": limits.runs_per_session,
    "STUDIO_MAX_RUNS_PER_ADDRESS": limits.runs_per_address,
    "STUDIO_UNHEARD_WAITING_SECONDS": limits.unheard_waiting_seconds,
    "STUDIO_UNHEARD_RUNNING_SECONDS": limits.unheard_running_seconds,
    "STUDIO_TEMP_MB": temp_files.budget_mb,
    "STUDIO_MAX_SESSIONS": sessions.max_sessions,
    "STUDIO_MAX_BODY_MB": lambda: Limits.from_environment().body_bytes / 2**20,
    "STUDIO_UPLOAD_QUOTA_MB": lambda: Limits.from_environment().upload_bytes / 2**20,
}


def test_every_variable_of_the_code_is_in_a_document():
    sources = [ROOT / "app.py", *(ROOT / "tabs").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    others = (ROOT / "README.md", ROOT / "docs" / "speed.md")
    documents = PAGE + "".join(path.read_text(encoding="utf-8") for path in others)
    names = set(re.findall(r'"(STUDIO_[A-Z_]+)"', code))
    assert names
    assert not {name for name in names if f"`{name}`" not in documents}


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_default_is_the_one_of_the_code(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(name, raising=False)
    assert float(ROWS[name]) == DEFAULTS[name]()


def test_the_budget_of_models_lies_in_the_range_that_the_page_gives(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.delenv("STUDIO_MODEL_MB", raising=False)
    low, high = map(int, re.findall(r"(\d+) to (\d+)", ROWS["STUDIO_MODEL_MB"])[0])
    assert low <= memory.budget_mb() <= high
