"""Sentences on pictures: what they are made of, and that the same seed makes the same ones."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from training.core import captions

PAINTING = {
    "title": "water lilies 2",
    "genre": "landscape",
    "style": "Impressionism",
    "artist": "claude monet",
}
EMOJI = {"name": "smiling face", "keywords": ["smile", "größe"], "category": "Smileys & Emotion"}
WRITTEN = {"captions": ["A dog runs .", "Two dogs ."]}


def plain(*names: str) -> Tensor:
    """Stripes of named colours, of one width, `(3, 24, 24)` uint8."""
    stripes = [torch.tensor(captions.COLORS[name]).view(3, 1, 1) for name in names]
    width = 24 // len(names)
    return torch.cat([stripe.expand(3, 24, width) for stripe in stripes], dim=2).to(torch.uint8)


def paintings(count: int = 400, **changes: Any) -> list[str]:
    """Many sentences on one painting."""
    chance = random.Random(0)
    return [captions.painting(PAINTING | changes, ["red"], chance) for _ in range(count)]


def test_the_colors_of_a_red_and_blue_picture_are_red_and_blue():
    assert set(captions.dominant_colors(plain("red", "blue"))) == {"red", "blue"}


def test_the_color_that_fills_more_comes_first():
    assert captions.dominant_colors(plain("red", "blue", "blue")) == ["blue", "red"]


@pytest.mark.parametrize("name", captions.COLORS)
def test_every_color_has_its_own_name(name: str):
    assert captions.dominant_colors(plain(name)) == [name]


def test_a_color_that_fills_little_is_not_named():
    picture = plain("white")
    picture[:, :, :3] = plain("red")[:, :, :3]  # an eighth
    assert captions.dominant_colors(picture) == ["white"]


def test_three_colors_are_named_at_most():
    assert len(captions.dominant_colors(plain("red", "blue", "white", "black"))) == 3


@pytest.mark.parametrize(
    ("title", "known", "found"),
    [
        ("ships at sea", None, "marine"),
        ("ships at sea", "landscape", "marine"),
        ("the harbor of le havre", "", "marine"),
        ("the search for seasons", None, ""),  # words that only begin like the sea
        ("portrait of a ship owner with his boats", "portrait", "portrait"),
        ("haystacks", "landscape", "landscape"),
        ("haystacks", "abstract_painting", ""),
        (None, None, ""),
    ],
)
def test_marines_are_found_by_their_title(title: str | None, known: str | None, found: str):
    assert captions.genre({"title": title, "genre": known}) == found


def test_numbers_that_tell_versions_apart_are_not_said():
    said = paintings()
    assert any("water lilies" in text for text in said)
    assert not any(character.isdigit() for text in said for character in text)


@pytest.mark.parametrize("title", ["untitled 3", "sketch", "1920", "", None])
def test_a_title_that_says_nothing_is_not_said(title: str | None):
    said = paintings(title=title, style=None, artist=None)
    kinds = captions.GENRES["landscape"]
    assert set(said) == {*kinds, *(f"{k} in red" for k in kinds), *(f"{k}, red" for k in kinds)}


def test_all_that_is_known_of_a_painting_is_said_at_times():
    said = paintings()
    for part in ("landscape", "water lilies", "Impressionism", "by claude monet", "red"):
        assert 0 < sum(part in text for text in said) < len(said), part


def test_a_painting_of_which_nothing_is_known_is_a_painting():
    said = paintings(title=None, genre=None, style=None, artist=None)
    assert {text.replace(" in red", "").replace(", red", "") for text in said} == {
        "a painting",
        "a picture",
    }


def test_a_photo_is_called_by_its_kind_and_its_colors():
    chance = random.Random(0)
    said = {captions.photo(["a rose", "roses"], ["red"], chance) for _ in range(200)}
    assert {"a rose", "a photo of roses", "a picture of a rose in red"} <= said
    assert all("rose" in text for text in said)


def test_an_emoji_is_called_by_its_name_or_a_keyword_in_plain_letters():
    chance = random.Random(0)
    said = {captions.emoji(EMOJI, [], chance) for _ in range(200)}
    assert {"smiling face", "an emoji of smile", "a cartoon smiling face"} <= said
    assert all(text.isascii() for text in said)


@pytest.mark.parametrize(
    ("name", "keywords", "category", "word"),
    [
        ("deciduous tree", ["nature", "wood"], "Animals & Nature", "tree"),
        ("books", ["library"], "Objects", "book"),
        ("face with big eyes", ["eye"], "Smileys & Emotion", "face"),
        ("leaf fluttering in wind", ["grass", "tree"], "Animals & Nature", "leaf"),
        ("twelve: a clock", [], "Travel & Places", ""),
        ("hibiscus", ["beach", "flower", "vegetable"], "Animals & Nature", "flower"),
        ("taxi", ["cab", "car", "new"], "Travel & Places", "car"),
        ("octopus", ["animal", "sea"], "Animals & Nature", ""),  # is no kind of sea
        ("raised hand", ["hand"], "People & Body", ""),
        ("flag: Mexico", ["flag"], "Flags", ""),
        ("(", [], "Symbols", ""),
    ],
)
def test_everyday_things_are_known_by_the_last_word_of_a_name_or_a_keyword_that_is_a_kind(
    name: str, keywords: list[str], category: str, word: str
):
    assert captions.everyday({"name": name, "keywords": keywords, "category": category}) == word


def test_an_emoji_of_an_everyday_thing_is_often_called_by_that_alone():
    row = {"name": "taxi", "keywords": ["cab", "car"], "category": "Travel & Places"}
    chance = random.Random(0)
    said = [captions.emoji(row, ["dark blue"], chance) for _ in range(400)]
    assert 40 < sum(text in ("a blue car", "a dark blue car", "a car") for text in said) < 200
    assert {"a car", "a blue car", "taxi", "a blue taxi"} <= {*said}


def test_a_recolored_emoji_is_called_by_its_new_color_and_not_by_that_of_its_name():
    chance = random.Random(0)
    row = {"name": "red heart", "keywords": ["love", "blue-heart"], "category": "Symbols"}
    said = {captions.recolored_emoji(row, ["dark green"], chance) for _ in range(200)}
    assert {"a green heart", "a dark green love", "an emoji of a green heart"} <= said
    assert not any("red" in text or "blue" in text or "-" in text for text in said)
    assert "an orange heart" in {
        captions.recolored_emoji(row, ["orange"], chance) for _ in range(50)
    }


def test_what_is_transparent_has_no_color():
    alpha = torch.zeros(1, 24, 24, dtype=torch.uint8)
    alpha[:, :, :12] = 255
    assert captions.dominant_colors(torch.cat([plain("red", "blue"), alpha])) == ["red"]
    assert captions.dominant_colors(torch.cat([plain("red", "blue"), alpha * 0])) == []


@pytest.mark.parametrize("name", captions.VIVID)
def test_a_bright_color_has_the_name_of_the_paler_one(name: str):
    picture = torch.tensor(captions.VIVID[name], dtype=torch.uint8).view(3, 1, 1).expand(3, 8, 8)
    assert captions.dominant_colors(picture) == [name]


SAYINGS: list[tuple[Callable[..., str], dict[str, Any]]] = [
    (captions.painting, PAINTING),
    (captions.painting, {"title": "", "genre": None, "style": "", "artist": None}),
    (lambda _, *rest: captions.photo(captions.SCENES[0], *rest), {}),
    (captions.emoji, EMOJI),
    (captions.emoji, {"name": "ö", "keywords": [], "category": ""}),
    (captions.recolored_emoji, EMOJI),
    (captions.recolored_emoji, {"name": "red", "keywords": [], "category": ""}),
]


@pytest.mark.parametrize(("say", "row"), SAYINGS)
def test_variants_are_different_sentences_and_the_same_for_the_same_seed(
    say: Callable[..., str], row: dict[str, Any]
):
    picture = plain("red", "blue")
    for seed in range(20):
        said = captions.variants(say, row, picture, count=6, seed=seed)
        assert said == captions.variants(say, row, picture, count=6, seed=seed)
        assert 1 <= len(said) == len(set(said)) <= 6
        assert all(text.strip() for text in said)


def test_another_seed_makes_other_sentences():
    said = {
        tuple(captions.variants(captions.painting, PAINTING, plain("red"), count=4, seed=seed))
        for seed in range(10)
    }
    assert len(said) > 5
