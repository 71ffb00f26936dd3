"""Guidance against the truth: a mixture of Gaussians whose every answer is known."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks import exact, frechet, mixture
from benchmarks.mixture import Mixture
from pipelines.diffusion.guidance import Guide
from pipelines.diffusion.losses import MeanColor, Term
from pipelines.diffusion.methods import METHODS, PUBLISHED
from pipelines.diffusion.noise import draw_noise, image_generators
from pipelines.diffusion.solvers import make_schedule

pytestmark = pytest.mark.slow

COUNT = 128
LEVELS = [(0.05, 0.99875**0.5), (0.6, 0.8), (0.995, 0.01**0.5)]


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Such small sums are slower on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def paintings() -> Mixture:
    return mixture.load_mixture()


@pytest.fixture(scope="module")
def task(paintings: Mixture) -> exact.Task:
    return exact.make_tasks(paintings, count=1, num_samples=COUNT, seed=7)[0]


def small_mixture() -> Mixture:
    generator = torch.Generator().manual_seed(0)
    roots = torch.randn(3, 192, 192, generator=generator, dtype=torch.float64) / 40
    return Mixture(
        torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64),
        torch.randn(3, 192, generator=generator, dtype=torch.float64) / 4,
        roots @ roots.mT + 0.01 * torch.eye(192, dtype=torch.float64),
    )


# --- the truth itself ----------------------------------------------------------------------------


@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
def test_the_denoiser_is_that_of_tweedie(paintings: Mixture, alpha: float, sigma: float):
    """`E[x0 | x_t] = (x_t + sigma**2 * score) / alpha`, the score by differentiation."""
    a, s = torch.tensor(alpha).double(), torch.tensor(sigma).double()
    clean = paintings.sample(4, seed=0).double()
    x_t = (a * clean + s * torch.randn_like(clean)).requires_grad_()
    noisy = torch.distributions.MultivariateNormal(
        a * paintings.means, a**2 * paintings.covariances + s**2 * torch.eye(192).double()
    )
    likely = noisy.log_prob(x_t.flatten(1)[:, None]) + paintings.weights.log()  # (n, k)
    score = torch.autograd.grad(likely.logsumexp(dim=1).sum(), x_t)[0]
    expected = (x_t + s**2 * score) / a
    torch.testing.assert_close(paintings.denoised(x_t, a, s), expected, atol=1e-6, rtol=1e-6)


def test_samples_have_the_moments_that_the_mixture_says(paintings: Mixture):
    drawn = frechet.fit(paintings.sample(20_000, seed=1).flatten(1).double().numpy())
    assert frechet.between(drawn, paintings.moments()) < 0.05


@pytest.mark.thorough
def test_pictures_of_one_mean_colour_are_those_that_come_out_of_all_with_that_colour():
    """Bayes by counting: of many pictures, those near the colour have the predicted moments."""
    whole = small_mixture()
    color = torch.tensor([0.02, -0.01, 0.03])
    drawn = whole.sample(200_000, seed=2)
    near = drawn[(drawn.mean(dim=(2, 3)) - color).abs().amax(dim=1) < 0.012]
    posterior = whole.given_mean_color(color)
    assert len(near) > 300
    counted = frechet.fit(near.flatten(1).double().numpy())
    floor = frechet.fit(posterior.sample(len(near), seed=3).flatten(1).double().numpy())
    truth = posterior.moments()
    assert frechet.between(counted, truth) < 1.15 * frechet.between(floor, truth)
    assert frechet.between(counted, whole.moments()) > 1.15 * frechet.between(counted, truth)


def test_every_draw_of_the_truth_has_the_colour(task: exact.Task, paintings: Mixture):
    drawn = paintings.given_mean_color(task.color).sample(64, seed=4)
    assert exact.color_error(drawn, task.color) < 0.05
    assert exact.color_error(paintings.sample(64, seed=4), task.color) > 20


def test_unguided_sampling_draws_from_the_mixture(paintings: Mixture):
    """Without which distances of guided samples would say nothing of guidance."""
    for method in (METHODS["fast"], METHODS["balanced"]):
        guide = Guide(method, [Term(MeanColor(torch.zeros(3)))], 0.0)
        drawn = exact.draw(
            paintings.predictor(exact.CONFIG),
            guide,
            num_inference_steps=50,
            seed=0,
            num_samples=COUNT,
        )
        truth = paintings.moments()
        floor = exact.distance_to(paintings.sample(COUNT, seed=5), truth)
        assert exact.distance_to(drawn, truth) < 1.4 * floor


# --- guidance against it -------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [10, 20, 40])
@pytest.mark.parametrize("name", exact.OURS)
def test_presets_draw_from_the_exact_posterior(
    paintings: Mixture, task: exact.Task, name: str, steps: int
):
    found = exact.measure(paintings, [task], name, scale=0.2, num_inference_steps=steps)
    unguided = exact.measure(paintings, [task], name, scale=0.0, num_inference_steps=steps)
    assert unguided.color_error > 40
    assert found.color_error < 2.5  # of 255
    # What few steps cost even without guidance, they cost here too.
    assert found.distance < (2.4 if steps == 10 else 2.0) * task.floor
    assert found.distance < unguided.distance / 8


@pytest.mark.parametrize(("name", "factor"), [("fast", 1.02), ("balanced", 1.2), ("thorough", 1.4)])
def test_a_strength_is_as_strong_in_many_steps_as_in_few(
    paintings: Mixture, task: exact.Task, name: str, factor: float
):
    def error(steps: int, scale: float) -> float:
        found = exact.measure(paintings, [task], name, scale=scale, num_inference_steps=steps)
        return found.color_error

    left = [error(steps, 0.05) / error(steps, 0.0) for steps in (10, 20, 50)]
    assert max(left) < factor * min(left)
    assert 0.25 < min(left) < 0.6  # far from off and from saturated, which would say nothing


@pytest.mark.parametrize("name", exact.OURS)
def test_more_strength_comes_nearer(paintings: Mixture, task: exact.Task, name: str):
    errors = [
        exact.measure(paintings, [task], name, scale=scale, num_inference_steps=20).color_error
        for scale in (0.02, 0.05, 0.1, 0.5)
    ]
    assert all(weaker > stronger for weaker, stronger in itertools.pairwise(errors))
    assert errors[-1] < 1


def test_the_course_as_it_is_falls_apart_where_ours_does_not(paintings: Mixture, task: exact.Task):
    def distance(name: str, scale: float) -> float:
        found = exact.measure(paintings, [task], name, scale=scale, num_inference_steps=20)
        return found.distance

    best = min(distance(exact.OWN_LOSS, scale) for scale in exact.GRIDS[exact.OWN_LOSS])
    assert best > 3 * distance("balanced", 0.2)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_methods_of_the_literature_work_at_their_best_scale(
    paintings: Mixture, task: exact.Task, name: str
):
    """Or comparing with them would be worth nothing."""
    tuning = exact.make_tasks(paintings, count=1, num_samples=64, seed=8)
    scale = exact.tuned_scale(paintings, tuning, name, 20)
    assert min(exact.GRIDS[name]) < scale < max(exact.GRIDS[name])  # else the grid is too narrow
    found = exact.measure(paintings, [task], name, scale=scale, num_inference_steps=20)
    assert found.color_error < 12
    assert found.distance < 2.5 * task.floor


def test_passes_are_counted(paintings: Mixture, task: exact.Task):
    few = dataclasses.replace(task, num_samples=4)
    found = exact.measure(paintings, [few], "DPS", scale=5, num_inference_steps=6)
    assert (found.forward_passes, found.backward_passes) == (6, 6)
    found = exact.measure(paintings, [few], "fast", scale=0.2, num_inference_steps=6)
    assert (found.forward_passes, found.backward_passes) == (6, 0)
    cells = exact.row([found] * 3)
    assert cells[:2] == ["fast", "0.2"]
    assert cells[5] == "6 + 0"


# --- its file ------------------------------------------------------------------------------------


def test_a_mixture_survives_its_file(tmp_path: Path):
    saved = small_mixture()
    mixture.save_mixture(saved, tmp_path / "new" / "mixture.safetensors", {"seed": "0"})
    found = mixture.load_mixture(tmp_path / "new" / "mixture.safetensors")
    for name in ("weights", "means", "covariances"):
        torch.testing.assert_close(getattr(found, name), getattr(saved, name), atol=1e-6, rtol=1e-5)
    with pytest.raises(FileNotFoundError, match=r"python -m benchmarks\.mixture makes it"):
        mixture.load_mixture(tmp_path / "none.safetensors")


def test_fitting_finds_the_gaussians_that_the_pictures_came_from():
    generator = torch.Generator().manual_seed(0)

    def cloud(centre: float, count: int) -> Tensor:
        drawn = torch.randn(count, 192, generator=generator, dtype=torch.float64)
        return centre + 0.1 * drawn

    found = mixture.fit(
        torch.cat([cloud(-0.5, 600), cloud(0.5, 200)]), num_components=2, rounds=5, seed=0
    )
    order = found.weights.argsort(descending=True)
    torch.testing.assert_close(found.weights[order], torch.tensor([0.75, 0.25]).double())
    expected = torch.tensor([-0.5, 0.5]).double()
    torch.testing.assert_close(found.means[order].mean(dim=1), expected, atol=0.01, rtol=0)


def test_the_predictor_knows_how_noisy_a_timestep_is(paintings: Mixture):
    predict = paintings.predictor(exact.CONFIG)
    clean = paintings.sample(4, seed=6)
    noise = draw_noise(image_generators(0, 4), mixture.SHAPE)
    scheduler = make_schedule(exact.CONFIG, solver="ddim", num_inference_steps=1000, device="cpu")
    for index in (100, 500, 999):
        alpha, sigma = scheduler.alpha[index], scheduler.sigma[index]
        x_t = alpha * clean + sigma * noise
        expected = paintings.denoised(x_t, alpha, sigma)
        found = predict(x_t, scheduler.timesteps[index])
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
