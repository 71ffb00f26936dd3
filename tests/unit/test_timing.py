"""Estimates of time: known answers, and what is carried over from which runs."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipelines.runs.timing import Estimator, Work, remaining, rounded

KIND = ("text", "paintings", "balanced", "clip-small", "1 cutouts")


def work(num_images: int = 1, evaluations: float = 10, kind: tuple[str, ...] = KIND) -> Work:
    return Work(kind, evaluations, num_images)


@pytest.fixture
def pace() -> Estimator:
    return Estimator()


def test_nothing_is_estimated_before_anything_ran(pace: Estimator):
    assert pace.estimate(work()) is None


def test_the_same_run_takes_the_same_time(pace: Estimator):
    pace.note(work(num_images=3), 4.0)
    assert pace.estimate(work(num_images=3)) == pytest.approx(4.0)


def test_twice_the_evaluations_take_twice_the_time(pace: Estimator):
    pace.note(work(evaluations=20), 3.0)
    assert pace.estimate(work(evaluations=40)) == pytest.approx(6.0)


def test_one_slow_run_among_others_does_not_count(pace: Estimator):
    for seconds in (2.0, 50.0, 2.2):
        pace.note(work(), seconds)
    assert pace.estimate(work()) == pytest.approx(2.2)


def test_only_the_last_eight_runs_of_a_kind_count(pace: Estimator):
    for seconds in [100.0] * 20 + [3.0] * 8:
        pace.note(work(), seconds)
    assert pace.estimate(work()) == pytest.approx(3.0)
    for _ in range(8):
        pace.note(work(num_images=2), 5.0)
    assert pace.estimate(work()) == pytest.approx(5.0 / (0.35 + 0.65 * 2))


def test_another_number_of_images_is_guessed_from_the_one_that_is_known(pace: Estimator):
    pace.note(work(num_images=1), 2.0)
    assert pace.estimate(work(num_images=4)) == pytest.approx(2.0 * (0.35 + 0.65 * 4))
    pace.note(work(num_images=8, kind=("color", "scenes")), 5.55)
    assert pace.estimate(work(num_images=1, kind=("color", "scenes"))) == pytest.approx(1.0)


def test_two_numbers_of_images_give_the_line_between_them(pace: Estimator):
    pace.note(work(num_images=1), 3.0)  # 2 fixed and 1 per image
    pace.note(work(num_images=5, evaluations=20), 14.0)
    assert pace.estimate(work(num_images=8)) == pytest.approx(10.0)
    assert pace.estimate(work(num_images=3)) == pytest.approx(5.0)


def test_more_images_are_never_thought_to_take_less_time(pace: Estimator):
    pace.note(work(num_images=1), 4.0)
    pace.note(work(num_images=2), 2.0)
    assert pace.estimate(work(num_images=8)) == pytest.approx(3.0)


def test_few_images_are_never_thought_to_take_less_than_no_time(pace: Estimator):
    pace.note(work(num_images=4), 2.0)
    pace.note(work(num_images=8), 8.0)
    # The line through the origin that is nearest to both: slope 72 / 80.
    assert pace.estimate(work(num_images=1)) == pytest.approx(0.9)


def test_an_unknown_kind_goes_by_what_it_has_most_in_common_with(pace: Estimator):
    pace.note(work(kind=(*KIND[:2], "thorough", "clip-small", "1 cutouts")), 9.0)
    pace.note(work(kind=(*KIND[:4], "4 cutouts")), 3.0)
    pace.note(work(kind=(*KIND[:4], "8 cutouts")), 5.0)
    assert pace.estimate(work()) == pytest.approx(4.0)
    assert pace.estimate(work(kind=(*KIND[:2], "fast"))) == pytest.approx(5.0)


def test_a_kind_that_shares_only_its_first_entry_says_nothing(pace: Estimator):
    pace.note(work(kind=("text", "scenes", "balanced")), 9.0)
    pace.note(work(kind=("color", "paintings", "balanced")), 9.0)
    assert pace.estimate(work()) is None


def test_a_kind_may_be_the_beginning_of_another(pace: Estimator):
    pace.note(work(kind=KIND[:2]), 6.0)
    assert pace.estimate(work()) == pytest.approx(6.0)
    assert pace.estimate(work(kind=KIND[:2], evaluations=5)) == pytest.approx(3.0)


def test_the_same_kind_with_another_number_is_nearer_than_another_kind(pace: Estimator):
    pace.note(work(num_images=2), 1.65)
    pace.note(work(num_images=1, kind=(*KIND[:4], "4 cutouts")), 50.0)
    assert pace.estimate(work(num_images=1)) == pytest.approx(1.0)


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf])
def test_an_impossible_time_is_refused(pace: Estimator, seconds: float):
    with pytest.raises(ValueError, match="seconds must be 0 or more and finite"):
        pace.note(work(), seconds)


@pytest.mark.parametrize("evaluations", [0, -1, math.nan, math.inf])
def test_work_without_evaluations_is_refused(evaluations: float):
    with pytest.raises(ValueError, match="evaluations must be above 0"):
        work(evaluations=evaluations)


def test_work_without_images_is_refused():
    with pytest.raises(ValueError, match="num_images must be 1 or more, got 0"):
        work(num_images=0)


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads that take turns as often as can be, so that a missing lock shows."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("hasty_threads")
def test_many_threads_may_note_and_ask_at_once(pace: Estimator):
    def run(thread: int) -> None:
        for i in range(60):
            pace.note(work(kind=("color", "paintings", f"{thread}-{i}")), 2.0)
            pace.note(work(), 2.0)
            assert pace.estimate(work()) == pytest.approx(2.0)
            assert pace.estimate(work(kind=("color", "paintings"))) == pytest.approx(2.0)

    with ThreadPoolExecutor(8) as pool:
        for result in [pool.submit(run, thread) for thread in range(8)]:
            result.result()


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4321, 0.43), (1.4999, 1.5), (12.3, 12), (94.6, 95), (9.96, 10), (123.0, 120), (0, 0)],
)
def test_seconds_are_rounded_to_two_digits(seconds: float, shown: float):
    assert rounded(seconds) == shown


def test_what_remains_is_the_steps_left_at_the_pace_of_those_done():
    assert remaining([1.0, 1.5, 2.0, 2.5], 10) == pytest.approx(3.0)


def test_a_slow_first_step_does_not_spoil_what_remains():
    assert remaining([30.0], 3) == pytest.approx(60.0)
    assert remaining([30.0, 30.5], 3) == pytest.approx(0.5)


def test_one_slow_step_does_not_spoil_what_remains():
    assert remaining([1.0, 2.0, 9.0, 10.0], 14) == pytest.approx(10.0)


def test_only_the_last_eight_steps_say_what_remains():
    slow = [float(i) for i in range(1, 21)]
    quick = [20.0 + 0.25 * i for i in range(1, 9)]
    assert remaining(slow + quick, 32) == pytest.approx(1.0)
    assert remaining([*slow, *quick[:4]], 32) == pytest.approx(8 * 0.625)


def test_nothing_remains_after_the_last_step():
    assert remaining([1.0, 2.0], 2) == 0


def test_nothing_is_known_before_the_first_step():
    with pytest.raises(ValueError, match="at least one step"):
        remaining([], 5)
