"""The judge of emoji: what it takes for what, and that it learns things and colours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import emoji
from benchmarks.judges import emoji_judge
from benchmarks.judges.emoji_judge import COLORS, KINDS, OTHER, Emoji, classify, color_of, thing_of
from tests.fakes import tiny_pairs
from tests.fakes.tiny_pairs import sticker
from tests.fakes.tiny_pictures import invoke, one_thread
from training.core import held_out
from training.core.backgrounds import composited, draw_backgrounds
from training.core.held_out import HeldOut

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A narrow network on one thread."""
    monkeypatch.setattr(emoji_judge, "_WIDTHS", (8, 16))
    with one_thread():
        yield


@pytest.mark.parametrize(
    ("name", "thing"),
    [
        ("red heart", "heart"),
        ("two hearts", "heart"),
        ("smiling face with hearts", "face"),
        ("smiling cat with heart-eyes", OTHER),
        ("couple with heart", OTHER),
        ("maple leaf", "leaf"),
        ("leafless tree", OTHER),
        ("grinning face", "face"),
        ("dog face", OTHER),
        ("monkey face", OTHER),
        ("full moon face", "moon"),
        ("moon cake", OTHER),
        ("oncoming taxi", "car"),
        ("police car light", OTHER),
        ("railway car", OTHER),
        ("green circle", "circle"),
        ("hollow red circle", OTHER),
        ("tropical fish", "fish"),
        ("fish cake with swirl", OTHER),
        ("cherry blossom", "flower"),
        ("flower playing cards", OTHER),
        ("palm tree", "tree"),
        ("green apple", "fruit"),
        ("pineapple", OTHER),
        ("blue book", "book"),
        ("star", "star"),
        ("star-struck", OTHER),
        ("cloud with rain", "cloud"),
    ],
)
def test_an_emoji_is_what_its_name_says(name: str, thing: str):
    assert KINDS[thing_of(name)] == thing


def rgba(kind: int) -> Tensor:
    """A sticker of one colour, `(4, 72, 72)` uint8."""
    pixels = torch.tensor(list(sticker(kind).tobytes()), dtype=torch.uint8)
    return pixels.view(72, 72, 4).permute(2, 0, 1).contiguous()


def test_its_color_is_that_of_what_is_opaque():
    assert COLORS[color_of(rgba(0))] == "red"
    assert COLORS[color_of(rgba(1))] == "blue"
    assert color_of(rgba(0) * 0) == -1


def stickers(count: int = 24) -> Emoji:
    """Red squares and blue ones of half the width."""
    red, blue = rgba(0), rgba(1)
    blue[3, :, 36:] = 0
    pixels = torch.stack([(red, blue)[i % 2] for i in range(count)])
    things = torch.tensor([KINDS.index(("heart", "car")[i % 2]) for i in range(count)])
    return Emoji(pixels, things, torch.tensor([color_of(picture) for picture in pixels]))


def test_things_and_colors_that_plainly_differ_are_told_apart_on_any_ground():
    data = stickers()
    found = emoji_judge.train(data, epochs=25, batch_size=12, lr=1e-2, seed=0)
    right = emoji_judge.accuracies(found, data)
    assert min(right["heart"], right["car"], right["colours"]) > 0.85
    assert not any(parameter.requires_grad for parameter in found.parameters())
    shown = composited(data.pixels[:4, :, 4:68, 4:68], draw_backgrounds(4, torch.Generator()))
    things, colors = classify(found, shown)
    assert len(things) == len(colors) == 4
    assert set(things) <= set(KINDS)
    assert set(colors) <= set(COLORS)


HELD = HeldOut(
    names=frozenset({"penguin"}),
    sets=frozenset({"designer"}),
    pairs=frozenset({("heart", "red")}),
)


