"""What is known of pictures, and the sentences made of it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value

from training.core import held_out, told
from training.words import collages

CAT = {
    "kind": "emoji",
    "set": "noto",
    "name": "black cat",
    "keywords": ["animal", "pet", "unlucky"],
    "category": "Animals & Nature",
}
PAINTING = {
    "kind": "painting",
    "artist": "A. Painter",
    "title": "Bathers at Noon",
    "style": "Impressionism",
    "genre": "nude_painting",
}


def sentences(facts: Mapping[str, Any], count: int = 400, **changes: Any) -> list[str]:
    given: dict[str, Any] = {"colors": ["red"], "ground": "", "turned": False} | changes
    return [told.sentence(facts, chance=random.Random(seed), **given) for seed in range(count)]


def test_emoji_and_paintings_are_told_by_their_columns():
    rows = {key: [value] for key, value in CAT.items() if key != "kind"}
    assert told.read(*told.tell(Dataset.from_dict(rows), "emoji")) == CAT
    rows = {key: [value] for key, value in PAINTING.items() if key != "kind"}
    assert told.read(*told.tell(Dataset.from_dict(rows), "wikiart")) == PAINTING


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("text", "My dog.", ["My dog"]),
        ("caption", " a hill ", ["a hill"]),
        ("captions", ["one dog .", "", "a pet"], ["one dog", "a pet"]),
    ],
)
def test_ones_own_pictures_are_told_by_their_captions(column: str, value: Any, expected: list[str]):
    data = Dataset.from_dict({column: [value], "label": [3]})
    assert told.read(*told.tell(data, "photos"))["texts"] == expected


def test_a_picture_without_a_caption_is_told_nothing():
    data = Dataset.from_dict({"text": [None, " ", "a dog"]})
    nothing, blank, dog = map(told.read, told.tell(data, "photos"))
    assert sentences(nothing, 1) == sentences(blank, 1) == [""]
    assert sentences(dog, 1) == ["a dog"]
    assert told.tell(Dataset.from_dict({"other": [1]}), "photos") == [""]


def test_classes_are_told_by_their_names():
    features = Features({"label": ClassLabel(names=["tea_pot", "7"]), "x": Value("int64")})
    data = Dataset.from_dict({"label": [0, 1, None], "x": [0, 0, 0]}, features=features)
    pot, seven, none = map(told.read, told.tell(data, "photos"))
    assert pot["texts"] == ["a tea pot", "tea pot"]
    assert seven["kind"] == none["kind"] == ""


def test_the_known_classes_of_scenes_are_told_in_words():
    facts = told.read(*told.tell(Dataset.from_dict({"label": [1]}), "scenes"))
    assert "a forest" in facts["texts"]


def test_an_emoji_is_told_by_its_name_its_kind_its_keywords_and_its_colour():
    said = sentences(CAT)
    for part in ("a black cat", "red cat", "an emoji of", "a drawing of", "unlucky"):
        assert any(part in text for text in said), part
    assert sum("cat" in text for text in said) > 0.85 * len(said)
    assert len(set(said)) > 30


def test_a_turned_emoji_is_not_told_by_the_colour_of_its_name():
    assert not any("black" in text for text in sentences(CAT, turned=True))
    assert all("red cat" in text for text in sentences(CAT, turned=True))


def test_the_ground_is_told_now_and_then():
    share = sum(" on a blue " in text for text in sentences(CAT, ground="blue")) / 400
    assert 0.1 < share < 0.3
    assert not any(" on a " in text for text in sentences(CAT))


def test_no_sentence_is_a_held_out_wording():
    wordings = held_out.load().wordings
    assert wordings
    heart = CAT | {"name": "red heart", "keywords": ["love"], "category": "Smileys & Emotion"}
    for color in ("red", "blue", "green", "purple"):
        said = {held_out.normalised(text) for text in sentences(heart, colors=[color])}
        assert not said & wordings


def test_nothing_of_nudity_is_told():
    said = sentences(PAINTING)
    assert not any(word in text.lower() for text in said for word in ("nude", "bather", "noon"))
    assert any("A. Painter" in text for text in said)
    river = PAINTING | {"title": "The River Oise", "genre": "landscape"}
    assert any("The River Oise" in text for text in sentences(river))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("apple", "an apple"), ("cat", "a cat"), ("glasses", "glasses"), ("bus", "a bus")],
)
def test_articles(name: str, expected: str):
    assert told.with_article(name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cat", "cats"),
        ("cherry", "cherries"),
        ("key", "keys"),
        ("red fish", "red fish"),
        ("box", "boxes"),
        ("green leaf", "green leaves"),
        ("glasses", "glasses"),
    ],
)
def test_plurals(name: str, expected: str):
    assert collages.plural(name) == expected


def test_a_collage_is_told_with_its_places():
    layout = collages.LAYOUTS[0]
    collage = collages.Collage(layout.boxes, same=False, way="{0} left of {1}")
    assert collages.told(collage, ["red heart", "apple"]) == "a red heart left of an apple"
    twice = collages.Collage(layout.boxes, same=True, way="{0} left of {1}")
    assert collages.told(twice, ["red heart", "red heart"]) == "two red hearts"


def test_parts_stand_where_they_are_told():
    red = torch.tensor([255, 0, 0, 255], dtype=torch.uint8).view(4, 1, 1).expand(4, 64, 64)
    blue = torch.tensor([0, 0, 255, 255], dtype=torch.uint8).view(4, 1, 1).expand(4, 64, 64)
    for layout, sides in ((collages.LAYOUTS[0], "left"), (collages.LAYOUTS[1], "above")):
        picture = collages.pasted([red.clone(), blue.clone()], layout.boxes).float()
        if sides == "above":
            picture = picture.transpose(1, 2)
        assert picture[0, :, :32].mean() > 100 > 1 > picture[2, :, :31].mean()
        assert picture[2, :, 32:].mean() > 100
        assert 0.3 < (picture[3] > 250).float().mean() < 0.5


def test_a_small_part_keeps_its_colour_at_its_edge():
    """What is transparent is black in the file, which must not darken the edge."""
    part = torch.zeros(4, 64, 64, dtype=torch.uint8)
    part[:, 16:48, 16:48] = torch.tensor([255, 200, 0, 255], dtype=torch.uint8).view(4, 1, 1)
    small = collages.pasted([part], [collages.Box(0, 0, 0.3)])
    seen = small[:, small[3] > 40].float()
    assert (seen[0] > 250).all()
    assert ((seen[1] - 200).abs() < 5).all()


def test_collages_repeat_one_thing_now_and_then_and_never_overlap():
    drawn = [collages.draw_collage(random.Random(seed)) for seed in range(300)]
    assert 0.2 < sum(c.same for c in drawn) / 300 < 0.4
    assert {len(c.boxes) for c in drawn} == {2, 3, 4}
    for collage in drawn:
        canvas = torch.zeros(100, 100)
        for box in collage.boxes:
            left, top, right, bottom = (
                round(100 * v) for v in (box.left, box.top, box.left + box.side, box.top + box.side)
            )
            assert min(left, top) >= 0
            assert max(right, bottom) <= 100
            canvas[top:bottom, left:right] += 1
        assert canvas.max() == 1


def test_the_face_of_an_animal_is_told_as_the_animal():
    rabbit = CAT | {"name": "rabbit face", "keywords": ["pet"]}
    said = sentences(rabbit)
    assert sum("rabbit" in text for text in said) > 300
    assert not any("face" in text for text in said)
    smiling = CAT | {"name": "smiling face", "category": "Smileys & Emotion"}
    assert any("smiling face" in text for text in sentences(smiling))
