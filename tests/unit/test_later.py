"""Lists that are computed when somebody looks at them."""

from __future__ import annotations

import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pipelines.core.later import Later


def counted(calls: list[int]) -> Later[int]:
    def compute() -> list[int]:
        calls.append(1)
        return [3, 1, 2]

    return Later(compute)


def test_nothing_is_computed_before_somebody_looks_and_then_once():
    calls: list[int] = []
    later = counted(calls)
    part, squares = Later.part(later, slice(1, 3)), Later.of(lambda value: value**2, later)
    assert calls == []
    assert (squares[0], [*part]) == (9, [1, 2])
    assert (later[0], later[1:], len(later), sorted(later)) == (3, [1, 2], 3, [1, 2, 3])
    assert calls == [1]


def test_threads_that_look_at_once_wait_for_one_computation():
    calls: list[int] = []
    begun = threading.Barrier(4)

    def compute() -> list[int]:
        calls.append(1)
        time.sleep(0.05)
        return [7]

    later = Later(compute)

    def look(_: int) -> int:
        begun.wait()
        return later[0]

    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(look, range(4))] == [7] * 4
    assert calls == [1]


def test_it_is_equal_to_a_list_of_the_same_items():
    later = counted([])
    assert later == [3, 1, 2]
    assert later == [3, 1, 2]
    assert later == counted([])
    assert later != [3, 1]
    assert later != (3, 1, 2)
    assert Later(list) == []
    assert not Later(list)
    assert repr(later) == "[3, 1, 2]"
    assert np.mean(later) == 2
    assert later == [pytest.approx(3), 1, 2]


def test_it_is_pickled_as_a_list():
    found = pickle.loads(pickle.dumps(counted([])))
    assert type(found) is list
    assert found == [3, 1, 2]


def test_an_error_comes_to_whoever_looks_each_time():
    def fail() -> list[int]:
        raise ArithmeticError("no")

    later = Later(fail)
    for _ in range(2):
        with pytest.raises(ArithmeticError):
            len(later)
