"""Weighted prompts: what is words, what is a weight, and what only looks like one."""

from __future__ import annotations

import random

import pytest

from pipelines.core.rules import Prompt, SettingsError, prompt_entries

RULE = Prompt()


def check(prompt: str) -> str:
    return RULE.check("prompt", prompt)


def read(prompt: str) -> list[tuple[str, float]]:
    return prompt_entries(check(prompt))


@pytest.mark.parametrize("bar", "|｜￨│┃︱︲¦￤∣❘❙丨")
def test_every_bar_parts_entries(bar: str):
    assert read(f"snow{bar}people:-0.5") == [("snow", 1.0), ("people", -0.5)]


@pytest.mark.parametrize("colon", ":：﹕︓∶꞉ː")
@pytest.mark.parametrize("dash", "-−–—‐‑‒―﹣－⁻")
def test_every_colon_and_dash_counts_in_the_place_of_a_weight(colon: str, dash: str):
    for spaced in (f"{colon}{dash}", f" {colon} {dash}", f"{colon}{dash} "):
        assert read(f"people{spaced}0.5") == [("people", -0.5)]
        assert check(f"people{spaced}0.5") == "people:-0.5"


@pytest.mark.parametrize(
    ("prompt", "kept"),
    [
        ("a red heart：1｜a blue square：-0.5", "a red heart | a blue square:-0.5"),
        ("snow：０．５", "snow:0.5"),
        ("snow:0。5", "snow:0.5"),
        ("snow:１.５ | rain:＋２", "snow:1.5 | rain:2"),
        ("ｓｎｏｗ　ｏｎ　hills", "snow on hills"),
        ("snow\u200b:\ufeff2", "snow:2"),
        ("雪：1.2｜人：－1", "雪:1.2 | 人:-1"),
        ("snow:٢", "snow:2"),
    ],
)
def test_full_width_and_unseen_characters_are_those_of_ascii(prompt: str, kept: str):
    assert check(prompt) == kept


def test_dashes_and_colons_elsewhere_stay_as_they_are():
    assert check("snow — ice, x−ray ∶ a") == "snow — ice, x−ray ∶ a"


@pytest.mark.parametrize(
    ("prompt", "entries", "kept"),
    [
        ("(a red heart:1.2)", [("a red heart", 1.2)], "a red heart:1.2"),
        ("（a red heart：1.2） | ( snow : -1 )", [("a red heart", 1.2), ("snow", -1.0)], None),
        ("(route 66:2)", [("route 66", 2.0)], "(route 66:2)"),
        ("((a) b 66:2)", [("(a) b 66", 2.0)], "((a) b 66:2)"),
        ("(winter) snow:2", [("(winter) snow", 2.0)], "(winter) snow:2"),
        ("a) b 66 :2", [("a) b 66", 2.0)], "a) b 66 :2"),
    ],
)
def test_parentheses_around_a_whole_entry_hold_its_weight(
    prompt: str, entries: list[tuple[str, float]], kept: str | None
):
    assert read(prompt) == entries
    assert kept is None or check(prompt) == kept


WORDS = [
    "time 12:30",
    "12:30:45",
    "12:30:05",
    "12:30pm",
    "4:3",
    "16:9",
    "(16:9)",
    "a photo (4:3)",
    "a photo --ar 16:9",
    "John 3:16",
    "John 3:16-18",
    "route 66:2",
    "2.39:1",
    "time 12:30 clock",
    "Star Wars: a new hope",
    "dawn: 2 people",
    "fashion: 1920s",
    "snow:abc",
    "portrait:woman",
    "snow:",
    "http://localhost:7860",
    "see http://localhost:7860 here",
    "happy :)",
    "snow :D",
    ":-) snow",
    "a cat :3 asleep",
    "x-ray; f/2.8",
    "(winter)",
    "c:\\snow",
]


@pytest.mark.parametrize("prompt", WORDS)
def test_times_ratios_titles_addresses_and_faces_are_words(prompt: str):
    assert check(prompt) == prompt
    assert read(prompt) == [(prompt, 1.0)]


