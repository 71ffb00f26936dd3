"""Guidance: what each method computes, and every trap that the literature's code fell into."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DModel
from torch import Tensor

from pipelines.diffusion import losses, sampling
from pipelines.diffusion.denoisers import PlainPredictor, Predictor
from pipelines.diffusion.guidance import Guide
from pipelines.diffusion.losses import Brightness, Contrast, MeanColor, Symmetry, TargetColor, Term
from pipelines.diffusion.methods import METHODS, PUBLISHED, TEXT_METHODS, Method, trust_radius
from pipelines.diffusion.methods.method import raw
from pipelines.diffusion.noise import draw_noise, image_generators
from pipelines.diffusion.sampling import Correction, StepContext
from pipelines.diffusion.schedules import Schedule
from pipelines.diffusion.solvers import SOLVERS, make_schedule
from pipelines.diffusion.tensors import rms

pytestmark = pytest.mark.slow

COSINE = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2"}
LINEAR = {"num_train_timesteps": 1000, "beta_schedule": "linear"}
COLOR = torch.tensor([0.5, -0.2, 0.1])
ALL = {**METHODS, **PUBLISHED}
OURS = ("fast", "balanced", "thorough")
COURSES = ("course", "course, through the network")


def ideal_gaussian(std: float = 0.4, schedule: dict[str, Any] = COSINE) -> PlainPredictor:
    """The exact x0 network for pixels that are `N(0, std**2)`."""
    alphas_cumprod = DDIMScheduler(**schedule).alphas_cumprod

    def predict(x_t: Tensor, t: Tensor) -> Tensor:
        alpha_bar = alphas_cumprod[int(t)]
        return alpha_bar**0.5 * std**2 / (alpha_bar * std**2 + 1 - alpha_bar) * x_t

    return predict


@pytest.fixture(scope="module")
def unet() -> UNet2DModel:
    torch.manual_seed(1)
    return UNet2DModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=(32, 32),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )


def run(
    predict: Predictor,
    guide: Guide | None,
    *,
    method: Method,
    seed: int = 0,
    count: int = 2,
    steps: int = 10,
    size: int = 8,
    config: dict[str, Any] | None = None,
    prediction_type: str = "sample",
    generators: list[torch.Generator] | None = None,
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> list[sampling.SampleStep]:
    """All steps of one run with a method's solver."""
    generators = generators or image_generators(seed, count)
    settings = {**COSINE, **(config or {}), "prediction_type": prediction_type}
    scheduler = make_schedule(
        settings, solver=method.solver, num_inference_steps=steps, device="cpu"
    )
    return list(
        sampling.sample(
            predict,
            draw_noise(generators, (3, size, size)).to(dtype),
            scheduler,
            prediction_type=prediction_type,
            eta=options.pop("eta", method.eta),
            generators=generators,
            guide=guide,
            **options,
        )
    )


def context_of(
    x0: Tensor, *, alpha: float = 0.6, alpha_prev: float = 0.8, index: int = 5, seed: int = 3
) -> StepContext:
    """A step in the middle of ten, whose eps has a root mean square of exactly 1."""
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed))
    eps = eps / rms(eps)
    level = torch.tensor(alpha, dtype=x0.dtype)
    sigma = (1 - level**2).sqrt()
    after = torch.tensor(alpha_prev, dtype=x0.dtype)
    x_t = level * x0 + sigma * eps.to(x0)
    levels = [torch.full((11,), float(of), dtype=x0.dtype) for of in (level, sigma)]
    levels[0][index], levels[0][index + 1], levels[1][index] = level, after, sigma
    alpha_bar = torch.full((1000,), 0.99**2)
    schedule = Schedule("ddim", torch.arange(10).flip(0), levels[0], levels[1], alpha_bar)
    return StepContext(schedule, index, x_t, x0)


def pictures(count: int = 3, size: int = 8, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, size, size, generator=generator) - 0.5


def ask(guide: Guide, context: StepContext, network: Any = None) -> Correction:
    """What a guide answers; without a network it must not ask for one."""
    if guide.differentiates(context.index, context.total):
        assert network is not None, "gradients through the network are asked for"
        x_t = context.x_t.detach().requires_grad_()
        context = dataclasses.replace(context, graph=(x_t, network(x_t)))
    with torch.no_grad():
        correction = guide(context)
    assert correction is not None
    return correction


