"""Training on pictures: what a step learns from, what is resumed, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from datasets import Dataset
from diffusers import DDPMScheduler, UNet2DModel
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor, nn

from pipelines.core import images
from tests.fakes.tiny_pictures import HELD_OUT, SIZE, folded_unet, one_thread, pictures, stock_unet
from training.core.batches import batch_indices
from training.core.held_out import ANY_TURN
from training.core.objective import Prediction
from training.core.state import load_state, save_state
from training.pictures import recipe as picture_recipe
from training.pictures.data import Pictures
from training.pictures.recipe import Recipe
from training.pictures.runs import make_accelerator
from training.pictures.trainer import Trainer, focus_repeated

STEPS = 8
RECIPE = Recipe(
    start_model="",
    dataset_name="data/scenes",
    image_column="",
    image_size=SIZE,
    max_steps=STEPS,
    batch_size=8,
    grad_accumulation_steps=1,
    num_processes=1,
    lr=1e-3,
    warmup_steps=2,
    ema_decay=0.9,
    snr_gamma=5.0,
    flip=True,
    mixed_precision="no",
    seed=3,
)


@pytest.fixture(autouse=True)
def same_sums() -> Iterator[None]:
    with one_thread():
        yield


def trainer(
    recipe: Recipe = RECIPE, unet: UNet2DModel | None = None, num_timesteps: int = 1000
) -> Trainer:
    scheduler = cosine(num_timesteps, recipe.prediction)
    return Trainer(recipe, unet or stock_unet(), scheduler, pictures(), Accelerator())


def cosine(num_timesteps: int = 1000, prediction: Prediction = "v_prediction") -> DDPMScheduler:
    return DDPMScheduler(
        num_train_timesteps=num_timesteps,
        beta_schedule="squaredcos_cap_v2",
        prediction_type=prediction,
    )


def trained(recipe: Recipe = RECIPE, steps: int = 3) -> Trainer:
    run = trainer(recipe)
    for _ in range(steps):
        run.train_step()
    return run


def weights(run: Trainer) -> dict[str, Any]:
    """Current and averaged weights and the optimizer's memory."""
    state = run.state()
    return {
        "unet": state["unet"],
        "ema": state["ema"]["shadow_params"],
        "optimizer": state["optimizer"]["state"],
    }


@pytest.mark.parametrize(
    ("focused", "expected"), [(0, 0.0), (3, 0.5), (17, 0.54), (20, 0.5), (23, 0.55), (50, 50 / 60)]
)
def test_half_of_the_pictures_are_in_focus_and_none_is_left_out(focused: int, expected: float):
    numbers = focus_repeated(torch.arange(60) < focused)
    assert set(numbers.tolist()) == set(range(60))
    share = (numbers < focused).double().mean().item()
    assert share == pytest.approx(expected, abs=0.02)


def test_a_run_learns_from_those_in_focus_more_often(monkeypatch: pytest.MonkeyPatch):
    data, seen = pictures(focused=10), []
    run = Trainer(replace(RECIPE, max_steps=40), stock_unet(), cosine(), data, Accelerator())
    focused = {row.tobytes() for row in data.take(data.focused.nonzero()[:, 0]).numpy()}

    def noted(pixels: Tensor, *_: Tensor) -> Tensor:
        seen.extend(pixels)
        return images.from_uint8(pixels)

    monkeypatch.setattr(run, "_x0", noted)
    for _ in range(40):
        run.train_step()
    share = sum(row.numpy().tobytes() in focused for row in seen) / len(seen)
    assert 0.4 < share < 0.6


@pytest.mark.parametrize(("batch_size", "passes"), [(4, 2), (1, 8)])
def test_a_step_in_several_passes_is_the_step_in_one(batch_size: int, passes: int):
    divided = replace(RECIPE, batch_size=batch_size, grad_accumulation_steps=passes)
    torch.testing.assert_close(weights(trained(divided)), weights(trained()), rtol=1e-3, atol=2e-5)


def test_the_loss_of_a_step_is_the_mean_over_its_passes():
    divided = replace(RECIPE, batch_size=2, grad_accumulation_steps=4)
    assert trainer(divided).train_step() == pytest.approx(trainer().train_step(), rel=1e-5)


def test_a_step_learns_from_the_mean_gradient_of_its_passes(monkeypatch: pytest.MonkeyPatch):
    def gradient(batch_size: int, passes: int) -> list[Tensor]:
        divided = replace(RECIPE, batch_size=batch_size, grad_accumulation_steps=passes)
        run = trainer(divided)
        seen: list[Tensor] = []

        def note(parameters: Any, _: float) -> None:
            seen.extend(p.grad.clone() for p in parameters)

        monkeypatch.setattr(run.accelerator, "clip_grad_norm_", note)  # would hide a factor
        run.train_step()
        return seen

    torch.testing.assert_close(gradient(8, 4), gradient(32, 1), rtol=1e-3, atol=1e-6)