@pytest.mark.parametrize("prompt", [p for p in WORDS if p not in ("snow:abc", "portrait:woman")])
def test_they_are_words_beside_weights_too(prompt: str):
    assert read(f"{prompt} | people:-0.5") == [(prompt, 1.0), ("people", -0.5)]


# As version 0.2 read them.
READ_BY_0_2 = {
    "snow": [("snow", 1.0)],
    "snow:1": [("snow", 1.0)],
    "snow : 2.50|trees:+1": [("snow", 2.5), ("trees", 1.0)],
    "snow: -.5": [("snow", -0.5)],
    "snow:2.": [("snow", 2.0)],
    "snow::2": [("snow:", 2.0)],
    "time 12:30:1": [("time 12:30", 1.0)],
    "time 12:30:1.0": [("time 12:30", 1.0)],
    "snow:2:1": [("snow:2", 1.0)],
    "4:3:2": [("4:3", 2.0)],
    "12:30:1:2": [("12:30:1", 2.0)],
    "area 51:1.2": [("area 51", 1.2)],
    "route 66:-2": [("route 66", -2.0)],
    "route 66 :2": [("route 66", 2.0)],
    "route 66: 2": [("route 66", 2.0)],
    "snow:abc": [("snow:abc", 1.0)],
    "snow:abc:1": [("snow:abc", 1.0)],
    "title: subtitle:0.5 | snow\nice:-1": [("title: subtitle", 0.5), ("snow ice", -1.0)],
    "(a) b:2 | [old]:3": [("(a) b", 2.0), ("[old]", 3.0)],
    "http://localhost:3": [("http://localhost", 3.0)],
}


@pytest.mark.parametrize("prompt", READ_BY_0_2)
def test_a_prompt_means_what_it_meant_in_version_0_2(prompt: str):
    assert read(prompt) == READ_BY_0_2[prompt]


@pytest.mark.parametrize(
    "prompt", ["time 12:30:1", "snow:2:1", "4:3:2", "snow:2.5 | trees", "a | b:-0.5"]
)
def test_a_checked_prompt_of_version_0_2_is_checked_already(prompt: str):
    assert check(prompt) == prompt


NUMBER = "must end in words or in a weight"
BRACKETS = "must have each weight at the end of an entry"
BAR = r"must have \| between weights"
WORD = "must have a number after the colon, or :1 after the word"
NO_NUMBERS = ("0,5", "1.2.3", "50%", "1e3", "--2", ".", "-", "1920s", "2:30", "0,5:1", "x2")