def displacement(method: Method, loss: losses.Loss, scale: float, context: StepContext) -> Tensor:
    return context.x0 - ask(Guide(method, [Term(loss)], scale), context).x0


@dataclass(frozen=True)
class Nothing:
    """A loss that pulls nowhere."""

    polyak: float = 2.0

    def __call__(self, x0: Tensor) -> Tensor:
        return 0 * x0.mean(dim=(1, 2, 3))


@dataclass(frozen=True)
class Factors:
    """A loss whose gradient is one factor per image."""

    factors: Tensor
    polyak: float = 1.0

    def __call__(self, x0: Tensor) -> Tensor:
        return (x0 * self.factors.view(-1, 1, 1, 1)).mean(dim=(1, 2, 3)).abs()


# --- the course, as it is ------------------------------------------------------------------------


def course_loop(
    unet: UNet2DModel, x: Tensor, *, steps: int, scale: float, through: bool
) -> list[Tensor]:
    """The loop of the course's notebook, written out; x after every step."""
    scheduler: Any = DDIMScheduler(**LINEAR)
    scheduler.set_timesteps(steps)
    seen = []
    for t in scheduler.timesteps:
        if through:
            x = x.detach().requires_grad_()
            noise_pred = unet(x, t).sample
        else:
            with torch.no_grad():
                noise_pred = unet(x, t).sample
            x = x.detach().requires_grad_()
        x0 = scheduler.step(noise_pred, t, x).pred_original_sample
        loss = (x0 - COLOR.view(1, 3, 1, 1)).abs().mean() * scale
        cond_grad = -torch.autograd.grad(loss, x)[0]
        x = x.detach() + cond_grad
        x = scheduler.step(noise_pred.detach(), t, x).prev_sample
        seen.append(x)
    return seen


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("name", COURSES)
def test_the_course_is_followed_step_for_step(unet: UNet2DModel, name: str, count: int):
    method, precise = ALL[name], copy.deepcopy(unet).double()
    guide = Guide(method, [Term(TargetColor(COLOR.double()))], 40.0)
    steps = run(
        lambda x_t, t: precise(x_t, t).sample,
        guide,
        method=method,
        count=count,
        steps=5,
        config=LINEAR,
        prediction_type="epsilon",
        dtype=torch.float64,
    )
    theirs = course_loop(precise, steps[0].x_t, steps=5, scale=40.0, through="through" in name)
    unguided = course_loop(precise, steps[0].x_t, steps=5, scale=0.0, through=False)
    for step, x in zip(steps, theirs, strict=True):
        torch.testing.assert_close(step.x_prev, x, atol=1e-6, rtol=1e-6)
    assert (theirs[-1] - unguided[-1]).abs().max() > 0.05


def test_the_course_pulls_less_in_larger_batches_and_ours_does_not():
    context, loss = context_of(pictures(4)), TargetColor(COLOR)
    first = dataclasses.replace(context, x0=context.x0[:1], x_t=context.x_t[:1])
    for name, times in (("course", 4.0), ("fast", 1.0), ("balanced", 1.0)):
        alone = displacement(ALL[name], loss, 0.2, first)
        together = displacement(ALL[name], loss, 0.2, context)[:1]
        torch.testing.assert_close(alone, times * together, rtol=1e-3, atol=1e-6)


