"""Settings: every malformed value is refused with one sentence that names it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pipelines.settings import MAX_SEED, DigitsSettings, SettingsError, show, validate


def test_the_defaults_are_valid_and_come_back_unchanged():
    assert validate(DigitsSettings()) == DigitsSettings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("digits", ""),
        ("digits", "12a"),
        ("digits", "１２"),
        ("digits", "1" * 65),
        ("digits", 12),
        ("digits", None),
        ("cfg_scale", float("nan")),
        ("cfg_scale", float("inf")),
        ("cfg_scale", -0.1),
        ("cfg_scale", 10.1),
        ("cfg_scale", "2"),
        ("cfg_scale", True),
        ("cfg_scale", None),
        ("num_inference_steps", 0),
        ("num_inference_steps", 251),
        ("num_inference_steps", 2.5),
        ("num_inference_steps", float("nan")),
        ("num_inference_steps", float("inf")),
        ("num_inference_steps", "9"),
        ("num_inference_steps", True),
        ("num_inference_steps", [9]),
        ("seed", -2),
        ("seed", 2**70),
        ("seed", MAX_SEED + 1),
        ("seed", 0.5),
        ("conditioning", "Embedding"),
        ("conditioning", 1),
        ("conditioning", ["embedding"]),
        ("blend_with", "12"),
        ("blend_with", "x"),
        ("blend", 1.5),
        ("solver", "euler"),
        ("eta", -1),
    ],
)
def test_a_malformed_value_is_refused_in_one_sentence_naming_it(name: str, value: Any):
    with pytest.raises(SettingsError, match=rf"^{name} must be .+, got .+$") as caught:
        validate(dataclasses.replace(DigitsSettings(), **{name: value}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("digits", "0", "0"),
        ("digits", "9" * 64, "9" * 64),
        ("cfg_scale", 0, 0.0),
        ("cfg_scale", 10, 10.0),
        ("num_inference_steps", 1, 1),
        ("num_inference_steps", 250.0, 250),
        ("seed", MAX_SEED, MAX_SEED),
        ("blend", 1, 1.0),
    ],
)
def test_the_bounds_themselves_are_accepted_in_their_proper_type(name: str, value: Any, kept: Any):
    found = getattr(validate(dataclasses.replace(DigitsSettings(), **{name: value})), name)
    assert found == kept
    assert type(found) is type(kept)


def test_seed_minus_one_draws_a_seed_that_is_reported():
    seeds = {validate(DigitsSettings(seed=-1)).seed for _ in range(4)}
    assert len(seeds) > 1
    assert all(0 <= seed <= MAX_SEED for seed in seeds)


def test_eta_needs_the_solver_that_has_it():
    with pytest.raises(SettingsError, match=r"eta must be 0 unless solver is ddim, got 0\.5"):
        validate(DigitsSettings(eta=0.5))
    assert validate(DigitsSettings(eta=0.5, solver="ddim")).eta == 0.5


def test_an_error_quotes_no_markup_and_stays_short():
    assert "<" not in show("<script>alert(1)</script>")
    assert len(show("x" * 1000)) <= 40
    assert show("") == "nothing"
