"""What nobody trains on: every entry means something, and every trainer leaves it out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets.config
import pytest
import torch
from datasets import Dataset

from benchmarks import emoji
from tests.fakes import tiny_pairs
from tests.fakes.tiny_pictures import invoke, one_thread
from training.core import captions, held_out
from training.core.backgrounds import hue_rotated
from training.core.data import dataset_names, joined_folder_names
from training.core.held_out import ANY_TURN, NUM_TURNS, HeldOut
from training.core.sources import strictest
from training.pictures.data import Pictures, allowed_turn, load_pictures

DATA = Path(os.environ.get("STUDIO_DATA", "../shared/data"))
HELD = HeldOut(
    wordings=frozenset({"two blue whales"}),
    names=frozenset({"man s shoe"}),
    sets=frozenset({"designer"}),
    pairs=frozenset({("heart", "yellow"), ("heart", "green")}),
    paintings=frozenset({("claude monet", "haystacks")}),
)


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    with one_thread():
        yield


def test_the_lists_are_as_long_as_they_were_frozen():
    held = held_out.load()
    assert len(held.wordings) == 28
    assert len(held.names) == 60
    assert held.sets == {"fxemoji"}
    assert len(held.pairs) == 40
    assert len(held.paintings) == 1055


def test_what_the_benchmark_of_emoji_asks_for_is_not_held_out():
    held = held_out.load()
    asked = set(emoji.PROMPTS.values())
    assert not held.pairs & asked
    assert held.things >= {thing for thing, _ in asked}
    assert not any(held.has_wording(prompt) for prompt in emoji.PROMPTS)


def test_the_colors_of_the_pairs_have_names():
    known = {name.split()[-1] for name in captions.COLORS}
    assert {color for _, color in held_out.load().pairs} <= known


@pytest.mark.parametrize(
    ("text", "found"),
    [("Man\u2019s  Shoe", "man s shoe"), ("\u00c9t\u00e9, 2", "ete 2"), ("", "")],
)
def test_texts_are_compared_without_case_accents_and_punctuation(text: str, found: str):
    assert held_out.normalised(text) == found


def test_versions_of_a_painting_are_one_painting():
    row = {"artist": "Claude Monet", "title": "Haystacks 2"}
    assert HELD.has_painting(row)
    assert HELD.has_painting(row | {"title": "haystacks"})
    assert not HELD.has_painting(row | {"title": "haystacks in snow"})


@pytest.mark.parametrize("missing", ["artist", "title"])
def test_a_painting_without_artist_or_title_is_not_held_out(missing: str):
    row = {"artist": "claude monet", "title": "haystacks"}
    assert not HELD.has_painting(row | {missing: None})


def test_captions_emoji_and_pairs_are_recognised():
    assert HELD.has_wording("Two blue whales!")
    assert not HELD.has_wording("two blue whales and a fish")
    assert HELD.has_emoji({"set": "noto", "name": "man\u2019s shoe"})
    assert HELD.has_emoji({"set": "designer", "name": "key"})
    assert not HELD.has_emoji({"set": "noto", "name": "key"})
    assert HELD.has_pair("heart", ["dark green", "white"])
    assert not HELD.has_pair("heart", ["white", "green"])
    assert not HELD.has_pair("leaf", ["green"])
    assert not HELD.has_pair("heart", [])


def sticker(kind: int) -> torch.Tensor:
    pixels = torch.tensor(list(tiny_pairs.sticker(kind).tobytes()), dtype=torch.uint8)
    return pixels.view(72, 72, 4).permute(2, 0, 1)


def test_only_hue_turns_that_make_no_held_out_pair_are_allowed():
    red = sticker(0)
    assert HELD.turns(red, "leaf") == ANY_TURN
    allowed = HELD.turns(red, "heart")
    assert allowed & 1  # a red heart is not held out
    for i in range(NUM_TURNS):
        (shown,) = hue_rotated(red[None], torch.tensor([i / NUM_TURNS]))
        is_held = HELD.has_pair("heart", captions.dominant_colors(shown))
        assert (allowed >> i & 1) == (not is_held)
    assert 0 < allowed.bit_count() < NUM_TURNS


def test_a_turn_that_is_held_out_becomes_one_that_is_allowed():
    assert allowed_turn(ANY_TURN, 0.123) == 0.123
    allowed = 1 | 1 << 5
    assert {allowed_turn(allowed, i / 10) for i in range(10)} == {0.0, 5 / NUM_TURNS}


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> str:
    tiny_pairs.write_rows(folder, name, rows)
    return str(folder / name)


def emoji_rows(*changes: dict[str, Any]) -> list[dict[str, Any]]:
    return [tiny_pairs.row_of("emoji", i) | change for i, change in enumerate(changes)]


def test_pictures_of_known_data_sets_are_read_without_what_is_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(held_out, "load", lambda: HELD)
    rows = emoji_rows(
        {"name": "red heart"},
        {"set": "designer"},
        {"name": "yellow heart"},
        {"name": "Man\u2019s shoe"},
        {"name": "mouse"},
    )
    name = write(tmp_path, "emoji", rows)
    found = load_pictures(name, image_size=16, channels=4)
    assert (len(found), found.skipped) == (2, 0)
    turns = found.allowed_turns(torch.tensor([0, 0, 1]), torch.tensor([0.3, 0.6, 0.3]))
    assert turns[2] == pytest.approx(0.3)
    for picture, turn in zip(found.take(torch.tensor([0, 0])), turns[:2], strict=True):
        (shown,) = hue_rotated(picture[None], turn[None])
        assert not HELD.has_pair("heart", captions.dominant_colors(shown))


def test_a_data_set_of_ones_own_is_left_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(held_out, "load", lambda: HELD)
    rows = emoji_rows({"name": "yellow heart"}, {"set": "designer"})
    write(tmp_path, "emoji", rows)
    (tmp_path / "emoji").rename(tmp_path / "stickers")
    found = load_pictures(str(tmp_path / "stickers"), image_size=16, channels=4)
    assert len(found) == 2
    assert found.rows["turns"] == [ANY_TURN] * 2


def test_several_data_sets_are_read_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(held_out, "load", lambda: HELD)
    names = [
        write(tmp_path, "emoji", emoji_rows({"name": "key"}, {"name": "bell"})),
        write(tmp_path, "emoji-more", emoji_rows({"set": "designer"}, {"name": "key"}, {})),
    ]
    found: Pictures = load_pictures(
        ",".join(names), image_size=16, channels=4, focus="name=key", exclude="name=bell"
    )
    assert found.focused.tolist() == [True, True, False]


def test_data_sets_are_named_by_commas_unless_a_path_has_one(tmp_path: Path):
    assert dataset_names("emoji, emoji-more") == ["emoji", "emoji-more"]
    (tmp_path / "a,b").mkdir()
    assert dataset_names(str(tmp_path / "a,b")) == [str(tmp_path / "a,b")]
    assert joined_folder_names("../x/emoji,../x/emoji-more") == "emoji,emoji-more"


def test_the_strictest_licence_holds_for_a_model():
    assert strictest(["apache-2.0"]) == "apache-2.0"
    assert strictest(["apache-2.0", "cc-by-4.0"]) == "cc-by-4.0"
    assert strictest(["cc-by-4.0", "research"]) == "research"


def tiny_place(folder: Path) -> Path:
    rows = emoji_rows({"name": "Man\u2019s shoe"}, {"set": "designer", "name": "red heart"})
    tiny_pairs.write_rows(folder, "emoji", rows)
    paintings = [tiny_pairs.row_of("wikiart", i) for i in range(2)]
    tiny_pairs.write_rows(folder, "wikiart", paintings)
    return folder


def test_the_command_counts_what_every_list_matches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(held_out, "load", lambda: HELD)
    result = invoke(held_out.main, f"--data-folder={tiny_place(tmp_path)}")
    assert result.exit_code == 0, result.output
    assert "1 names: 1 rows" in result.output
    assert "1 paintings: 2 rows" in result.output


def test_the_command_fails_if_an_entry_matches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    more = HeldOut(names=HELD.names | {"unicorn"}, paintings=HELD.paintings)
    monkeypatch.setattr(held_out, "load", lambda: more)
    result = invoke(held_out.main, f"--data-folder={tiny_place(tmp_path)}")
    assert result.exit_code != 0
    assert "name unicorn" in result.output


def columns_of(name: str, columns: list[str]) -> Dataset:
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"needs the data set {name}")
    return datasets.load_dataset(str(folder.resolve()), split="train").select_columns(columns)


@pytest.mark.parametrize("name", ["emoji", "emoji-more"])
def test_every_held_out_name_is_in_the_real_data(name: str):
    names = {held_out.normalised(text) for text in columns_of(name, ["name"])["name"]}
    assert held_out.load().names <= names


@pytest.mark.thorough
def test_every_held_out_painting_is_in_the_real_data():
    columns, wanted = ["artist", "title"], held_out.load().paintings
    keys: list[Any] = []
    for name in ("wikiart", "paintings-256"):
        rows: Any = columns_of(name, columns)
        keys += [held_out.painting_key(row) for row in rows]
    assert wanted <= set(keys)
    assert sum(key in wanted for key in keys) == 1154


def test_no_caption_of_a_real_emoji_is_a_held_out_wording():
    held, columns = held_out.load(), ["name", "keywords", "category"]
    rows: Any = columns_of("emoji-more", columns)
    for row in rows:
        assert not any(map(held.has_wording, [row["name"], *row["keywords"]]))