def written(folder: Path) -> Path:
    """Twelve emoji of each data set, a third by a held-out designer or of the older set."""

    def row(i: int, other: str) -> dict[str, Any]:
        name = ("red heart", "taxi")[i % 2]
        named = {"name": name, "keywords": [], "category": "Objects"}
        return {"image": sticker(i), "set": other if i % 3 == 0 else "noto", **named}

    for name, other in (("emoji", emoji_judge.OLDER_SET), ("emoji-more", "designer")):
        tiny_pairs.write_rows(folder, name, [row(i, other) for i in range(12)])
    return folder


def test_what_is_held_out_is_not_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written(tmp_path)
    with tiny_pairs.small(tmp_path / "cache"), monkeypatch.context() as patch:
        patch.setattr(held_out, "load", lambda: HELD)
        learned = emoji_judge.load_emoji(tmp_path)
        assert len(emoji_judge.load_emoji(tmp_path, HELD.sets)) == 4
        assert len(emoji_judge.load_emoji(tmp_path, {emoji_judge.OLDER_SET})) == 4
    assert 0 < len(learned) < 2 * 8 * 3  # some are held-out pairs
    hearts = learned.things == KINDS.index("heart")
    assert not (hearts & (learned.colors == COLORS.index("red"))).any()
    assert (learned.things == KINDS.index("car")).sum() == 2 * 4 * 3


def test_the_command_stores_how_held_out_emoji_are_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    written(tmp_path)
    stored = tmp_path / "judge.safetensors"
    with tiny_pairs.small(tmp_path / "cache"), monkeypatch.context() as patch:
        patch.setattr(held_out, "load", lambda: HELD)
        options = ("--epochs=1", "--batch-size=8", f"--output={stored}")
        result = invoke(emoji_judge.main, f"--data-folder={tmp_path}", *options)
    assert result.exit_code == 0, result.output
    accuracies = emoji_judge.stored_accuracies(stored)
    older = {f"{emoji_judge.OLDER_SET}: {name}" for name in ("all things", "colours")}
    assert set(accuracies) == {"heart", "car", "all things", "colours"} | older
    for name, share in accuracies.items():
        assert f"{name:20} {share:.1%}" in result.stdout.splitlines()
    assert emoji_judge.load(stored).training is False


def test_a_judge_that_was_never_trained_says_how_to(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"python -m benchmarks\.judges\.emoji_judge"):
        emoji_judge.load(tmp_path / "none.safetensors")


def test_every_prompt_asks_for_what_the_judge_knows():
    assert len(emoji.PROMPTS) == 20
    for prompt, (thing, color) in emoji.PROMPTS.items():
        assert prompt.split()[1:] == [color, thing]
        assert thing in KINDS
        assert color in COLORS
    assert OTHER not in {thing for thing, _ in emoji.PROMPTS.values()}


def test_a_picture_is_right_if_both_its_thing_and_its_color_are(monkeypatch: pytest.MonkeyPatch):
    seen = (["heart", "heart", "car", "car"], ["red", "blue", "red", "blue"])
    monkeypatch.setattr(emoji_judge, "classify", lambda *_: seen)
    pictures = dict.fromkeys(emoji.PROMPTS, torch.zeros(4, 3, 64, 64))
    judge = emoji_judge.EmojiJudge()
    found = emoji.score(judge, "ours", emoji.PRESETS[0], pictures)
    assert found.both("a red heart") == [True, False, False, False]
    assert found.both("a blue car") == [False, False, False, True]
    assert found.both("a green leaf") == [False] * 4
    assert found.judged.value == pytest.approx(4 / 80)  # two hearts, two cars
    assert emoji.row(found)[0] == "ours"


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.thorough
def test_the_benchmark_prints_shares_by_prompt_and_stores_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(emoji, "PROMPTS", {"a red heart": ("heart", "red")})
    monkeypatch.setattr(emoji_judge, "_WIDTHS", (24, 48, 96, 160))
    stored = tmp_path / "figures.json"
    result = invoke(
        emoji.main, "--num-images=2", f"--json={stored}", f"--grid={tmp_path / 'grid.png'}"
    )
    assert result.exit_code == 0, result.output
    assert "| a red heart |" in result.output
    assert '"balanced"' in stored.read_text()
    assert (tmp_path / "grid.png").is_file()