def test_the_course_guides_by_words_with_the_alpha_of_the_number_of_the_step():
    method, scale = TEXT_METHODS["course"], 3.0
    context = context_of(pictures(2))  # the alpha of its step's number is 0.99
    loss = TargetColor(COLOR)
    x0 = context.x0.clone().requires_grad_()
    gradient = torch.autograd.grad(loss(x0).mean(), x0)[0]
    found = ask(Guide(method, [Term(loss)], scale), context)
    expected = scale * 0.99 / 0.6**2 * gradient
    torch.testing.assert_close(context.x0 - found.x0, expected, rtol=1e-4, atol=1e-7)
    levels = torch.full((1000,), 0.33**2)
    other = dataclasses.replace(
        context, schedule=dataclasses.replace(context.schedule, alpha_bar=levels)
    )
    moved = context.x0 - ask(Guide(method, [Term(loss)], scale), other).x0
    torch.testing.assert_close(moved, expected / 3, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_alpha_of_the_number_of_a_step_is_that_of_the_schedule_at_this_number(solver: str):
    seen: list[StepContext] = []

    class Watch(Guide):
        def __call__(self, context: StepContext) -> Correction | None:
            seen.append(context)
            return super().__call__(context)

    method = dataclasses.replace(METHODS["fast"], solver=solver)
    guide = Watch(method, [Term(MeanColor(COLOR))], 0.2)
    run(ideal_gaussian(), guide, method=method, steps=20)
    alphas = DDIMScheduler(**COSINE).alphas_cumprod[:20] ** 0.5
    assert {context.index for context in seen} == set(range(20))
    for context in seen:
        assert context.schedule.alpha_bar[context.index] ** 0.5 == alphas[context.index]


def test_methods_for_words_are_those_for_colours_but_for_the_timesteps_and_the_course():
    assert list(TEXT_METHODS) == list(METHODS)
    for name in OURS:
        timesteps = {"solver": METHODS[name].solver}
        assert dataclasses.replace(TEXT_METHODS[name], **timesteps) == METHODS[name]
    context = context_of(pictures(2))
    for_words, for_colours = (
        displacement(methods["course"], TargetColor(COLOR), 3.0, context)
        for methods in (TEXT_METHODS, METHODS)
    )
    assert not torch.allclose(for_words, for_colours)


def test_fast_words_have_more_steps_at_middle_noise_than_colours():
    def at_middle_noise(method: Method) -> int:
        scheduler = make_schedule(
            COSINE, solver=method.solver, num_inference_steps=20, device="cpu"
        )
        levels = zip(scheduler.alpha[:20], scheduler.sigma[:20], strict=True)
        return sum(1 / 3 < float(alpha / sigma) < 3 for alpha, sigma in levels)

    assert at_middle_noise(TEXT_METHODS["fast"]) > 1.3 * at_middle_noise(METHODS["fast"])


# --- what must never change a picture ------------------------------------------------------------


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("clip", [True, False])
def test_a_loss_that_pulls_nowhere_changes_no_bit(unet: UNet2DModel, name: str, clip: bool):
    method = ALL[name]

    def predict(x_t: Tensor, t: Tensor) -> Tensor:
        return unet(x_t, t).sample

    ours, plain = image_generators(0, 2), image_generators(0, 2)
    guide = Guide(method, [Term(Nothing()), Term(Nothing())], 0.2, repeats=1)
    guided = run(predict, guide, method=method, clip=clip, steps=4, generators=ours)
    unguided = run(predict, None, method=method, clip=clip, steps=4, generators=plain)
    for with_guide, without in zip(guided, unguided, strict=True):
        assert torch.equal(with_guide.x_prev, without.x_prev)
        assert torch.equal(with_guide.x0, without.x0)
    for first, second in zip(ours, plain, strict=True):
        assert torch.equal(first.get_state(), second.get_state())


@pytest.mark.parametrize("name", ALL)
def test_a_scale_of_zero_is_off_bit_for_bit(name: str):
    method = ALL[name]
    for guide in (
        Guide(method, [Term(TargetColor(COLOR))], 0.0, repeats=3),
        Guide(method, [], 1.0, repeats=3),
        Guide(method, [Term(TargetColor(COLOR))], 1.0, start=0.4, stop=0.4, repeats=3),
    ):
        guided = run(ideal_gaussian(), guide, method=method)
        assert torch.equal(guided[-1].x_prev, run(ideal_gaussian(), None, method=method)[-1].x_prev)
        assert all(step.loss is None and step.failed is None for step in guided)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_repeats_alone_change_nothing_but_the_draw(eta: float):
    """A known distribution stays what it is; noise that comes again would pile up."""
    method = dataclasses.replace(METHODS["balanced"], recurrence_from=0.0, recurrence_to=1.0)
    spread = []
    for repeats in (1, 4):
        guide = Guide(method, [Term(Nothing())], 0.2, repeats=repeats)
        last = run(ideal_gaussian(), guide, method=method, steps=50, count=24, eta=eta, clip=False)[
            -1
        ]
        spread.append(last.x_prev.std().item())
    assert spread[0] == pytest.approx(0.4, rel=0.1)
    assert spread[1] == pytest.approx(spread[0], rel=0.1)


def test_repeats_take_no_random_numbers_from_the_steps():
    method = METHODS["balanced"]
    states = []
    for repeats in (1, 2, 4):
        generators = image_generators(0, 2)
        guide = Guide(method, [Term(MeanColor(COLOR))], 0.2, repeats=repeats)
        run(ideal_gaussian(), guide, method=method, generators=generators)
        states.append(torch.stack([generator.get_state() for generator in generators]))
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])


