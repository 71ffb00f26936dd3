"""The judge of names: what is right is counted, and names that mean the same are no mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.judges import name_judge
from benchmarks.judges.name_judge import NameJudge, Share
from tests.fakes import tiny_pairs
from tests.fakes.tiny_pictures import invoke
from training.core import held_out
from training.core.held_out import HeldOut

pytestmark = pytest.mark.slow


class Basis:
    """Stands for a CLIP: a name or picture is the unit vector of its number."""

    device = torch.device("cpu")


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> NameJudge:
    def embed(model: object, names: list[str]) -> torch.Tensor:
        return torch.eye(20)[[int(name) for name in names]]

    monkeypatch.setattr(name_judge, "embed_names", embed)
    monkeypatch.setattr(name_judge.clip, "encode_images", lambda model, pictures: pictures)
    return NameJudge(Basis(), [str(i) for i in range(10)])  # pyright: ignore[reportArgumentType]


def test_a_picture_is_right_if_no_other_name_is_nearer(judge: NameJudge):
    pictures = torch.eye(20)[[3, 4, 15]]
    ranks, others = judge.ranks(pictures, ["3", "5", "15"])
    assert ranks.tolist() == [0, 1, 0]
    assert others.tolist() == [9, 9, 10]  # its own name is no other


def test_shares_stand_beside_chance(judge: NameJudge):
    found = judge.share(torch.eye(20)[[3, 4]], ["3", "5"])
    assert found == Share(first=0.5, in_nearest=1.0, choices=10)
    assert found.chance == (0.1, 0.5)


def test_without_names_the_judge_says_how_to_get_them(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"python -m benchmarks\.judges\.name_judge"):
        name_judge.known_names(tmp_path / "none.txt")


def test_the_command_judges_real_emoji_that_are_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rows = [tiny_pairs.row_of("emoji", i) for i in range(4)]
    rows[0] |= {"set": "designer"}
    rows[1] |= {"name": "penguin"}
    rows[2] |= {"name": "penguin", "set": "designer"}
    for name in ("emoji", "emoji-more"):
        tiny_pairs.write_rows(tmp_path, name, rows)
    held = HeldOut(names=frozenset({"penguin"}), sets=frozenset({"designer"}))
    names = tmp_path / "names.txt"
    monkeypatch.setattr(name_judge.write_names, "__defaults__", (names,))
    with tiny_pairs.small(tmp_path / "cache"):
        monkeypatch.setattr(held_out, "load", lambda: held)
        result = invoke(name_judge.main, f"--data-folder={tmp_path}")
    assert result.exit_code == 0, result.output
    for title in name_judge.parts(held):
        assert f"| {title} | 2 |" in result.output
    assert name_judge.known_names(names) == ["penguin", "smiling mouse"]
