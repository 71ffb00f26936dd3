"""Filling against the truth: the pictures that have some pixels, in closed form."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from benchmarks import edit, exact_edit, mixture
from benchmarks.edit import Arm
from benchmarks.exact_edit import Result, Task
from pipelines.diffusion.known import Known
from pipelines.diffusion.losses import Keep
from tests.fakes.tiny_pictures import invoke

pytestmark = pytest.mark.slow

COUNT = 128
paintings = cache(mixture.load_mixture)


@cache
def tasks(kind: str) -> list[Task]:
    return exact_edit.make_tasks(paintings(), kind, count=2, seed=40)


@pytest.fixture(autouse=True)
def _one_thread():
    """Such small sums are slower on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def plain(steps: int) -> Arm:
    """The method of the product with plain projection."""
    ours = edit.ours(steps)
    return Arm(ours.solver, steps, lambda keep, _: Known([keep], moves_all=False), ours.eta)


# --- the measure ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", exact_edit.MASKS)
def test_exact_draws_are_at_the_floor_and_others_are_not(kind: str):
    floor = exact_edit.floor(tasks(kind), COUNT)
    again = [exact_edit.of_draws(t, t.posterior.sample(COUNT, t.seed + 7)) for t in tasks(kind)]
    distance = sum(result.distance for result in again) / len(again)
    assert distance == pytest.approx(floor.distance, rel=0.25)
    for task in tasks(kind):
        others = torch.lerp(task.picture, paintings().sample(COUNT, 3), task.redrawn)
        found = exact_edit.of_draws(task, others)
        assert found.distance > 2 * floor.distance
        assert found.mean_error > 2 * floor.mean_error


def test_the_error_of_the_mean_is_that_of_what_is_filled():
    task = tasks("half")[0]
    mean = torch.from_numpy(task.truth.mean).float().view(3, 8, 8)
    drawn = mean.expand(4, -1, -1, -1)
    assert exact_edit.of_draws(task, drawn).mean_error == pytest.approx(0, abs=1e-3)
    off = exact_edit.of_draws(task, drawn + 0.1 * task.redrawn)
    assert off.mean_error == pytest.approx(12.75, abs=1e-3)
    assert exact_edit.of_draws(task, drawn + 1 - task.redrawn).mean_error == pytest.approx(
        0, abs=1e-3
    )


def test_tasks_are_pictures_of_the_mixture_with_their_own_answers():
    first, second = tasks("block")
    assert torch.equal(torch.stack([first.picture, second.picture]), paintings().sample(2, 40))
    assert first.seed != second.seed
    for task in (first, second):
        expected = paintings().given_pixels(task.picture, edit.mask_of("block", 8)).moments()
        assert (task.truth.mean == expected.mean).all()


# --- methods against it --------------------------------------------------------------------------


def measured(arm: Arm, kind: str) -> Result:
    return exact_edit.measure(paintings(), arm, tasks(kind), COUNT)


@pytest.mark.parametrize("kind", exact_edit.MASKS)
def test_moving_all_that_is_undecided_is_nearer_to_the_truth_than_known_pixels_alone(kind: str):
    ours, alone = measured(edit.ours(20), kind), measured(plain(20), kind)
    floor = exact_edit.floor(tasks(kind), COUNT)
    assert ours.distance - floor.distance < 0.7 * (alone.distance - floor.distance)
    assert ours.mean_error < 0.8 * alone.mean_error


def test_the_scale_of_dps_is_the_best_of_those_tried(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exact_edit, "DPS_SCALES", (1.0, 10.0))
    asked: list[float] = []

    def fake(mixture: object, arm: Arm, tasks: object, samples: int) -> Result:
        guide = arm.guide(Keep(torch.zeros(3, 8, 8), torch.ones(8, 8)), (0,))
        scale = vars(guide)["scale"]
        asked.append(scale)
        return Result(0.0, abs(scale - 9))

    monkeypatch.setattr(exact_edit, "measure", fake)
    found = exact_edit.arms(paintings(), 8)
    assert asked == [1.0, 10.0]
    assert set(found) == {*edit.ARMS, "ours, eta 1, twice"}
    guide = found["DPS"].guide(Keep(torch.zeros(3, 8, 8), torch.ones(8, 8)), (0,))
    assert vars(guide)["scale"] == 10.0


def test_a_run_prints_a_row_for_each_method_and_the_floor(monkeypatch: pytest.MonkeyPatch):
    few = {"ours": edit.ours(3), "RePaint": edit.repaint(2, 2, 1), "DPS": edit.dps(2, 10.0)}
    monkeypatch.setattr(edit, "ARMS", few)
    monkeypatch.setattr(exact_edit, "DPS_SCALES", (10.0,))
    done = invoke(exact_edit.main, "--samples=32", "--pictures=1")
    assert done.exit_code == 0, done.output
    rows = [line for line in done.output.splitlines() if line.startswith("| ")]
    names = [row.split(" | ")[0].strip("| ") for row in rows]
    assert names[1:] == [*few, "ours, eta 1, twice", "exact draws"]
    errors = [float(row.split(" | ")[2].split(" / ")[0]) for row in rows[1:]]
    assert min(errors) == errors[-1]  # nothing is nearer than exact draws
