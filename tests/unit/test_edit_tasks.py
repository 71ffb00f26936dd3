"""The tasks of editing: what each takes as known, where it begins, and what it gives back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from pipelines.core import images
from pipelines.core.rules import SettingsError, validate
from pipelines.diffusion.losses import Downsampled, Keep, luma
from pipelines.diffusion.schedules import alphas_cumprod
from pipelines.diffusion.solvers import SOLVERS
from pipelines.models import checkpoints
from pipelines.products import edit, edit_tasks
from pipelines.products.edit import EditSettings
from pipelines.runs.run import Plan


def noisy(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """A picture that has details of every size, and all colours of the box."""
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(values)


def marked(size: tuple[int, int], box: tuple[int, int, int, int]) -> str:
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).rectangle(box, 255)
    return images.to_data_uri(mask)


def settings_of(picture: Image.Image, task: str, **options: Any) -> EditSettings:
    few: dict[str, Any] = {"image": images.to_data_uri(picture), "num_inference_steps": 3}
    return validate(EditSettings(task=task, **few | options))


def edited(picture: Image.Image, task: str, **options: Any) -> list[edit.Preview]:
    return list(edit.generate(settings_of(picture, task, **options)))


def tensor(picture: Image.Image) -> Tensor:
    return images.to_tensor(picture)


# --- colouring in --------------------------------------------------------------------------------


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("size", [(64, 64), (200, 150), (40, 90)])
@pytest.mark.parametrize("crop", ["", "4, 6, 30"])
def test_colouring_keeps_the_luma_of_every_pixel_whatever_the_size(
    size: tuple[int, int], crop: str
):
    picture = noisy(size)
    last = edited(picture, "colorize", crop=crop, num_images=2)[-1]
    for result in last.pictures:
        off = (luma(tensor(result)) - luma(tensor(picture))).abs() * 127.5
        assert float(off.max()) <= 0.5 + 1e-3  # what rounding of three channels leaves
        assert np.asarray(result).tobytes() != np.asarray(picture).tobytes()


# --- sharpening ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize(("side", "factor"), [(16, 4), (32, 2)])
def test_a_small_picture_is_what_the_sharpened_one_becomes(side: int, factor: int):
    picture = noisy((side, side))
    last = edited(picture, "sharpen", factor=factor)[-1]
    assert last.pictures[0].size == (64, 64)
    off = F.avg_pool2d(tensor(last.pictures[0]), factor) - tensor(picture)
    assert float(off.abs().max()) * 127.5 <= 0.5 + 1e-3


def test_what_is_known_of_a_small_picture_is_the_picture_to_the_bit():
    picture = noisy((16, 16))
    settings = settings_of(picture, "sharpen", factor=4)
    (fact,) = edit_tasks.facts_of(settings, edit_tasks.canvas_of(settings, 64), 64)
    assert isinstance(fact, Downsampled)
    assert torch.equal(fact.small, tensor(picture)[0])


def test_a_factor_that_does_not_divide_what_a_model_draws_is_one_sentence():
    settings = settings_of(noisy((40, 40)), "sharpen", factor=16)
    with pytest.raises(SettingsError, match=r"^factor must divide .* 40 px, got 16$"):
        edit_tasks.facts_of(settings, edit_tasks.canvas_of(settings, 40), 40)


def test_a_picture_is_enlarged_to_be_sharpened_unless_a_mask_keeps_some_of_it():
    picture, mask = noisy((32, 48)), marked((32, 48), (8, 8, 20, 20))
    whole = edit_tasks.canvas_of(settings_of(picture, "sharpen"), 64)
    assert whole.size == (43, 64)
    part = edit_tasks.canvas_of(settings_of(picture, "sharpen", mask=mask), 64)
    assert part.size == (32, 48)
    facts = edit_tasks.facts_of(settings_of(picture, "sharpen", mask=mask), part, 64)
    assert [type(fact) for fact in facts] == [Downsampled, Keep]
    for task in ("fill", "restyle", "colorize", "vary"):
        settings = settings_of(picture, task, mask=mask)
        assert edit_tasks.canvas_of(settings, 64).size == (32, 48)


# --- beginnings ----------------------------------------------------------------------------------


def plan_of(settings: EditSettings) -> Plan:
    return edit_tasks.plan_of(settings, checkpoints.load(settings.model))


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("steps", [5, 20, 50])
@pytest.mark.parametrize("strength", [0.2, 0.35, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("method", ["balanced", "fast"])
def test_restyling_begins_at_its_share_of_the_training_timesteps(
    strength: float, steps: int, method: str
):
    settings = settings_of(
        noisy((64, 64)), "restyle", strength=strength, num_inference_steps=steps, method=method
    )
    timesteps = plan_of(settings).timesteps
    wanted = round((1 - (1 - strength) ** 2) * 999)
    assert len(timesteps) == steps
    gap = timesteps[0] - timesteps[1]
    assert wanted - gap <= timesteps[0] <= wanted


@pytest.mark.usefixtures("tiny_checkpoints")
def test_varying_goes_the_way_of_ddim_at_timesteps_that_are_even_in_noise():
    settings = settings_of(noisy((64, 64)), "vary", num_inference_steps=12)
    plan, loaded = plan_of(settings), checkpoints.load("paintings")
    spacing = SOLVERS["dpm++-logsnr"].spacing
    assert plan.solver == "ddim"
    assert plan.eta == 0
    assert list(plan.timesteps) == spacing(alphas_cumprod(loaded.scheduler_config), 12)


@pytest.mark.parametrize("task", edit_tasks.NAMES)
def test_steps_are_done_once_unless_told(task: str):
    picture, mask = noisy((64, 64)), marked((64, 64), (20, 20, 40, 40))
    for repeats, most in ((0, 1), (1, 1), (3, 3)):
        settings = settings_of(picture, task, mask=mask, repeats=repeats)
        facts = edit_tasks.facts_of(settings, edit_tasks.canvas_of(settings, 64), 64)
        guide = edit_tasks.guide_of(settings, facts, [])
        assert max(guide.recurrence(index, 20) for index in range(20)) == most


# --- previews ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("task", edit_tasks.NAMES)
def test_previews_of_a_large_picture_are_small_and_the_last_one_is_not(task: str):
    size = (300, 200)
    mask = marked(size, (100, 100, 150, 150)) if task == "fill" else ""
    *before, last = edited(noisy(size), task, mask=mask)
    for preview in before:
        assert {picture.size for picture in (*preview.pictures, *preview.unguided)} == {(256, 171)}
    assert {picture.size for picture in (*last.pictures, *last.unguided)} == {size}
    assert last.unguided[0].tobytes() == noisy(size).tobytes()


# --- masks that leave nothing ---------------------------------------------------------------------


def test_a_mask_that_is_white_in_the_square_alone_is_told_apart_from_one_that_is_all_white():
    picture, mask = noisy((64, 64)), marked((64, 64), (0, 0, 40, 40))
    with pytest.raises(SettingsError, match=r"^mask must leave something inside crop") as caught:
        settings_of(picture, "fill", mask=mask, crop="0, 0, 32")
    assert caught.value.kind == "fill_all_in_crop"
    settings_of(picture, "fill", mask=mask, crop="0, 0, 48")
    with pytest.raises(SettingsError) as caught:
        settings_of(picture, "fill", mask=marked((64, 64), (0, 0, 63, 63)))
    assert caught.value.kind == "fill_all"


@pytest.mark.parametrize(("first", "last"), [(30, 93), (30, 130), (0, 63), (96, 159), (0, 150)])
def test_a_mask_over_the_whole_width_of_a_high_picture_can_be_filled(first: int, last: int):
    mask = marked((64, 160), (0, first, 63, last))
    settings = settings_of(noisy((64, 160)), "fill", mask=mask)
    seen = edit_tasks.canvas_of(settings, 64)
    left, top, side = seen.square
    assert left == -((side - 64) // 2) - (side - 64) % 2
    assert 0 <= top <= 160 - side
    assert top < first or top + side > last + 1  # something that is kept is seen
    assert float(seen.free(64).amin()) == 0
