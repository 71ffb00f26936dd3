"""The edit product: what each task keeps and draws, on bundled and on tiny networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from pipelines.core import images
from pipelines.core.rules import validate
from pipelines.diffusion import losses
from pipelines.diffusion.inversion import EVALUATIONS
from pipelines.products import edit, edit_tasks
from pipelines.products.edit import PRODUCT, EditSettings
from pipelines.runs import provenance
from tests.conftest import Meter

TASKS = edit_tasks.NAMES


def painted(size: tuple[int, int] = (64, 64), mode: str = "RGB") -> Image.Image:
    """Sky over hills, as the bundled model knows them."""
    picture = Image.new("RGB", size, (150, 180, 215))
    draw, (width, height) = ImageDraw.Draw(picture), size
    draw.polygon(
        [(0, height * 0.6), (width * 0.4, height * 0.4), (width, height * 0.65), (width, height)],
        (90, 110, 60),
    )
    draw.rectangle((0, height * 0.75, width, height), (120, 90, 50))
    return picture.convert(mode)


def marked(
    size: tuple[int, int] = (64, 64), box: tuple[float, ...] = (0.4, 0.3, 0.8, 0.7)
) -> Image.Image:
    """A mask that is white in a box, given in shares of the sides."""
    mask = Image.new("L", size)
    corners = [share * side for share, side in zip(box, (*size, *size), strict=True)]
    ImageDraw.Draw(mask).rectangle(corners, 255)
    return mask


PICTURE, MASK = images.to_data_uri(painted()), images.to_data_uri(marked())


def settings_of(task: str, **options: Any) -> EditSettings:
    few: dict[str, Any] = {"image": PICTURE, "num_inference_steps": 5}
    masked: dict[str, Any] = {"mask": MASK} if task == "fill" else {}
    return EditSettings(task=task, **few | masked | options)


def run(task: str, **options: Any) -> list[edit.Preview]:
    return list(PRODUCT.generate(settings_of(task, **options)))


def edited(task: str, **options: Any) -> edit.Preview:
    """The last preview of a run."""
    return run(task, **options)[-1]


def pixels(pictures: Any) -> np.ndarray:
    """`(b, h, w, 3)`, 0 to 255."""
    return np.stack([np.asarray(picture.convert("RGB")) for picture in pictures]).astype(int)


def tensors(pictures: Any) -> Tensor:
    """`(b, 3, h, w)` in [-1, 1]."""
    return torch.cat([images.to_tensor(picture) for picture in pictures])


def kept(mask: Image.Image) -> np.ndarray:
    return np.asarray(mask) == 0


# --- every task ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("task", TASKS)
def test_every_step_gives_pictures_and_the_one_that_came_beside_each(task: str):
    previews = run(task, num_images=2)
    assert [preview.step for preview in previews] == [1, 2, 3, 4, 5]
    for preview in previews:
        for pictures in (preview.pictures, preview.unguided):
            assert [(p.mode, p.size) for p in pictures] == [("RGB", (64, 64))] * 2
        assert len(preview.score_before) == len(preview.score_after) == 2
        assert [len(step) for step in preview.losses] == [2] * preview.step
    last = previews[-1]
    assert last.finished
    assert last.failed_steps == []
    assert all(picture.tobytes() == painted().tobytes() for picture in last.unguided)
    assert (pixels(last.pictures)[0] != pixels(last.pictures)[1]).any()


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize(
    ("task", "size"),
    [
        (task, size)
        for task in TASKS
        for size in ((64, 64), (200, 150), (48, 90))
        if task != "sharpen" or min(size) >= 64  # what is smaller is enlarged to be sharpened
    ],
)
def test_what_the_mask_leaves_comes_back_to_the_bit_at_the_size_of_the_picture(
    task: str, size: tuple[int, int]
):
    picture, mask = painted(size), marked(size)
    options = {"image": images.to_data_uri(picture), "mask": images.to_data_uri(mask)}
    last = edited(task, **options, strength=0.8, num_images=2)
    for found in pixels(last.pictures):
        assert found.shape == (size[1], size[0], 3)
        differs = (found != pixels([picture])[0]).any(axis=2)
        assert not (differs & kept(mask)).any()
        assert differs.any()


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("task", TASKS)
def test_the_same_seed_draws_the_same_and_another_one_does_not(task: str):
    options: dict[str, Any] = {"num_images": 2, "seed": 7, "strength": 0.9}
    first, again = edited(task, **options), edited(task, **options)
    assert (pixels(first.pictures) == pixels(again.pictures)).all()
    other = edited(task, **options | {"seed": 70})
    assert (pixels(first.pictures) != pixels(other.pictures)).any()


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("task", [task for task in TASKS if task != "vary"])
def test_a_picture_is_nearly_the_same_alone_and_among_others(task: str):
    together = edited(task, num_images=3, seed=20)
    alone = edited(task, seed=22)
    assert np.abs(pixels(together.pictures)[2] - pixels(alone.pictures)[0]).max() <= 1


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("method", ["fast", "balanced", "thorough"])
def test_every_method_goes_with_every_task_and_with_wishes(task: str, method: str):
    wishes = {"prompt": "ships", "color": "teal", "symmetry": "left-right"}
    last = edited(task, method=method, num_inference_steps=3, **wishes)
    plain = edited(task, method=method, num_inference_steps=3)
    assert last.finished
    assert last.failed_steps == []
    assert (pixels(last.pictures) != pixels(plain.pictures)).any()


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize(
    "off",
    [{"guidance_scale": 0.0}, {"start": 1.0, "stop": 1.0}, {"stop": 0.0}],
    ids=lambda off: next(iter(off)),
)
def test_wishes_that_are_off_change_no_pixel(off: dict[str, Any]):
    wishes = {"color": "red", "symmetry": "top-bottom"}
    plain, without = edited("fill"), edited("fill", **wishes, **off)
    assert (pixels(plain.pictures) == pixels(without.pictures)).all()


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("task", TASKS)
def test_the_work_is_what_a_run_evaluates(task: str, meter: Meter):
    meter.seconds = 0.0
    for options in ({}, {"color": "red"}, {"repeats": 3}, {"method": "fast"}):
        settings = validate(settings_of(task, **options))
        meter.calls = 0
        list(PRODUCT.generate(settings))
        inversion = EVALUATIONS * settings.num_inference_steps if task == "vary" else 0
        assert PRODUCT.work(settings).evaluations == meter.calls + inversion


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("index", [0, 1])
def test_a_record_brings_every_setting_back_with_the_picture_and_its_mask(task: str, index: int):
    last = edited(task, num_images=2, mask=MASK, color="red", strength=0.3)
    told = PRODUCT.picture_metadata(last, index)
    assert told["settings"]["image"] == PICTURE
    found = provenance.from_facts(told)
    assert found.tab == "edit"
    assert found.settings == last.settings
    assert (
        pixels(list(PRODUCT.generate(found.settings))[-1].pictures) == pixels(last.pictures)
    ).all()


def test_a_link_that_would_hold_a_large_picture_is_refused_with_the_way_out():
    picture = Image.effect_noise((64, 64), 90).convert("RGB")
    settings = validate(settings_of("restyle", image=images.to_data_uri(picture)))
    with pytest.raises(provenance.RecordError, match="Save the PNG instead: it holds everything"):
        provenance.to_query(settings)


# --- with the bundled model ----------------------------------------------------------------------


@pytest.mark.slow
def test_a_hole_is_filled_with_what_fits_and_not_with_grey():
    last = edited("fill", num_inference_steps=8)
    (found,), (came,) = pixels(last.pictures), pixels([painted()])
    hole = ~kept(marked())
    assert (found[~hole] == came[~hole]).all()
    assert 3 < np.abs(found[hole] - came[hole]).mean() < 60


@pytest.mark.slow
@pytest.mark.parametrize(
    "wish",
    [
        {"prompt": "a red sunset", "negative_prompt": "people"},
        {"color": "red"},
        {"palette": "navy 50, gold 50"},
        {"symmetry": "left-right"},
    ],
    ids=lambda wish: next(iter(wish)),
)
def test_a_hole_is_filled_by_wishes_of_every_kind(wish: dict[str, Any]):
    plain, wished = edited("fill"), edited("fill", **wish, guidance_scale=0.5)
    hole = ~kept(marked())
    found = pixels(wished.pictures)[0]
    assert (found[~hole] == pixels([painted()])[0][~hole]).all()
    assert (found[hole] != pixels(plain.pictures)[0][hole]).any()


@pytest.mark.slow
def test_a_mean_colour_is_that_of_what_is_redrawn():
    red = np.array([160, 40, 40])
    hole = ~kept(marked())
    distances = [
        np.abs(pixels(edited("fill", **wish).pictures)[0][hole].mean(axis=0) - red).mean()
        for wish in ({}, {"color": "rgb(160, 40, 40)", "guidance_scale": 0.5})
    ]
    assert distances[1] < distances[0] / 3


@pytest.mark.slow
@pytest.mark.parametrize("wish", [{}, {"color": "red", "guidance_scale": 0.5}], ids=["", "red"])
def test_colouring_keeps_the_grey_of_every_pixel(wish: dict[str, Any]):
    grey = painted(mode="L")
    last = edited("colorize", image=images.to_data_uri(grey), num_images=2, **wish)
    found = losses.luma(tensors(last.pictures))
    expected = losses.luma(images.to_tensor(grey))
    assert float((found - expected).abs().max()) * 127.5 <= 2
    colours = pixels(last.pictures)
    assert np.ptp(colours, axis=3).mean() > 3


@pytest.mark.slow
@pytest.mark.parametrize("factor", [2, 4, 8, 16])
def test_sharpening_draws_a_picture_that_becomes_the_one_that_came(factor: int):
    blurred = painted().resize((64 // factor, 64 // factor), Image.Resampling.BOX)
    blurred = blurred.resize((64, 64), Image.Resampling.BICUBIC)
    last = edited("sharpen", image=images.to_data_uri(blurred), factor=factor, num_images=2)
    small = [F.avg_pool2d(x, factor) for x in (tensors(last.pictures), tensors([blurred]))]
    difference = (small[0] - small[1]).abs() * 127.5
    assert float((difference <= 1).float().mean()) > 0.99
    assert np.abs(pixels(last.pictures)[0] - pixels([blurred])[0]).max() > 4


@pytest.mark.slow
def test_a_picture_is_restyled_the_farther_the_stronger():
    distances = [
        np.abs(pixels(last.pictures) - pixels([painted()])).mean()
        for last in (
            edited("restyle", strength=strength, num_images=4, num_inference_steps=8)
            for strength in (0.2, 0.5, 0.8, 1.0)
        )
    ]
    assert distances == sorted(distances)
    assert distances[0] < distances[-1] / 3


@pytest.mark.slow
def test_variations_go_ever_farther_from_the_picture():
    total = np.zeros(4)
    for seed in range(3):
        last = edited("vary", num_images=4, strength=1.0, seed=10 * seed, num_inference_steps=8)
        difference = np.abs(pixels(last.pictures) - pixels([painted()]))
        total += difference.mean(axis=(1, 2, 3))
        assert last.score_after[0] < last.score_after[-1]
    assert list(total) == sorted(total)
    assert total[0] < 0.75 * total[-1]


# --- scores --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("tiny_checkpoints")
def test_without_words_the_score_is_how_far_the_seen_square_changed():
    last = edited("restyle", num_images=2)
    change = (tensors(last.pictures) - images.to_tensor(painted())).square().mean(dim=(1, 2, 3))
    assert last.score_before == [0.0, 0.0]
    expected = (change.sqrt() * 127.5).tolist()
    assert last.score_after == pytest.approx(expected, abs=0.3)
    assert PRODUCT.facts(last)["score"] == "change"


@pytest.mark.usefixtures("tiny_checkpoints")
def test_with_words_scores_are_similarities_before_and_after():
    last = edited("restyle", prompt="ships and a quxling", num_images=2)
    told = PRODUCT.facts(last)
    assert told["score"] == "cosine similarity"
    assert told["clip_revision"] == last.clip_revision != ""
    assert told["score_before"][0] == told["score_before"][1]
    assert all(-1 <= score <= 1 for score in told["score_before"] + told["score_after"])
    assert PRODUCT.details(last)["unseen_words"]
    assert set(last.revisions) == {"paintings", "clip-small"}


@pytest.mark.usefixtures("tiny_checkpoints")
def test_the_curve_is_the_distance_from_what_is_known_or_else_from_the_picture():
    for task, label in (("fill", "curve_known"), ("restyle", "curve_picture")):
        last = edited(task, num_images=2)
        curve = PRODUCT.curve(last)
        assert curve.label == label
        assert curve.guided == pytest.approx([sum(step) / 2 for step in last.losses])
        assert label in PRODUCT.texts
