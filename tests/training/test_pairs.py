"""Pictures with sentences: what belongs together stays together, and what is held out stays so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from pipelines.core import images
from tests.fakes import tiny_pairs
from tests.fakes.tiny_pairs import COUNTS, HELD_OUT, PAINTS, kinds_of
from training.clip import pairs
from training.clip.pairs import RECOLORED, RECOLORED_EVERYDAY, STORED_PX, Pairs, joined, load_pairs
from training.core import captions, held_out
from training.core.held_out import HeldOut


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
    copies = 1 + RECOLORED if name in ("emoji", "emoji-more") else 1
    assert (len(train), len(held)) == (COUNTS[name] * copies - HELD_OUT[name], HELD_OUT[name])
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


def test_emoji_stand_on_another_ground_every_time(place: Path):
    found, _ = load_pairs(place, "emoji")
    rows = torch.arange(len(found))
    seen, again = (
        found.on_backgrounds(rows, torch.Generator().manual_seed(seed)) for seed in (0, 1)
    )
    assert seen.shape == (len(found), 3, STORED_PX, STORED_PX)
    assert (seen[:, :, 0, 0] - again[:, :, 0, 0]).abs().amax(dim=1).min() > 0.01
    middle = images.to_uint8(seen)[:, :, 36, 36]
    assert torch.equal(middle, found.pixels[:, :, 36, 36])  # what is opaque is as it was
    assert all(said for said in found.sentences)


def test_pictures_without_transparency_need_no_ground(place: Path):
    found, _ = load_pairs(place, "scenes")
    seen = found.on_backgrounds(torch.tensor([2, 0]), torch.Generator().manual_seed(0))
    assert torch.equal(images.to_uint8(seen), found.pixels[[2, 0]])


def test_every_emoji_comes_in_its_own_colors_and_in_others_that_are_told(place: Path):
    found, _ = load_pairs(place, "emoji")
    assert set(kinds_of(found.pixels)) >= set(range(6))
    assert found.alpha is not None
    told = 0
    for pixels, alpha, said in zip(found.pixels, found.alpha, found.sentences, strict=True):
        (color,) = captions.dominant_colors(torch.cat([pixels, alpha]))
        told += all(color.split()[-1] in text for text in said)
    assert told >= 6 * RECOLORED


def test_everyday_things_come_in_more_colors_than_others(tmp_path: Path):
    rows = [tiny_pairs.row_of("emoji", i) for i in range(2)]
    tiny_pairs.write_rows(tmp_path, "emoji", [rows[0], {**rows[1], "name": "beating heart"}])
    found, _ = load_pairs(tmp_path, "emoji")
    about_hearts = sum(any("heart" in text for text in said) for said in found.sentences)
    assert len(found) == 2 + RECOLORED + RECOLORED_EVERYDAY
    assert about_hearts == 1 + RECOLORED_EVERYDAY


def test_turned_hues_keep_light_greys_and_what_is_transparent():
    picture = tiny_pairs.sticker(0)  # red on nothing
    picture.paste((128, 128, 128, 255), (18, 18, 30, 30))
    before, after = (
        torch.tensor(list(shown.tobytes())) for shown in (picture, pairs.recolored(picture, 0.0))
    )
    assert (before - after).abs().max() < 4
    turned = pairs.recolored(picture, 1 / 3)
    red, green, blue, alpha = turned.getpixel((45, 45))  # pyright: ignore
    assert green > 150 > 60 > max(red, blue)
    assert alpha == 255
    assert turned.getpixel((20, 20)) == (128, 128, 128, 255)
    assert turned.getchannel("A").tobytes() == picture.getchannel("A").tobytes()


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
    stickers = 6 * (1 + RECOLORED)
    assert whole.origins == ["flowers"] * 7 + ["emoji"] * stickers
    assert prints(whole) == prints(parts[0]) + prints(parts[1])
    assert whole.sentences == parts[0].sentences + parts[1].sentences
    assert whole.labels == parts[0].labels + [""] * stickers
    assert whole.alpha is not None
    assert whole.alpha[:7].min() == 255
    assert parts[1].alpha is not None
    assert torch.equal(whole.alpha[7:], parts[1].alpha)


def test_named_paintings_are_held_out_with_their_sentences(place: Path):
    train, held = load_pairs(place, "wikiart")
    numbers = {int(picture[0, -1, 0]) for picture in held.pixels}
    assert numbers == {i for i in range(24) if i % 5 == 3}
    assert not any(tiny_pairs.HELD_ARTIST in text for said in train.sentences for text in said)


def test_held_out_wordings_names_and_pairs_are_in_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rows = [tiny_pairs.row_of("emoji", i) for i in range(3)]
    rows[0] |= {"name": "Penguin"}
    rows[1] |= {"set": "designer"}
    rows[2] |= {"name": "beating heart", "keywords": ["love"]}
    tiny_pairs.write_rows(tmp_path, "emoji", rows)
    held = HeldOut(
        wordings=frozenset({"a cartoon beating heart", "love"}),
        names=frozenset({"penguin"}),
        sets=frozenset({"designer"}),
        pairs=frozenset({("heart", "yellow"), ("heart", "green")}),
    )
    monkeypatch.setattr(held_out, "load", lambda: held)
    found, validation = load_pairs(tmp_path, "emoji")
    assert found.alpha is not None
    assert 0 < len(found) < 1 + RECOLORED_EVERYDAY
    assert len(validation) == 0
    assert not {"a cartoon beating heart", "love"} & {t for said in found.sentences for t in said}
    for pixels, alpha in zip(found.pixels, found.alpha, strict=True):
        colors = captions.dominant_colors(torch.cat([pixels, alpha]))
        assert colors[0].split()[-1] not in ("yellow", "green")
