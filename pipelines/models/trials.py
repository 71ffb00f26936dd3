"""Times the ways to compute a network on a bundled model, along fixed steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pipelines.core import devices
from pipelines.diffusion import denoisers
from pipelines.diffusion.denoisers import predict_x0
from pipelines.diffusion.noise import draw_noise, image_generators
from pipelines.diffusion.sampling import SampleStep, sample
from pipelines.diffusion.schedules import Schedule
from pipelines.diffusion.solvers import make_schedule
from pipelines.models import checkpoints, clip, ways
from pipelines.models.checkpoints import Loaded
from pipelines.models.passes import Denoising
from pipelines.models.ways import PLAIN, Measured, Trial, Way

MODEL = "emoji"
_STEPS = 6
_HALF_RANGE = 127.5  # steps of 255 in a difference of 1 on the scale [-1, 1]


def measure() -> Measured | None:
    """Measures this machine once; see `ways.measure`. Loaded models are dropped, to follow it."""
    where = devices.device()
    loaded = checkpoints.load(MODEL)
    schedule = make_schedule(
        loaded.scheduler_config, solver="ddim", num_inference_steps=_STEPS, device=where
    )
    steps = _steps(loaded, schedule)

    def trial_of(way: Way) -> Trial:
        network = Denoising(MODEL, loaded.unet, way)
        predicted = _predictor(loaded, schedule, network)
        apart = [(predicted(step) - step.x0_network).abs().max().item() for step in steps]
        return Trial(lambda: predicted(steps[0]), max(apart) * _HALF_RANGE)

    found = ways.measure(where, trial_of)
    if found is not None:
        checkpoints.unload_all()
        clip.unload_all()
    return found


def _steps(loaded: Loaded, schedule: Schedule) -> list[SampleStep]:
    """Returns the steps of a picture without guidance, in PyTorch and fp32."""
    row = loaded.checkpoint
    noise = draw_noise(image_generators(0, 1), (row.channels, row.size_px, row.size_px))
    plain = denoisers.denoiser(Denoising(MODEL, loaded.unet, PLAIN))
    kind = loaded.scheduler_config["prediction_type"]
    return [*sample(plain, noise.to(loaded.device), schedule, prediction_type=kind)]


def _predictor(
    loaded: Loaded, schedule: Schedule, network: Denoising
) -> Callable[[SampleStep], Tensor]:
    """Returns the function from a step to x0 as a network predicts it from there."""

    @torch.no_grad()
    def predicted(step: SampleStep) -> Tensor:
        output = network(step.x_t, schedule.timesteps[step.index]).sample
        alpha, sigma = schedule.alpha[step.index], schedule.sigma[step.index]
        kind = loaded.scheduler_config["prediction_type"]
        return predict_x0(output, step.x_t, alpha, sigma, kind).clamp(-1, 1)

    return predicted
