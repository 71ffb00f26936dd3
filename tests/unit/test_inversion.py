"""Where a run begins: on the way, at the noise of a picture, or beside it."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.mixture import load_mixture
from pipelines.core import images
from pipelines.core.rules import validate
from pipelines.diffusion import inversion, sampling
from pipelines.diffusion.inversion import EVALUATIONS, inverted, neighbours
from pipelines.diffusion.noise import draw_noise, image_generators, seeded
from pipelines.diffusion.schedules import Schedule
from pipelines.diffusion.solvers import make_schedule
from pipelines.models import checkpoints
from pipelines.products import edit, edit_tasks
from pipelines.products.edit import EditSettings
from pipelines.runs.run import Plan, Run

COSINE = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2"}
SHAPE = (3, 64, 64)


def address(seed: int = 0, size_px: int = 64) -> str:
    """A smooth picture as a data address."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(1, 3, 4, 4, generator=generator) * 2 - 1
    large = torch.nn.functional.interpolate(small, (size_px, size_px), mode="bicubic")
    return images.to_data_uri(images.to_pil(large)[0])


def settings_of(**options: Any) -> EditSettings:
    few: dict[str, Any] = {"image": address(), "num_inference_steps": 4, "task": "restyle"}
    return validate(EditSettings(**few | options))


def run_of(settings: EditSettings) -> Run:
    loaded = checkpoints.load(settings.model)
    seen = edit_tasks.canvas_of(settings, loaded.checkpoint.size_px)
    return edit.run_of(settings, loaded, seen, None)


def picture_of(settings: EditSettings) -> Tensor:
    return edit_tasks.canvas_of(settings, 64).seen(64)


@pytest.mark.usefixtures("tiny_checkpoints")
def test_a_run_begins_with_what_its_function_makes_of_noise_and_schedule():
    loaded, plan = checkpoints.load("paintings"), Plan("paintings", (3, 4), 3, "ddim", 0.0)
    given: list[tuple[Tensor, Schedule]] = []

    def begin(noise: Tensor, schedule: Schedule) -> Tensor:
        given.append((noise, schedule))
        return noise / 2

    first, *_ = Run(plan, loaded, begin=begin).steps()
    ((noise, schedule),) = given
    assert torch.equal(noise, draw_noise(seeded((3, 4)), SHAPE))
    assert schedule.timesteps.tolist() == Run(plan, loaded).schedule().timesteps.tolist()
    assert torch.equal(first.x_t, noise / 2)


@pytest.mark.usefixtures("tiny_checkpoints")
def test_beginning_with_the_noise_itself_changes_nothing():
    loaded, plan = checkpoints.load("paintings"), Plan("paintings", (3,), 3, "ddim", 0.5)
    plain = list(Run(plan, loaded).steps())[-1].x_prev
    same = list(Run(plan, loaded, begin=lambda noise, _: noise).steps())[-1].x_prev
    assert torch.equal(plain, same)


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("strength", [0.05, 0.3, 0.5, 0.95])
@pytest.mark.parametrize("method", ["balanced", "fast"])
def test_restyling_begins_with_the_picture_under_noise_of_the_first_timestep(
    strength: float, method: str
):
    settings = settings_of(strength=strength, num_images=2, method=method)
    first, *others = run_of(settings).steps()
    schedule = run_of(settings).schedule()
    alpha, sigma = schedule.alpha_bar[first.t] ** 0.5, (1 - schedule.alpha_bar[first.t]) ** 0.5
    noise = draw_noise(image_generators(0, 2), SHAPE)
    expected = alpha * picture_of(settings) + sigma * noise
    torch.testing.assert_close(first.x_t, expected, atol=1e-6, rtol=0)
    exact = schedule.alpha[0] * picture_of(settings) + schedule.sigma[0] * noise
    assert torch.equal(first.x_t, exact)
    assert first.total == len(others) + 1 == 4


