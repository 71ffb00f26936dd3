"""Losses on what is known of a picture: their projections are exact, and stay inside the box."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.diffusion import losses
from pipelines.diffusion.known import Fact
from pipelines.diffusion.losses import LUMINANCE, Downsampled, GreyIs, Keep, luma
from pipelines.diffusion.losses.box import shifted

SIDE = 8
LEFT = torch.zeros(SIDE, SIDE).index_fill(1, torch.arange(SIDE // 2, SIDE), 1.0)  # left is known


def pictures(count: int = 3, seed: int = 0, scale: float = 1.3) -> Tensor:
    """Predictions as a network gives them, which overshoot the range of pixels."""
    generator = torch.Generator().manual_seed(seed)
    return scale * (torch.rand(count, 3, SIDE, SIDE, generator=generator) * 2 - 1)


TRUE = pictures(1, seed=9, scale=1.0)
FACTS: dict[str, Fact] = {
    "keep": Keep(TRUE[0], LEFT),
    "grey": GreyIs(luma(TRUE)[0]),
    "small by 2": Downsampled(F.avg_pool2d(TRUE, 2)[0], 2),
    "small by 8": Downsampled(F.avg_pool2d(TRUE, 8)[0], 8),
}
each_fact = pytest.mark.parametrize("fact", FACTS.values(), ids=FACTS)


@each_fact
def test_a_projected_picture_agrees_with_what_is_known(fact: Fact):
    x0 = pictures()
    assert (fact(x0) > 0.01).all()
    torch.testing.assert_close(fact(fact.project(x0)), torch.zeros(3), atol=1e-10, rtol=0)


@each_fact
def test_a_projection_stays_inside_the_range_of_pixels_wherever_it_moves_one(fact: Fact):
    x0 = pictures()
    found = fact.project(x0)
    assert (found[found != x0].abs() <= 1).all()


@each_fact
def test_what_agrees_already_does_not_move(fact: Fact):
    inside = TRUE.expand(2, -1, -1, -1)
    torch.testing.assert_close(fact.project(inside), inside, atol=1e-5, rtol=0)
    once = fact.project(pictures())
    torch.testing.assert_close(fact.project(once), once, atol=1e-5, rtol=0)


@each_fact
def test_no_picture_that_agrees_is_nearer(fact: Fact):
    x0 = pictures(1)
    least = (fact.project(x0) - x0).square().sum()
    for seed in range(50):
        other = fact.project(pictures(1, seed=seed + 100))  # some other picture that agrees
        blended = torch.lerp(fact.project(x0), other, 0.01)  # the set is convex, so this one too
        assert (blended - x0).square().sum() > least - 1e-5


@each_fact
def test_a_projection_does_not_depend_on_the_batch(fact: Fact):
    x0 = pictures(4)
    x0[3] *= 5
    together = fact.project(x0)
    for i in range(4):
        alone = fact.project(x0[i : i + 1])[0]
        torch.testing.assert_close(alone, together[i], atol=1e-6, rtol=0)


@each_fact
@pytest.mark.parametrize("beyond", [-3.0, 3.0])
def test_predictions_that_lie_wholly_beyond_the_range_are_projected_as_well(
    fact: Fact, beyond: float
):
    found = fact.project(pictures() * 0.1 + beyond)
    torch.testing.assert_close(fact(found), torch.zeros(3), atol=1e-10, rtol=0)


@each_fact
def test_the_loss_is_the_mean_squared_distance_to_what_is_known(fact: Fact):
    assert fact(TRUE).item() == pytest.approx(0, abs=1e-12)
    known = 0.5 if isinstance(fact, Keep) else 1.0  # share of the pixels
    expected = torch.tensor([0.01 * known])
    torch.testing.assert_close(fact(TRUE + 0.1), expected, rtol=1e-4, atol=0)


def nearest_of_grey(pixel: Tensor, grey: float) -> Tensor:
    """The nearest colour `(3,)` in the box with a luma: every set of channels at a bound tried."""
    weights, best, least = torch.tensor(LUMINANCE).double(), pixel, float("inf")
    for bounds in itertools.product((None, -1.0, 1.0), repeat=3):
        fixed = torch.tensor([bound is not None for bound in bounds])
        found = torch.tensor([bound or 0.0 for bound in bounds]).double()
        if not fixed.all():
            free = torch.where(fixed, torch.zeros_like(weights), weights)
            base = torch.where(fixed, found, pixel)
            found = base + free * (grey - weights @ base) / (free @ free)
        agrees = abs(float(weights @ found) - grey) < 1e-9 and float(found.abs().max()) <= 1 + 1e-9
        distance = float((found - pixel).square().sum())
        if agrees and distance < least:
            best, least = found, distance
    assert least < float("inf")
    return best


def test_the_projection_to_a_grey_is_the_answer_of_every_case_tried():
    x0, grey = pictures(1).double(), luma(TRUE)[0].double()
    found = GreyIs(grey).project(x0)
    for y, x in itertools.product(range(SIDE), repeat=2):
        expected = nearest_of_grey(x0[0, :, y, x], float(grey[y, x]))
        torch.testing.assert_close(found[0, :, y, x], expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_the_projection_to_a_small_picture_is_the_answer_of_a_general_solver(factor: int):
    x0, small = pictures(1).double(), F.avg_pool2d(TRUE, factor).double()
    # Dykstra's alternating projections onto box and averages converge to the nearest point.
    point, from_box, from_averages = x0.clone(), torch.zeros_like(x0), torch.zeros_like(x0)
    for _ in range(500):
        boxed = (point + from_box).clamp(-1, 1)
        from_box = point + from_box - boxed
        moved = boxed + from_averages
        missing = small - F.avg_pool2d(moved, factor)
        point = moved + F.interpolate(missing, scale_factor=factor, mode="nearest")
        from_averages = moved - point
    torch.testing.assert_close(Downsampled(small[0], factor).project(x0), point, atol=1e-5, rtol=0)


@pytest.mark.parametrize("grey", [-1.5, 1.5])
def test_a_grey_that_no_colour_has_gives_black_or_white(grey: float):
    found = GreyIs(torch.full((SIDE, SIDE), grey)).project(pictures())
    bound = torch.full_like(found, max(-1.0, min(1.0, grey)))
    torch.testing.assert_close(found, bound, atol=1e-6, rtol=0)


@pytest.mark.parametrize("value", [-1.5, 1.5])
def test_an_average_that_no_picture_has_gives_black_or_white(value: float):
    found = Downsampled(torch.full((3, 2, 2), value), 4).project(pictures())
    bound = torch.full_like(found, max(-1.0, min(1.0, value)))
    torch.testing.assert_close(found, bound, atol=1e-6, rtol=0)


@pytest.mark.parametrize("grey", [-1.0, 1.0])
def test_black_and_white_have_no_colours(grey: float):
    found = GreyIs(torch.full((SIDE, SIDE), grey)).project(pictures())
    torch.testing.assert_close(found, torch.full_like(found, grey), atol=1e-5, rtol=0)


def test_known_pixels_come_back_to_the_bit_and_free_ones_stay():
    x0 = pictures()
    found = Keep(TRUE[0], LEFT).project(x0)
    assert torch.equal(found[..., :4], TRUE[..., :4].expand(3, -1, -1, -1))
    assert torch.equal(found[..., 4:], x0[..., 4:])


@pytest.mark.parametrize(
    ("progress", "free"),
    [
        (0.0, [0, 0, 0, 1]),
        (0.25, [0, 0, 0, 1]),
        (0.5, [0, 0, 1, 1]),
        (0.75, [0, 1, 1, 1]),
        (1.0, [0, 1, 1, 1]),
    ],
)
def test_a_grey_pixel_is_known_until_its_share_of_the_run_is_left(progress: float, free: list[int]):
    redrawn = torch.tensor([[0.0, 0.25, 0.5, 1.0]])
    at = Keep(torch.zeros(3, 1, 4), redrawn).at(progress)
    assert at.redrawn.tolist() == [free]
    assert torch.equal(at.picture, torch.zeros(3, 1, 4))


def test_a_pixel_that_may_change_at_all_is_free_in_the_last_of_many_steps():
    redrawn = torch.tensor([[0.0, 1 / 255, 1.0]])
    known = Keep(torch.zeros(3, 1, 3), redrawn)
    assert known.at(249 / 250).redrawn.tolist() == [[0, 0, 1]]  # 1/255 of 250 steps is not one
    assert known.at(1.0).redrawn.tolist() == [[0, 1, 1]]


MEASURES: dict[str, Any] = {
    "of each pixel": (torch.tensor(LUMINANCE)[:, None, None], lambda x: luma(x)[:, None]),
    "of each channel": (1.0, lambda x: x.mean(dim=(2, 3), keepdim=True)),
    "of the picture": (1.0, lambda x: x.mean(dim=(1, 2, 3), keepdim=True)),
}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", MEASURES)
def test_a_shift_reaches_every_value_that_a_picture_of_the_box_has(name: str, seed: int):
    direction, measure = MEASURES[name]
    x0, wanted = pictures(seed=seed, scale=1 + seed), measure(pictures(seed=seed + 50, scale=1.0))
    found = shifted(x0, direction, measure, wanted)
    torch.testing.assert_close(measure(found), wanted, atol=2e-6, rtol=0)
    assert (found.abs() <= 1).all()


@pytest.mark.parametrize("name", MEASURES)
def test_a_shift_rises_with_the_value_that_is_wanted(name: str):
    direction, measure = MEASURES[name]
    x0 = pictures()
    values = [torch.full_like(measure(x0), value) for value in (-1.2, -0.9, -0.1, 0.3, 0.95, 1.2)]
    found = [shifted(x0, direction, measure, value) for value in values]
    for lower, higher in itertools.pairwise(found):
        assert (higher >= lower).all()
        assert (higher > lower).any()


def test_a_shift_moves_only_along_its_direction_and_inside_its_box():
    x0 = pictures().clamp(0.2, 0.8)
    direction = torch.tensor([1.0, 0.0, 2.0])[:, None, None]

    def measure(x: Tensor) -> Tensor:
        return (x * direction).mean(dim=(1, 2, 3), keepdim=True)

    found = shifted(x0, direction, measure, measure(x0) + 0.05, box=(0.0, 1.0))
    assert torch.equal(found[:, 1], x0[:, 1])
    moved = found - x0
    inside = (found[:, 0] < 1) & (found[:, 2] < 1)
    torch.testing.assert_close(moved[:, 2][inside], 2 * moved[:, 0][inside], atol=1e-5, rtol=0)
    assert found.min() >= 0
    assert found.max() <= 1


def test_facts_are_losses_that_guidance_takes_as_well():
    for fact in FACTS.values():
        assert isinstance(fact, losses.Projectable)
        x0 = pictures(2).double().requires_grad_()
        assert torch.autograd.gradcheck(fact, (x0,), fast_mode=True)
