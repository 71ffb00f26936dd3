"""What is kept for the next time: once made, bounded, and no failures."""

from __future__ import annotations

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
