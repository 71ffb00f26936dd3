"""The sampler: known answers, agreement with diffusers, and what must never change a picture."""

from __future__ import annotations

import dataclasses
import itertools
import math
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    HeunDiscreteScheduler,
    UNet2DModel,
)
from torch import Tensor

from pipelines.diffusion import sampling
from pipelines.diffusion.denoisers import CfgOutput, Predictor, classifier_free_guidance, predict_x0
from pipelines.diffusion.noise import draw_noise, image_generators, spawn
from pipelines.diffusion.schedules import Mixed, Schedule, schedule_at
from pipelines.diffusion.solvers import SOLVERS, make_schedule
from pipelines.diffusion.solvers.ddim import ddim_step
from pipelines.diffusion.solvers.dpm import third_order
from pipelines.diffusion.tensors import rms
from tests.conftest import TINY

LINEAR = {"num_train_timesteps": 1000, "beta_schedule": "linear"}
COSINE = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2"}
MIXED = Mixed(log_snr=0.3, cleanest=0.5)
HEUN_LOOKS = [0, *(index for index in range(1, 10) for _ in range(2))]  # start and end
PREDICTIONS = ("epsilon", "v_prediction", "sample")


def config(prediction: str = "epsilon", schedule: dict[str, Any] = COSINE) -> dict[str, Any]:
    return {**schedule, "prediction_type": prediction}


def run(predict: Predictor, noise: Tensor, **options: Any) -> list[sampling.SampleStep]:
    """All steps of one run; `options` go to the scheduler or to `sample`."""
    settings = options.pop("config", config())
    options.setdefault("prediction_type", settings["prediction_type"])
    scheduler = make_schedule(
        settings,
        solver=options.pop("solver", "dpm++"),
        num_inference_steps=options.pop("steps", 10),
        device="cpu",
    )
    return list(sampling.sample(predict, noise, scheduler, **options))


def ideal_gaussian(mean: float, std: float, prediction: str, schedule: dict[str, Any]):
    """The exact network for data that is `N(mean, std**2)` in every pixel."""
    alphas_cumprod = DDIMScheduler(**schedule).alphas_cumprod

    def predict(x_t: Tensor, t: Tensor) -> Tensor:
        alpha_bar = alphas_cumprod[int(t)]
        alpha, sigma = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
        gain = alpha * std**2 / (alpha_bar * std**2 + 1 - alpha_bar)
        x0 = mean + gain * (x_t - alpha * mean)
        eps = (x_t - alpha * x0) / sigma
        return {"epsilon": eps, "v_prediction": alpha * eps - sigma * x0, "sample": x0}[prediction]

    return predict


@pytest.fixture(scope="module")
def unet() -> UNet2DModel:
    torch.manual_seed(1)
    return UNet2DModel(
        sample_size=16,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(32, 32),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    ).requires_grad_(False)


def as_predictor(unet: UNet2DModel) -> Predictor:
    return lambda x_t, t: unet(x_t, t).sample


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_data_that_is_one_point_is_found_exactly(solver: str, prediction: str):
    noise = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    predict = ideal_gaussian(0.4, 0.0, prediction, COSINE)
    last = run(predict, noise, solver=solver, config=config(prediction), steps=8)[-1]
    torch.testing.assert_close(last.x_prev, torch.full_like(noise, 0.4), atol=2e-2, rtol=0)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("schedule", [LINEAR, COSINE])
