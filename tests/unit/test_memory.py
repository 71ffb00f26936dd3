"""Loaded models: within a budget, the one that was used longest ago goes first."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from pipelines.models import checkpoints, clip, memory
from pipelines.models.table import TABLE
from pipelines.products import color
from pipelines.products.settings import ColorSettings

MEBIBYTE = 2**20
ROOT = Path(__file__).resolve().parents[2]


def loaded() -> set[str]:
    names = {key for key in TABLE if checkpoints.loaded_revision(key)}
    return names | ({"clip-small"} if memory.Models("clip").get("clip-small") else set())


def size_of(key: str) -> int:
    return memory._bytes_of(checkpoints.load(key))


@pytest.fixture
def room_for_two(tiny_checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget of two of the three painters, which have one size."""
    size = size_of("scenes")
    checkpoints.unload_all()
    monkeypatch.setattr(memory, "MEGABYTE", size * 2 + 1)
    monkeypatch.setenv("STUDIO_MODEL_MB", "1")


@pytest.mark.usefixtures("room_for_two")
def test_the_model_that_was_used_longest_ago_is_dropped():
    for key in ("scenes", "paintings", "scenes", "emoji"):
        checkpoints.load(key)
    assert loaded() == {"scenes", "emoji"}


@pytest.mark.usefixtures("room_for_two")
def test_checkpoints_and_clips_share_one_budget():
    checkpoints.load("scenes")
    checkpoints.load("paintings")
    clip.load("clip-small")
    assert "clip-small" in loaded()
    assert "scenes" not in loaded()


@pytest.mark.usefixtures("room_for_two")
def test_memory_of_a_dropped_model_is_given_back():
    network = weakref.ref(checkpoints.load("scenes").unet)
    checkpoints.load("paintings")
    checkpoints.load("emoji")
    gc.collect()
    assert network() is None


@pytest.mark.usefixtures("room_for_two")
def test_a_run_goes_on_with_a_model_that_was_dropped_meanwhile():
    settings = ColorSettings(model="scenes", num_inference_steps=3, method="fast")
    *_, undisturbed = color.generate(settings)
    checkpoints.unload_all()
    run = color.generate(settings)
    next(run)
    checkpoints.load("paintings")
    checkpoints.load("emoji")
    assert "scenes" not in loaded()
    *_, last = run
    assert last.finished
    assert last.pictures[0].tobytes() == undisturbed.pictures[0].tobytes()


@pytest.mark.usefixtures("tiny_checkpoints")
def test_a_model_larger_than_the_budget_is_loaded_and_not_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "MEGABYTE", 100)
    monkeypatch.setenv("STUDIO_MODEL_MB", "1")
    assert checkpoints.load("scenes").checkpoint.key == "scenes"
    assert not loaded()


@pytest.mark.usefixtures("tiny_checkpoints")
def test_checkpoints_and_clips_are_dropped_apart():
    checkpoints.load("scenes")
    clip.load("clip-small")
    clip.unload_all()
    assert loaded() == {"scenes"}
    clip.load("clip-small")
    checkpoints.unload_all()
    assert loaded() == {"clip-small"}


def test_all_bundled_models_fit_into_the_smallest_default_together():
    """Half precision on disk is full precision in memory."""
    bundled = [row.folder.rglob("*.safetensors") for row in TABLE.values()]
    files = [path for paths in bundled for path in paths]
    assert 4 * sum(path.stat().st_size for path in files) < memory._LEAST_MB * MEBIBYTE


@pytest.mark.parametrize(
    ("bytes_there", "expected"), [(2**30, 1024), (8 * 2**30, 2048), (64 * 2**30, 4096)]
)
def test_the_default_is_a_quarter_of_the_memory_and_at_most_4_gib(
    monkeypatch: pytest.MonkeyPatch, bytes_there: int, expected: int
):
    monkeypatch.delenv("STUDIO_MODEL_MB", raising=False)
    monkeypatch.setattr(memory, "_memory_bytes", lambda _: bytes_there)
    assert memory.budget_mb() == expected


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "9" * 12, "٣"])
def test_a_budget_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch, text: str):
    monkeypatch.setenv("STUDIO_MODEL_MB", text)
    with pytest.raises(ValueError, match="STUDIO_MODEL_MB must be a whole number from 1 to"):
        memory.budget_mb()


RETURNS = """
from pathlib import Path
from pipelines.core import devices
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
blocks = [bytes(4000) for _ in range(30_000)]
last = blocks[-1]
del blocks
before = resident()
devices.return_freed_memory()
print(before - resident())
"""


@pytest.mark.thorough
def test_freed_memory_goes_back_to_the_system():
    command = [sys.executable, "-c", RETURNS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) > 50 * 2**20
