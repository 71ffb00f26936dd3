"""The colour product: pairs of pictures that form, what is computed once, and what is reached."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pipelines.core import colorimetry, images
from pipelines.core.cache import Cache
from pipelines.core.rules import SettingsError, validate
from pipelines.diffusion import losses
from pipelines.diffusion.methods import METHODS
from pipelines.models import checkpoints
from pipelines.products import color
from pipelines.products.settings import ColorSettings
from pipelines.runs import comparison
from pipelines.runs.comparison import UnguidedStep
from tests.conftest import Meter

pytestmark = pytest.mark.slow

OURS = [name for name in METHODS if name != "course"]
LUMA = np.array(losses.LUMINANCE)


def run(**options: Any) -> list[color.Preview]:
    """Every preview of a run, a short one unless told."""
    return list(color.generate(ColorSettings(**{"num_inference_steps": 6, **options})))


def paint(**options: Any) -> color.Preview:
    """The last preview of a run."""
    return run(**options)[-1]


def pixels(pictures: Sequence[Image.Image]) -> np.ndarray:
    """`(b, h, w, 3)`, 0 to 255."""
    return np.stack([np.asarray(picture) for picture in pictures]).astype(int)


def white_left(size_px: int = 64) -> str:
    """A mask of the left half as a data address."""
    picture = Image.new("L", (size_px, size_px))
    picture.paste(255, (0, 0, size_px // 2, size_px))
    return images.to_data_uri(picture)


@pytest.mark.usefixtures("tiny_checkpoints")
def test_each_step_gives_one_pair_of_pictures_per_image_and_its_distances():
    previews = run(num_images=2, num_inference_steps=4)
    assert [p.step for p in previews] == [1, 2, 3, 4]
    assert [p.finished for p in previews] == [False, False, False, True]
    for preview in previews:
        for pictures in (preview.pictures, preview.unguided):
            assert [(p.mode, p.size) for p in pictures] == [("RGB", (64, 64))] * 2
        assert len(preview.score_before) == len(preview.score_after) == 2
        for noted in (preview.losses, preview.unguided_losses):
            assert [len(values) for values in noted] == [2] * preview.step
        assert preview.failed_steps == []
    assert previews[-1].model == "paintings"
    assert len(previews[-1].revision) == 12


def test_bad_settings_fail_at_the_call_and_load_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checkpoints, "load", lambda key: pytest.fail("loaded"))
    with pytest.raises(SettingsError, match="color must be"):
        color.generate(ColorSettings(color="notacolour"))


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize(
    "options",
    [
        *({"method": method} for method in METHODS),
        {"repeats": 3},
        {"palette": "#102040 60, gold 40", "symmetry": "left-right", "contrast": 0.3},
    ],
    ids=str,
)
def test_a_scale_of_zero_gives_the_unguided_pictures_bit_for_bit(options: dict[str, Any]):
    for preview in run(guidance_scale=0, num_images=2, seed=3, **options):
        assert np.array_equal(pixels(preview.pictures), pixels(preview.unguided))
        assert preview.losses == preview.unguided_losses
        assert preview.score_after == preview.score_before


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize(
    "options",
    [
        *({"method": method} for method in OURS),
        {"repeats": 3, "eta": 0.5},
        {"loss": "pixels"},
        {"palette": "teal 50, gold 50", "mask": white_left(), "brightness": 0.6},
    ],
    ids=lambda options: ", ".join(options.values()) if "method" in options else ", ".join(options),
)
@pytest.mark.thorough
def test_a_picture_is_the_same_alone_and_in_a_batch(options: dict[str, Any]):
    together = paint(seed=20, num_images=3, **options)
    alone = paint(seed=22, **options)
    for pictures in ("pictures", "unguided"):
        among, single = pixels(getattr(together, pictures)), pixels(getattr(alone, pictures))
        # Rounding can turn the sign that the gradient of an absolute error is made of, and the
        # order in which pixels are given a palette's colours.
        rough = "loss" in options or "palette" in options
        assert (np.abs(among[2] - single[0]) > 1).mean() <= (0.001 if rough else 0)
    again = paint(seed=20, num_images=3, **options)
    assert np.array_equal(pixels(together.pictures), pixels(again.pictures))
    assert np.abs(pixels(together.pictures)[0] - pixels(together.pictures)[1]).max() > 30


def test_the_unguided_run_is_computed_once_for_all_colours_and_strengths(meter: Meter):
    meter.seconds = 0

    def calls(**options: Any) -> int:
        before = meter.calls
        paint(**{"method": "fast", **options})
        return meter.calls - before

    assert calls() == 12
    assert calls() == 6
    assert calls(color="gold") == 6
    assert calls(guidance_scale=0.4, region="left", symmetry="left-right") == 6
    assert calls(seed=1) == 12
    assert calls(num_images=2) == 12
    assert calls(num_inference_steps=5) == 10
    assert calls(model="scenes") == 12
    assert calls(method="balanced", repeats=1) == 12
    assert calls(method="balanced", repeats=1, eta=0.5) == 12
    assert calls() == 6


def test_without_comparing_the_same_guided_pictures_are_painted_and_no_others(meter: Meter):
    meter.seconds = 0
    settings = ColorSettings(num_inference_steps=5, num_images=2, method="fast")
    *_, alone = color.generate(settings, compare=False)
    assert meter.calls == 5
    assert (alone.unguided, alone.unguided_losses, alone.score_before) == ([], [], [])
    both = paint(num_inference_steps=5, num_images=2, method="fast")
    assert np.array_equal(pixels(alone.pictures), pixels(both.pictures))
    assert (alone.score_after, alone.losses) == (both.score_after, both.losses)


def test_remembering_the_unguided_run_changes_no_pixel(tiny_checkpoints: Path):
    first, again = run(num_images=2), run(num_images=2)
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(pixels(one.pictures), pixels(other.pictures))
        assert np.array_equal(pixels(one.unguided), pixels(other.unguided))
        assert one.unguided_losses == other.unguided_losses


def test_an_unguided_run_that_was_stopped_is_not_taken_for_a_whole_one(meter: Meter):
    meter.seconds = 0
    stopped = color.generate(ColorSettings(method="fast", num_inference_steps=6))
    assert len(list(islice(stopped, 3))) == 3
    before = meter.calls
    assert paint(method="fast").finished
    assert meter.calls - before == 12


def test_what_is_kept_has_a_limit_and_what_is_larger_than_that_is_left_out():
    steps = [UnguidedStep(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64))]
    memory = Cache(250_000, comparison._bytes)  # two such runs
    for key in "abc":
        memory.put((key,), steps)
        assert memory.get(("a",)) or key == "c"
    assert [memory.get((key,)) is None for key in "abc"] == [False, True, False]
    memory.put(("large",), steps * 100)
    assert memory.get(("large",)) is None
    assert memory.get(("a",))


@pytest.mark.usefixtures("tiny_checkpoints")
def test_the_score_is_the_colour_difference_of_the_mean_of_all_or_of_the_region():
    whole = paint(color="gold", num_images=2)
    for found, pictures in (
        (whole.score_before, whole.unguided),
        (whole.score_after, whole.pictures),
    ):
        means = pixels(pictures).mean(axis=(1, 2))
        assert found == pytest.approx(
            [colorimetry.difference(mean, (255, 215, 0)) for mean in means.tolist()], abs=1e-3
        )
    left = paint(color="gold", region="left")
    mean = pixels(left.pictures)[0, :, :32].mean(axis=(0, 1)).tolist()
    expected = colorimetry.difference(mean, (255, 215, 0))
    assert left.score_after == [pytest.approx(expected, abs=1e-3)]
    assert color.mean_color(left.pictures[0], left.settings) == images.to_hex(
        [round(value) for value in mean]
    )


def test_the_score_of_a_palette_is_0_for_its_own_colours_and_counts_in_steps():
    settings = validate(ColorSettings(palette="#204060 25, #C0A040 75"))
    picture = Image.new("RGB", (8, 8), "#C0A040")
    picture.paste("#204060", (0, 0, 2, 8))
    assert color.score(picture, settings) == pytest.approx(0, abs=0.01)
    shifted = Image.eval(picture, lambda value: value + 10)
    assert color.score(shifted, settings) == pytest.approx(10, rel=0.25)


def test_the_terms_are_the_extras_with_their_weight_and_then_the_colour():
    settings = validate(
        ColorSettings(
            color="black", symmetry="top-bottom", contrast=0.2, brightness=0.75, extras_weight=0.4
        )
    )
    symmetry, contrast, brightness, mean = color.terms_of(settings, 64)
    assert symmetry == losses.Term(losses.Symmetry("top-bottom"), 0.4)
    assert contrast == losses.Term(losses.Contrast(0.4), 0.4)
    assert brightness == losses.Term(losses.Brightness(0.5), 0.4)
    assert mean.weight == 1
    assert isinstance(mean.loss, losses.MeanColor)
    assert mean.loss.color.tolist() == [-1, -1, -1]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, losses.MeanColor),
        ({"palette": "red"}, losses.Palette),
        ({"loss": "pixels"}, losses.TargetColor),
        ({"method": "course"}, losses.TargetColor),
    ],
)
def test_the_loss_is_the_one_that_was_chosen(options: dict[str, Any], expected: type):
    settings = validate(ColorSettings(**options))
    assert isinstance(color.color_loss(settings, 64), expected)


def test_a_mask_of_any_size_becomes_one_of_the_picture():
    for size_px in (2, 64, 200):
        mask = color.region_of(ColorSettings(mask=white_left(size_px)), 64)
        assert mask is not None
        assert torch.equal(mask, torch.cat([torch.ones(64, 32), torch.zeros(64, 32)], dim=1))


@pytest.mark.usefixtures("tiny_checkpoints")
def test_a_spot_in_a_mask_that_is_smaller_than_a_pixel_still_counts():
    spot = Image.new("L", (1024, 1024))
    spot.putpixel((5, 5), 255)
    settings = {"mask": images.to_data_uri(spot), "num_inference_steps": 2, "method": "fast"}
    for palette in ("", "teal"):
        last = paint(palette=palette, **settings)
        assert np.isfinite(last.score_after).all()
        assert last.failed_steps == []


@dataclass(frozen=True)
class Broken:
    """A loss that is not a number for the second image of a batch."""

    polyak: float = 2.0

    def __call__(self, x0: Tensor) -> Tensor:
        return (x0 - 1).square().mean(dim=(1, 2, 3)) * x0.new_tensor([1, torch.nan])


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("method", OURS)
def test_a_gradient_that_is_no_number_is_reported_and_leaves_its_picture_unguided(
    monkeypatch: pytest.MonkeyPatch, method: str
):
    monkeypatch.setattr(color, "color_loss", lambda settings, size_px: Broken())
    last = paint(num_images=2, method=method, stop=0.5, repeats=1)
    assert last.failed_steps == [1, 2, 3]
    guided, plain = pixels(last.pictures), pixels(last.unguided)
    assert np.abs(guided[0] - plain[0]).max() > 30
    assert np.abs(guided[1] - plain[1]).max() <= 1


@pytest.mark.usefixtures("tiny_checkpoints")
def test_runs_in_two_threads_at_once_give_what_they_give_alone():
    wishes = [{"color": "gold", "seed": 5}, {"color": "navy", "seed": 6, "method": "thorough"}]
    with ThreadPoolExecutor(2) as pool:
        at_once = list(pool.map(lambda wish: paint(**wish), wishes))
    for found, wish in zip(at_once, wishes, strict=True):
        assert np.array_equal(pixels(found.pictures), pixels(paint(**wish).pictures))


@pytest.mark.usefixtures("tiny_checkpoints")
def test_no_guidance_window_is_no_guidance():
    last = paint(start=0.5, stop=0.5)
    assert np.array_equal(pixels(last.pictures), pixels(last.unguided))


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("method", OURS)
def test_more_strength_comes_nearer_to_the_colour(method: str):
    scores = [
        paint(method=method, guidance_scale=scale).score_after[0] for scale in (0, 0.05, 0.2, 0.5)
    ]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < scores[0] / 2


@pytest.mark.usefixtures("tiny_checkpoints")
def test_guidance_towards_a_colour_brings_the_predicted_loss_down():
    last = paint(guidance_scale=0.5, num_inference_steps=10)
    assert last.losses[0] == last.unguided_losses[0]  # the first prediction is not guided yet
    assert last.losses[-1][0] < last.unguided_losses[-1][0] / 3


# With the bundled checkpoints: an untrained network is no judge of what guidance reaches.


def bundled(**options: Any) -> color.Preview:
    return paint(**{"method": "fast", "num_inference_steps": 12, **options})


@pytest.mark.parametrize("model", ["paintings", "scenes"])
@pytest.mark.parametrize("method", OURS)
@pytest.mark.thorough
def test_the_mean_colour_reaches_the_target(model: str, method: str):
    last = bundled(model=model, method=method, num_images=2, seed=11)
    assert max(last.score_after) < 3
    assert min(last.score_before) > 6


@pytest.mark.thorough
def test_the_course_comes_nearer_than_no_guidance():
    last = bundled(method="course", guidance_scale=40, num_inference_steps=40)
    assert last.score_after[0] < last.score_before[0]


@pytest.mark.parametrize("part", [{"region": "left"}, {"mask": white_left()}], ids=["name", "mask"])
def test_a_region_reaches_the_colour_and_the_rest_keeps_its_distance(part: dict[str, str]):
    last = bundled(color="#C8452F", **part)
    means = pixels(last.pictures)[0].reshape(64, 2, 32, 3).mean(axis=(0, 2))
    left, right = (colorimetry.difference(mean, (200, 69, 47)) for mean in means.tolist())
    assert left < 3
    assert right > left + 6


@pytest.mark.thorough
def test_a_palette_halves_the_distance_to_its_colours_at_least():
    last = bundled(palette="#102040 60, gold 40", num_inference_steps=16)
    assert last.score_after[0] < last.score_before[0] / 2


@pytest.mark.parametrize("axis", ["left-right", "top-bottom"])
def test_a_symmetric_picture_is_nearly_its_own_mirror_image(axis: str):
    last = bundled(symmetry=axis)
    along = 2 if axis == "left-right" else 1

    def asymmetry(pictures: Sequence[Image.Image]) -> float:
        found = pixels(pictures)
        return float(np.abs(found - np.flip(found, axis=along)).mean())

    assert asymmetry(last.pictures) < asymmetry(last.unguided) / 3
    assert last.score_after[0] < 3


@pytest.mark.parametrize("target", [0.05, 0.2])
def test_the_contrast_becomes_the_wanted_one(target: float):
    last = bundled(contrast=target)
    assert (pixels(last.pictures) @ LUMA).std() / 255 == pytest.approx(target, abs=0.03)
    assert last.score_after[0] < 3


def test_the_brightness_becomes_the_wanted_one_where_the_colour_leaves_it_free():
    for target in (0.4, 0.7):
        last = bundled(region="top", brightness=target)
        assert (pixels(last.pictures) @ LUMA).mean() / 255 == pytest.approx(target, abs=0.05)
        assert last.score_after[0] < 3
