"""What is kept for the next time: once made, bounded, and no failures."""

from __future__ import annotations

import pytest

from pipelines.core.cache import Cache


def test_what_was_used_longest_ago_is_dropped_first():
    cache: Cache[str] = Cache(2)
    cache.put("a", "A")
    cache.put("b", "B")
    assert cache.get("a") == "A"
    cache.put("c", "C")
    assert [cache.get(key) for key in "abc"] == ["A", None, "C"]


def test_sizes_are_counted_as_told_and_what_is_too_large_is_left_out():
    cache: Cache[str] = Cache(5, len)
    cache.put("short", "abc")
    cache.put("long", "abcdef")
    assert (cache.get("short"), cache.get("long")) == ("abc", None)
    cache.put("other", "xyz")
    assert (cache.get("short"), cache.get("other")) == (None, "xyz")


def test_a_value_too_large_to_keep_is_still_given():
    cache: Cache[str] = Cache(2, len)
    assert cache.get_or_make("k", lambda: "too large") == "too large"
    assert cache.get("k") is None


def test_a_limit_may_change_while_the_cache_is_in_use():
    most = [4.0]
    cache: Cache[str] = Cache(lambda: most[0], len)
    cache.put("a", "AA")
    cache.put("b", "BB")
    most[0] = 3
    cache.put("c", "C")
    assert [cache.get(key) for key in "abc"] == [None, "BB", "C"]


def test_no_lock_is_left_behind_by_what_was_made_or_failed():
    cache: Cache[str] = Cache(1)

    def fail() -> str:
        raise OSError

    for number in range(20):
        cache.get_or_make(number, lambda: "made")
        with pytest.raises(OSError):  # noqa: PT011
            cache.get_or_make(-number - 1, fail)
    assert not cache._making


def test_chosen_values_are_dropped_and_give_back_their_room():
    cache: Cache[str] = Cache(4, len)
    cache.put("one", "ab")
    cache.put("two", "cd")
    cache.clear(lambda key: key == "one")
    cache.put("three", "ef")
    assert [cache.get(key) for key in ("one", "two", "three")] == [None, "cd", "ef"]
