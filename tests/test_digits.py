"""The digits product: pictures that form, blending, and the bundled models drawing for real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.judge import classify
from pipelines.digit_judge import load_judge
from pipelines import checkpoints, digits, images
from pipelines.settings import DigitsSettings, SettingsError


def draw(**options) -> digits.Preview:
    """The last preview of a run."""
    *_, last = digits.generate(DigitsSettings(**options))
    return last


def pixels(preview: digits.Preview) -> np.ndarray:
    return np.stack([np.asarray(picture) for picture in preview.pictures]).astype(int)


def test_each_step_gives_one_picture_per_character(tiny_checkpoints: Path):
    previews = list(digits.generate(DigitsSettings(digits="907", num_inference_steps=4)))
    assert [p.step for p in previews] == [1, 2, 3, 4]
    assert [p.finished for p in previews] == [False, False, False, True]
    assert all(len(p.pictures) == 3 and p.pictures[0].size == (28, 28) for p in previews)
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
def test_a_bundled_image_is_the_same_alone_and_in_a_batch(conditioning: str):
    together = pixels(draw(digits="4711", seed=20, conditioning=conditioning))
    alone = pixels(draw(digits="1", seed=22, conditioning=conditioning))
    assert np.abs(together[2] - alone[0]).max() <= 1
    again = pixels(draw(digits="4711", seed=20, conditioning=conditioning))
    assert np.array_equal(together, again)


@pytest.mark.parametrize("conditioning", ["embedding", "cross-attention", "channels"])
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
def test_the_bundled_models_draw_what_was_asked(conditioning: str):
    asked = "0123456789" * 4
    drawn = torch.from_numpy(pixels(draw(digits=asked, seed=77, conditioning=conditioning)))
    judged = classify(load_judge(), images.from_uint8(drawn[:, None]))
    wanted = torch.tensor([int(digit) for digit in asked])
    assert (judged == wanted).float().mean() >= 0.95
