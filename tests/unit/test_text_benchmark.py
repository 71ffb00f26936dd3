"""The benchmark of text guidance: its judges, and that it measures what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks import clip as clip_benchmark
from benchmarks import text
from benchmarks.judges import painting_judges
from benchmarks.judges.genre_judge import KINDS
from benchmarks.judges.painting_judges import Shares, load_reference, mean, nearest_kind
from pipelines.models import clip
from pipelines.models.table import BUNDLED
from pipelines.products.settings import TextSettings
from tests.fakes import tiny_pairs
from tests.fakes.tiny_pictures import invoke, one_thread
from training.core.captions import GENRES

pytestmark = pytest.mark.slow


def test_every_prompt_asks_for_a_kind_that_the_judges_were_asked_about():
    real = load_reference()
    assert set(text.PROMPTS.values()) <= set(KINDS) == set(real.shares) == set(real.counts)
    assert min(real.counts[kind] for kind in text.PROMPTS.values()) >= 10


def test_on_real_paintings_both_judges_are_right_far_more_often_than_by_chance():
    real = load_reference()
    for judge in ("genre", "clip"):
        found = [getattr(real.shares[kind], judge) for kind in text.PROMPTS.values()]
        assert sum(found) / len(found) > 3 / len(KINDS)


def test_the_guide_has_no_say_in_what_is_judged():
    assert Shares(genre=0.5, clip=0.25, guide=1.0).judged == 0.375
    both = mean([Shares(0.5, 0.25, 1.0), Shares(0.0, 0.75, 0.0)])
    assert (both.genre, both.clip, both.guide) == (0.25, 0.5, 0.5)


def test_the_clip_that_judges_is_built_otherwise_than_the_clip_that_guides():
    folders = (painting_judges.CLIP_JUDGE, BUNDLED / "clip-small")
    configs = [json.loads((f / "open_clip_config.json").read_text()) for f in folders]
    judge, guide = (config["model_cfg"]["vision_cfg"] for config in configs)
    assert judge["timm_model_name"].startswith("regnet")
    assert "timm_model_name" not in guide


def test_a_clip_sees_the_kind_whose_words_are_nearest(monkeypatch: pytest.MonkeyPatch):
    model = clip.load("clip-small")
    said = {words: KINDS.index(kind) for kind, all_words in GENRES.items() for words in all_words}

    def encode_text(_: clip.Clip, words: str) -> torch.Tensor:
        return torch.eye(len(KINDS))[said[words]]

    def encode_images(_: clip.Clip, pictures: torch.Tensor) -> torch.Tensor:
        return torch.eye(len(KINDS))[pictures[:, 0, 0, 0].long()]

    monkeypatch.setattr(clip, "encode_text", encode_text)
    monkeypatch.setattr(clip, "encode_images", encode_images)
    wanted = torch.tensor([3, 0, 7])
    pictures = wanted.float()[:, None, None, None].expand(3, 3, 8, 8)
    assert torch.equal(nearest_kind(model, pictures), wanted)


def test_missing_figures_of_real_paintings_say_how_to_make_them(tmp_path: Path):
    with pytest.raises(
        FileNotFoundError, match=r"python -m benchmarks\.judges\.painting_judges makes it"
    ):
        load_reference(tmp_path / "none.safetensors")


def test_the_command_stores_what_it_prints_of_held_out_paintings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tiny_pairs.write_all(tmp_path / "data")
    stored = tmp_path / "reference.safetensors"
    monkeypatch.setattr(painting_judges, "REFERENCE", stored)
    with tiny_pairs.small(tmp_path / "cache"), one_thread():
        result = invoke(painting_judges.main, f"--data-folder={tmp_path / 'data'}")
    assert result.exit_code == 0, result.output
    found = load_reference(stored)
    assert found.shares
    assert result.stdout.splitlines() == [
        f"{kind:20} {found.counts[kind]:4}  {shares.genre:.0%}  {shares.clip:.0%}"
        for kind, shares in found.shares.items()
    ]
    assert found.features.covariance.shape == (256, 256)


def test_guided_and_unguided_pictures_of_the_benchmark_begin_at_the_same_noise():
    lab = text.Lab("paintings", "clip-small", seed=5, num_images=2)
    settings = TextSettings(num_inference_steps=2)
    off = TextSettings(num_inference_steps=2, guidance_scale=0.0)
    plain = lab.unguided(settings)
    assert torch.equal(lab.guided(off, "a city street"), plain)
    assert not torch.equal(lab.guided(settings, "a city street"), plain)


@pytest.mark.thorough
def test_the_command_prints_every_table_and_writes_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    few = {"a city street": "cityscape", "ships on the sea": "marine"}
    monkeypatch.setattr(text, "PROMPTS", few)
    monkeypatch.setattr(text, "COURSE", TextSettings(method="course", num_inference_steps=2))
    monkeypatch.setattr(text, "PRESETS", [TextSettings(num_inference_steps=2)])
    numbers, sheet = tmp_path / "numbers.json", tmp_path / "grid.png"
    with one_thread():
        result = invoke(
            text.main, "--num-images=2", "--repeats=1", f"--json={numbers}", f"--grid={sheet}"
        )
    assert result.exit_code == 0, result.output
    printed = result.stdout
    scores = json.loads(numbers.read_text())["scores"]
    assert list(scores) == ["unguided", "balanced", "course"]
    for name, found in scores.items():
        assert f"| {name} | 2 |" in printed
        assert f"{found['judged']:.0%} |" in printed
        assert set(found["shares"]) == set(few)
    assert scores["unguided"]["contrast"] == pytest.approx(1.0)
    for prompt in few:
        assert f"| {prompt} |" in printed
    cost = json.loads(numbers.read_text())["costs"]["balanced"]
    assert f"| {cost['of_unguided']:.2f} | {cost['of_course']:.2f} |" in printed
    with Image.open(sheet) as drawn:
        assert drawn.width == drawn.height  # two prompts, two seeds


def test_the_clip_is_measured_on_held_out_pairs_of_every_data_set_that_has_some(tmp_path: Path):
    tiny_pairs.write_all(tmp_path / "data")
    with tiny_pairs.small(tmp_path / "cache"), one_thread():
        result = invoke(clip_benchmark.main, f"--data-folder={tmp_path / 'data'}")
    assert result.exit_code == 0, result.output
    rows = [line for line in result.stdout.splitlines() if line.startswith("|")]
    measured = "".join(rows[2:])
    for name, count in tiny_pairs.HELD_OUT.items():
        assert (f"`{name}`" in measured) == (count > 0)
    assert all(line.count("%") == 2 for line in rows[2:])
    assert clip.load("clip-small").revision in result.stdout
