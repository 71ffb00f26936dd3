"""Pictures with sentences: what belongs together stays together, and what is held out stays so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests import tiny_pairs
from tests.tiny_pairs import COUNTS, HELD_OUT, PAINTS, kinds_of
from training import captions, pairs
from training.pairs import STORED_PX, Pairs, joined, load_pairs


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pairs.write_all(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with tiny_pairs.small(tmp_path_factory.getbasetemp() / "cache"):
        yield


def prints(found: Pairs) -> list[bytes]:
    return [picture.numpy().tobytes() for picture in found.pixels]


@pytest.mark.parametrize("name", COUNTS)
def test_what_is_held_out_is_not_trained_on_and_nothing_is_lost(name: str, place: Path):
    train, held = load_pairs(place, name)
    assert (len(train), len(held)) == (COUNTS[name] - HELD_OUT[name], HELD_OUT[name])
    assert not set(prints(train)) & set(prints(held))
    assert train.pixels.shape[1:] == held.pixels.shape[1:] == (3, STORED_PX, STORED_PX)
    assert train.pixels.dtype == torch.uint8
    for part in (train, held):
        assert len(part.sentences) == len(part.labels) == len(part.origins) == len(part)


def test_the_same_pictures_are_held_out_every_time(place: Path):
    for first, again in zip(
        load_pairs(place, "wikiart"), load_pairs(place, "wikiart"), strict=True
    ):
        assert prints(first) == prints(again)
        assert first.sentences == again.sentences
        assert first.labels == again.labels


def test_what_is_held_out_is_not_one_end_of_the_data(place: Path):
    numbers = sorted(int(picture[0, -1, 0]) for picture in load_pairs(place, "wikiart")[1].pixels)
    count = HELD_OUT["wikiart"]
    assert numbers not in (list(range(count)), list(range(24 - count, 24)))


def test_every_scene_and_flower_is_called_what_it_is(place: Path):
    for name, kinds in (("scenes", captions.SCENES), ("flowers", captions.FLOWERS)):
        for part in load_pairs(place, name):
            for kind, label, said in zip(
                kinds_of(part.pixels), part.labels, part.sentences, strict=True
            ):
                assert label == kinds[kind][0]
                assert all(any(word in text for word in kinds[kind]) for text in said)


def test_every_painting_is_labelled_by_its_genre_or_not_at_all(place: Path):
    said_of = [said[0] for said in captions.GENRES.values()]
    for part in load_pairs(place, "wikiart"):
        for picture, label in zip(part.pixels, part.labels, strict=True):
            kind = int(picture[0, -1, 0]) % 11  # ten genres and none
            assert label == (said_of[kind] if kind < 10 else "")


def test_the_sentences_of_people_are_all_kept_without_full_stops(place: Path):
    train, held = load_pairs(place, "flickr8k")
    whole = joined([train, held])
    for kind, said in zip(kinds_of(whole.pixels), whole.sentences, strict=True):
        assert said == [f"A {PAINTS[kind]} dog runs", f"A {PAINTS[kind]} dog, number {kind}"]
    assert set(whole.labels) == {""}


def test_emoji_stand_on_grounds_of_several_greys(place: Path):
    found, _ = load_pairs(place, "emoji")
    corners = found.pixels[:, :, 0, 0].tolist()
    assert {tuple(corner) for corner in corners} == {(g, g, g) for g in pairs.GROUNDS}
    assert sorted(kinds_of(found.pixels)) == list(range(6))  # what is opaque is as it was
    assert all(said for said in found.sentences)


def test_a_wide_picture_keeps_its_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    wide = Image.new("RGB", (288, 144), "red")
    wide.paste((0, 0, 255), (72, 0, 216, 144))
    tiny_pairs.write_rows(tmp_path, "scenes", [{"image": wide, "label": 0}])
    monkeypatch.setitem(HELD_OUT, "scenes", 0)
    found = load_pairs(tmp_path, "scenes")[0].pixels[0].float()
    blue = torch.tensor([0.0, 0.0, 255.0]).view(3, 1, 1)
    assert (found - blue)[:, :, 2:-2].abs().max() < 3


def test_grey_pictures_get_three_channels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    grey = Image.new("L", (90, 80), 77)
    tiny_pairs.write_rows(tmp_path, "scenes", [{"image": grey, "label": 2}])
    monkeypatch.setitem(HELD_OUT, "scenes", 0)
    assert load_pairs(tmp_path, "scenes")[0].pixels.unique().tolist() == [77]


def test_data_that_is_not_there_is_refused_in_one_sentence(tmp_path: Path):
    with pytest.raises(ValueError, match="can be read") as refusal:
        load_pairs(tmp_path / "nowhere", "scenes")
    assert str(tmp_path / "nowhere" / "scenes") in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("name", "column"), [("flickr8k", "captions"), ("wikiart", "genre")])
def test_data_without_a_column_is_refused_in_one_sentence(tmp_path: Path, name: str, column: str):
    tiny_pairs.write_rows(tmp_path, "flowers", [{"image": Image.new("RGB", (80, 80)), "label": 0}])
    (tmp_path / "flowers").rename(tmp_path / name)
    with pytest.raises(ValueError, match=f"^{name} must have the columns image, .*{column}"):
        load_pairs(tmp_path, name)


def test_chosen_pictures_come_in_order_with_what_belongs_to_them():
    whole = tiny_pairs.colored_pairs(12)
    chosen = whole.select(torch.tensor([7, 0, 3]))
    assert kinds_of(chosen.pixels) == [1, 0, 3]
    assert chosen.labels == ["blue", "red", "white"]
    assert chosen.sentences[0] == ["blue", "a blue picture"]
    assert len(chosen) == len(chosen.origins) == 3


def test_none_can_be_chosen():
    nothing = tiny_pairs.colored_pairs(3).select(torch.tensor([], dtype=torch.long))
    assert len(nothing) == 0
    assert nothing.labels == nothing.sentences == nothing.origins == []


def test_data_sets_are_joined_one_after_the_other(place: Path):
    parts = [load_pairs(place, name)[0] for name in ("flowers", "emoji")]
    whole = joined(parts)
    assert whole.origins == ["flowers"] * 7 + ["emoji"] * 6
    assert prints(whole) == prints(parts[0]) + prints(parts[1])
    assert whole.sentences == parts[0].sentences + parts[1].sentences
    assert whole.labels == parts[0].labels + [""] * 6