@pytest.mark.parametrize(
    ("prompt", "sentence", "got"),
    [
        *((f"a cat | snow:{number}", NUMBER, f"'snow:{number}'") for number in NO_NUMBERS),
        ("snow:½", NUMBER, "'snow:1⁄2'"),
        ("snow: 0,5", NUMBER, "'snow: 0,5'"),
        ("snow : 50%", NUMBER, "'snow : 50%'"),
        ("snow:50 %", NUMBER, "'snow:50 %'"),
        ("snow: 1 .5", NUMBER, None),
        ("snow : * 2", NUMBER, None),
        ("snow :1.2.3", NUMBER, "'snow :1.2.3'"),
        ("0.5:snow", NUMBER, "'0.5:snow'"),
        ("-1:snow", NUMBER, "'-1:snow'"),
        *(
            (f"a red snow:{b[0]}1.2{b[1]}", NUMBER, None)
            for b in ("()", "[]", "{}", "（）", "【】")
        ),
        ("snow: (1.2)", NUMBER, None),
        ("snow:１，５", NUMBER, "'snow:1,5'"),
        *(
            (prompt, BRACKETS, None)
            for prompt in ("(red:1.2) heart", "((x:1.2))", "[x:0.5]", "{x:1.2}", "【x：1.2】 y")
        ),
        ("<lora:x:0.8>", BRACKETS, "'?lora:x:0.8?'"),
        ("<lora:x2:0.8> snow:2", BRACKETS, None),
        ("(route 66:1.2) heart", BRACKETS, None),
        ("a heart (red:1.2):2", BRACKETS, None),
        ("snow:1 people:-0.5", BAR, "'snow:1 people:-0.5'"),
        ("snow:1, people:-0.5", BAR, None),
        ("snow:1,people:-0.5", BAR, None),
        ("snow: 1, people: -0.5", BAR, None),
        ("snow : 1 people : -0.5", BAR, None),
        ("snow::2 people::-.5", BAR, None),
        ("snow:1\npeople:-0.5", BAR, None),
        ("deep snow:1 people", BAR, "'snow:1 people'"),
        ("snow：1、people：-0.5", BAR, None),
        ("(snow:1 people:2)", BAR, None),
        ("snow:abc | people:-0.5", WORD, "'snow:abc'"),
        ("people:-0.5 | snow:O.5", WORD, "'snow:O.5'"),
        ("people:1 | portrait:woman", WORD, "'portrait:woman'"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_looks_like_a_weight_and_is_none_is_refused_by_name(
    prompt: str, sentence: str, got: str | None
):
    for name in ("prompt", "negative_prompt"):
        with pytest.raises(SettingsError, match=rf"^{name} {sentence}.*, got '") as told:
            RULE.check(name, prompt)
        assert got is None or str(told.value).endswith(f"got {got}")
        assert len(str(told.value)) < 150


@pytest.mark.parametrize("words", ["snow:abc", "fashion:1920s", "snow:50%", "portrait:woman"])
def test_a_weight_of_1_makes_words_of_what_is_refused_without_it(words: str):
    assert read(f"{words}:1 | people:-0.5") == [(words, 1.0), ("people", -0.5)]


PIECES = (
    *(
        "snow",
        "people",
        "a",
        "12",
        "4",
        "3",
        "1",
        "0.5",
        "-1",
        "+2",
        ".5",
        "66",
        "é",
        "雪",
        "x",
        "D",
    ),
    *(":", ":", ":", ": ", " :", "::", "：", "|", " | ", "|", "｜", " ", " ", " ", "\n", ",", ";"),
    *(
        "(",
        ")",
        "[",
        "]",
        "<",
        ">",
        "<lora:",
        "%",
        "−",
        "—",
        "½",
        "１",
        "http://",
        ":)",
        "e3",
        "。",
    ),
)


def prompts(count: int) -> list[str]:
    chance = random.Random(7)
    return [
        "".join(chance.choices(PIECES, k=chance.randint(1, chance.choice((4, 8, 14)))))
        for _ in range(count)
    ]


def outcome(prompt: str) -> str | SettingsError:
    """The checked prompt, or why it is refused."""
    try:
        return check(prompt)
    except SettingsError as error:
        return error


def test_checking_a_checked_prompt_changes_nothing():
    outcomes = [outcome(prompt) for prompt in prompts(6000)]
    accepted = [found for found in outcomes if isinstance(found, str)]
    assert 2000 < len(accepted) < 5000
    assert max(len(str(found)) for found in outcomes if isinstance(found, SettingsError)) < 150
    for checked in accepted:
        assert check(checked) == checked, checked
        for text, weight in prompt_entries(checked):
            assert 0 < abs(weight) <= 5, checked
            assert text == text.strip() != "", checked


def test_only_words_count_towards_the_length():
    longest = "x" * 499
    assert check(check(f"{longest}:.5")) == f"{longest}:0.5"
    with pytest.raises(SettingsError, match="at most 500 characters, got 501 characters"):
        check("x" * 501 + ":.5")


@pytest.mark.timeout(5)
@pytest.mark.parametrize("piece", ["a:", "(:1 ", "a:1 ", "- ", ":- ", "(", ":.1", "1:", "a :"])
def test_a_long_prompt_is_read_at_once(piece: str):
    for prompt in (piece * (900 // len(piece)), "a:" + piece * 200 + "x"):
        assert outcome(prompt)
