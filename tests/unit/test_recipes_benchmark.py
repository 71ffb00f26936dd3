"""The benchmark of recipes: every arm can be built, equal noise is compared, and it resumes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import datasets.config
import pytest

from benchmarks import recipes
from benchmarks.recipes import ARMS, NOISE_LEVELS, Arm, Result
from pipelines.core import devices
from tests.fakes.tiny_pictures import SIZE, invoke, one_thread, pictures, write_landscapes
from training.pictures.recipe import Recipe

pytestmark = pytest.mark.slow

SMALL = {
    "block_out_channels": (32, 32),
    "down_block_types": ("DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D"),
    "attention_head_dim": 8,
}


@pytest.fixture(autouse=True)
def quick(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    monkeypatch.setattr(
        datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "cache"
    )
    with one_thread():
        yield


def common(**changes: object) -> Recipe:
    return replace(recipes.base("somewhere", SIZE, 4, "no", 0), max_steps=2, **changes)


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_every_arm_changes_one_thing_and_takes_a_step(arm: Arm):
    changed = [part for part in (arm.network, arm.schedule, arm.recipe) if part]
    assert len(changed) == (arm.name != "base")
    trainer = recipes.trainer_of(arm, common(), pictures())
    assert 0 < trainer.train_step() < 1e4


def test_arms_are_compared_at_the_same_noise_whatever_their_schedule():
    found = {}
    for name, schedule in (("cosine", {}), ("linear", {"beta_schedule": "linear"})):
        arm = Arm(name, network=SMALL, schedule=schedule)
        trainer = recipes.trainer_of(arm, common(), pictures())
        sigmas = (1 - trainer.objective.alpha_bar).sqrt()
        found[name] = [sigmas[(sigmas - level).abs().argmin()].item() for level in NOISE_LEVELS]
        assert list(recipes.errors_of(trainer)) == [str(level) for level in NOISE_LEVELS]
    assert found["cosine"] == pytest.approx(found["linear"], abs=0.02)


class Costly:
    """What takes so many seconds of a clock of its own, the first time ten times as many."""

    def __init__(self, clock: list[float], seconds: float):
        self.clock, self.seconds, self.first = clock, seconds, True

    def train_step(self) -> float:
        self.clock[0] += self.seconds * (10 if self.first else 1)
        self.first = False
        return 0.0


def test_a_dearer_arm_gets_fewer_steps(monkeypatch: pytest.MonkeyPatch):
    clock = [0.0]
    monkeypatch.setattr(recipes, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    for seconds, steps in ((0.5, 120), (1.0, 60), (4.0, 15), (1e4, 1)):
        dear, plain = Costly(clock, seconds), Costly(clock, 1.0)
        assert recipes.affordable_steps(dear, plain, 60) == steps  # type: ignore[arg-type]


def test_the_best_comes_first():
    results = [
        Result(name, 7_000_000, 1.234, 1234, {"0.5": 0.01}, distance)
        for name, distance in (("base", 9.0), ("better", 8.0))
    ]
    lines = recipes.table(results).splitlines()
    assert lines[2] == "| better | 7.0 | 1.23× | 1,234 | 0.0100 | 8.00 |"
    assert lines[3].startswith("| base |")


@pytest.mark.thorough
def test_the_command_measures_what_was_not_yet_and_prints_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    other_target = {"prediction": "epsilon"}
    arms = (Arm("base", SMALL), Arm("predicts the noise", SMALL, recipe=other_target))
    monkeypatch.setattr(recipes, "ARMS", arms)
    data, stored = write_landscapes(tmp_path / "data"), tmp_path / "recipes.json"
    options = (f"--dataset={data}", f"--image-size={SIZE}", "--base-steps=1", "--count=8")
    options += ("--batch-size=4", f"--output={stored}")
    first = invoke(recipes.main, *options, "--only=nothing, base")
    assert first.exit_code == 0, first.output
    before = json.loads(stored.read_text())["arms"]
    assert [row["name"] for row in before] == ["base"]
    second = invoke(recipes.main, *options)
    assert second.exit_code == 0, second.output
    after = json.loads(stored.read_text())["arms"]
    assert after[0] == before[0]
    assert [row["name"] for row in after] == ["base", "predicts the noise"]
    assert all(f"| {arm.name} |" in second.stdout for arm in arms)
    assert f"seed 0. Trained on {devices.describe_device()}." in second.stdout
    other = invoke(recipes.main, *options, "--seed=1", "--only=base")
    assert other.exit_code == 0, other.output
    assert len(json.loads(stored.read_text())["arms"]) == 1  # other conditions, nothing is known