@pytest.mark.parametrize("name", ALL)
def test_an_image_does_not_depend_on_its_batch(name: str):
    method = ALL[name]
    guide = Guide(method, [Term(MeanColor(COLOR))], min(method.default_scale, 5.0))
    config = LINEAR if name not in OURS else COSINE
    predict = ideal_gaussian(schedule=config)
    together = run(predict, guide, method=method, count=3, config=config)[-1].x_prev
    for i in range(3):
        alone = run(predict, guide, method=method, seed=i, count=1, config=config)[-1].x_prev
        same = torch.allclose(alone[0], together[i], atol=1e-4)
        assert same == (not method.batch_mean)


@pytest.mark.parametrize("name", ["fast", "balanced", "MPGD"])
@pytest.mark.parametrize(
    "loss",
    [TargetColor(COLOR), MeanColor(COLOR), Brightness(0.9), Contrast(0.9), Symmetry()],
    ids=lambda loss: type(loss).__name__,
)
def test_a_strength_means_the_same_at_every_size(name: str, loss: losses.Loss):
    small = context_of(pictures(size=4))

    def at(size: int) -> Tensor:
        def up(x: Tensor) -> Tensor:
            return F.interpolate(x, (size, size), mode="nearest")

        context = dataclasses.replace(small, x0=up(small.x0), x_t=up(small.x_t))
        return F.avg_pool2d(displacement(ALL[name], loss, 0.1, context), size // 4)

    torch.testing.assert_close(at(64), at(28), atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(at(256), at(28), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("solver", SOLVERS)
def test_noise_levels_are_those_of_the_timestep_not_of_the_step(solver: str):
    seen: list[StepContext] = []

    class Watch(Guide):
        def __call__(self, context: StepContext) -> Correction | None:
            seen.append(context)
            return super().__call__(context)

    method = dataclasses.replace(METHODS["fast"], solver=solver)
    run(ideal_gaussian(), Watch(method, [Term(MeanColor(COLOR))], 0.2), method=method, steps=20)
    alphas_cumprod = DDIMScheduler(**COSINE).alphas_cumprod
    assert {context.index for context in seen} == set(range(20))
    for context in seen:
        expected = alphas_cumprod[context.schedule.timesteps[context.index]]
        torch.testing.assert_close(context.alpha**2, expected, rtol=1e-3, atol=1e-6)
        assert context.alpha_prev > context.alpha


# --- cost and gradients --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "forward", "backward"),
    [
        ("fast", 20, 0),
        ("balanced", 20, 0),
        ("course", 20, 0),
        ("MPGD", 20, 0),
        ("thorough", 34, 34),
        ("DPS", 20, 20),
    ],
)
def test_the_network_is_called_as_often_as_promised_and_its_weights_get_no_gradient(
    name: str, forward: int, backward: int
):
    method = ALL[name]
    weight = torch.nn.Parameter(torch.tensor(1.0))
    gaussian = ideal_gaussian()
    calls = {"forward": 0, "backward": 0}

    def predict(x_t: Tensor, t: Tensor) -> Tensor:
        calls["forward"] += 1
        output = weight * gaussian(x_t, t)
        if output.requires_grad:
            output.register_hook(lambda gradient: calls.update(backward=calls["backward"] + 1))
        return output

    guide = Guide(method, [Term(MeanColor(COLOR))], 0.01)
    last = run(predict, guide, method=method, steps=20, count=1)[-1]
    assert calls == {"forward": forward, "backward": backward}
    assert weight.grad is None
    assert not last.x_prev.requires_grad
    assert last.loss is not None
    assert not last.loss.requires_grad


def test_saturated_pixels_still_pull_but_not_in_the_course():
    x0 = torch.full((1, 3, 8, 8), 1.5)
    x0[..., :4] = 0.3
    loss = TargetColor(torch.full((3,), -0.5))
    ours = displacement(METHODS["fast"], loss, 0.2, context_of(x0))
    course = displacement(METHODS["course"], loss, 40.0, context_of(x0))
    assert (ours[..., 4:] > 0).all()
    assert (course[..., 4:] == 0).all()
    assert (course[..., :4] > 0).all()


def test_a_gradient_that_is_not_finite_leaves_that_image_alone_and_says_so():
    context = context_of(pictures(4))
    loss = Factors(torch.tensor([1.0, float("nan"), float("inf"), -2.0]))
    for name in ("fast", "balanced", "course", "MPGD"):
        found = ask(Guide(ALL[name], [Term(loss)], 0.2), context)
        assert found.failed.tolist() == [False, True, True, False]
        assert torch.equal(found.x0[1:3], context.x0[1:3])
        assert ((found.x0 - context.x0)[[0, 3]].abs().amax(dim=(1, 2, 3)) > 0).all()
    for name in ("thorough", "DPS", "FreeDoM", "TFG"):
        found = ask(Guide(ALL[name], [Term(loss)], 0.2), context, lambda x_t: 0.7 * x_t)
        assert found.failed.tolist() == [False, True, True, False]
        assert torch.equal(found.x0[1:3], context.x0[1:3])
        if found.push is not None:
            assert (found.push[1:3] == 0).all()
            assert (found.push[[0, 3]] != 0).any()


def test_one_image_that_fails_does_not_spoil_the_others_to_the_end():
    method = METHODS["balanced"]
    loss = Factors(torch.tensor([1.0, float("nan")]))
    steps = run(ideal_gaussian(), Guide(method, [Term(loss)], 0.2, repeats=1), method=method)
    plain = run(ideal_gaussian(), None, method=method)[-1].x_prev
    assert all(step.failed is not None and step.failed.tolist() == [False, True] for step in steps)
    assert torch.equal(steps[-1].x_prev[1], plain[1])
    assert not torch.allclose(steps[-1].x_prev[0], plain[0], atol=1e-3)


@pytest.mark.parametrize("name", ["fast", "balanced", "course", "MPGD"])
def test_no_gradient_moves_nothing_and_is_no_failure(name: str):
    context = context_of(pictures())
    found = ask(Guide(ALL[name], [Term(Nothing())], 0.2), context)
    assert torch.equal(found.x0, context.x0)
    assert not found.failed.any()


# --- how far -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss",
    [MeanColor(COLOR, box=None), Brightness(0.7), Symmetry()],
    ids=lambda loss: type(loss).__name__,
)
def test_a_polyak_step_reaches_the_minimum_of_a_quadratic_at_once(loss: losses.Loss):
    method = dataclasses.replace(METHODS["fast"], exact=False)
    found = ask(Guide(method, [Term(loss)], 100.0), context_of(pictures()))
    torch.testing.assert_close(loss(found.x0), torch.zeros(3), atol=1e-10, rtol=0)
    assert (found.loss > 1e-3).all()


@pytest.mark.parametrize("loss", [MeanColor(COLOR, box=None), Symmetry("top-bottom")])
@pytest.mark.parametrize("scale", [0.05, 100.0])
def test_the_closed_form_is_where_polyak_goes(loss: losses.Loss, scale: float):
    context = context_of(pictures())
    exact = displacement(METHODS["fast"], loss, scale, context)
    steepest = dataclasses.replace(METHODS["fast"], exact=False)
    torch.testing.assert_close(exact, displacement(steepest, loss, scale, context))


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("alpha", [0.1, 0.6, 0.99])
def test_a_step_is_a_share_of_what_is_still_uncertain(name: str, alpha: float):
    context = context_of(pictures(), alpha=alpha)
    radius = trust_radius(context, 0.02)
    expected = torch.full((3, 1, 1, 1), 0.02 * (1 - alpha**2) ** 0.5 / alpha)
    torch.testing.assert_close(radius, expected, rtol=1e-4, atol=0)
    loss = TargetColor(torch.full((3,), 30.0))  # too far to be reached
    found = ask(Guide(ALL[name], [Term(loss)], 0.02), context, lambda x_t: 0.7 * x_t)
    torch.testing.assert_close(rms(found.x0 - context.x0), expected, rtol=1e-3, atol=0)


def test_several_terms_add_up_but_stay_in_the_trust_region():
    x0 = pictures()
    near = [Term(Brightness(0.05)), Term(Symmetry())]
    wide = ask(Guide(METHODS["fast"], near, 100.0), context_of(x0))
    # Symmetry has the last word; the brightness, which it does not touch, stays reached.
    torch.testing.assert_close(near[0].loss(wide.x0), torch.zeros(3), atol=1e-8, rtol=0)
    torch.testing.assert_close(near[1].loss(wide.x0), torch.zeros(3), atol=1e-10, rtol=0)
    torch.testing.assert_close(wide.loss, losses.total(near)(x0))
    far = [Term(Brightness(5.0)), Term(TargetColor(torch.full((3,), 9.0))), Term(Contrast(1.0))]
    context = context_of(x0)
    for name in ("fast", "balanced"):
        found = ask(Guide(METHODS[name], far, 0.2), context)
        moved = rms(found.x0 - x0)
        assert (moved <= trust_radius(context, 0.2) * (1 + 1e-5)).all()
        assert (moved > 0.9 * trust_radius(context, 0.2)).all()


def test_a_weight_of_zero_is_no_term_and_half_goes_half_way():
    context = context_of(pictures())
    color = MeanColor(COLOR, box=None)
    alone = ask(Guide(METHODS["fast"], [Term(color)], 0.2), context).x0
    terms = [Term(Symmetry(), 0.0), Term(color)]
    torch.testing.assert_close(ask(Guide(METHODS["fast"], terms, 0.2), context).x0, alone)
    half = ask(Guide(METHODS["fast"], [Term(color, 0.5)], 0.2), context).x0
    torch.testing.assert_close(half - context.x0, (alone - context.x0) / 2)


def test_a_larger_scale_never_reaches_less():
    losses_of = []
    for scale in (0.01, 0.03, 0.1, 0.3):
        guide = Guide(METHODS["fast"], [Term(TargetColor(COLOR))], scale)
        last = run(ideal_gaussian(), guide, method=METHODS["fast"], count=4)[-1]
        losses_of.append(TargetColor(COLOR)(last.x_prev))
    for weaker, stronger in itertools.pairwise(losses_of):
        assert (stronger < weaker).all()


# --- when ----------------------------------------------------------------------------------------


def active_steps(total: int, **when: Any) -> list[int]:
    guide = Guide(METHODS["balanced"], [Term(MeanColor(COLOR))], 0.2, **when)
    return [i for i in range(total) if guide.active(i, total)]


def test_guidance_acts_when_it_should():
    assert active_steps(10) == list(range(10))
    assert active_steps(10, start=0.2, stop=0.8) == [2, 3, 4, 5, 6, 7]
    assert active_steps(10, every=3) == [0, 3, 6, 9]
    assert active_steps(10, start=0.1, every=4) == [1, 5, 9]
    assert active_steps(20, start=0.2, stop=0.8) == list(range(4, 16))
    assert active_steps(10, start=1.0) == []
    method = METHODS["fast"]
    guide = Guide(method, [Term(MeanColor(COLOR))], 0.2, start=0.2, stop=0.5)
    steps = run(ideal_gaussian(), guide, method=method)
    assert [step.index for step in steps if step.loss is not None] == [2, 3, 4]


def test_every_second_step_pulls_twice_as_far():
    context = context_of(pictures(), index=4)
    once, twice = (
        ask(Guide(METHODS["fast"], [Term(TargetColor(COLOR))], 0.01, every=every), context)
        for every in (1, 2)
    )
    torch.testing.assert_close(twice.x0 - context.x0, 2 * (once.x0 - context.x0))


def test_only_guided_steps_of_the_middle_are_repeated():
    guide = Guide(METHODS["thorough"], [Term(MeanColor(COLOR))], 0.2)
    assert [guide.recurrence(i, 10) for i in range(10)] == [1, 2, 2, 2, 2, 2, 2, 2, 1, 1]
    more = dataclasses.replace(guide, repeats=4, every=2)
    assert [more.recurrence(i, 10) for i in range(10)] == [1, 1, 4, 1, 4, 1, 4, 1, 1, 1]
    assert all(dataclasses.replace(guide, scale=0.0).recurrence(i, 10) == 1 for i in range(10))
    assert all(Guide(METHODS["fast"], guide.terms, 0.2).recurrence(i, 10) == 1 for i in range(10))


# --- through the network -------------------------------------------------------------------------


def curved(x_t: Tensor) -> Tensor:
    """A stand-in for a network, whose Jacobian depends on the picture."""
    return torch.tanh(1.3 * x_t + 0.4 * x_t.flip(-1))


def test_the_thorough_method_differentiates_through_the_network():
    context = context_of(pictures())
    context = dataclasses.replace(context, x0=curved(context.x_t))
    loss = TargetColor(COLOR)
    method = dataclasses.replace(METHODS["thorough"], step=raw)
    found = ask(Guide(method, [Term(loss)], 2.0), context, curved)
    x_t = context.x_t.clone().requires_grad_()
    gradient = torch.autograd.grad(loss(curved(x_t)).sum(), x_t)[0]
    torch.testing.assert_close(found.x0, context.x0 - 2.0 * context.alpha * gradient)
    shortcut = dataclasses.replace(method, through_network=False)
    direct = ask(Guide(shortcut, [Term(loss)], 2.0), context).x0
    assert (direct - found.x0).abs().max() > 1e-3


def test_through_the_network_a_polyak_step_still_goes_to_the_minimum_and_not_beyond():
    context = context_of(pictures())
    context = dataclasses.replace(context, x0=0.05 * context.x_t)
    loss = Brightness(0.7)
    found = ask(Guide(METHODS["thorough"], [Term(loss)], 100.0), context, lambda x: 0.05 * x)
    torch.testing.assert_close(loss(found.x0), torch.zeros(3), atol=1e-10, rtol=0)


# --- the methods of the literature, each written out once ----------------------------------------


def ddpm_step(context: StepContext, x0: Tensor) -> Tensor:
    """The mean of DDPM's step, Ho et al. 2020, eq. 7."""
    a, after = context.alpha**2, context.alpha_prev**2
    one = after.sqrt() * (1 - a / after) / (1 - a)
    two = (a / after).sqrt() * (1 - after) / (1 - a)
    return one * x0 + two * context.x_t


def solver_step(context: StepContext, found: Correction) -> Tensor:
    """What the sampler makes of a correction, but for the fresh noise."""
    a, after = context.alpha**2, context.alpha_prev**2
    variance = (1 - after) / (1 - a) * (1 - a / after)
    x_t = context.alpha * found.x0 + context.sigma * context.eps if found.keep_eps else context.x_t
    eps = (x_t - context.alpha * found.x0) / context.sigma
    x_prev = context.alpha_prev * found.x0 + (1 - after - variance).sqrt() * eps
    return x_prev if found.push is None else x_prev - found.push


@pytest.mark.parametrize("name", ["DPS", "FreeDoM", "UGD", "MPGD", "TFG"])
def test_the_methods_of_the_literature_do_what_their_papers_say(name: str):
    context = context_of(pictures())
    context = dataclasses.replace(context, x0=curved(context.x_t))
    loss, scale = TargetColor(COLOR), 0.3
    found = ask(Guide(PUBLISHED[name], [Term(loss)], scale), context, curved)
    x_t, x0 = context.x_t.clone().requires_grad_(), context.x0.clone().requires_grad_()
    on_x_t = torch.autograd.grad(loss(curved(x_t)).sum(), x_t)[0]
    on_x0 = torch.autograd.grad(loss(x0).sum(), x0)[0]
    a, after, sigma = context.alpha**2, context.alpha_prev**2, context.sigma
    plain = ddpm_step(context, context.x0)
    weight = after.sqrt() * (1 - a / after) / (1 - a)
    length = scale * rms(context.eps) * sigma / context.alpha * weight
    match name:
        case "DPS":
            expected = plain - scale * on_x_t / loss(context.x0).sqrt().view(-1, 1, 1, 1)
        case "FreeDoM":
            expected = plain - length * on_x_t / rms(on_x_t)
        case "UGD":
            eps = context.eps + scale * sigma * on_x_t
            expected = ddpm_step(context, (context.x_t - sigma * eps) / context.alpha)
        case "MPGD":
            moved = context.x0 - length / after.sqrt() * on_x0 / rms(on_x0)
            expected = ddpm_step(context, moved)
        case _:
            strength = scale * a / after
            expected = plain - strength / (a / after).sqrt() * on_x_t
            expected = expected - after.sqrt() * strength * on_x0
    torch.testing.assert_close(solver_step(context, found), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf")])
def test_a_scale_that_means_nothing_is_refused(scale: float):
    with pytest.raises(ValueError, match="scale must be 0 or more and finite"):
        Guide(METHODS["balanced"], [Term(Symmetry())], scale)


def test_a_loss_without_a_term_counts_in_full():
    loss = Symmetry()
    guide = Guide(METHODS["balanced"], [loss], 0.2)  # pyright: ignore[reportArgumentType]
    assert guide.terms == (Term(loss),)
