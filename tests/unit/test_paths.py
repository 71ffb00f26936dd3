"""Fresh noise of one path: standard normal, and the same in few steps and in many."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from benchmarks.paths import BrownianPaths
from pipelines.diffusion import sampling
from pipelines.diffusion.noise import draw_noise, seeded
from pipelines.diffusion.schedules import Schedule, schedule_at
from pipelines.diffusion.solvers import make_schedule

pytestmark = pytest.mark.slow

ETA = 0.5
COSINE = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2"}
ALPHAS_CUMPROD = DDIMScheduler(**COSINE).alphas_cumprod


def scheduler_of(steps: int, solver: str = "dpm++-3m") -> Schedule:
    config = {**COSINE, "prediction_type": "sample"}
    return make_schedule(config, solver=solver, num_inference_steps=steps, device="cpu")


def drawn(steps: int, seeds: list[int], shape: tuple[int, ...] = (1, 4, 4)) -> Tensor:
    """The fresh noise of every step, `(steps, b, c, h, w)`."""
    path, scheduler = BrownianPaths(seeds, shape, ALPHAS_CUMPROD, ETA), scheduler_of(steps)
    return torch.stack([path(scheduler, index) for index in range(steps)])


def test_it_is_standard_normal_and_new_in_each_step():
    found = drawn(12, [3], (3, 64, 64)).flatten(1)
    assert found.mean(dim=1).abs().max() < 0.04
    torch.testing.assert_close(found.std(dim=1), torch.ones(12), atol=0.04, rtol=0)
    shared = (found @ found.T / found.shape[1] - torch.eye(12)).abs().max()
    assert shared < 0.05


def test_a_long_step_takes_what_the_short_ones_took_together():
    half_log_snr = 0.5 * torch.logit(ALPHAS_CUMPROD.double())
    short, long = (
        schedule_at(timesteps, ALPHAS_CUMPROD, solver="dpm++", device="cpu")
        for timesteps in ([800, 500, 300, 10], [800, 10])
    )
    fine, coarse = (BrownianPaths([7], (1, 4, 4), ALPHAS_CUMPROD, ETA) for _ in range(2))
    parts = torch.stack([fine(short, index) for index in range(3)])
    ends = half_log_snr[[500, 300, 10]]
    lengths = ends - half_log_snr[[800, 500, 300]]
    added = 1 - torch.exp(-2 * ETA**2 * lengths)  # variance, and what is left of it at the end
    left = added * torch.exp(-2 * ETA**2 * (ends[-1] - ends))
    shares = (left / left.sum()).sqrt().float().view(3, 1, 1, 1, 1)
    torch.testing.assert_close(coarse(long, 0), (shares * parts).sum(dim=0))


@pytest.mark.parametrize("eta", [0.25, 1.0])
def test_few_steps_and_many_come_to_the_same_noisy_picture_where_x0_stands_still(eta: float):
    """The solver is exact then, fresh noise included, and so is the path."""

    def at(steps: int, count: int) -> tuple[int, Tensor]:
        """Timestep and noisy picture after so many steps."""
        scheduler = scheduler_of(steps)
        found = sampling.sample(
            lambda x_t, t: torch.full_like(x_t, 0.3),
            draw_noise(seeded([3]), (1, 8, 8)),
            scheduler,
            prediction_type="sample",
            eta=eta,
            fresh_noise=BrownianPaths([3], (1, 8, 8), scheduler.alpha_bar, eta),
        )
        step = list(found)[count]
        return step.t, step.x_t

    (coarse_t, coarse), (fine_t, fine) = at(20, 17), at(100, 86)
    assert coarse_t == fine_t
    torch.testing.assert_close(coarse, fine, atol=1e-3, rtol=1e-3)


def test_an_image_has_its_path_whatever_the_batch_and_another_one_per_seed():
    together, alone = drawn(5, [4, 5]), drawn(5, [5])
    assert torch.equal(together[:, 1:], alone)
    assert not torch.allclose(together[:, 0], together[:, 1])
    first = draw_noise(seeded([5]), (1, 4, 4))
    assert (first - alone).abs().flatten(1).max(dim=1).values.min() > 0.1


def test_a_path_has_no_way_back():
    path, scheduler = BrownianPaths([0], (1, 4, 4), ALPHAS_CUMPROD, ETA), scheduler_of(5)
    path(scheduler, 2)
    with pytest.raises(ValueError, match="the path stands at"):
        path(scheduler, 1)