class Grey(nn.Module):
    """Says of every noisy picture that the clean one is grey; notes the timesteps."""

    def __init__(self) -> None:
        super().__init__()
        self.timesteps: list[Tensor] = []

    def forward(self, x_t: Tensor, t: Tensor) -> UNet2DOutput:
        self.timesteps.append(t)
        return UNet2DOutput(sample=torch.zeros_like(x_t))


def test_every_timestep_from_0_to_999_is_trained_and_no_other():
    run = trainer(replace(RECIPE, batch_size=54))
    run.network = network = Grey()
    for run.step in range(200):
        run._loss(*run._examples(0))
    assert torch.cat(network.timesteps).unique().tolist() == list(range(1000))


def test_an_epoch_that_was_interrupted_still_shows_every_picture_once():
    def seen(run: Trainer, steps: int) -> list[bytes]:
        found = []
        for _ in range(steps):
            found += [picture.numpy().tobytes() for picture in run._examples(0)[0]]
            run.step += 1
        return found

    recipe = replace(RECIPE, batch_size=9, flip=False)  # six steps are an epoch
    before, after = trainer(recipe), trainer(recipe)
    first = seen(before, 4)
    after.restore(before.state())
    assert len(set(first + seen(after, 2))) == 54


def test_the_network_sees_pictures_at_the_noise_level_of_their_timestep():
    run = trainer(replace(RECIPE, flip=False))
    x0, eps, t, _ = run._examples(0)
    chosen = batch_indices(len(run.train), 8, RECIPE.seed, 0)
    torch.testing.assert_close(x0, images.from_uint8(run.train.take(chosen)))
    assert eps.std().item() == pytest.approx(1, abs=0.05)
    assert t.sort().values.diff().tolist() == [125] * 7


def test_about_half_of_the_pictures_are_mirrored():
    mirrored = []
    plain, flipped = trainer(replace(RECIPE, flip=False)), trainer()
    for _ in range(6):
        for before, after in zip(plain._examples(0)[0], flipped._examples(0)[0], strict=True):
            same = torch.equal(before, after)
            assert same or torch.equal(before.flip(-1), after)
            mirrored.append(not same)
        plain.step = flipped.step = plain.step + 1
    assert 0.25 < np.mean(mirrored) < 0.75


def test_a_seed_means_the_same_weights_and_another_seed_others():
    once = weights(trained(steps=2))
    torch.testing.assert_close(weights(trained(steps=2)), once, rtol=0, atol=0)
    other = weights(trained(replace(RECIPE, seed=4), steps=2))
    assert not torch.allclose(other["ema"][0], once["ema"][0])


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_resumed_run_repeats_an_uninterrupted_one(dropout: float, tmp_path: Path):
    whole = trainer(unet=stock_unet(dropout=dropout))
    for step in range(4):
        if step == 2:
            save_state(tmp_path, whole.state())
        whole.train_step()
    state = load_state(tmp_path)
    assert state is not None
    resumed = trainer(unet=stock_unet(dropout=dropout))
    torch.rand(5)  # whatever else drew in between
    resumed.restore(state)
    assert resumed.step == 2
    for _ in range(2):
        resumed.train_step()
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=0, atol=0)


def test_a_step_may_be_divided_otherwise_when_a_run_is_resumed():
    divided = replace(RECIPE, batch_size=4, num_processes=2)
    divided.check_same(trainer().state()["recipe"])
    with pytest.raises(ValueError, match="another number of pictures per step"):
        replace(RECIPE, batch_size=4).check_same(trainer().state()["recipe"])


def test_a_run_of_another_recipe_is_not_gone_on_with():
    saved = trainer().state()
    with pytest.raises(ValueError, match="same recipe, got one with another lr, prediction"):
        trainer(replace(RECIPE, lr=1e-4, prediction="epsilon")).restore(saved)


def test_a_state_of_an_older_version_is_still_accepted():
    saved = trained(steps=1).state()
    for name in ("started_from", "unet_config", "scheduler_config"):
        del saved[name]
    del saved["recipe"]["prediction"]
    resumed = trainer()
    resumed.restore(saved)
    assert resumed.step == 1
    assert resumed.started_from == {}


def held_out_pixels(run: Trainer) -> Tensor:
    return run.validation.take(torch.arange(len(run.validation)))


