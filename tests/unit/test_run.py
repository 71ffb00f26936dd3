"""One way to draw: conditions and guidance meet in a run."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from pipelines.core import images
from pipelines.core.rules import SettingsError, validate
from pipelines.diffusion import losses
from pipelines.diffusion.denoisers import class_condition
from pipelines.models import checkpoints
from pipelines.products import digits
from pipelines.products.settings import DigitsSettings
from pipelines.runs import comparison
from pipelines.runs.run import Plan, Run, cfg_interval
from tests.conftest import Meter

EIGHTS = {"digits": "3738", "num_inference_steps": 10}


def last_of(**options: Any) -> digits.Preview:
    *_, last = digits.generate(DigitsSettings(**{**EIGHTS, **options}))
    return last


def pixels_of(preview: digits.Preview) -> Tensor:
    return torch.cat([images.to_tensor(picture) for picture in preview.pictures])[:, :1]


@pytest.mark.slow
@pytest.mark.parametrize("conditioning", ["embedding", "channels", "cross-attention"])
@pytest.mark.thorough
def test_a_class_conditional_digit_is_steered_by_a_loss_and_stays_the_digit(conditioning: str):
    steered = {"symmetry": "top-bottom", "guidance_scale": 0.3, "conditioning": conditioning}
    plain, guided = last_of(conditioning=conditioning), last_of(**steered)
    loss = losses.Symmetry("top-bottom")
    before, after = (loss(pixels_of(preview)) for preview in (plain, guided))
    assert (after < before / 2).all()
    assert sum(guided.score_after) / 4 > 0.8  # the judge still sees the digits that were asked for
    assert guided.losses
    assert [p.tobytes() for p in guided.unguided] == [p.tobytes() for p in plain.unguided]


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["dpm++", "ddim", "heun"])
@pytest.mark.thorough
def test_every_solver_that_is_offered_draws_digits_in_few_steps(solver: str):
    last = last_of(solver=solver, digits="0123456789", num_inference_steps=6, cfg_scale=2.2)
    assert sum(last.score_after) / 10 > 0.9


@pytest.mark.slow
@pytest.mark.thorough
def test_brightness_and_contrast_steer_digits_where_they_are_asked_to():
    dark, bright = (last_of(brightness=value, guidance_scale=0.3) for value in (0.05, 0.3))
    assert pixels_of(bright).mean() > pixels_of(dark).mean() + 0.2
    flat, strong = (last_of(contrast=value, guidance_scale=0.3) for value in (0.2, 0.35))
    spreads = [pixels_of(preview).flatten(1).std(dim=1) for preview in (flat, strong)]
    assert (spreads[1] > spreads[0]).all()


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.thorough
def test_strength_0_or_nothing_to_steer_towards_leaves_every_pixel():
    pictures = [
        [picture.tobytes() for picture in last_of(**options).pictures]
        for options in (
            {},
            {"symmetry": "left-right", "guidance_scale": 0.0},
            {"guidance_scale": 0.3},
            {"symmetry": "left-right", "guidance_scale": 0.3, "start": 0.5, "stop": 0.5},
        )
    ]
    assert all(other == pictures[0] for other in pictures[1:])


@pytest.mark.usefixtures("tiny_checkpoints")
def test_an_interval_of_classifier_free_guidance_is_that_of_its_steps():
    loaded = checkpoints.load("digits-embedding")
    condition = class_condition(torch.eye(11)[[4]])
    run = Run(Plan("digits-embedding", (0,), 10, "ddim", 0.0, condition), loaded, cfg_scale=3.0)
    always = [step.gradient is not None for step in run.steps()]
    middle = dataclasses.replace(run, cfg_start=0.2, cfg_stop=0.7)
    assert always == [True] * 10
    assert [step.gradient is not None for step in middle.steps()] == [
        2 <= index < 7 for index in range(10)
    ]
    never = dataclasses.replace(run, cfg_start=0.5, cfg_stop=0.5)
    plain = list(run.unguided().steps())[-1].x_prev
    assert torch.equal(list(never.steps())[-1].x_prev, plain)


def test_an_interval_is_counted_in_whole_steps():
    assert cfg_interval(10, 0.0, 1.0) == (0, 10)
    assert cfg_interval(20, 0.25, 0.8) == (5, 16)


@pytest.mark.thorough
def test_work_counts_what_a_run_evaluates(meter: Meter):
    meter.seconds = 0.0
    for options in (
        {"cfg_scale": 1.0},
        {"cfg_stop": 0.5},
        {"solver": "heun"},
        {"symmetry": "left-right", "guidance_scale": 0.2, "cfg_scale": 1.0},
    ):
        comparison.unguided_runs.clear()
        settings = validate(DigitsSettings(**{**EIGHTS, **options}))
        expected, meter.calls = digits.work(settings).evaluations, 0
        list(digits.generate(settings))
        guided = meter.calls  # one call may hold both halves of classifier-free guidance
        total = settings.num_inference_steps
        first, end = cfg_interval(total, settings.cfg_start, settings.cfg_stop)
        halves = (end - first) * (settings.cfg_scale != 1) * (2 if options.get("solver") else 1)
        last_step_is_euler = 2 if options.get("solver") else 0
        assert expected == pytest.approx(guided + halves + last_step_is_euler, abs=2)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"method": "course"}, "method must be one of balanced, thorough, got 'course'"),
        ({"guidance_scale": 0.6}, "guidance_scale must be a number from 0 to 0.5, got 0.6"),
        ({"start": 0.6, "stop": 0.5}, "start must be at most stop, 0.5, got 0.6"),
        ({"cfg_start": 0.6, "cfg_stop": 0.5}, "cfg_start must be at most cfg_stop, 0.5, got 0.6"),
        ({"solver": "heun", "eta": 0.5}, "eta must be 0 unless solver is ddim, got 0.5"),
        (
            {"symmetry": "round"},
            "symmetry must be one of none, left-right, top-bottom, got 'round'",
        ),
    ],
)
def test_what_contradicts_itself_is_refused_in_one_sentence(wrong: dict[str, Any], sentence: str):
    with pytest.raises(SettingsError) as caught:
        validate(DigitsSettings(**wrong))
    assert str(caught.value) == sentence


@pytest.mark.usefixtures("tiny_checkpoints")
def test_an_unguided_run_that_is_too_large_to_cache_is_not_collected(
    monkeypatch: pytest.MonkeyPatch,
):
    """250 steps of 8 pictures of 256 px would take 3 GB."""
    settings = validate(DigitsSettings(**EIGHTS))
    run = digits.run_of(settings, checkpoints.load("digits-embedding"))
    monkeypatch.setattr(comparison, "_CACHED_BYTES", 1000)
    comparison.unguided_runs.clear()
    assert len(list(comparison.unguided_steps(run))) == settings.num_inference_steps
    assert not comparison.is_cached(run.plan)