def test_a_gaussian_keeps_its_mean_and_spread(solver: str, schedule: dict[str, Any]):
    noise = torch.randn(1, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    predict = ideal_gaussian(0.1, 0.2, "epsilon", schedule)
    steps = run(
        predict, noise, solver=solver, config=config("epsilon", schedule), steps=200, clip=False
    )
    assert steps[-1].x_prev.mean().item() == pytest.approx(0.1, abs=0.01)
    assert steps[-1].x_prev.std().item() == pytest.approx(0.2, rel=0.1)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ddim_follows_diffusers_step_for_step(unet: UNet2DModel, prediction: str, eta: float):
    settings = config(prediction)
    generators = image_generators(5, 3)
    noise = draw_noise(generators, (1, 16, 16))
    steps = run(
        as_predictor(unet),
        noise,
        solver="ddim",
        config=settings,
        eta=eta,
        generators=generators,
        clip=False,
    )
    reference: Any = DDIMScheduler(**settings, clip_sample=False, timestep_spacing="trailing")
    reference.set_timesteps(10)
    theirs = image_generators(5, 3)
    x_t = draw_noise(theirs, (1, 16, 16))
    for step, t in zip(steps, reference.timesteps, strict=True):
        assert step.t == t
        torch.testing.assert_close(step.x_t, x_t)
        fresh = draw_noise(theirs, (1, 16, 16)) if eta else None
        out = reference.step(unet(x_t, t).sample, int(t), x_t, eta=eta, variance_noise=fresh)
        torch.testing.assert_close(step.x0, out.pred_original_sample, atol=1e-4, rtol=1e-4)
        x_t = out.prev_sample
        torch.testing.assert_close(step.x_prev, x_t, atol=1e-5, rtol=1e-5)


def test_clipping_follows_diffusers_with_rederived_eps(unet: UNet2DModel):
    noise = draw_noise(image_generators(2, 2), (1, 16, 16))
    steps = run(as_predictor(unet), noise, solver="ddim", config=config())
    reference: Any = DDIMScheduler(**config(), clip_sample=True, timestep_spacing="trailing")
    reference.set_timesteps(10)
    x_t = noise
    for step, t in zip(steps, reference.timesteps, strict=True):
        out = reference.step(unet(x_t, t).sample, int(t), x_t, use_clipped_model_output=True)
        x_t = out.prev_sample
        torch.testing.assert_close(step.x_prev, x_t, atol=1e-4, rtol=1e-4)


def test_the_whole_ddim_pipeline_gives_the_same_pictures(unet: UNet2DModel):
    scheduler = DDIMScheduler(**config(), clip_sample=False, timestep_spacing="trailing")
    pipeline: Any = DDIMPipeline(unet, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    generators = image_generators(11, 2)
    theirs = pipeline(
        batch_size=2, generator=generators, num_inference_steps=6, output_type="numpy"
    ).images
    noise = draw_noise(image_generators(11, 2), (1, 16, 16))
    last = run(as_predictor(unet), noise, solver="ddim", steps=6, clip=False)[-1]
    ours = ((last.x_prev + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1)
    torch.testing.assert_close(ours, torch.from_numpy(theirs), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(
    ("eta", "algorithm", "near"),
    [(0.0, "dpmsolver++", 1e-5), (1.0, "sde-dpmsolver++", 1e-3)],  # theirs rounds more with noise
)
def test_dpm_solver_follows_diffusers_step_for_step(
    unet: UNet2DModel, prediction: str, eta: float, algorithm: Any, near: float
):
    generators, theirs = image_generators(3, 2), image_generators(3, 2)
    noise, x_t = (draw_noise(of, (1, 16, 16)) for of in (generators, theirs))
    options = {"eta": eta, "generators": generators, "clip": False}
    steps = run(as_predictor(unet), noise, config=config(prediction), **options)
    reference: Any = DPMSolverMultistepScheduler(**config(prediction), algorithm_type=algorithm)
    reference.set_timesteps(timesteps=[step.t for step in steps])
    x_t = x_t * reference.init_noise_sigma
    for step, t in zip(steps, reference.timesteps, strict=True):
        fresh = draw_noise(theirs, (1, 16, 16)) if eta else None
        x_t = reference.step(unet(x_t, t).sample, t, x_t, variance_noise=fresh).prev_sample
        torch.testing.assert_close(step.x_prev, x_t, atol=near, rtol=near)
        reference_x0 = reference.model_outputs[-1]
        torch.testing.assert_close(step.x0, reference_x0, atol=10 * near, rtol=10 * near)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_heun_follows_diffusers_step_for_step(unet: UNet2DModel, prediction: str):
    noise = draw_noise(image_generators(3, 2), (1, 16, 16))
    settings = config(prediction, LINEAR)
    options = {"solver": "heun", "config": settings, "clip": False, "steps": 6}
    steps = run(as_predictor(unet), noise, **options)
    reference: Any = HeunDiscreteScheduler(**settings, beta_start=1e-4, beta_end=0.02)
    reference.set_timesteps(timesteps=[step.t for step in steps])
    x = noise * (1 + reference.sigmas[0] ** 2) ** 0.5  # theirs is x_t / alpha
    ends = [*range(1, 11, 2), 10]  # of their half steps, where a whole one is done
    for half, t in enumerate(reference.timesteps):
        output = unet(reference.scale_model_input(x, t), t).sample
        x = reference.step(output, t, x).prev_sample
        if half in ends:
            scale = (1 + reference.sigmas[half + 1] ** 2) ** 0.5
            ours = steps[ends.index(half)].x_prev * scale
            torch.testing.assert_close(ours, x, atol=1e-3, rtol=1e-3)


def test_heun_is_of_second_order():
    """Halving a step quarters the error, where DDIM's only halves."""
    predict = ideal_gaussian(0.1, 0.5, "epsilon", LINEAR)
    noise = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))

    def picture(solver: str, count: int) -> Tensor:
        timesteps = [900 - i * (800 // count) for i in range(count + 1)]  # the same ends
        alpha_bar = DDIMScheduler(**LINEAR).alphas_cumprod
        schedule = schedule_at(timesteps, alpha_bar, solver=solver, device="cpu")
        found = sampling.sample(predict, noise, schedule, prediction_type="epsilon", clip=False)
        return list(found)[-1].x_t  # before the last step, which ends without noise

    for solver, least, most in (("ddim", 1.7, 2.5), ("heun", 3.2, 5.5)):
        truth = picture("heun", 400)
        coarse, fine = ((picture(solver, count) - truth).norm() for count in (10, 20))
        assert least < float(coarse / fine) < most


@pytest.mark.parametrize("schedule", [LINEAR, COSINE])
@pytest.mark.parametrize("count", [1, 2, 10, 100, 250])
def test_timesteps_fall_from_the_noisiest_to_nearly_clean(schedule: dict[str, Any], count: int):
    found = MIXED(DDIMScheduler(**schedule).alphas_cumprod, count)
    assert len(found) == len(set(found)) == count
    assert found == sorted(found, reverse=True)
    assert found[0] == 999
    assert 0 <= found[-1] <= max(500 // count, 1) or count == 1


def test_few_steps_are_not_spent_where_there_is_only_noise():
    steps = MIXED(DDIMScheduler(**COSINE).alphas_cumprod, 10)
    assert sum(t > 950 for t in steps) <= 2
    assert sum(t < 50 for t in steps) >= 1


@pytest.mark.parametrize("conditioning", TINY)
def test_an_image_does_not_depend_on_its_batch(conditioning: str):
    torch.manual_seed(0)
    unet = TINY[conditioning]().eval().requires_grad_(False)
    labels = torch.eye(11)[:4]

    def images_of(rows: slice) -> Tensor:
        noise = draw_noise(image_generators(0, 4)[rows], (1, 28, 28))
        predict = classifier_free_guidance(unet, labels[rows], 2.0)
        return run(predict, noise, config=config("v_prediction"), steps=5)[-1].x_prev

    together = images_of(slice(0, 4))
    for i in range(4):
        torch.testing.assert_close(images_of(slice(i, i + 1))[0], together[i], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_same_seed_gives_the_same_picture_and_another_seed_another(
    unet: UNet2DModel, eta: float
):
    def image_of(seed: int) -> Tensor:
        generators = image_generators(seed, 1)
        noise = draw_noise(generators, (1, 16, 16))
        options = {"solver": "ddim", "eta": eta, "generators": generators}
        return run(as_predictor(unet), noise, **options)[-1].x_prev

    assert torch.equal(image_of(4), image_of(4))
    assert not torch.allclose(image_of(4), image_of(5))


@pytest.mark.parametrize("seed", [0, 1, 7, 2**31, 2**32 - 1])
def test_repeats_draw_noise_that_has_nothing_to_do_with_that_of_the_steps(seed: int):
    generator = torch.Generator().manual_seed(seed)
    again = spawn(generator)
    one, other = (torch.randn(10_000, generator=g) for g in (generator, again))
    assert abs(torch.corrcoef(torch.stack([one, other]))[0, 1]) < 0.04
    neighbour = torch.randn(10_000, generator=torch.Generator().manual_seed((seed + 1) % 2**32))
    assert abs(torch.corrcoef(torch.stack([neighbour, other]))[0, 1]) < 0.04


def test_image_i_of_a_seed_is_the_first_image_of_that_seed_plus_i():
    third = draw_noise(image_generators(10, 4), (1, 2, 2))[3]
    assert torch.equal(third, draw_noise(image_generators(13, 1), (1, 2, 2))[0])


@dataclass
class SetX0:
    """A guide that sets x0, to the network's own without a target, and notes what it was told."""

    target: Tensor | None
    with_graph: bool = False
    seen: list[sampling.StepContext] = field(default_factory=list)

    def recurrence(self, index: int, total_steps: int) -> int:
        return 1

    def differentiates(self, index: int, total_steps: int) -> bool:
        return self.with_graph

    def __call__(self, context: sampling.StepContext) -> sampling.Correction:
        self.seen.append(context)
        x0 = context.x0 if self.target is None else self.target
        count = len(context.x0)
        none, failed = torch.zeros(count), torch.zeros(count, dtype=torch.bool)
        return sampling.Correction(x0, None, False, loss=none, gradient=none, failed=failed)


def test_a_guide_that_differentiates_is_given_the_graph_of_the_very_same_x0(unet: UNet2DModel):
    noise = draw_noise(image_generators(0, 2), (1, 16, 16))
    guide = SetX0(None, with_graph=True)
    plain = run(as_predictor(unet), noise, clip=False)
    guided = run(as_predictor(unet), noise, clip=False, guide=guide)
    assert torch.equal(plain[-1].x_prev, guided[-1].x_prev)
    assert not guided[-1].x_prev.requires_grad
    for context in guide.seen:
        assert context.graph is not None
        x_t, x0 = context.graph
        assert torch.equal(x_t, context.x_t)
        assert torch.equal(x0, context.x0)
        assert not context.x0.requires_grad
        assert torch.autograd.grad(x0.sum(), x_t)[0].abs().sum() > 0


def test_a_guide_sets_what_the_solver_works_with():
    target = torch.linspace(-0.9, 0.9, 16).reshape(1, 1, 4, 4)
    noise = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    guide = SetX0(target)
    for solver in SOLVERS:
        steps = run(lambda x_t, t: torch.zeros_like(x_t), noise, solver=solver, guide=guide)
        torch.testing.assert_close(steps[-1].x_prev, target, atol=2e-2, rtol=0)
    seen = guide.seen
    looks = [[*range(10)] if s.evaluations == 1 else HEUN_LOOKS for s in SOLVERS.values()]
    assert [c.index for c in seen] == [index for of_solver in looks for index in of_solver]
    assert all(abs(float(c.alpha**2 + c.sigma**2) - 1) < 1e-5 for c in seen)


@dataclass
class InPasses(SetX0):
    """A guide that sets x0 to the number of the pass, and has every other step done twice."""

    def recurrence(self, index: int, total_steps: int) -> int:
        return 2 - index % 2

    def __call__(self, context: sampling.StepContext) -> sampling.Correction:
        found = super().__call__(context)
        return dataclasses.replace(found, x0=torch.full_like(context.x0, len(self.seen)))


def test_a_multistep_solver_looks_back_to_the_last_pass_but_not_beyond_added_noise():
    generators = image_generators(0, 1)
    noise = draw_noise(generators, (1, 4, 4))
    guide = InPasses(None)
    options = {"guide": guide, "generators": generators, "clip": False}
    _, once, twice, _ = run(lambda x_t, t: x_t, noise, steps=4, **options)
    _, first, second, _, third, _ = guide.seen  # contexts of passes 1 to 6

    def after(step: sampling.SampleStep, context: sampling.StepContext, x0: float) -> Tensor:
        towards = torch.full_like(noise, x0)
        return ddim_step(towards, step.x_t, context.alpha, context.sigma, context.alpha_prev)

    start, now, end = (float(torch.log(c.alpha / c.sigma)) for c in (first, second, third))
    looked_back = 3 + (end - now) / (2 * (now - start)) * (3 - 2)
    torch.testing.assert_close(once.x_prev, after(once, second, looked_back))
    torch.testing.assert_close(twice.x_prev, after(twice, third, 5))


def after_exactly(
    step: sampling.SampleStep, end: float, scheduler: Any, x0: Any, eta: float
) -> Tensor:
    """Where the SDE leads from a step, on average and by quadrature; `x0` is of half log-SNR."""
    alpha, sigma = scheduler.alpha[step.index], scheduler.sigma[step.index]
    start = float(torch.log(alpha / sigma))
    sigma_end = (1 / (1 + torch.tensor(2 * end).exp())) ** 0.5
    way = torch.linspace(start, end, 20_001, dtype=torch.float64)
    rate = 1 + eta**2
    gone = torch.trapezoid(rate * (rate * (way - end)).exp() * x0(way), way).float()
    kept = sigma_end / sigma * math.exp(eta**2 * (start - end))
    return kept * step.x_t + sigma_end * torch.tensor(end).exp() * gone


@pytest.mark.parametrize("eta", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("steps", [6, 20])
def test_the_third_order_is_exact_where_x0_is_a_parabola(steps: int, eta: float):
    def parabola(half_log_snr: Tensor) -> Tensor:
        return 0.3 - 0.1 * half_log_snr + 0.04 * half_log_snr**2

    half_log_snrs = 0.5 * torch.logit(DDIMScheduler(**COSINE).alphas_cumprod.double())
    options = {"config": config("sample"), "steps": steps, "clip": False, "eta": eta}
    options["fresh_noise"] = lambda scheduler, index: torch.zeros(1, 1, 4, 4)

    def predict(x_t: Tensor, t: Tensor) -> Tensor:
        return parabola(half_log_snrs[int(t)]).float().expand_as(x_t)

    noise = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    off = {}
    for solver in ("dpm++-guided", "dpm++-3m"):
        scheduler = make_schedule(
            config("sample"), solver=solver, num_inference_steps=steps, device="cpu"
        )
        found = run(predict, noise, solver=solver, **options)
        ends = [float(half_log_snrs[step.t]) for step in found[1:]]
        off[solver] = max(
            (step.x_prev - after_exactly(step, end, scheduler, parabola, eta)).abs().max().item()
            for step, end in zip(found[2:-1], ends[2:], strict=True)
        )
    assert off["dpm++-3m"] < 1e-4 < off["dpm++-guided"]


@dataclass
class Restless(SetX0):
    """A guide that moves x0 to and fro, by as much as it is told."""

    by: float = 0.0

    def __call__(self, context: sampling.StepContext) -> sampling.Correction:
        found = super().__call__(context)
        return dataclasses.replace(found, x0=context.x0 + self.by * (-1) ** context.index)


def test_the_third_order_fades_as_guidance_grows():
    """From all of it to the line that the second order takes, a half where both move x0 alike."""
    noise = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    predict = ideal_gaussian(0.2, 0.5, "sample", COSINE)
    scheduler = make_schedule(
        config("sample"), solver="dpm++-3m", num_inference_steps=10, device="cpu"
    )
    shares = []
    for by in (0.0, 1e-4, 0.02, 0.1, 2.0):
        guide = Restless(None, by=by)
        options = {"solver": "dpm++-3m", "config": config("sample"), "guide": guide, "clip": False}
        steps = run(predict, noise, **options)
        before, now, after = (float(torch.log(c.alpha / c.sigma)) for c in guide.seen[4:7])
        of, x0 = guide.seen[5], steps[5].x0
        line = x0 + (after - now) / (2 * (now - before)) * (x0 - steps[4].x0)
        own = [steps[index].x0_network for index in (5, 4, 3)]
        whole = third_order(scheduler, 5, own, [torch.zeros_like(x0)] * 3, eta=0)
        second, third = (
            ddim_step(towards, of.x_t, of.alpha, of.sigma, of.alpha_prev)
            for towards in (line, line + whole)
        )
        share = ((steps[5].x_prev - second).norm() / (third - second).norm()).item()
        moved = rms(own[0] - own[1]).item()
        assert share == pytest.approx(1 / (1 + (by / moved) ** 2), rel=1e-2)
        shares.append(share)
    assert shares[0] > 0.99
    assert shares[-1] < 1 / 20


@dataclass
class ThirdTwice(SetX0):
    """A guide that changes nothing, and has the third step done twice."""

    def recurrence(self, index: int, total_steps: int) -> int:
        return 2 if index == 2 else 1


def test_the_third_order_does_not_look_back_beyond_added_noise():
    """The step after a repeated one knows one x0 of its path, the next one two."""

    def predict(x_t: Tensor, t: Tensor) -> Tensor:
        return torch.full_like(x_t, 0.5 if int(t) > 700 else 0.1)

    generators = image_generators(0, 1)
    noise = draw_noise(generators, (1, 4, 4))
    options = {"config": config("sample"), "generators": generators, "clip": False}
    guide = ThirdTwice(None)
    steps = run(predict, noise, solver="dpm++-3m", guide=guide, **options)
    of, step = guide.seen[4], steps[3]  # pass 3 is the second of step 2
    assert of.index == 3
    before, now, after = (float(torch.log(c.alpha / c.sigma)) for c in guide.seen[3:6])
    line = step.x0 + (after - now) / (2 * (now - before)) * (step.x0 - steps[2].x0)
    expected = ddim_step(line, of.x_t, of.alpha, of.sigma, of.alpha_prev)
    torch.testing.assert_close(step.x_prev, expected)


def test_fresh_noise_can_be_given():
    noise = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    asked: list[int] = []

    def still(_: Schedule, index: int) -> Tensor:
        asked.append(index)
        return torch.zeros_like(noise)

    def predict(x_t: Tensor, t: Tensor) -> Tensor:
        return torch.full_like(x_t, 0.3)

    options = {"config": config("sample"), "steps": 5, "eta": 1.0}
    given = run(predict, noise, fresh_noise=still, **options)
    assert asked == [0, 1, 2, 3, 4]
    eps = [float(((step.x_t - step.x_t.mean()) ** 2).mean()) for step in given]
    drawn = run(predict, noise, generators=image_generators(0, 1), **options)
    assert not torch.allclose(given[1].x_t, drawn[1].x_t)
    assert eps[3] < eps[0] / 10  # nothing takes the place of the first noise


def test_a_guide_that_changes_nothing_gives_the_unguided_picture_bit_for_bit(unet: UNet2DModel):
    noise = draw_noise(image_generators(0, 2), (1, 16, 16))
    plain = run(as_predictor(unet), noise, clip=False)
    guided = run(as_predictor(unet), noise, clip=False, guide=SetX0(None))
    assert torch.equal(plain[-1].x_prev, guided[-1].x_prev)


@pytest.mark.parametrize("steps", [7, 30, 64])
@pytest.mark.parametrize("solver", ["ddim", "ddim-leading"])
def test_each_step_ends_at_the_noise_level_where_the_next_begins(solver: str, steps: int):
    """Also where the number of steps does not divide that of the timesteps."""
    noise = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    target = torch.linspace(-0.9, 0.9, 16).reshape(1, 1, 4, 4)
    scheduler = make_schedule(
        config("sample"), solver=solver, num_inference_steps=steps, device="cpu"
    )
    levels = [*zip(scheduler.alpha, scheduler.sigma, strict=True)]
    found = sampling.sample(lambda x_t, t: target, noise, scheduler, prediction_type="sample")
    first = next(found)
    alpha, sigma = levels[0]
    eps = (first.x_t - alpha * target) / sigma
    for step in found:
        alpha, sigma = levels[step.index]
        torch.testing.assert_close(step.x_t, alpha * target + sigma * eps, atol=1e-4, rtol=0)


def test_each_step_starts_where_the_one_before_ended(unet: UNet2DModel):
    steps = run(as_predictor(unet), torch.randn(1, 1, 16, 16), steps=7)
    assert [s.index for s in steps] == list(range(7))
    assert all(s.total == 7 for s in steps)
    assert [s.t for s in steps] == sorted((s.t for s in steps), reverse=True)
    for before, after in itertools.pairwise(steps):
        assert torch.equal(before.x_prev, after.x_t)


def test_cfg_is_the_formula_of_diffusers_and_scale_one_computes_half():
    calls: list[int] = []

    class Labelled(torch.nn.Module):
        def forward(self, x_t: Tensor, t: Tensor, class_labels: Tensor):
            calls.append(len(x_t))
            value = (class_labels * torch.arange(11.0)).sum(dim=1)  # (b,)
            return type("Output", (), {"sample": value[:, None, None, None].expand_as(x_t)})

    labels = torch.eye(11)[[3]]
    x_t, t = torch.zeros(1, 1, 2, 2), torch.tensor(5)
    for scale, expected in ((0.0, 10.0), (1.0, 3.0), (2.0, -4.0)):
        out = classifier_free_guidance(Labelled(), labels, scale)(x_t, t)
        output = out.output if isinstance(out, CfgOutput) else out
        assert torch.equal(output, torch.full_like(x_t, expected))
    assert calls == [2, 1, 2]
    calls.clear()
    many = classifier_free_guidance(Labelled(), torch.eye(11)[[3] * 64], 2.0)
    out = many(torch.zeros(64, 1, 2, 2), t)
    assert isinstance(out, CfgOutput)
    assert out.output.shape == (64, 1, 2, 2)
    assert max(calls) <= 32
    assert sum(calls) == 128


def test_the_x0_that_each_kind_of_output_implies():
    x0, eps = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    alpha, sigma = torch.tensor(0.6), torch.tensor(0.8)
    x_t = alpha * x0 + sigma * eps
    outputs = {"epsilon": eps, "v_prediction": alpha * eps - sigma * x0, "sample": x0}
    for prediction, output in outputs.items():
        torch.testing.assert_close(predict_x0(output, x_t, alpha, sigma, prediction), x0)
    with pytest.raises(ValueError, match="prediction_type must be"):
        predict_x0(x0, x_t, alpha, sigma, "noise")


def test_grad_mode_is_left_alone_whichever_thread_takes_the_next_step(unet: UNet2DModel):
    scheduler = make_schedule(config(), solver="ddim", num_inference_steps=6, device="cpu")
    steps = sampling.sample(
        as_predictor(unet), torch.randn(1, 1, 16, 16), scheduler, prediction_type="epsilon"
    )
    modes: list[bool] = []

    def take_one() -> None:
        next(steps)
        modes.append(torch.is_grad_enabled())

    for _ in range(6):
        thread = threading.Thread(target=take_one)
        thread.start()
        thread.join()
    assert modes == [True] * 6
    assert torch.is_grad_enabled()


def test_what_cannot_be_sampled_is_refused_before_the_first_step():
    noise = torch.zeros(1, 1, 4, 4)
    with pytest.raises(ValueError, match="solver must be one of ddim"):
        make_schedule(config(), solver="euler", num_inference_steps=5, device="cpu")
    for solver in SOLVERS:
        scheduler = make_schedule(config(), solver=solver, num_inference_steps=5, device="cpu")
        with pytest.raises(ValueError, match="generators must be given"):
            sampling.sample(lambda x_t, t: x_t, noise, scheduler, prediction_type="sample", eta=0.5)
    given = {"prediction_type": "sample", "eta": 0.5, "generators": image_generators(0, 1)}
    schedule = make_schedule(config(), solver="heun", num_inference_steps=5, device="cpu")
    with pytest.raises(ValueError, match=r"eta must be 0 with heun, which adds no noise, got 0\.5"):
        sampling.sample(lambda x_t, t: x_t, noise, schedule, **given)
