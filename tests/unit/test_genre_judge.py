"""The judge of painting genres: what it learns from, and what it says of paintings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks.judges import genre_judge, judge
from benchmarks.judges.genre_judge import KINDS, GenreJudge, accuracies, labelled
from tests.fakes import tiny_pairs
from tests.fakes.tiny_pairs import numbered
from tests.fakes.tiny_pictures import invoke, one_thread
from training.clip.pairs import Pairs
from training.clip.towers import centred
from training.core import captions

pytestmark = pytest.mark.slow

LANDSCAPE, PORTRAIT, MARINE = (KINDS.index(kind) for kind in ("landscape", "portrait", "marine"))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A narrow network on one thread."""
    monkeypatch.setattr(genre_judge, "_WIDTHS", (8, 8, 16, 32))
    monkeypatch.setattr(genre_judge, "NUM_FEATURES", 32)
    with one_thread():
        yield


def paintings(count: int = 24) -> Pairs:
    """Red landscapes and blue portraits, every third of no known genre."""
    names = [captions.GENRES[kind][0] for kind in ("landscape", "portrait")]
    pixels = [
        torch.tensor(list(numbered(i % 2, i).tobytes())).view(72, 72, 3) for i in range(count)
    ]
    labels = ["" if i % 3 == 2 else names[i % 2] for i in range(count)]
    return Pairs(
        torch.stack(pixels).permute(0, 3, 1, 2).contiguous(),
        [[f"number {i}"] for i in range(count)],
        labels,
        ["wikiart"] * count,
    )


def test_only_paintings_of_a_known_genre_are_kept_each_with_its_number():
    whole = paintings(7)
    last = replace(whole, labels=[*whole.labels[:6], captions.GENRES["marine"][0]])
    kept, numbers = labelled(last)
    assert [said[0] for said in kept.sentences] == [f"number {i}" for i in (0, 1, 3, 4, 6)]
    assert numbers.tolist() == [LANDSCAPE, PORTRAIT, PORTRAIT, LANDSCAPE, MARINE]
    assert torch.equal(kept.pixels, last.pixels[[0, 1, 3, 4, 6]])


class Redness(nn.Module):
    """Takes what is red for a landscape and all else for a portrait."""

    def forward(self, pixels: Tensor) -> Tensor:
        logits = torch.zeros(len(pixels), len(KINDS))
        logits[:, LANDSCAPE] = pixels[:, 0, 32, 32] - pixels[:, 2, 32, 32]
        logits[:, PORTRAIT] = -logits[:, LANDSCAPE]
        return logits


def test_accuracies_are_told_of_each_kind_that_occurs_and_of_all():
    data = paintings(8)
    labels = torch.tensor([LANDSCAPE, PORTRAIT] * 2 + [LANDSCAPE, PORTRAIT, MARINE, MARINE])
    found = accuracies(Redness(), data, labels)  # pyright: ignore[reportArgumentType]
    assert found == {"landscape": 1.0, "portrait": 1.0, "marine": 0.0, "all": 0.75}
    labels[0] = PORTRAIT
    found = accuracies(Redness(), data, labels)  # pyright: ignore[reportArgumentType]
    assert found["portrait"] == 0.75


@pytest.mark.thorough
def test_kinds_that_plainly_differ_are_told_apart_after_a_few_steps():
    data, labels = labelled(paintings(36))
    found = genre_judge.train(data, labels, epochs=20, batch_size=12, lr=1e-2, seed=0)
    assert accuracies(found, data, labels)["all"] > 0.9
    assert not found.training
    assert not any(parameter.requires_grad for parameter in found.parameters())


def test_the_same_seed_makes_the_same_judge():
    data, labels = labelled(paintings())
    first, again, other = (
        genre_judge.train(data, labels, epochs=1, batch_size=8, lr=1e-3, seed=seed)
        for seed in (1, 1, 2)
    )
    torch.testing.assert_close(first.state_dict(), again.state_dict())
    assert not torch.equal(first.head.weight, other.head.weight)


def test_a_rare_kind_is_shown_more_often_than_it_occurs(monkeypatch: pytest.MonkeyPatch):
    data = paintings(100)
    labels = torch.tensor([LANDSCAPE] * 90 + [PORTRAIT] * 10)
    shown: list[Tensor] = []

    def noted(logits: Tensor, wanted: Tensor, **_: float) -> Tensor:
        shown.append(wanted)
        return logits.sum()

    monkeypatch.setattr(genre_judge.F, "cross_entropy", noted)
    genre_judge.train(data, labels, epochs=1, batch_size=20, lr=1e-3, seed=0)
    share = (torch.cat(shown) == PORTRAIT).float().mean()
    assert 0.15 < share < 0.4  # one to three, as the roots of one to nine


def test_features_are_what_the_last_layer_reads_whatever_is_beside_them():
    torch.manual_seed(0)
    found = GenreJudge().eval()
    pixels = centred(paintings(6).pixels)
    features = judge.features(found, pixels)
    assert features.shape == (6, 32)
    assert torch.equal(found.head(features).argmax(1), judge.classify(found, pixels))
    torch.testing.assert_close(judge.features(found, pixels[:2]), features[:2])


def test_a_judge_that_was_never_trained_is_asked_for_by_its_command(tmp_path: Path):
    with pytest.raises(
        FileNotFoundError, match=r"python -m benchmarks\.judges\.genre_judge makes it"
    ):
        genre_judge.load(tmp_path / "genre_judge.safetensors")


def test_a_judge_is_read_as_it_was_saved(tmp_path: Path):
    saved, path = GenreJudge().eval(), tmp_path / "judge.safetensors"
    judge.save(saved, path, {"accuracies": '{"all": 0.5}'})
    read = genre_judge.load(path)
    assert genre_judge.stored_accuracies(path) == {"all": 0.5}
    pixels = centred(paintings(4).pixels)
    with torch.no_grad():
        torch.testing.assert_close(read(pixels), saved(pixels), rtol=2e-2, atol=2e-2)
    assert not read.training


def test_the_command_stores_a_judge_with_what_it_prints(tmp_path: Path):
    tiny_pairs.write_all(tmp_path / "data")
    output = tmp_path / "judge.safetensors"
    with tiny_pairs.small(tmp_path / "cache"):
        result = invoke(
            genre_judge.main,
            f"--data-folder={tmp_path / 'data'}",
            "--epochs=1",
            "--batch-size=8",
            f"--output={output}",
        )
    assert result.exit_code == 0, result.output
    stored = genre_judge.stored_accuracies(output)
    assert result.stdout.splitlines() == [f"{k:20} {v:.1%}" for k, v in stored.items()]
    assert "all" in stored
    assert genre_judge.load(output)(torch.zeros(1, 3, 64, 64)).shape == (1, len(KINDS))
