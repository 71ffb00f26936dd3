"""The judge of everyday things: what it takes for what, and that it learns things."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.emoji import PROMPTS
from benchmarks.judges import emoji_judge, things_judge
from benchmarks.judges.emoji_judge import OTHER, Emoji
from benchmarks.judges.things_judge import KINDS, THINGS, classify, thing_of
from tests.fakes import tiny_pairs
from tests.fakes.tiny_pairs import sticker
from tests.fakes.tiny_pictures import invoke, one_thread
from training.core import held_out
from training.core.backgrounds import composited, draw_backgrounds
from training.core.held_out import HeldOut

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A narrow network of its own on one thread."""
    monkeypatch.setattr(things_judge, "_WIDTHS", (8, 16))
    monkeypatch.setattr(things_judge, "untrained", things_judge.ThingsJudge)
    with one_thread():
        yield


@pytest.mark.parametrize(
    ("name", "thing"),
    [
        ("red apple", "apple"),
        ("pineapple", OTHER),
        ("lemon", "lemon"),
        ("cat face", "cat"),
        ("weary cat", "cat"),
        ("polar bear", "bear"),
        ("teddy bear", OTHER),
        ("dog face", "dog"),
        ("hot dog", OTHER),
        ("monkey", "monkey"),
        ("hear-no-evil monkey", "monkey"),
        ("waxing crescent moon", "moon"),
        ("moon cake", OTHER),
        ("sun with face", "sun"),
        ("sunflower", "sunflower"),
        ("sun behind cloud", "cloud"),
        ("oncoming taxi", "car"),
        ("railway car", "train"),
        ("high-speed train", "train"),
        ("bullet train", OTHER),
        ("three o’clock", "clock"),
        ("kitchen knife", "knife"),
        ("fork and knife", OTHER),
        ("locked with key", "lock"),
        ("key", "key"),
        ("hammer and wrench", OTHER),
        ("musical keyboard", "piano"),
        ("fire", "fire"),
        ("fire engine", "fire truck"),
        ("person in bed", OTHER),
    ],
)
def test_an_emoji_is_what_its_name_says(name: str, thing: str):
    assert KINDS[thing_of(name)] == thing


def test_it_knows_a_hundred_things_that_are_mostly_not_in_the_twenty_prompts():
    assert len(THINGS) >= 100
    in_prompts = {thing for thing, _ in PROMPTS.values()} & set(THINGS)
    assert len(in_prompts) < len(THINGS) / 10


def test_no_thing_is_a_held_out_name():
    assert not {held_out.normalised(thing) for thing in THINGS} & held_out.load().names


def test_no_name_is_two_things():
    for thing, pattern in THINGS.items():
        others = [name for name in THINGS if name != thing and pattern.fullmatch(name)]
        assert not others, thing


def stickers(count: int = 24) -> Emoji:
    """Red squares and blue ones of half the width."""
    pictures = [torch.tensor(list(sticker(k).tobytes()), dtype=torch.uint8) for k in (0, 1)]
    red, blue = (p.view(72, 72, 4).permute(2, 0, 1).contiguous() for p in pictures)
    blue[3, :, 36:] = 0
    pixels = torch.stack([(red, blue)[i % 2] for i in range(count)])
    things = torch.tensor([KINDS.index(("pizza", "bus")[i % 2]) for i in range(count)])
    return Emoji(pixels, things, torch.full((count,), -1))


def test_things_that_plainly_differ_are_told_apart_on_any_ground():
    data = stickers()
    found = things_judge.train(data, epochs=50, batch_size=12, lr=1e-2, seed=0)
    right = things_judge.accuracies(found, data)
    assert set(right) == {"pizza", "bus", "all things"}
    assert min(right.values()) > 0.85
    assert not any(parameter.requires_grad for parameter in found.parameters())
    shown = composited(data.pixels[:4, :, 4:68, 4:68], draw_backgrounds(4, torch.Generator()))
    assert set(classify(found, shown)) <= set(KINDS)


def test_what_is_something_else_does_not_count_among_the_things():
    data = stickers(4)
    things = torch.tensor([KINDS.index("pizza"), *[KINDS.index(OTHER)] * 3])
    judge = things_judge.ThingsJudge().eval()
    right = things_judge.accuracies(judge, Emoji(data.pixels, things, data.colors))
    assert right["all things"] == right["pizza"]


HELD = HeldOut(names=frozenset({"penguin"}), sets=frozenset({"designer"}))


def written(folder: Path) -> Path:
    """Twelve emoji of each data set, a third by a held-out designer."""

    def row(i: int) -> dict[str, Any]:
        name = ("pizza", "taxi", "penguin")[i % 3]
        named = {"name": name, "keywords": [], "category": "Objects"}
        return {"image": sticker(i), "set": "designer" if i % 4 == 0 else "noto", **named}

    for name in emoji_judge.SOURCES:
        tiny_pairs.write_rows(folder, name, [row(i) for i in range(12)])
    return folder


def test_the_command_stores_how_emoji_of_the_held_out_designer_are_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    written(tmp_path)
    stored = tmp_path / "judge.safetensors"
    with tiny_pairs.small(tmp_path / "cache"), monkeypatch.context() as patch:
        patch.setattr(held_out, "load", lambda: HELD)
        learned = emoji_judge.load_emoji(tmp_path, label=thing_of)
        options = ("--epochs=1", "--batch-size=8", f"--output={stored}")
        result = invoke(things_judge.main, f"--data-folder={tmp_path}", *options)
    assert set(learned.things.tolist()) == {KINDS.index("pizza"), KINDS.index("car")}
    assert result.exit_code == 0, result.output
    accuracies = things_judge.stored_accuracies(stored)
    assert set(accuracies) == {"pizza", "car", OTHER, "all things"}
    for name, share in accuracies.items():
        assert f"{name:20} {share:.1%}" in result.stdout.splitlines()
    assert things_judge.load(stored).training is False


def test_a_judge_that_was_never_trained_says_how_to(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"python -m benchmarks\.judges\.things_judge"):
        things_judge.load(tmp_path / "none.safetensors")


def test_the_first_layers_are_those_of_the_emoji_judge_and_stay_so(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.undo()
    begun, trained = things_judge.untrained(), emoji_judge.load()
    frozen = [p for p in begun.parameters() if not p.requires_grad]
    copied = [p for layer in trained.body[: things_judge._COPIED] for p in layer.parameters()]
    assert all(torch.equal(mine, its) for mine, its in zip(frozen, copied, strict=True))
    assert begun.head.weight.requires_grad
