"""Learned timesteps: what they are, when they are taken, and what older pictures and links mean."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import pytest
import torch

from pipelines.core.images import to_data_uri
from pipelines.diffusion.solvers import SOLVERS, make_schedule
from pipelines.models import checkpoints, timesteps
from pipelines.products import color, guided
from pipelines.products.settings import ColorSettings, TextSettings
from pipelines.runs import provenance
from training.timesteps.learning import Task, learn, task_of

FEW = ColorSettings(method="fast", num_inference_steps=6)
LEARNED = [
    (model, solver, int(count))
    for model, of_model in json.loads(timesteps.FILE.read_text(encoding="utf-8")).items()
    for solver, of_solver in of_model.items()
    for count in of_solver
]


def test_the_bundled_models_have_learned_timesteps_for_few_steps():
    counts = {model: {count for m, _, count in LEARNED if m == model} for model, _, _ in LEARNED}
    assert counts == {
        "paintings": {4, 6, 8, 12},
        "scenes": {4, 6, 8},  # in 12 steps its solver's own are as good
        "emoji": {4, 6, 8, 12},
    }


@pytest.mark.parametrize(("model", "solver", "count"), LEARNED)
def test_learned_timesteps_fall_from_noise_to_picture(model: str, solver: str, count: int):
    found = timesteps.learned(model, solver, count)
    assert len(found) == count
    assert all(a > b for a, b in itertools.pairwise(found))
    assert 990 <= found[0] < 1000
    assert 0 <= found[-1] < 60
    assert SOLVERS[solver].order == 2, "they were learned for DPM-Solver++(2M)"


def test_a_run_takes_them_where_there_are_some():
    few = guided.plan_of(FEW)
    assert few.timesteps == timesteps.learned("paintings", "dpm++-logsnr", 6)
    for changes in (
        {"timesteps": "spaced"},
        {"num_inference_steps": 7},
        {"method": "balanced"},
        {"method": "course"},
    ):
        assert guided.plan_of(dataclasses.replace(FEW, **changes)).timesteps == ()


def test_their_pictures_are_nearer_to_those_of_many_steps():
    def picture(**changes: object) -> torch.Tensor:
        settings = dataclasses.replace(FEW, seed=77, num_images=2, **changes)
        loaded = checkpoints.load(settings.model)
        run = guided.run_of(settings, loaded, color.terms_of(settings, 64)).unguided()
        *_, last = run.steps()
        return last.x_prev.clamp(-1, 1)

    many = picture(num_inference_steps=60)
    spaced, learned = (
        (picture(timesteps=kind) - many).square().mean().item() for kind in timesteps.CHOICES[::-1]
    )
    assert learned < 0.8 * spaced


def test_unguided_runs_at_other_timesteps_are_other_runs():
    keys = {
        guided.plan_of(dataclasses.replace(FEW, timesteps=kind)).key("1")
        for kind in timesteps.CHOICES
    }
    assert len(keys) == 2


def test_another_number_of_timesteps_is_refused():
    config = checkpoints.load("paintings").scheduler_config
    with pytest.raises(ValueError, match="timesteps must be 3, got 2"):
        make_schedule(
            config, solver="ddim", num_inference_steps=3, device="cpu", timesteps=[500, 20]
        )


def test_pictures_older_than_them_are_drawn_as_they_were():
    *_, last = color.generate(FEW, compare=False)
    facts = color.PRODUCT.picture_metadata(last, 0)
    assert facts["settings"]["timesteps"] == "learned"
    assert provenance.from_facts(facts).settings == last.settings
    of_0_2 = {**facts, "settings": {n: v for n, v in facts["settings"].items() if n != "timesteps"}}
    assert provenance.from_facts(of_0_2).settings.timesteps == "spaced"
    plain = {**of_0_2, "settings": {**of_0_2["settings"], "method": "balanced"}}
    assert provenance.from_facts(plain).settings.timesteps == "learned", "it means nothing there"


@pytest.mark.parametrize(
    ("settings", "has_it"),
    [
        (FEW, True),
        (dataclasses.replace(FEW, timesteps="spaced"), True),
        (dataclasses.replace(FEW, num_inference_steps=20), False),
        (ColorSettings(), False),
        (TextSettings(method="fast", num_inference_steps=6), False),
    ],
)
def test_links_name_them_only_where_they_mean_something(
    settings: ColorSettings | TextSettings, has_it: bool
):
    query = provenance.to_query(settings)
    assert ("timesteps=" in query) is has_it
    entries = dict(entry.split("=", 1) for entry in query.split("&"))
    found = provenance.from_query(entries)
    assert found is not None
    assert found.settings == settings
    without = provenance.from_query({n: v for n, v in entries.items() if n != "timesteps"})
    assert without is not None
    if isinstance(settings, ColorSettings):
        assert without.settings.timesteps == ("spaced" if has_it else "learned")


def straight(pull: float) -> Task:
    """A network whose steps matter only between timesteps 300 and 500."""

    def predict(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.full_like(x_t, pull * min(1.0, max(0.0, (500 - float(t)) / 200))) - 0.1 * x_t

    alpha_bar = torch.linspace(0.9995, 0.0005, 1000)
    noise = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    task = Task(predict, "sample", alpha_bar, "dpm++", noise, noise)
    return dataclasses.replace(task, pictures=task.drawn([*range(999, 0, -12)]))


def test_learning_comes_nearer_than_every_spacing():
    task = straight(0.5)
    spaced = [
        task.error(SOLVERS[name].spacing(task.alpha_bar, 4)) for name in ("dpm++", "dpm++-logsnr")
    ]
    found = learn(task, 4)
    assert task.error(found) < 0.7 * min(spaced)
    assert all(a > b for a, b in itertools.pairwise(found))
    assert 0 <= found[-1] < found[0] <= 999


def test_learning_a_bundled_model_for_two_steps(tmp_path: Path):
    loaded = checkpoints.load("emoji")
    task = task_of(loaded, "dpm++-logsnr", seed=5, num_images=2, teacher_steps=20)
    found = learn(task, 2, most_rounds=3)
    spaced = SOLVERS["dpm++-logsnr"].spacing(task.alpha_bar, 2)
    assert task.error(found) < task.error(spaced)
    path = tmp_path / "timesteps.json"
    timesteps.keep("emoji", "dpm++-logsnr", found, path)
    timesteps.keep("emoji", "dpm++-logsnr", [900, 500, 20], path)
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert kept == {"emoji": {"dpm++-logsnr": {"2": found, "3": [900, 500, 20]}}}


def test_pictures_of_a_run_at_learned_timesteps_repeat():
    once, again = (
        to_data_uri([*color.generate(FEW, compare=False)][-1].pictures[0]) for _ in range(2)
    )
    assert once == again
