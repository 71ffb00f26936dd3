"""NaN and infinite numbers in a run: told after the first step, with the model's name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipelines.core.errors import UserError
from pipelines.diffusion import sampling
from pipelines.diffusion.noise import draw_noise, seeded
from pipelines.diffusion.sampling import NotFiniteError
from pipelines.diffusion.solvers import make_schedule
from pipelines.models import checkpoints
from pipelines.products import color
from pipelines.products.settings import ColorSettings
from pipelines.runs import sweep
from pipelines.runs.sweep import Axis
from tests.conftest import tiny_painter
from tests.fakes.tiny_pictures import save_stock

CONFIG = {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 1000}
STEPS = 4


@pytest.fixture(params=[torch.nan, torch.inf, -torch.inf], ids=str)
def mine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[str]:
    """A user's model with a number that is not finite in its first weights."""
    unet = tiny_painter()
    with torch.no_grad():
        unet.conv_in.weight[0, 0, 0, 0] = request.param
    save_stock(tmp_path / "mine")
    unet.save_pretrained(tmp_path / "mine" / "unet")
    monkeypatch.setenv("STUDIO_CHECKPOINTS", f"mine={tmp_path / 'mine'}")
    checkpoints.unload_all()
    yield "mine"
    checkpoints.unload_all()


def steps(output: Any, **options: Any) -> Iterator[sampling.SampleStep]:
    schedule = make_schedule(
        CONFIG, solver="ddim", num_inference_steps=STEPS, device=torch.device("cpu")
    )
    noise = draw_noise(seeded([0]), (3, 8, 8))
    return sampling.sample(output, noise, schedule, prediction_type="epsilon", **options)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", ["fast", "balanced", "thorough", "course"])
@pytest.mark.parametrize("compare", [True, False])
def test_a_model_with_nan_weights_is_told_after_the_first_step(
    mine: str, monkeypatch: pytest.MonkeyPatch, precision: str, method: str, compare: bool
):
    monkeypatch.setenv("STUDIO_PRECISION", precision)
    settings = ColorSettings(model=mine, method=method, num_inference_steps=STEPS)
    with pytest.raises(UserError) as caught:
        list(color.generate(settings, compare=compare))
    assert str(caught.value) == (
        "Model mine gave numbers that are not finite in step 1 of 4: its weights are damaged, too "
        "large for this precision, or guided too strongly."
    )


def test_a_cell_of_a_sweep_tells_it_too(mine: str):
    settings = ColorSettings(model=mine, num_inference_steps=STEPS)
    rows, columns = Axis("seed", (1, 2)), Axis("", (None,))
    with pytest.raises(UserError, match="Model mine gave numbers that are not finite in step 1"):
        list(sweep.sweep(settings, rows, columns, color.generate))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("at", range(STEPS))
def test_the_sampler_names_the_step(value: float, at: int):
    calls = iter(range(STEPS))

    def predict(x_t: Tensor, _: Tensor) -> Tensor:
        return torch.full_like(x_t, value) if next(calls) == at else x_t

    done: list[int] = []
    with pytest.raises(NotFiniteError, match=f"step {at + 1} of {STEPS}") as caught:
        done.extend(step.index for step in steps(predict))
    assert done == list(range(at))
    assert (caught.value.index, caught.value.total) == (at, STEPS)


def test_one_bad_pixel_of_one_picture_is_enough():
    def predict(x_t: Tensor, _: Tensor) -> Tensor:
        output = x_t.clone()
        output[-1, -1, -1, -1] = torch.nan
        return output

    with pytest.raises(NotFiniteError):
        next(steps(predict))


def test_a_guide_that_gives_nan_is_told():
    class Guide:
        def recurrence(self, index: int, total_steps: int) -> int:
            return 1

        def differentiates(self, index: int, total_steps: int) -> bool:
            return False

        def __call__(self, context: sampling.StepContext) -> sampling.Correction:
            ones = torch.ones(1)
            bad = torch.full_like(context.x0, torch.nan)
            return sampling.Correction(bad, None, False, ones, ones, ones > 1)

    with pytest.raises(NotFiniteError, match="step 1 of 4"):
        list(steps(lambda x_t, t: x_t, guide=Guide()))


def test_a_step_with_nearly_no_signal_may_imply_a_huge_picture():
    """Schedules that begin at no signal keep a little of it; the picture is clamped."""
    config = CONFIG | {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    schedule = make_schedule(
        config, solver="ddim", num_inference_steps=STEPS, device=torch.device("cpu")
    )
    assert schedule.alpha[0] == 2.0**-12
    noise = draw_noise(seeded([0]), (3, 8, 8))
    drawn = sampling.sample(lambda x, t: x / 2, noise, schedule, prediction_type="epsilon")
    assert len(list(drawn)) == STEPS