@pytest.mark.usefixtures("tiny_checkpoints")
def test_the_first_timestep_falls_with_the_strength_and_the_steps_stay_as_many():
    starts = []
    for strength in (0.1, 0.3, 0.5, 0.7, 0.9, 1.0):
        schedule = run_of(settings_of(strength=strength, num_inference_steps=10)).schedule()
        timesteps = schedule.timesteps.tolist()
        assert len(timesteps) == 10
        assert timesteps == sorted(set(timesteps), reverse=True)
        starts.append(timesteps[0])
    assert starts == sorted(starts)
    assert len(set(starts)) == len(starts)


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("steps", [1, 2, 7, 20, 100, 250])
@pytest.mark.parametrize("strength", [0.001, 0.01, 0.05, 0.35, 0.99])
def test_every_strength_goes_with_every_number_of_steps(strength: float, steps: int):
    settings = settings_of(strength=strength, num_inference_steps=steps)
    timesteps = run_of(settings).schedule().timesteps.tolist()
    assert len(timesteps) == edit_tasks.steps_of(settings)
    assert 1 <= len(timesteps) <= steps
    assert timesteps == sorted(set(timesteps), reverse=True)


@pytest.mark.usefixtures("tiny_checkpoints")
def test_full_strength_is_a_picture_from_noise_alone():
    settings = settings_of(strength=1.0, num_images=2)
    run = run_of(settings)
    steps = list(run.steps())
    assert torch.equal(steps[0].x_t, draw_noise(image_generators(0, 2), SHAPE))
    plain = list(Run(run.plan, run.loaded).steps())
    assert torch.equal(steps[-1].x_prev, plain[-1].x_prev)


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("task", ["restyle", "vary"])
@pytest.mark.parametrize("mask", ["", address(5)])
def test_no_strength_gives_the_picture_back_to_the_bit(task: str, mask: str):
    settings = settings_of(task=task, strength=0.0, mask=mask, num_images=2)
    *_, last = edit.generate(settings)
    came = images.from_data_uri(settings.image)
    assert [picture.tobytes() for picture in last.pictures] == [came.tobytes()] * 2


# --- inversion -----------------------------------------------------------------------------------


def redrawn(noise: Tensor, schedule: Schedule) -> Tensor:
    """The pictures that the exact denoiser of small paintings draws from noise."""
    predict = load_mixture().predictor(COSINE)
    steps = sampling.sample(predict, noise, schedule, prediction_type="sample")
    return list(steps)[-1].x_prev


def inverted_and_redrawn(x0: Tensor, num_steps: int) -> tuple[Tensor, Tensor]:
    schedule = make_schedule(COSINE, solver="ddim", num_inference_steps=num_steps, device="cpu")
    predict = load_mixture().predictor(COSINE)
    noise = inverted(predict, x0, schedule, prediction_type="sample")
    return noise, redrawn(noise, schedule)


@pytest.mark.slow
def test_the_noise_of_a_picture_draws_it_again_the_nearer_the_more_steps():
    x0 = load_mixture().sample(8, seed=1).clamp(-1, 1)
    distances = []
    for num_steps in (10, 40, 160):
        _, again = inverted_and_redrawn(x0, num_steps)
        distances.append(float((again - x0).square().mean().sqrt()))
    others = float((x0 - x0.roll(1, dims=0)).square().mean().sqrt())  # of two different pictures
    assert distances == sorted(distances, reverse=True)
    assert distances[0] < others / 2
    assert distances[-1] < others / 20


@pytest.mark.slow
def test_the_noise_of_pictures_of_the_distribution_is_as_noise_is():
    noise, _ = inverted_and_redrawn(load_mixture().sample(64, seed=2).clamp(-1, 1), 40)
    assert float(noise.mean()) == pytest.approx(0, abs=0.1)
    assert float(noise.std()) == pytest.approx(1, abs=0.15)


def gaussian(std: float, schedule: Schedule) -> Any:
    """The exact x0 network for pixels that are `N(0, std**2)`."""

    def predict(x_t: Tensor, t: Tensor) -> Tensor:
        alpha_bar = schedule.alpha_bar[int(t)]
        return alpha_bar**0.5 * std**2 / (alpha_bar * std**2 + 1 - alpha_bar) * x_t

    return predict


def test_pixels_of_a_gaussian_are_scaled_to_noise():
    std = 0.5
    schedule = make_schedule(COSINE, solver="ddim", num_inference_steps=200, device="cpu")
    x0 = torch.tensor([0.8, -0.3, 0.1, -0.9]).view(1, 1, 2, 2)
    noise = inverted(gaussian(std, schedule), x0, schedule, prediction_type="sample")
    # The flow of probability maps quantiles to quantiles, for a Gaussian a multiplication.
    torch.testing.assert_close(noise, x0 / std, rtol=0.02, atol=0)


