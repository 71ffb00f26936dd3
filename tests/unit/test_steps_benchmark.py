"""The benchmark of steps: what counts as enough, and that it resumes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import steps
from benchmarks.steps import DIGITS, MODELS, STEPS, Point, fewest
from pipelines.models import checkpoints
from tests.fakes import tiny_pairs
from tests.fakes.tiny_pictures import invoke, one_thread
from training.digits.data import Digits

pytestmark = pytest.mark.slow


def points(*distances: float, model: str = "paintings", arm: str = "DDIM") -> list[Point]:
    """At 5, 10, 20 and 100 steps."""
    return [Point(model, arm, n, d) for n, d in zip(STEPS, distances, strict=True)]


def test_enough_is_where_no_more_steps_come_nearer_by_over_5_percent():
    assert fewest(points(9, 8, 5.1, 5.0)) == 20
    assert fewest(points(5, 5, 5, 5)) == 5
    assert fewest(points(9, 9, 9, 5)) == 100


def test_a_lucky_dip_among_few_steps_is_not_enough():
    assert fewest(points(5, 9, 5, 5)) == 20


def test_fewer_steps_may_be_better_than_the_most():
    assert fewest(points(9, 4, 4, 5)) == 10


def test_a_card_tells_how_near_unguided_pictures_come_and_in_how_many_steps():
    of = points(9, 8, 5.1, 5.0, arm=steps.CARD_ARM)
    told = steps.card_figures([replace(point, count=64) for point in of], "paintings")
    assert told == {
        "steps_distance": (
            "64 unguided pictures, DDIM, 100 steps: Fréchet distance to `wikiart`",
            "5.0",
        ),
        "steps_enough": (
            "64 unguided pictures, DDIM: steps from which on it is within 5 %",
            "20",
        ),
    }
    for model in DIGITS:
        digits = [replace(point, count=200, model=model) for point in of]
        told = steps.card_figures(digits, model)
        assert told["steps_distance"][0] == (
            "200 digits, DDIM, 100 steps: Fréchet distance to MNIST's test pictures"
        )
    assert steps.card_figures(of, "scenes") == steps.card_figures(of[:-1], "paintings") == {}


def test_only_what_was_measured_in_full_has_a_row():
    whole = points(9, 8, 5.1, 5.0)
    part = points(9, 8, 5.1, 5.0, arm="balanced, guided")[:-1]
    ((model, arm, *cells),) = steps.rows(whole + part)
    assert (model, arm) == ("paintings", "DDIM")
    assert cells == ["9.00", "8.00", "5.10", "5.00", "20"]


def test_solvers_of_one_equation_share_what_they_tend_to():
    limit = points(9, 8, 5.1, 5.0)
    own = points(6, 5.1, 5.1, 9, arm="DPM-Solver++")[:-1]
    assert steps.curve(own, "paintings", "DPM-Solver++") == []
    found = steps.curve(limit + own, "paintings", "DPM-Solver++")
    assert found == [*own, replace(limit[-1], arm="DPM-Solver++")]
    assert fewest(found) == 10
    assert steps.curve(limit + own[1:], "paintings", "DPM-Solver++") == []


@pytest.mark.usefixtures("tiny_checkpoints")
def test_the_same_seeds_are_drawn_for_every_number_of_steps(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(steps, "_BATCH", 3)
    with one_thread():
        first, off = steps.draw("scenes", "DDIM", 2, 4)
        monkeypatch.setattr(steps, "_BATCH", 64)
        again, _ = steps.draw("scenes", "DDIM", 2, 4)
        guided, missed = steps.draw("scenes", "balanced, guided", 2, 8)
    torch.testing.assert_close(first, again, rtol=1e-4, atol=1e-4)
    assert first.shape == (4, 3, 64, 64)
    assert guided.shape == (8, 3, 64, 64)
    assert off == 0.0 < missed


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.thorough
def test_the_command_goes_on_where_it_was_stopped_and_prints_every_way_to_draw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(steps, "STEPS", (1, 2))
    monkeypatch.setattr(steps, "_DIGIT_COUNT", 10)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (40, 1, 28, 28), generator=generator, dtype=torch.uint8)
    test_pictures = Digits(pixels, torch.arange(40) % 10)
    monkeypatch.setattr(steps, "load_digits", lambda name, split: test_pictures)
    stored, drawn = tmp_path / "steps.json", []
    really = steps.draw

    def noted(model: str, arm: str, count_steps: int, count: int):
        drawn.append((model, arm, count_steps))
        if len(drawn) == 4:
            raise KeyboardInterrupt
        return really(model, arm, count_steps, count)

    monkeypatch.setattr(steps, "draw", noted)
    tiny_pairs.write_all(tmp_path / "data")
    options = (f"--data-folder={tmp_path / 'data'}", "--count=8", f"--output={stored}")
    with tiny_pairs.small(tmp_path / "cache"):
        assert invoke(steps.main, *options).exit_code != 0
        kept = json.loads(stored.read_text())
        assert len(kept) == 3
        figure = tmp_path / "steps.png"
        result = invoke(steps.main, *options, f"--figure={figure}")
    assert result.exit_code == 0, result.output
    number = sum(len(steps.steps_of(arm)) for model in MODELS for arm in steps.arms_of(model))
    assert len(set(drawn)) == len(drawn) - 1 == number  # one was tried twice
    for model in MODELS:
        for arm in steps.arms_of(model):
            assert f"| {model} | {arm} |" in result.output
    assert figure.is_file()
    assert {(row["model"], row["revision"]) for row in json.loads(stored.read_text())} == {
        (model, checkpoints.load(model).revision) for model in MODELS
    }


def test_what_was_measured_with_other_weights_settings_or_pictures_is_measured_again(
    tmp_path: Path,
):
    stored = tmp_path / "steps.json"
    ddim = steps.settings_of("paintings", "DDIM")
    found = [
        Point(model, "DDIM", 5, 1.0, 0.0, "first", 8, ddim) for model in ("paintings", "emoji")
    ]
    others = [replace(found[0], count=16), replace(found[0], settings="euler, eta 0")]
    gone = replace(found[0], arm="a way that there is no more")
    steps.keep(stored, [*found, *others, gone])
    assert steps.kept(stored, {"paintings": "first", "emoji": "second"}, 8) == found[:1]
    assert steps.kept(tmp_path / "none.json", {"paintings": "first"}, 8) == []
