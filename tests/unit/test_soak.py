"""The parts of the soak that need no app: statistics, hostile values, logs, and the table."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from benchmarks.soak import hostile, tiny_trainings
from benchmarks.soak.__main__ import PARTS
from benchmarks.soak.calls import Endpoint
from benchmarks.soak.report import Row, at_most, slope, table
from benchmarks.soak.server import ROOT

ENDPOINT = Endpoint(
    7, "color", ("color", "num_images", "clip-model"), ("teal", 1, "x"), ("result",), True
)


def test_the_slope_of_a_line_is_found_without_doubt():
    assert slope([1, 2, 3, 4], [5, 7, 9, 11]) == pytest.approx((2, 0))


def test_the_interval_holds_the_true_slope_19_times_of_20():
    inside = 0
    for seed in range(200):
        chance = random.Random(seed)
        x = list(range(100))
        found, half = slope(x, [0.5 * n + chance.gauss(0, 30) for n in x])
        inside += abs(found - 0.5) <= half
    assert 180 <= inside <= 199


def test_a_slope_of_too_few_points_is_refused():
    with pytest.raises(ValueError, match="x must be 3 values or more that differ, got 2"):
        slope([1, 2], [1, 2])


def test_the_table_says_what_does_not_hold():
    rows = [at_most("worst", "disk a|b", 65, 64, "MiB"), Row("kills", "x", "0", "0", True)]
    assert table(rows).splitlines()[2:] == [
        "| worst | disk a\\|b | 65 MiB | at most 64 MiB | **no** |",
        "| kills | x | 0 | 0 | yes |",
    ]


def test_values_of_an_endpoint_are_changed_by_the_names_of_its_parameters():
    assert ENDPOINT.values(num_images=8, clip_model="y") == ["teal", 8, "y"]
    assert ENDPOINT.values(images=8, model="z") == ["teal", 1, "x"]


def test_values_of_a_tab_are_changed_by_the_names_of_its_controls():
    ids = ("color-color", "color-num-images", "color-clip-model")
    private = replace(ENDPOINT, name="", names=ids)
    assert private.values(num_images=8, clip_model="y") == ["teal", 8, "y"]
    assert private.values(images=8, model="z") == ["teal", 1, "x"]


def test_a_hostile_call_follows_from_its_number():
    pictures = hostile.damaged_pictures(4, seed=0)
    one, again, other = (
        repr([hostile.hostile_call(n + start, [ENDPOINT], pictures, 1) for n in range(50)])
        for start in (0, 0, 50)
    )
    assert one == again != other
    assert len({way for way, _, _ in calls_of(pictures)}) == 4


def calls_of(pictures: list[bytes]):
    return [hostile.hostile_call(n, [ENDPOINT], pictures, 1) for n in range(50)]


def test_only_tracebacks_through_our_code_count():
    head = "Traceback (most recent call last):\n"
    ours = f'{head}  File "{ROOT}/tabs/shell.py", line 1, in x\nValueError: y\n'
    theirs = f'{head}  File "{ROOT}/.venv/lib/gradio/queueing.py", line 1\nValueError: y\n'
    assert len(hostile.own_tracebacks(f"{theirs}\n{ours}\n{theirs}")) == 1


@pytest.mark.parametrize("trainer", tiny_trainings.TRAINERS)
def test_every_trainer_saves_after_every_step_when_it_is_killed(trainer: str):
    options = tiny_trainings.options(trainer, ROOT, ROOT / "run")
    assert any(o in ("--save-every=1", "--save-model-every=1") for o in options)
    assert "--threads=1" in options


def test_all_parts_can_be_chosen():
    assert list(PARTS) == [
        "hostile",
        "pictures",
        "clients",
        "cancels",
        "worst",
        "damage",
        "kills",
        "signals",
    ]