def test_every_step_back_evaluates_the_network_at_its_own_timestep():
    schedule = make_schedule(COSINE, solver="ddim", num_inference_steps=5, device="cpu")
    asked: list[int] = []

    def predict(x_t: Tensor, t: Tensor) -> Tensor:
        asked.append(int(t))
        return torch.tanh(x_t)

    inverted(predict, torch.zeros(1, 1, 2, 2), schedule, prediction_type="sample")
    expected = [int(t) for t in schedule.timesteps.flip(0)]
    assert asked == [t for t in expected for _ in range(EVALUATIONS)]


def test_finding_the_noise_anew_leads_back_nearer_to_the_picture(monkeypatch: pytest.MonkeyPatch):
    schedule = make_schedule(COSINE, solver="ddim", num_inference_steps=12, device="cpu")
    x0, predict = torch.tensor([0.8, -0.3, 0.1, -0.9]).view(1, 1, 2, 2), gaussian(0.5, schedule)
    distances = []
    for evaluations in (1, EVALUATIONS, 40):
        monkeypatch.setattr(inversion, "EVALUATIONS", evaluations)
        noise = inverted(predict, x0, schedule, prediction_type="sample")
        steps = sampling.sample(predict, noise, schedule, prediction_type="sample", clip=False)
        distances.append(float((list(steps)[-1].x_prev - x0).abs().max()))
    assert distances[1] < distances[0] / 3
    assert distances[2] < distances[1]


def test_a_picture_that_the_model_knows_alone_is_inverted_to_finite_noise():
    schedule = make_schedule(COSINE, solver="ddim", num_inference_steps=10, device="cpu")
    x0 = torch.rand(1, 3, 4, 4) * 2 - 1
    noise = inverted(lambda x, t: x0.expand_as(x), x0, schedule, prediction_type="sample")
    assert noise.isfinite().all()


# --- neighbours ----------------------------------------------------------------------------------

NOISE = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
OTHERS = torch.randn(5, 3, 64, 64, generator=torch.Generator().manual_seed(2))


def test_neighbours_lie_on_great_circles_from_the_noise_to_others():
    shares = [0.0, 0.25, 0.5, 0.75, 1.0]
    found = neighbours(NOISE, OTHERS, shares)
    assert torch.equal(found[0], NOISE[0])
    torch.testing.assert_close(found[4], OTHERS[4], atol=1e-6, rtol=0)
    root = math.sqrt(0.5)
    torch.testing.assert_close(found[2], root * (NOISE[0] + OTHERS[2]))
    for i, share in enumerate(shares):
        cosine = torch.cosine_similarity(found[i].flatten(), NOISE.flatten(), dim=0)
        assert float(cosine) == pytest.approx(math.cos(share * math.pi / 2), abs=0.03)


def test_neighbours_are_as_large_as_noise_is():
    norms = neighbours(NOISE, OTHERS, [0.1, 0.3, 0.5, 0.7, 0.9]).flatten(1).norm(dim=1)
    expected = math.sqrt(NOISE[0].numel())
    assert ((norms / expected - 1).abs() < 0.03).all()


def test_a_neighbour_does_not_depend_on_those_beside_it():
    together = neighbours(NOISE, OTHERS, [0.1, 0.3, 0.5, 0.7, 0.9])
    alone = neighbours(NOISE, OTHERS[2:3], [0.5])
    assert torch.equal(alone[0], together[2])


@pytest.mark.usefixtures("tiny_checkpoints")
def test_variations_begin_ever_farther_from_the_noise_of_the_picture():
    settings = settings_of(task="vary", num_images=4, strength=1.0)
    run = run_of(settings)
    first, *_ = run.steps()
    noise = draw_noise(image_generators(0, 4), SHAPE)
    torch.testing.assert_close(first.x_t[3], noise[3], atol=1e-5, rtol=0)  # nothing is left of it
    cosines = torch.cosine_similarity(first.x_t.flatten(1), noise.flatten(1)).tolist()
    for nearer, farther in itertools.pairwise(cosines):
        assert farther > nearer + 0.02


@pytest.mark.usefixtures("tiny_checkpoints")
def test_variations_add_no_noise_unless_told():
    assert run_of(settings_of(task="vary")).plan.eta == 0
    assert run_of(settings_of(task="vary", eta=0.4)).plan.eta == 0.4
