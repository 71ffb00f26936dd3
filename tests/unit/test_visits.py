"""Steps that are done again, alone or several together, and the noise that is added in between."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from pipelines.diffusion import sampling
from pipelines.diffusion.noise import draw_noise, image_generators, spawn
from pipelines.diffusion.sampling import Correction, StepContext, Visit, visits
from pipelines.diffusion.solvers import make_schedule
from pipelines.diffusion.solvers.ddim import ddim_step

COSINE = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2"}
SHAPE = (1, 4, 4)


def order(total: int, jump: int, *times: int) -> list[Visit]:
    """The visits of steps that are done as often as `times` says, in turn."""
    return list(visits(total, lambda index: times[index % len(times)], jump))


@pytest.mark.parametrize("jump", [1, 2, 5, 9])
def test_steps_that_are_done_once_follow_each_other(jump: int):
    assert order(5, jump, 1) == [Visit(index) for index in range(5)]


def test_a_step_is_done_again_before_the_next_one():
    again = [Visit(1, True, 1), Visit(1, True, 1)]
    assert order(3, 1, 1, 3, 1) == [Visit(0), *again, Visit(1), Visit(2)]


def test_several_steps_are_done_again_together_and_noise_is_added_after_the_last():
    def together(first: int, last: int) -> list[Visit]:
        before = [Visit(index, True) for index in range(first, last)]
        return [*before, Visit(last, True, first)]

    assert order(7, 3, 2) == [
        *together(0, 2),
        *map(Visit, (0, 1, 2)),
        *together(3, 5),
        *map(Visit, (3, 4, 5)),
        *together(6, 6),
        *map(Visit, (6,)),
    ]


def test_the_first_of_several_steps_says_how_often_they_are_done():
    found = [visit.index for visit in order(6, 3, 2, 9, 9, 1, 9, 9)]
    assert found == [0, 1, 2, 0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("total", [1, 6, 7])
@pytest.mark.parametrize("jump", [1, 3, 10])
def test_every_step_has_one_last_visit_in_its_order(total: int, jump: int):
    found = order(total, jump, 3)
    assert [visit.index for visit in found if not visit.is_again] == list(range(total))
    assert len(found) == 3 * total


@dataclass
class Halved:
    """A guide that halves x0, does every step twice, and notes what it was told."""

    seen: list[StepContext] = field(default_factory=list)

    def recurrence(self, index: int, total_steps: int) -> int:
        return 2

    def differentiates(self, index: int, total_steps: int) -> bool:
        return False

    def __call__(self, context: StepContext) -> Correction:
        self.seen.append(context)
        none, failed = torch.zeros(2), torch.zeros(2, dtype=torch.bool)
        return Correction(context.x0 / 2, None, False, loss=none, gradient=none, failed=failed)


@pytest.mark.parametrize("jump", [1, 3])
def test_noise_leads_back_to_the_level_before_the_first_step(jump: int):
    schedule = make_schedule(COSINE, solver="ddim", num_inference_steps=6, device="cpu")
    generators, guide = image_generators(4, 2), Halved()
    steps = list(
        sampling.sample(
            lambda x_t, t: torch.tanh(x_t),
            draw_noise(generators, SHAPE),
            schedule,
            prediction_type="sample",
            generators=generators,
            guide=guide,
            jump=jump,
        )
    )
    plan = list(visits(6, lambda index: 2, jump))
    assert [context.index for context in guide.seen] == [visit.index for visit in plan]
    assert [step.index for step in steps] == list(range(6))

    replayed = image_generators(4, 2)
    draw_noise(replayed, SHAPE)
    replayed = [spawn(generator) for generator in replayed]
    alpha, sigma = schedule.alpha, schedule.sigma
    for visit, now, after in zip(plan, guide.seen, guide.seen[1:], strict=False):
        at = visit.index
        done = ddim_step(now.x0 / 2, now.x_t, alpha[at], sigma[at], alpha[at + 1])
        if visit.back_to is None:
            expected = done
        else:
            ratio = alpha[visit.back_to] / alpha[at + 1]
            expected = ratio * done + (1 - ratio**2).sqrt() * draw_noise(replayed, SHAPE)
        torch.testing.assert_close(after.x_t, expected, atol=1e-5, rtol=0)


def test_the_last_visit_is_what_a_run_goes_on_from():
    schedule = make_schedule(COSINE, solver="ddim", num_inference_steps=6, device="cpu")
    generators = image_generators(4, 2)
    noise = draw_noise(generators, SHAPE)
    steps = sampling.sample(
        lambda x_t, t: torch.tanh(x_t),
        noise,
        schedule,
        prediction_type="sample",
        generators=generators,
        guide=Halved(),
        jump=3,
    )
    found = list(steps)
    for before, after in ((0, 1), (1, 2), (3, 4), (4, 5)):
        assert torch.equal(found[before].x_prev, found[after].x_t)


@dataclass
class Afterwards(Halved):
    """A guide that sets what a step has led to, after it."""

    def __call__(self, context: StepContext) -> Correction:
        correction = super().__call__(context)

        def after(x_prev: Tensor) -> Tensor:
            return torch.full_like(x_prev, float(context.index))

        return Correction(**vars(correction) | {"after": after, "push": torch.ones(2, *SHAPE)})


def test_what_a_guide_does_after_a_step_comes_last():
    schedule = make_schedule(COSINE, solver="ddim", num_inference_steps=3, device="cpu")
    generators = image_generators(0, 2)
    found = sampling.sample(
        lambda x_t, t: torch.tanh(x_t),
        draw_noise(generators, SHAPE),
        schedule,
        prediction_type="sample",
        generators=generators,
        guide=Afterwards(),
    )
    for step in found:
        assert torch.equal(step.x_prev, torch.full_like(step.x_prev, float(step.index)))
