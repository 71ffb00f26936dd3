"""What is known of a picture wins over wishes, in every step, and is there at the end."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import mixture
from pipelines.diffusion import sampling
from pipelines.diffusion.guidance import Guide
from pipelines.diffusion.known import Known
from pipelines.diffusion.losses import Downsampled, GreyIs, Keep, MeanColor, Term, luma
from pipelines.diffusion.methods import METHODS
from pipelines.diffusion.noise import draw_noise, image_generators
from pipelines.diffusion.sampling import SampleStep, StepContext
from pipelines.diffusion.solvers import make_schedule

COSINE = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2"}
SIDE = 8
RIGHT = torch.zeros(SIDE, SIDE).index_fill(1, torch.arange(SIDE // 2, SIDE), 1.0)
RED = torch.tensor([0.9, -0.9, -0.9])
OURS = ("fast", "balanced", "thorough")
load_mixture = cache(mixture.load_mixture)
PAINTING = load_mixture().sample(1, seed=3).clamp(-1, 1)  # (1, 3, 8, 8)

LEFT_KNOWN = Keep(PAINTING[0], RIGHT)
GREY_KNOWN = GreyIs(luma(PAINTING)[0])
SMALL_KNOWN = Downsampled(F.avg_pool2d(PAINTING, 4)[0], 4)


def wish(method: str = "balanced", scale: float = 0.3, loss: Any = None) -> Guide:
    return Guide(METHODS[method], [Term(loss or MeanColor(RED))], scale)


def steps_of(
    guide: sampling.Guide | None, method: str = "balanced", steps: int = 8, count: int = 2
) -> list[SampleStep]:
    """Every step of a run of the exact denoiser of small paintings."""
    row, generators = METHODS[method], image_generators(0, count)
    schedule = make_schedule(COSINE, solver=row.solver, num_inference_steps=steps, device="cpu")
    return list(
        sampling.sample(
            load_mixture().predictor(COSINE),
            draw_noise(generators, (3, SIDE, SIDE)),
            schedule,
            prediction_type="sample",
            eta=row.eta,
            generators=generators,
            guide=guide,
        )
    )


def last_of(guide: sampling.Guide | None, method: str = "balanced") -> Tensor:
    return steps_of(guide, method)[-1].x_prev


@pytest.mark.parametrize("method", OURS)
def test_without_anything_known_or_wished_a_run_is_the_plain_one_to_the_bit(method: str):
    for plain, known in zip(steps_of(None, method), steps_of(Known([]), method), strict=True):
        assert torch.equal(plain.x_prev, known.x_prev)
        assert torch.equal(plain.x0, known.x0)


@pytest.mark.parametrize("method", OURS)
def test_without_anything_known_a_run_is_the_guided_one_to_the_bit(method: str):
    guided, known = last_of(wish(method), method), last_of(Known([], wish(method), 3), method)
    assert torch.equal(guided, known)
    assert not torch.equal(guided, last_of(None, method))


@pytest.mark.parametrize("method", OURS)
def test_kept_pixels_stay_and_the_others_follow_the_wish(method: str):
    plain = last_of(Known([LEFT_KNOWN]), method)
    red = last_of(Known([LEFT_KNOWN], wish(method)), method)
    for drawn in (plain, red):
        torch.testing.assert_close(
            drawn[..., :4], PAINTING[..., :4].expand(2, -1, -1, -1), atol=1e-5, rtol=0
        )
    distances = [(x.mean(dim=(2, 3)) - RED).square().sum(dim=1) for x in (plain, red)]
    assert (distances[1] < 0.8 * distances[0]).all()


@pytest.mark.parametrize("method", OURS)
@pytest.mark.parametrize("fact", [GREY_KNOWN, SMALL_KNOWN], ids=["grey", "small"])
def test_a_grey_and_a_small_picture_win_over_a_colour(fact: Any, method: str):
    drawn = last_of(Known([fact], wish(method, 0.5)), method)
    torch.testing.assert_close(fact(drawn), torch.zeros(2), atol=1e-9, rtol=0)
    assert (drawn.abs() <= 1 + 1e-6).all()


def test_a_colour_moves_what_its_grey_leaves_open():
    plain, red = last_of(Known([GREY_KNOWN])), last_of(Known([GREY_KNOWN], wish(scale=0.5)))
    hue = RED - luma(RED[None, :, None, None])[0, 0, 0]

    def redness(x: Tensor) -> Tensor:
        return (x - luma(x)[:, None]).mean(dim=(2, 3)) @ hue

    assert (redness(red) > redness(plain) + 0.05).all()


def test_of_two_facts_that_contradict_each_other_the_later_one_wins():
    other = Keep(-PAINTING[0], RIGHT)
    for first, later in ((LEFT_KNOWN, other), (other, LEFT_KNOWN), (GREY_KNOWN, other)):
        drawn = last_of(Known([first, later]))
        torch.testing.assert_close(later(drawn), torch.zeros(2), atol=1e-9, rtol=0)
        assert (first(drawn) > 0.001).all()


def test_facts_that_agree_hold_together():
    drawn = last_of(Known([GREY_KNOWN, LEFT_KNOWN]))
    for fact in (GREY_KNOWN, LEFT_KNOWN):
        torch.testing.assert_close(fact(drawn), torch.zeros(2), atol=1e-9, rtol=0)


@pytest.mark.parametrize("with_wish", [False, True])
def test_every_step_agrees_with_what_is_known_and_reports_how_far_the_network_was(
    with_wish: bool,
):
    steps = steps_of(Known([GREY_KNOWN], wish() if with_wish else None))
    for step in steps:
        torch.testing.assert_close(GREY_KNOWN(step.x0), torch.zeros(2), atol=1e-9, rtol=0)
        assert step.failed is not None
        assert not step.failed.any()
        if not with_wish:
            assert step.loss is not None
            torch.testing.assert_close(step.loss, GREY_KNOWN(step.x0_network))


def test_middle_steps_alone_are_done_several_times_and_only_with_something_known():
    total = 20
    done = [Known([LEFT_KNOWN], None, 3).recurrence(i, total) for i in range(total)]
    assert done == [1] * 2 + [3] * 14 + [1] * 4
    assert [Known([], None, 3).recurrence(i, total) for i in range(total)] == [1] * total
    assert [Known([LEFT_KNOWN]).recurrence(i, total) for i in range(total)] == [1] * total


def test_a_guide_that_repeats_more_is_followed():
    guide = Guide(METHODS["thorough"], [Term(MeanColor(RED))], 0.3, repeats=5)
    own = [guide.recurrence(i, 20) for i in range(20)]
    assert max(own) == 5
    together = [Known([LEFT_KNOWN], guide, 3).recurrence(i, 20) for i in range(20)]
    alone = [Known([LEFT_KNOWN], None, 3).recurrence(i, 20) for i in range(20)]
    assert together == [max(pair) for pair in zip(own, alone, strict=True)]


def test_repeats_change_what_is_drawn_and_nothing_of_what_is_known():
    once, thrice = (last_of(Known([LEFT_KNOWN], None, repeats)) for repeats in (1, 3))
    assert (once - thrice).abs().amax() > 0.01
    torch.testing.assert_close(once[..., :4], thrice[..., :4], atol=1e-5, rtol=0)


def test_gradients_are_taken_through_the_network_just_where_the_guide_asks_for_them():
    guide = dataclasses.replace(wish("thorough"), start=0.25, stop=0.5)
    known = Known([LEFT_KNOWN], guide)
    assert [known.differentiates(i, 8) for i in range(8)] == [i in (2, 3) for i in range(8)]
    assert not any(Known([LEFT_KNOWN], wish("balanced")).differentiates(i, 8) for i in range(8))
    assert not any(Known([LEFT_KNOWN]).differentiates(i, 8) for i in range(8))


@dataclass(frozen=True)
class NotANumber:
    """A loss without a finite gradient for the second picture of a batch."""

    polyak: float = 2.0

    def __call__(self, x0: Tensor) -> Tensor:
        values = x0.square().mean(dim=(1, 2, 3))
        return values / torch.tensor([1.0, 0.0])


@pytest.mark.parametrize("method", OURS)
def test_a_picture_whose_gradient_fails_still_agrees_and_is_reported(method: str):
    steps = steps_of(Known([LEFT_KNOWN], wish(method, loss=NotANumber())), method)
    for step in steps:
        assert step.failed is not None
        assert step.failed.tolist() == [False, True]
        torch.testing.assert_close(LEFT_KNOWN(step.x0), torch.zeros(2), atol=1e-9, rtol=0)
    assert steps[-1].x_prev.isfinite().all()


def test_a_grey_mask_is_taken_at_the_moment_of_the_step():
    soft = torch.full((SIDE, SIDE), 0.5)
    known = Known([Keep(PAINTING[0], soft)])
    x0 = torch.zeros(1, 3, SIDE, SIDE)
    schedule = make_schedule(COSINE, solver="ddim", num_inference_steps=10, device="cpu")
    for index in range(10):
        found = known(StepContext(schedule, index, torch.zeros_like(x0), x0)).x0
        assert torch.equal(found, PAINTING if index < 5 else x0)


def test_a_grey_mask_draws_a_picture_nearer_to_the_known_one_the_darker_it_is():
    shares = (1.0, 0.6, 0.3, 0.1)
    distances = []
    for share in shares:
        steps = steps_of(Known([Keep(PAINTING[0], torch.full((SIDE, SIDE), share))]), count=8)
        distances.append(float((steps[-1].x_prev - PAINTING).square().mean()))
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < distances[0] / 4
