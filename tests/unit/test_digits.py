"""The digits product: pictures that form, blending, and the bundled models drawing for real."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.judges.judge import classify
from pipelines.core import images
from pipelines.core.errors import CheckpointError
from pipelines.core.rules import SettingsError
from pipelines.models import checkpoints, judges
from pipelines.models.judges import load_judge
from pipelines.products import digits
from pipelines.products.settings import DigitsSettings
from tabs import i18n
from tests.conftest import Meter

pytestmark = pytest.mark.slow


def draw(**options) -> digits.Preview:
    """The last preview of a run."""
    *_, last = digits.generate(DigitsSettings(**options))
    return last


def pixels(preview: digits.Preview) -> np.ndarray:
    return stacked(preview.pictures)


def stacked(pictures: Sequence[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(picture) for picture in pictures]).astype(int)


def test_each_step_gives_one_picture_per_character(tiny_checkpoints: Path):
    previews = list(digits.generate(DigitsSettings(digits="907", num_inference_steps=4)))
    assert [p.step for p in previews] == [1, 2, 3, 4]
    assert [p.finished for p in previews] == [False, False, False, True]
    assert all(len(p.pictures) == 3 and p.pictures[0].size == (28, 28) for p in previews)
    for preview in previews:
        assert [(p.mode, p.size) for p in preview.unguided] == [("L", (28, 28))] * 3
        for noted in (preview.confidence, preview.unguided_confidence):
            assert [len(values) for values in noted] == [3] * preview.step
            assert all(0 <= value <= 1 for values in noted for value in values)
        assert preview.score_after == preview.confidence[preview.step - 1]
        assert preview.score_before == preview.unguided_confidence[preview.step - 1]
    assert previews[-1].model == "digits-embedding"
    assert len(previews[-1].revision) == 12


def test_bad_settings_fail_at_the_call_and_load_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checkpoints, "load", lambda key: pytest.fail("loaded"))
    with pytest.raises(SettingsError, match="digits must be"):
        digits.generate(DigitsSettings(digits="letters"))


def test_class_weights_are_one_hot_and_a_blend_mixes_two_classes():
    plain = digits.class_weights(DigitsSettings(digits="30", blend=0.7))
    assert torch.equal(plain, torch.eye(11)[[3, 0]])
    mixed = digits.class_weights(DigitsSettings(digits="3", blend_with="8", blend=0.25))
    assert mixed[0, 3] == 0.75
    assert mixed[0, 8] == 0.25
    same = digits.class_weights(DigitsSettings(digits="8", blend_with="8", blend=0.25))
    assert torch.equal(same, torch.eye(11)[[8]])


@pytest.mark.parametrize("conditioning", ["embedding", "cross-attention", "channels"])
@pytest.mark.thorough
def test_a_bundled_image_is_the_same_alone_and_in_a_batch(conditioning: str):
    together = pixels(draw(digits="4711", seed=20, conditioning=conditioning))
    alone = pixels(draw(digits="1", seed=22, conditioning=conditioning))
    assert np.abs(together[2] - alone[0]).max() <= 1
    again = pixels(draw(digits="4711", seed=20, conditioning=conditioning))
    assert np.array_equal(together, again)


@pytest.mark.parametrize("conditioning", ["embedding", "cross-attention", "channels"])
@pytest.mark.thorough
def test_the_ends_of_a_blend_are_the_two_digits(conditioning: str):
    options = {"seed": 3, "conditioning": conditioning}
    first, second = pixels(draw(digits="1", **options)), pixels(draw(digits="7", **options))
    at_0 = pixels(draw(digits="1", blend_with="7", blend=0.0, **options))
    at_1 = pixels(draw(digits="1", blend_with="7", blend=1.0, **options))
    middle = pixels(draw(digits="1", blend_with="7", blend=0.5, **options))
    assert np.abs(at_0 - first).max() <= 1
    assert np.abs(at_1 - second).max() <= 1
    assert np.abs(middle - first).max() > 30
    assert np.abs(middle - second).max() > 30


@pytest.mark.thorough
def test_ddim_with_fresh_noise_is_reproducible_and_differs_from_without():
    options = {"digits": "5", "solver": "ddim", "num_inference_steps": 15}
    fresh, again = pixels(draw(eta=1.0, **options)), pixels(draw(eta=1.0, **options))
    assert np.array_equal(fresh, again)
    assert np.abs(fresh - pixels(draw(**options))).max() > 30


def test_a_scale_of_zero_ignores_the_digit_and_of_one_is_the_plain_condition():
    ignored = pixels(draw(digits="1", cfg_scale=0.0, seed=5))
    assert np.abs(ignored - pixels(draw(digits="8", cfg_scale=0.0, seed=5))).max() <= 1
    plain = pixels(draw(digits="1", cfg_scale=1.0, seed=5))
    assert np.abs(plain - pixels(draw(digits="8", cfg_scale=1.0, seed=5))).max() > 30


@pytest.mark.parametrize("conditioning", ["embedding", "cross-attention", "channels"])
@pytest.mark.thorough
def test_the_bundled_models_draw_what_was_asked(conditioning: str):
    asked = "0123456789" * 4
    drawn = torch.from_numpy(pixels(draw(digits=asked, seed=77, conditioning=conditioning)))
    judged = classify(load_judge(), images.from_uint8(drawn[:, None]))
    wanted = torch.tensor([int(digit) for digit in asked])
    assert (judged == wanted).float().mean() >= 0.95


# The same digits without guidance, and what a judge says of both.


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"solver": "ddim", "eta": 0.7},
        {"blend_with": "8", "blend": 0.3},
        {"conditioning": "channels"},
        {"conditioning": "cross-attention"},
    ],
    ids=str,
)
def test_the_unguided_pictures_are_those_of_scale_one(options: dict[str, Any]):
    common = {"digits": "472", "seed": 5, "num_inference_steps": 4, **options}
    last, plain = draw(cfg_scale=6.0, **common), draw(cfg_scale=1.0, **common)
    assert np.array_equal(stacked(last.unguided), pixels(plain))
    assert last.score_before == plain.score_after == plain.score_before
    assert np.array_equal(pixels(plain), stacked(plain.unguided))


def test_the_unguided_pictures_of_the_bundled_model_are_those_of_scale_one_and_not_the_guided():
    common: dict[str, Any] = {"digits": "472", "seed": 5}
    last, plain = draw(cfg_scale=4.0, **common), draw(cfg_scale=1.0, **common)
    assert np.array_equal(stacked(last.unguided), pixels(plain))
    assert np.abs(pixels(last) - stacked(last.unguided)).max() > 30


@pytest.mark.thorough
def test_the_unguided_run_is_computed_once_per_seed_and_settings_for_all_strengths(meter: Meter):
    meter.seconds = 0

    def calls(**options: Any) -> int:
        before = meter.calls
        draw(**{"digits": "12", "num_inference_steps": 6, **options})
        return meter.calls - before

    assert calls() == 12
    assert calls() == 6
    assert calls(cfg_scale=5.0) == 6
    assert calls(cfg_scale=1.0) == 6
    assert calls(blend=0.3) == 6, "how much of nothing is blended makes no difference"
    assert calls(seed=1) == 12
    assert calls(digits="21") == 12
    assert calls(digits="123") == 12
    assert calls(num_inference_steps=5) == 10
    assert calls(conditioning="channels") == 12
    assert calls(blend_with="7") == 12
    assert calls(blend_with="7", blend=0.3) == 12
    assert calls(solver="ddim") == 12
    assert calls(solver="ddim", eta=0.5) == 12
    assert calls() == 6


def test_an_unguided_run_that_was_stopped_is_not_taken_for_a_whole_one(meter: Meter):
    meter.seconds = 0
    settings = DigitsSettings(digits="12", num_inference_steps=6)
    assert len(list(islice(digits.generate(settings), 3))) == 3
    before = meter.calls
    assert draw(digits="12", num_inference_steps=6).finished
    assert meter.calls - before == 12


def test_without_comparing_the_same_guided_pictures_are_drawn_and_no_others(meter: Meter):
    meter.seconds = 0
    settings = DigitsSettings(digits="12", num_inference_steps=5)
    *_, alone = digits.generate(settings, compare=False)
    assert meter.calls == 5
    assert (alone.unguided, alone.unguided_confidence, alone.score_before) == ([], [], [])
    both = draw(digits="12", num_inference_steps=5)
    assert np.array_equal(pixels(alone), pixels(both))
    assert alone.score_after == both.score_after


def test_the_judge_of_a_blend_counts_both_digits():
    alone = draw(digits="3", blend_with="8", blend=0.5, seed=12)
    judge = load_judge()
    x0 = images.from_uint8(torch.from_numpy(pixels(alone)[:, None]))
    sure = judge(x0).softmax(dim=1)
    assert alone.score_after == pytest.approx((sure[:, 3] + sure[:, 8]).tolist(), abs=1e-2)


def test_of_a_known_judge_the_probability_is_that_of_the_wanted_digits():
    class Known(judges.DigitJudge):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            shares = torch.tensor([0.5, 0.25, 0.125, 0.125, *[1e-9] * 6])
            return shares.log().expand(len(pixels), 10)

    wanted = torch.zeros(3, 10, dtype=torch.bool)
    wanted[0, 0] = wanted[1, 1] = wanted[1, 2] = wanted[2, 9] = True
    found = judges.probability(Known(), torch.zeros(3, 1, 28, 28), wanted)
    torch.testing.assert_close(found, torch.tensor([0.5, 0.375, 0.0]), atol=1e-6, rtol=1e-6)


@pytest.mark.thorough
def test_the_judge_is_sure_of_the_guided_digits_of_the_bundled_model():
    last = draw(digits="0123456789" * 2, cfg_scale=4.0, seed=77)
    assert all(0 <= value <= 1 for value in last.score_after + last.score_before)
    assert np.mean(np.array(last.score_after) > 0.9) >= 0.9
    assert np.mean(last.score_after) > np.mean(last.score_before)
    assert np.mean(last.confidence[0]) < np.mean(last.confidence[-1])


def test_the_judge_is_as_good_as_the_page_says():
    said = i18n.translate("en", "digits.judge")
    share = re.search(r"(\d+\.\d) %", said)
    assert share is not None
    assert float(share[1]) == pytest.approx(100 * judges.stored_accuracy(), abs=0.05)


@pytest.mark.parametrize(
    ("content", "part"), [(None, "files are missing: judge.safetensors"), (b"x", "are damaged")]
)
def test_a_judge_that_cannot_be_read_is_told_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, part: str
):
    path = tmp_path / "judge.safetensors"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(judges, "WEIGHTS", path)
    digits._judge.cache_clear()
    with pytest.raises(CheckpointError, match=f"Checkpoint judge cannot be loaded.*{part}"):
        list(digits.generate(DigitsSettings(num_inference_steps=1)))
    digits._judge.cache_clear()
