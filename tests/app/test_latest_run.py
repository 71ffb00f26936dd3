"""Which run of a page goes on: the latest, once; and what a page showed last."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from tabs.latest_run import Runs, is_token, new_token

PAGE = "0123456789abcdef"


def after(token: str) -> str:
    """The token of the next press on the same page."""
    name, _, number = token.rpartition(":")
    return f"{name}:{int(number) + 1}"


def test_a_run_that_was_announced_begins_once_and_goes_on():
    found = Runs()
    token = found.announce(f"{PAGE}:1")
    assert token == f"{PAGE}:1"
    assert found.begin(token)
    assert not found.begin(token)
    assert found.is_latest(token)


def test_of_a_known_page_only_what_was_announced_begins():
    found = Runs()
    found.announce(f"{PAGE}:1")
    assert not found.begin(f"{PAGE}:2")
    assert not found.begin(f"{PAGE}:0")


def test_a_newer_run_makes_those_before_it_old():
    found = Runs()
    first = found.announce(f"{PAGE}:1")
    assert found.begin(first)
    second = found.announce(f"{PAGE}:2")
    assert not found.is_latest(first)
    assert found.is_latest(second)
    assert found.begin(second)


def test_of_two_that_wait_only_the_latest_begins():
    found = Runs()
    first = found.announce(f"{PAGE}:1")
    second = found.announce(f"{PAGE}:2")
    assert first != second
    assert not found.begin(first)
    assert found.begin(second)


def test_of_two_presses_the_later_wins_whichever_is_heard_of_first():
    found = Runs()
    second = found.announce(f"{PAGE}:2")
    assert found.announce(f"{PAGE}:1") == second
    assert found.begin(second)
    assert not found.begin(f"{PAGE}:1")


def test_stop_makes_a_run_old_with_none_in_its_place():
    found = Runs()
    token = found.announce(f"{PAGE}:1")
    assert found.begin(token)
    found.halt(f"{PAGE}:2")
    assert not found.is_latest(token)
    assert not found.begin(token)
    again = found.announce(f"{PAGE}:3")
    assert found.begin(again)
    assert found.is_latest(again)


def test_stop_ends_a_run_that_waits_too():
    found = Runs()
    token = found.announce(f"{PAGE}:1")
    found.halt(f"{PAGE}:2")
    assert not found.begin(token)


def test_stop_that_is_heard_of_late_leaves_the_run_after_it_alone():
    found = Runs()
    assert found.begin(found.announce(f"{PAGE}:1"))
    again = found.announce(f"{PAGE}:3")
    found.halt(f"{PAGE}:2")
    assert found.begin(again)
    assert found.is_latest(again)


def test_stop_that_is_heard_of_early_ends_the_run_before_it():
    found = Runs()
    found.halt(f"{PAGE}:2")
    assert not found.begin(found.announce(f"{PAGE}:1"))


def test_pages_do_not_end_one_another():
    found = Runs()
    one, other = (found.announce(new_token()) for _ in range(2))
    assert found.begin(one)
    assert found.begin(other)
    found.announce(after(one))
    found.halt(after(after(one)))
    assert not found.is_latest(one)
    assert found.is_latest(other)


def test_a_page_that_is_older_than_the_server_goes_on_with_its_numbers():
    found = Runs()
    token = found.announce(f"{PAGE}:42")
    assert token == f"{PAGE}:42"
    assert found.begin(token)


def test_of_very_many_pages_the_oldest_are_forgotten_and_can_still_draw():
    found = Runs()
    first = found.announce(new_token())
    assert found.begin(first)
    for _ in range(600):
        found.announce(new_token())
    assert len(found._pages) <= 512
    assert found.begin(found.announce(after(first)))


def test_a_page_that_is_used_is_not_forgotten():
    found = Runs()
    first = found.announce(new_token())
    second = found.announce(after(first))
    for _ in range(600):
        found.announce(new_token())
        assert not found.is_latest(first)
    assert found.is_latest(second)


NO_TOKENS: list[Any] = [
    None,
    "",
    ":",
    "no number",
    f"{PAGE}:",
    f"{PAGE}:-1",
    f"{PAGE}:one",
    f"{PAGE}:²",
    f"{PAGE}:1\n",
    f"{PAGE.upper()}:1",
    f"{PAGE}0:1",
    f"{PAGE[1:]}:1",
    "a:b:7",
    f"{PAGE}:" + "9" * 19,
    f"{PAGE}:" + "9" * 5000,
    "x" * 10_000_000 + ":1",
    7,
    [PAGE],
    {"page": PAGE},
    b"0123456789abcdef:1",
]


@pytest.mark.parametrize("token", NO_TOKENS, ids=lambda token: str(token)[:24])
def test_what_is_no_token_is_refused_and_nothing_of_it_is_kept(token: Any):
    found = Runs()
    found.halt(token)
    found.end(token)
    found.remember(token, "somebody's picture")
    assert found.preview(token) is None
    assert not found.is_latest(token)
    assert not is_token(token)
    assert not found.begin(token)
    assert not found._pages
    assert not found._previews
    assert found.begin(found.announce(token))  # under a new name
    assert all(len(page) == 16 for page in found._pages)


def test_pages_that_others_make_up_do_not_end_a_run():
    found = Runs()
    running = found.announce(new_token())
    assert found.begin(running)
    waiting = found.announce(new_token())
    for _ in range(600):
        found.halt(new_token())
    assert len(found._pages) == 512
    assert running.split(":")[0] in found._pages
    assert waiting.split(":")[0] in found._pages
    assert found.is_latest(running)
    assert found.begin(waiting)


def test_a_run_whose_page_was_forgotten_begins_and_goes_on_until_stop():
    found = Runs()
    running, waiting = (found.announce(new_token()) for _ in range(2))
    assert found.begin(running)
    for _ in range(600):
        found.announce(new_token())  # these pretend to wait
    assert running.split(":")[0] not in found._pages
    assert found.is_latest(running)
    assert found.begin(waiting)
    assert not found.begin(waiting)
    found.halt(after(running))
    assert not found.is_latest(running)


def test_a_page_whose_run_has_ended_may_be_forgotten():
    found = Runs()
    ended, running = (found.announce(new_token()) for _ in range(2))
    assert found.begin(ended)
    assert found.begin(running)
    found.end(ended)
    for _ in range(511):
        found.halt(new_token())
    assert ended.split(":")[0] not in found._pages
    assert running.split(":")[0] in found._pages


def test_every_page_that_has_no_token_yet_gets_a_name_of_its_own():
    found = Runs()
    first, second = found.announce(""), found.announce("")
    assert first.split(":")[0] != second.split(":")[0]
    found.remember(first, "seen")
    assert found.preview(second) is None


def test_every_page_has_a_token_of_its_own():
    tokens = {new_token() for _ in range(1000)}
    assert len(tokens) == 1000
    assert all(token.endswith(":1") and len(token) == 18 for token in tokens)


def test_a_page_is_shown_again_what_it_showed_last_whichever_run_asks():
    found = Runs()
    first = found.announce(f"{PAGE}:1")
    assert found.preview(first) is None
    found.remember(first, "one")
    second = found.announce(f"{PAGE}:2")
    assert found.preview(second) == found.preview(first) == "one"
    found.remember(second, "two")
    assert found.preview(first) == "two"
    assert found.preview(new_token()) is None


def test_what_nobody_showed_is_shown_to_nobody():
    found = Runs()
    for token in (None, "", ":3", "no number"):
        found.remember(found.announce(token), "somebody's picture")
    assert found.preview(None) is None
    assert found.preview("") is None


def test_of_what_was_shown_the_last_stays_and_the_oldest_goes():
    found = Runs()
    tokens = [new_token() for _ in range(70)]
    found.remember(tokens[0], 0)
    for i, token in enumerate(tokens):
        found.remember(token, i)
        found.remember(tokens[0], "looked at again and again")
    assert found.preview(tokens[0]) == "looked at again and again"
    assert found.preview(tokens[1]) is None
    assert [found.preview(token) for token in tokens[-60:]] == list(range(10, 70))
    assert len(found._previews) == 64


def test_many_threads_at_once_announce_runs_and_only_the_last_begins():
    found = Runs()
    gate = threading.Barrier(8)

    def press(first: int) -> None:
        gate.wait(timeout=20)
        for number in range(first, 1601, 8):
            found.announce(f"{PAGE}:{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(press, range(1, 9)))
    tokens = [f"{PAGE}:{number}" for number in range(1601)]
    assert [token for token in tokens if found.begin(token)] == [f"{PAGE}:1600"]


def test_many_threads_at_once_begin_a_run_only_once():
    found = Runs()
    gate = threading.Barrier(8)

    def begin(token: str) -> bool:
        gate.wait(timeout=20)
        return found.begin(token)

    with ThreadPoolExecutor(8) as pool:
        for number in range(1, 51):
            token = found.announce(f"{PAGE}:{number}")
            assert list(pool.map(begin, [token] * 8)).count(True) == 1


def test_many_threads_at_once_keep_and_ask_without_losing_their_own():
    found = Runs()
    gate = threading.Barrier(8)

    def work(number: int) -> bool:
        token, good = new_token(), True
        gate.wait(timeout=20)
        for i in range(300):
            token = found.announce(after(token))
            found.remember(token, (number, i))
            good &= found.begin(token) and found.is_latest(token)
            good &= found.preview(token) == (number, i)
        return good

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_large_previews_are_kept_up_to_a_limit_in_bytes():
    """Those of 256 px take a hundred MiB each."""
    found, tokens = Runs(), [new_token() for _ in range(4)]
    for token in tokens:
        found.remember(token, SimpleNamespace(num_bytes=100 * 2**20))
    assert [found.preview(token) is not None for token in tokens] == [False, False, True, True]


def test_a_run_takes_the_language_that_its_page_changes_to():
    found, token = Runs(), f"{PAGE}:1"
    found.speak(token, "zh")  # of a page that has pressed nothing
    assert found.language(token, "en") == "en"
    found.announce(token)
    assert found.language(token, "en") == "en"
    found.speak(token, "zh")
    assert found.language(after(token), "en") == "zh"
    for wrong in (None, "", "x"):
        found.speak(wrong, "zh")
    assert found.language("x", "en") == "en"
