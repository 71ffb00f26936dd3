"""What version 0.2 wrote opens for ever: pictures, links and models, see `fixtures/version-0.2`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import pytest
import torch

from pipelines.core.rules import as_before
from pipelines.diffusion import sampling
from pipelines.diffusion.denoisers import unconditional
from pipelines.diffusion.noise import draw_noise, image_generators
from pipelines.diffusion.solvers import SOLVERS, make_schedule
from pipelines.models import checkpoints
from pipelines.products import PRODUCTS, color, text
from pipelines.products.settings import ColorSettings, TextSettings
from pipelines.runs import provenance

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).resolve().parents[1] / "fixtures" / "version-0.2"
PICTURES: dict[str, Any] = json.loads((FOLDER / "pictures.json").read_text(encoding="utf-8"))
LINKS: list[dict[str, Any]] = json.loads((FOLDER / "links.json").read_text(encoding="utf-8"))
MODELS = ("tiny-stock", "tiny-folded")


def assert_same_settings(found: provenance.Record, expected: dict[str, Any]) -> None:
    """The settings of a record are those stored; any that came later mean what was drawn before."""
    assert found.tab == expected["tab"]
    assert next(iter(found.revisions.values()), "") == expected["revision"]
    assert isinstance(found.settings, PRODUCTS[expected["tab"]].settings)
    settings = dataclasses.asdict(found.settings)
    stored = expected["settings"]
    assert {name: settings[name] for name in stored} == stored
    assert {name: type(settings[name]) for name in stored} == {
        n: type(v) for n, v in stored.items()
    }
    before = as_before(type(found.settings)(**stored), stored)
    assert all(settings[name] == value for name, value in dataclasses.asdict(before).items())


def test_every_picture_is_listed():
    assert {path.name for path in (FOLDER / "pictures").iterdir()} == set(PICTURES)
    assert {row["tab"] for row in PICTURES.values()} == set(PRODUCTS) - {"edit"}  # came later


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_opens_with_exactly_its_settings(name: str):
    assert_same_settings(provenance.read(FOLDER / "pictures" / name), PICTURES[name])


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_says_what_drew_it(name: str):
    facts = provenance.read_facts(FOLDER / "pictures" / name)
    assert facts["versions"]["studio"] == "0.2.0"
    assert len(facts["score_before"]) == len(facts["score_after"]) >= 1


@pytest.mark.parametrize("row", LINKS, ids=lambda row: row["query"][:60])
def test_a_link_gives_exactly_its_settings(row: dict[str, Any]):
    query = dict(parse_qsl(row["query"], keep_blank_values=True, strict_parsing=True))
    found = provenance.from_query(query)
    assert found is not None
    assert_same_settings(found, row)


@pytest.mark.parametrize("row", LINKS, ids=lambda row: row["query"][:60])
def test_settings_of_a_link_survive_a_link_of_today(row: dict[str, Any]):
    settings = PRODUCTS[row["tab"]].settings(**row["settings"])
    revisions = {PRODUCTS[row["tab"]].checkpoints(settings)[0]: row["revision"]}
    query = dict(parse_qsl(provenance.to_query(settings, revisions), keep_blank_values=True))
    found = provenance.from_query(query)
    assert found is not None
    assert_same_settings(found, row)


@pytest.fixture
def _own_models(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The models of the folder are the user's own."""
    own = ",".join(f"{name}={FOLDER / 'models' / name}" for name in MODELS)
    monkeypatch.setenv("STUDIO_CHECKPOINTS", own)
    checkpoints.unload_all()
    yield
    checkpoints.unload_all()


@pytest.mark.usefixtures("_own_models")
@pytest.mark.parametrize("name", MODELS)
def test_a_model_loads_with_its_size_and_weights(name: str):
    (row,) = [row for row in checkpoints.describe() if row["key"] == name]
    assert row["available"]
    assert row["size_px"] == 16
    loaded = checkpoints.load(name)
    assert loaded.revision == row["revision"] != ""
    assert {parameter.dtype for parameter in loaded.unet.parameters()} == {torch.float32}
    prediction = {"tiny-stock": "epsilon", "tiny-folded": "v_prediction"}[name]
    assert loaded.scheduler_config["prediction_type"] == prediction


@pytest.mark.usefixtures("_own_models")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("method", ["fast", "balanced", "thorough"])
def test_a_model_draws_towards_a_color(name: str, method: str):
    settings = ColorSettings(model=name, method=method, num_inference_steps=4, num_images=2)
    *_, last = color.generate(settings)
    assert last.finished
    assert last.failed_steps == []
    assert [p.size for p in (*last.pictures, *last.unguided)] == [(16, 16)] * 4
    assert np.isfinite(last.losses).all()
    assert np.mean(last.score_after) < np.mean(last.score_before)


@pytest.mark.usefixtures("_own_models")
@pytest.mark.parametrize("name", MODELS)
def test_a_model_draws_words(name: str):
    *_, last = text.generate(TextSettings(model=name, prompt="snow", num_inference_steps=4))
    assert last.finished
    assert last.failed_steps == []
    assert np.isfinite(last.similarities).all()
    assert last.pictures[0].tobytes() != last.unguided[0].tobytes()


@pytest.mark.usefixtures("_own_models")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_model_gives_finite_pictures_with_every_solver(name: str, solver: str):
    loaded = checkpoints.load(name)
    generators = image_generators(0, 2)
    *_, last = sampling.sample(
        unconditional(loaded.unet),
        draw_noise(generators, (3, 16, 16)).to(next(loaded.unet.parameters()).device),
        make_schedule(
            loaded.scheduler_config,
            solver=solver,
            num_inference_steps=5,
            device=next(loaded.unet.parameters()).device,
        ),
        prediction_type=loaded.scheduler_config["prediction_type"],
        eta=0.5 if SOLVERS[solver].takes_noise else 0.0,
        generators=generators,
    )
    assert torch.isfinite(last.x_prev).all()