def test_the_same_pictures_are_held_out_whatever_a_run_starts_from_and_its_seed():
    fine_tuned = trainer(replace(RECIPE, start_model="scenes", seed=9))
    from_scratch = trainer(unet=folded_unet())
    assert torch.equal(held_out_pixels(fine_tuned), held_out_pixels(from_scratch))
    assert len(from_scratch.validation) == HELD_OUT


def test_held_out_pictures_are_never_trained_on():
    run = trainer()
    trained_on = {picture.numpy().tobytes() for picture in run.train.take(torch.arange(54))}
    assert not trained_on & {picture.numpy().tobytes() for picture in held_out_pixels(run)}


def test_the_size_of_what_is_held_out_has_a_limit():
    assert [picture_recipe.num_held_out(n) for n in (9, 99, 20_000)] == [0, 9, 128]


def test_data_smaller_than_a_step_is_refused_in_one_sentence():
    recipe = replace(RECIPE, batch_size=20, grad_accumulation_steps=3)
    sentence = r"at least the 60 pictures of one step, got 60 of which 6 are held out"
    with pytest.raises(ValueError, match=sentence):
        trainer(recipe)


def test_the_error_of_a_known_answer_is_known(monkeypatch: pytest.MonkeyPatch):
    run = trainer(replace(RECIPE, prediction="sample"))
    monkeypatch.setattr(run, "averaged", Grey)
    expected = images.from_uint8(held_out_pixels(run)).square().mean().item()
    assert run.validate() == pytest.approx(dict.fromkeys((100, 300, 500, 700, 900), expected))


def test_a_loss_that_is_not_finite_stops_the_run_and_changes_no_weight():
    run = trainer()
    with torch.no_grad():
        next(iter(run.unet.parameters())).fill_(torch.nan)
    before = [parameter.clone() for parameter in run.ema.shadow_params]
    with pytest.raises(FloatingPointError, match=r"loss must stay finite, got nan .* at step 1;"):
        run.train_step()
    torch.testing.assert_close(run.ema.shadow_params, before, rtol=0, atol=0)


def test_samples_do_not_depend_on_how_often_they_are_drawn():
    run = trainer()
    assert run.draw_samples(9).tobytes() == run.draw_samples(9).tobytes()
    assert run.draw_samples(9).size == (8 * (SIZE + 2) - 2, 2 * (SIZE + 2) - 2)


@pytest.fixture
def fresh_accelerator() -> Iterator[None]:
    """Arithmetic is a matter of the whole process for accelerate."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("fresh_accelerator")
def test_bf16_trains_and_saves_full_weights():
    recipe = replace(RECIPE, mixed_precision="bf16")
    accelerator = make_accelerator("bf16")
    scheduler = DDPMScheduler(prediction_type="v_prediction")
    run = Trainer(recipe, stock_unet(), scheduler, pictures(), accelerator)
    assert np.isfinite(run.train_step())
    assert {weight.dtype for weight in run.state()["unet"].values()} == {torch.float32}
    assert run.trained_on.endswith(", bf16")


@pytest.mark.usefixtures("fresh_accelerator")
def test_the_loss_is_divided_once_whatever_accelerate_was_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    assert make_accelerator("no").gradient_accumulation_steps == 1


def test_the_loss_falls_in_a_few_dozen_steps():
    run = trainer(replace(RECIPE, max_steps=30, warmup_steps=5, lr=2e-3))
    before = run.validate()
    losses = [run.train_step() for _ in range(30)]
    assert np.mean(losses[-8:]) < 0.9 * np.mean(losses[:8])
    after = run.validate()
    assert after[500] < before[500]


def test_so_many_transparent_pictures_as_asked_for_are_given_other_hues():
    red = bytes([255, 0, 0, 255]) * SIZE * SIZE
    told = {"pixels": [red] * 40, "focused": [False] * 40, "turns": [ANY_TURN] * 40}
    rows = Dataset.from_dict(told)
    recipe = replace(RECIPE, grounds="colors", recolor=0.25, batch_size=16)
    run = Trainer(recipe, stock_unet(), cosine(), Pictures(rows, SIZE, 4), Accelerator())
    kept = []
    for run.step in range(20):
        x0, *_ = run._examples(0)
        assert torch.equal(x0.amax(dim=1), torch.ones(16, SIZE, SIZE))  # as bright as before
        assert torch.equal(x0.amin(dim=1), -torch.ones(16, SIZE, SIZE))
        kept += (x0[:, 0] == 1).all(dim=(1, 2)).logical_and((x0[:, 2] == -1).all(dim=(1, 2)))
    # Some turns of hue are too small to be seen.
    assert 0.6 < torch.stack(kept).float().mean() < 0.9
