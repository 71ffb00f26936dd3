"""The text product: what guidance by a CLIP brings about, what it costs and what it leaves alone.

The CLIP of these tests is tiny and untrained, and sees nearly the same in every picture; that
guidance follows it shows in how its small differences change, and in all pictures alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pipelines.core import images
from pipelines.core.errors import CheckpointError
from pipelines.core.rules import SettingsError, validate
from pipelines.diffusion import losses
from pipelines.diffusion.methods import TEXT_METHODS, Pull
from pipelines.diffusion.methods.course import over_alpha_of_step
from pipelines.diffusion.sampling import StepContext
from pipelines.diffusion.views import random_views
from pipelines.models import checkpoints, clip, zero_shot
from pipelines.models.clip import Clip
from pipelines.models.table import CLIPS
from pipelines.products import color, text, words
from pipelines.products.guided import run_of, seeds_of
from pipelines.products.settings import ColorSettings, TextSettings
from pipelines.runs import seed_search
from tests.conftest import Meter

pytestmark = pytest.mark.slow

OURS = [name for name in TEXT_METHODS if name != "course"]
SEA = "ships on the sea"
SHORT = {
    "prompt": SEA,
    "num_inference_steps": 6,
    "guidance_scale": 0.2,
    "cutouts": 2,
    "stop": 1.0,
}


def run(**options: Any) -> list[text.Preview]:
    """Every preview of a run, a short one unless told."""
    return list(text.generate(TextSettings(**{**SHORT, **options})))


def paint(**options: Any) -> text.Preview:
    """The last preview of a run."""
    return run(**options)[-1]


def strong(method: str) -> dict[str, Any]:
    """A method at a strength whose effect is plain."""
    return {"method": method, "guidance_scale": 1000 if method == "course" else 0.5}


def pixels(pictures: Sequence[Image.Image]) -> np.ndarray:
    """`(b, h, w, 3)`, 0 to 255."""
    return np.stack([np.asarray(picture) for picture in pictures]).astype(int)


def quarters() -> str:
    """A picture unlike any that the tiny network draws, as a data address."""
    picture = Image.new("RGB", (64, 64), "yellow")
    picture.paste("blue", (0, 0, 32, 32))
    picture.paste("red", (32, 32, 64, 64))
    return images.to_data_uri(picture)


def likeness(pictures: Sequence[Image.Image], sentence: str) -> np.ndarray:
    """How near the CLIP finds pictures to a sentence, `(b,)`."""
    model = clip.load("clip-small")
    x0 = torch.cat([images.to_tensor(picture) for picture in pictures])
    return (clip.encode_images(model, x0) @ clip.encode_text(model, sentence)).numpy()


def watch(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor, Tensor], Tensor] | None = None
) -> list[Tensor]:
    """Every batch of pictures that a CLIP is shown; `change` may alter what it says of them."""
    shown: list[Tensor] = []
    really = clip.encode_images

    def watched(model: Clip, x0: Tensor) -> Tensor:
        shown.append(x0)
        found = really(model, x0)
        return change(x0, found) if change else found

    monkeypatch.setattr(clip, "encode_images", watched)
    return shown


# --- the stream ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("tiny_checkpoints")
def test_each_step_gives_one_pair_of_pictures_per_image_and_what_was_measured():
    previews = run(num_images=2, num_inference_steps=4, seed=9)
    assert [p.step for p in previews] == [1, 2, 3, 4]
    assert [p.finished for p in previews] == [False, False, False, True]
    for preview in previews:
        for pictures in (preview.pictures, preview.unguided):
            assert [(p.mode, p.size) for p in pictures] == [("RGB", (64, 64))] * 2
        for noted in (preview.losses, preview.similarities, preview.unguided_similarities):
            assert [len(values) for values in noted] == [2] * preview.step
        assert preview.score_before == preview.unguided_similarities[preview.step - 1]
        assert preview.score_after == preview.similarities[preview.step - 1]
        assert preview.failed_steps == []
    assert (previews[-1].model, previews[-1].settings.seed) == ("paintings", 9)
    assert len(previews[-1].revision) == len(previews[-1].clip_revision) == 12
    assert previews[-1].clip_revision == clip.load("clip-small").revision


@pytest.mark.usefixtures("tiny_checkpoints")
def test_what_is_shown_is_what_the_network_predicts_and_not_what_was_just_moved():
    settings = validate(TextSettings(**{**SHORT, **strong("balanced")}))
    model = clip.load("clip-small")
    target, seeds = text.target_of(settings, model), seeds_of(settings)
    terms = text.terms_of(settings, model, target, seeds)
    loaded = checkpoints.load(settings.model)
    *before, last = run_of(settings, loaded, terms, seeds).steps()
    for step in before:
        assert torch.equal(step.preview, step.x0_network.clamp(-1, 1))
        assert (step.preview - step.x0).abs().max() > 0.05
    assert torch.equal(last.preview, last.x_prev)


@pytest.mark.usefixtures("tiny_checkpoints")
def test_losses_are_noted_of_guided_steps_and_similarities_of_all():
    last = paint(num_inference_steps=10, start=0.2, stop=0.8, every=2)
    assert len(last.losses) == 3
    assert len(last.similarities) == len(last.unguided_similarities) == 10
    assert last.similarities[:2] == last.unguided_similarities[:2]
    assert all(0 < value < math.pi**2 / 2 for values in last.losses for value in values)


@pytest.mark.usefixtures("tiny_checkpoints")
def test_a_seed_that_was_drawn_is_told_and_draws_the_same_again():
    drawn = paint(seed=-1)
    assert drawn.settings.seed >= 0
    again = paint(seed=drawn.settings.seed)
    assert np.array_equal(pixels(drawn.pictures), pixels(again.pictures))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"prompt": "..."}, "prompt must be words"),
        ({"prompt": ""}, "prompt must be words"),
        ({"clip_model": "ViT-L-14"}, "clip_model must be one of"),
        ({"image_prompt": "cat.png"}, "image_prompt must be"),
        ({"method": "course", "color": "teal"}, "color must be left empty"),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)
def test_bad_settings_fail_at_the_call_and_load_nothing(
    options: dict[str, Any], sentence: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(checkpoints, "load", lambda key: pytest.fail("loaded"))
    monkeypatch.setattr(clip, "load", lambda key: pytest.fail("loaded"))
    with pytest.raises(SettingsError, match=sentence):
        text.generate(TextSettings(**{**SHORT, **options}))


@pytest.mark.parametrize("name", ["prompt", "negative_prompt"])
def test_a_sentence_that_is_too_long_fails_at_the_call_before_any_step(meter: Meter, name: str):
    wishes = {**SHORT, name: "trees | " + "trees " * 15}
    with pytest.raises(SettingsError, match=r"at most 14 tokens for clip-small, .+, got 15$"):
        text.generate(TextSettings(**wishes))
    assert meter.calls == 0
    assert run(**{name: "trees:1 | " + "trees " * 14})[-1].finished


def test_a_clip_without_its_weights_fails_at_the_call(
    tiny_checkpoints: Path, monkeypatch: pytest.MonkeyPatch, meter: Meter
):
    row = CLIPS["clip-small"]
    monkeypatch.setattr(type(row), "folder", property(lambda row: tiny_checkpoints / "scenes"))
    with pytest.raises(CheckpointError, match=r"open_clip_model\.safetensors"):
        text.generate(TextSettings(**SHORT))
    assert meter.calls == 0


@pytest.mark.usefixtures("tiny_checkpoints")
def test_words_that_the_clip_never_saw_are_told_of_both_prompts():
    last = paint(prompt="Zebra trees:2 | quagga", negative_prompt="people | zebra gnu")
    assert last.unseen_words == ["zebra", "quagga", "gnu"]
    assert paint(negative_prompt="people").unseen_words == []


@pytest.mark.usefixtures("tiny_checkpoints")
def test_words_in_a_script_that_the_clip_never_learned_are_told_apart_and_drawn():
    last = paint(prompt="雪景：2｜quagga trees", negative_prompt="люди")
    assert last.finished
    assert last.unseen_words == ["雪景", "quagga", "люди"]
    assert text.details(last)["unreadable_words"] == ["雪景", "люди"]


# --- what must never change a picture ------------------------------------------------------------


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize(
    "options",
    [
        *({"method": method} for method in TEXT_METHODS),
        {"repeats": 3, "color": "gold", "negative_prompt": "people"},
        {"image_prompt": quarters(), "every": 2},
    ],
    ids=lambda options: options.get("method", ", ".join(options)),
)
def test_a_scale_of_zero_gives_the_unguided_pictures_bit_for_bit(options: dict[str, Any]):
    for preview in run(guidance_scale=0, num_images=2, seed=3, **options):
        assert np.array_equal(pixels(preview.pictures), pixels(preview.unguided))
        assert preview.score_after == pytest.approx(preview.score_before, abs=1e-6)
        assert preview.losses == []


@pytest.mark.usefixtures("tiny_checkpoints")
def test_no_guidance_window_is_no_guidance():
    last = paint(start=0.5, stop=0.5)
    assert np.array_equal(pixels(last.pictures), pixels(last.unguided))


BATCHES: list[dict[str, Any]] = [
    *({"method": method} for method in OURS),
    {"repeats": 3, "eta": 0.5},
    {"negative_prompt": "people:0.5", "image_prompt": quarters(), "color": "gold", "every": 2},
]


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("options", BATCHES, ids=lambda o: o.get("method", ", ".join(o)))
def test_a_picture_is_the_same_alone_and_in_a_batch(options: dict[str, Any]):
    # Rounding can turn the sign of what a unit of the CLIP sees, and then where it pulls: early on,
    # from noise, that would grow. Bounds are for a few pixels, which a wrong batch would not keep.
    common = {"start": 0.5, "guidance_scale": 0.1, "num_inference_steps": 8}
    together = paint(seed=20, num_images=3, **common, **options)
    alone = paint(seed=22, **common, **options)
    assert np.abs(pixels(together.unguided)[2] - pixels(alone.unguided)[0]).max() <= 1
    away = np.abs(pixels(together.pictures)[2] - pixels(alone.pictures)[0])
    effect = np.abs(pixels(alone.pictures) - pixels(alone.unguided))
    assert effect.mean() > 1
    assert away.mean() < 0.05 * effect.mean()
    assert alone.score_after == pytest.approx(together.score_after[2:], abs=1e-5)
    assert alone.losses[0] == pytest.approx(together.losses[0][2:], rel=1e-4)
    assert np.abs(pixels(together.pictures)[0] - pixels(together.pictures)[1]).max() > 30


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("method", TEXT_METHODS)
def test_the_same_settings_give_the_same_pixels(method: str):
    first, again = (run(num_images=2, **strong(method)) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(pixels(one.pictures), pixels(other.pictures))
        assert np.array_equal(pixels(one.unguided), pixels(other.unguided))
        assert one.losses == other.losses
        assert one.similarities == other.similarities


@pytest.mark.usefixtures("tiny_checkpoints")
def test_runs_in_two_threads_at_once_give_what_they_give_alone():
    wishes = [{"prompt": "trees", "seed": 5}, {"prompt": SEA, "seed": 6, "method": "thorough"}]
    with ThreadPoolExecutor(2) as pool:
        at_once = list(pool.map(lambda wish: paint(**wish), wishes))
    for found, wish in zip(at_once, wishes, strict=True):
        assert np.array_equal(pixels(found.pictures), pixels(paint(**wish).pictures))


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"negative_prompt": "people"}, {"prompt": f"{SEA} | people:-1"}),
        ({"negative_prompt": "people:-2"}, {"prompt": f"{SEA} | people:2"}),
        ({"prompt": f"{SEA}:0.5 | trees:-0.25"}, {"prompt": f"{SEA}:2|trees:-1"}),
        ({"image_prompt": quarters(), "image_weight": 0}, {}),
        ({"color": "gold", "color_weight": 0}, {}),
    ],
    ids=lambda options: ", ".join(options),
)
def test_what_means_the_same_gives_the_same_pictures(one: dict[str, Any], other: dict[str, Any]):
    found, expected = (paint(num_images=2, guidance_scale=0.5, **o) for o in (one, other))
    assert np.abs(pixels(found.pictures) - pixels(expected.pictures)).max() <= 1
    assert found.score_after == pytest.approx(expected.score_after, abs=1e-5)


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize(
    "options",
    [
        {"prompt": "trees"},
        {"negative_prompt": "people"},
        {"image_prompt": quarters()},
        {"color": "gold"},
        {"cutouts": 3},
        {"every": 2},
        {"method": "thorough"},
    ],
    ids=lambda options: ", ".join(options),
)
def test_what_is_wished_for_otherwise_gives_other_pictures(options: dict[str, Any]):
    usual = pixels(paint(guidance_scale=0.5).pictures)
    assert np.abs(usual - pixels(paint(guidance_scale=0.5, **options).pictures)).max() > 5


# --- what is reached -----------------------------------------------------------------------------


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("method", TEXT_METHODS)
@pytest.mark.parametrize("prompt", [SEA, "people"])
def test_guided_pictures_are_nearer_to_the_prompt_than_unguided_ones(method: str, prompt: str):
    # The course pulls less at every picture in larger batches.
    last = paint(prompt=prompt, num_images=4, seed=30, **strong(method))
    risen = np.array(last.score_after) - np.array(last.score_before)
    assert risen.mean() > 1e-4
    assert (risen > 0).all()


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("method", TEXT_METHODS)
def test_a_negative_weight_alone_pushes_away(method: str):
    last = paint(prompt=f"{SEA}:-1", num_images=4, seed=30, **strong(method))
    near, before = (likeness(pictures, SEA) for pictures in (last.pictures, last.unguided))
    assert (near - before).mean() < -3e-4
    assert (np.array(last.score_after) > np.array(last.score_before)).all()


@pytest.mark.thorough
def test_a_negative_prompt_keeps_away_from_what_it_says():
    # With the bundled networks: an untrained CLIP hardly tells one sentence from another.
    options = {"num_images": 4, "seed": 30, "num_inference_steps": 10}
    sentence = "a portrait of a woman"
    usual, without = (
        likeness(paint(negative_prompt=negative, **options).pictures, sentence)
        for negative in ("", sentence)
    )
    assert (without < usual).all()
    assert (usual - without).mean() > 0.05


@pytest.mark.usefixtures("tiny_checkpoints")
def test_more_strength_comes_nearer_to_the_prompt():
    reached = [
        np.mean(paint(guidance_scale=scale, num_images=4).score_after)
        for scale in (0, 0.02, 0.1, 0.5)
    ]
    assert reached == sorted(reached)
    assert reached[-1] > reached[0] + 1e-3


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("prompt", ["", f"{SEA}:0.1"])
def test_a_picture_to_be_like_is_followed_with_words_and_without(prompt: str):
    options = {"num_images": 4, "guidance_scale": 0.5}
    last = paint(prompt=prompt, image_prompt=quarters(), image_weight=5, **options)
    usual = paint(**options).pictures if prompt else last.unguided
    model = clip.load("clip-small")
    target = clip.encode_images(model, images.to_tensor(images.from_data_uri(quarters())))[0]
    near, far = (
        1 - clip.encode_images(model, torch.cat([images.to_tensor(p) for p in pictures])) @ target
        for pictures in (last.pictures, usual)
    )
    assert (near < 0.9 * far).all()


@pytest.mark.usefixtures("tiny_checkpoints")
def test_the_score_is_the_weighted_mean_of_the_cosines():
    last = paint(prompt=f"{SEA}:2 | people:-0.5", negative_prompt="trees", num_images=2)
    for pictures, score in (
        (last.pictures, last.score_after),
        (last.unguided, last.score_before),
    ):
        sea, people, trees = (likeness(pictures, words) for words in (SEA, "people", "trees"))
        expected = (2 * sea - 0.5 * people - trees) / 3.5
        assert score == pytest.approx(expected.tolist(), abs=1e-4)
        assert min(abs(value) for value in score) > 1e-3


@pytest.mark.parametrize("method", ["fast", "balanced"])
@pytest.mark.thorough
def test_a_colour_is_reached_as_well_as_without_words(method: str):
    # With the bundled networks: an untrained one cannot draw a picture of any colour.
    common = {"method": method, "num_inference_steps": 8, "seed": 11, "color": "#C8452F"}
    words = paint(**common, guidance_scale=0.3, prompt="a landscape with trees")
    plain = list(color.generate(ColorSettings(**common, guidance_scale=0.3)))[-1]
    reached = color.score(words.pictures[0], plain.settings)
    assert plain.score_before[0] > 6
    assert reached < plain.score_after[0] + 1.5
    assert reached < 3


def test_the_colour_has_the_last_word_and_its_own_weight():
    settings = validate(TextSettings(**{**SHORT, "color": "black", "color_weight": 0.4}))
    model = clip.load("clip-small")
    target = text.target_of(settings, model)
    words, mean = text.terms_of(settings, model, target, [0])
    assert isinstance(words.loss, losses.EmbeddingDistance)
    assert words.weight == 1
    assert isinstance(mean.loss, losses.MeanColor)
    assert mean.loss.color.tolist() == [-1, -1, -1]
    assert mean.weight == 0.4
    assert len(text.terms_of(validate(TextSettings(**SHORT)), model, target, [0])) == 1


# --- several seeds -------------------------------------------------------------------------------


def fits(settings: TextSettings, pictures: Sequence[Image.Image]) -> list[float]:
    """How well pictures fit, as seeds are chosen by."""
    model = clip.load(settings.clip_model)
    x0 = torch.cat([images.to_tensor(picture) for picture in pictures])
    return text.fit_of(settings, model, text.target_of(settings, model))(x0).tolist()


@pytest.mark.parametrize("method", ["fast", "balanced", "thorough"])
@pytest.mark.thorough
def test_of_several_seeds_the_one_that_fits_the_words_best_early_on_is_painted(method: str):
    common = {"method": method, "num_inference_steps": 8, "prompt": "a landscape with trees"}
    tried = paint(**common, seed=40, num_images=2, tries=6)
    single = [run(**common, seed=seed) for seed in range(40, 52)]
    early = fits(
        TextSettings(**common), [s[seed_search.steps_of(8) - 1].pictures[0] for s in single]
    )
    best = [max(range(6), key=lambda i: early[i]), max(range(6, 12), key=lambda i: early[i])]
    assert tried.seeds == [40 + i for i in best]
    # Guidance magnifies what rounding makes of another size of batch, but not to another picture.
    for picture, plain, i in zip(tried.pictures, tried.unguided, best, strict=True):
        apart = [np.abs(pixels([picture]) - pixels(s[-1].pictures)).mean() for s in single]
        assert int(np.argmin(apart)) == i
        assert np.abs(pixels([plain]) - pixels(single[i][-1].unguided)).mean() < 1


@pytest.mark.usefixtures("tiny_checkpoints")
def test_while_seeds_are_tried_the_best_so_far_are_shown_before_the_first_step():
    previews = run(num_images=3, tries=4, num_inference_steps=8)
    trying = [p for p in previews if p.step == 0]
    steps = [p for p in previews if p.step]
    assert len(trying) == seed_search.steps_of(8) + 1
    assert previews == trying + steps
    assert [p.step for p in steps] == list(range(1, 9))
    for preview in trying:
        assert not preview.finished
        assert len(preview.pictures) == len(preview.unguided) == len(preview.seeds) == 3
        assert len(preview.score_after) == 3
        assert preview.score_before == []  # the unguided pictures are not drawn as yet
        assert preview.total_steps == 8
    assert {tuple(p.seeds) for p in steps} == {tuple(trying[-1].seeds)}
    assert all(0 <= seed - 4 * i < 4 for i, seed in enumerate(steps[0].seeds))
    assert all(len(p.similarities) == p.step for p in steps)
    seconds = [p.seconds for p in previews]
    assert seconds == sorted(seconds)
    assert steps[-1].seconds > steps[-1].times[-1]


@pytest.mark.usefixtures("tiny_checkpoints")
def test_seeds_are_tried_without_guidance_and_without_comparing_too():
    settings = TextSettings(**{**SHORT, "tries": 4, "guidance_scale": 0.0})
    *_, last = text.generate(settings, compare=False)
    assert last.unguided == []
    early = [
        run(seed=seed, guidance_scale=0.0)[seed_search.steps_of(6) - 1].pictures[0]
        for seed in range(4)
    ]
    assert last.seeds == [int(np.argmax(fits(settings, early)))]


def test_a_picture_fits_better_the_less_it_shows_something_else():
    settings = TextSettings(prompt="a portrait of a woman")
    model = clip.load("clip-small")
    target = text.target_of(settings, model)
    fit = text.fit_of(settings, model, target)
    x0 = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    seen = clip.encode_images(model, x0)
    near = text.similarity(model, target, x0) * model.model.logit_scale.exp()
    others = zero_shot.others(model, [settings.prompt])
    clutter = (seen @ others.T * model.model.logit_scale.exp()).exp().sum(dim=1).log()
    torch.testing.assert_close(fit(x0), near - clutter)


@pytest.mark.parametrize("prompt", ["", "a portrait of a woman"])
def test_where_there_is_nothing_else_that_it_might_be_the_nearest_picture_fits_best(
    prompt: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(zero_shot, "_SAME_MEANING", -1.0 if prompt else 0.9)
    settings = TextSettings(prompt=prompt, image_prompt=quarters(), image_weight=1.0)
    model = clip.load("clip-small")
    target = text.target_of(settings, model)
    x0 = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    fit = text.fit_of(settings, model, target)
    assert fit(x0).tolist() == text.similarity(model, target, x0).tolist()


def test_what_tries_cost_is_told_beforehand():
    def evaluations(**options: Any) -> float:
        return text.work(TextSettings(num_inference_steps=20, seed=77, **options)).evaluations

    assert evaluations() == 40
    assert evaluations(tries=8) == 40 + 8 * seed_search.steps_of(20)
    assert evaluations(tries=8, num_images=2) == evaluations(tries=8)
    thorough = evaluations(method="thorough")
    assert evaluations(method="thorough", tries=2) > thorough + 2 * 3 * seed_search.steps_of(20)


# --- the course ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("tiny_checkpoints")
def test_the_course_guides_every_step_as_it_does_for_words_and_not_for_colours(
    monkeypatch: pytest.MonkeyPatch,
):
    alphas: list[float] = []

    def nothing(pull: Pull, context: StepContext, scale: float) -> Tensor:
        alphas.append(float(context.schedule.alpha_bar[context.index] ** 0.5))
        return 0 * pull.gradient

    course = TEXT_METHODS["course"]
    assert course.step is over_alpha_of_step
    monkeypatch.setitem(TEXT_METHODS, "course", replace(course, step=nothing))
    paint(**strong("course"))
    assert len(alphas) == 6
    assert alphas == sorted(alphas, reverse=True)
    assert 0.99 < alphas[-1] < alphas[0] < 1  # of the six least noisy of a thousand timesteps


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("method", ["balanced", "course"])
def test_the_course_shows_the_clip_pictures_of_twice_the_contrast_and_darker(
    monkeypatch: pytest.MonkeyPatch, method: str
):
    views: list[Tensor] = []
    really = random_views

    def kept(*wishes: Any) -> Tensor:
        views.append(really(*wishes))
        return views[-1]

    monkeypatch.setattr(words, "random_views", kept)
    shown = watch(monkeypatch)
    paint(num_inference_steps=2, **strong(method))
    compared = [x0 for x0 in shown if x0.requires_grad]
    assert len(compared) == len(views) == 2
    for x0, view in zip(compared, views, strict=True):
        seen = 2 * view - 1 if method == "course" else view
        torch.testing.assert_close(x0, seen.flatten(0, 1))


# --- cost ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("method", ["fast", "balanced", "course"])
@pytest.mark.parametrize(("every", "guided"), [(1, 6), (2, 3)])
def test_the_clip_looks_once_in_each_guided_step_and_once_to_measure(
    monkeypatch: pytest.MonkeyPatch, method: str, every: int, guided: int
):
    shown = watch(monkeypatch)
    options = strong(method) | {"color": "" if method == "course" else "gold"}
    last = paint(num_images=2, every=every, cutouts=3, **options)
    compared = [x0 for x0 in shown if x0.requires_grad]
    assert len(compared) == guided
    assert [tuple(x0.shape) for x0 in compared] == [(6, 3, 32, 32)] * guided
    assert len(shown) == len(compared), "nobody has looked at a score"
    assert [len(scores) for scores in last.similarities] == [2] * 6
    assert [len(scores) for scores in last.unguided_similarities] == [2] * 6
    assert len(shown) - len(compared) == 6
    assert not any(p.requires_grad for p in clip.load("clip-small").model.parameters())
    assert all(p.grad is None for p in clip.load("clip-small").model.parameters())
    assert len(last.losses) == guided


@pytest.mark.usefixtures("tiny_checkpoints")
def test_sentences_are_read_once_for_all_runs(monkeypatch: pytest.MonkeyPatch):
    model = clip.load("clip-small")
    read: list[int] = []
    really = model.model.encode_text

    def counted(tokens: Tensor, *rest: Any, **options: Any) -> Tensor:
        read.append(len(tokens))
        return really(tokens, *rest, **options)

    monkeypatch.setattr(model.model, "encode_text", counted)
    paint(prompt="ships | trees", negative_prompt="people")
    assert sum(read) == 3
    paint(prompt="people:-1 | ships:2", seed=1)
    assert sum(read) == 3
    paint(prompt="ships | snow")
    assert sum(read) == 4


def test_the_unguided_run_is_computed_once_for_all_prompts_and_strengths(meter: Meter):
    meter.seconds = 0

    def calls(**options: Any) -> int:
        before = meter.calls
        assert paint(**{"method": "fast", **options}).finished
        return meter.calls - before

    assert calls() == 12
    assert calls() == 6
    assert calls(prompt="a red rose | people:-1", negative_prompt="trees") == 6
    assert calls(guidance_scale=0.4, color="gold", image_prompt=quarters(), every=2) == 6
    assert calls(cutouts=1, start=0.3) == 6
    assert calls(seed=1) == 12
    assert calls(num_images=2) == 12
    assert calls(num_inference_steps=5) == 10
    assert calls(model="scenes") == 12
    assert calls(method="balanced", repeats=1) == 12
    assert calls() == 6


def test_without_comparing_the_same_guided_pictures_are_painted_and_no_others(meter: Meter):
    meter.seconds = 0
    settings = TextSettings(**{**SHORT, "num_images": 2, "method": "fast"})
    *_, alone = text.generate(settings, compare=False)
    assert meter.calls == 6
    assert (alone.unguided, alone.unguided_similarities, alone.score_before) == ([], [], [])
    both = paint(num_images=2, method="fast")
    assert np.array_equal(pixels(alone.pictures), pixels(both.pictures))
    assert alone.score_after == pytest.approx(both.score_after, abs=1e-6)
    assert alone.losses == both.losses


def test_colours_and_words_share_the_unguided_run_of_one_solver(meter: Meter):
    meter.seconds = 0
    colours = ColorSettings(method="course", num_inference_steps=6)
    assert len(list(color.generate(colours))) == 6
    before = meter.calls
    last = paint(method="course")
    assert meter.calls - before == 6
    again = list(color.generate(colours))[-1]
    assert np.array_equal(pixels(last.unguided), pixels(again.unguided))


def test_what_is_remembered_is_measured_against_the_prompt_of_the_day(meter: Meter):
    meter.seconds = 0
    paint(prompt="people")
    last = paint(prompt="trees", num_images=1)
    assert last.score_before == pytest.approx(likeness(last.unguided, "trees").tolist(), abs=1e-4)


# --- when a CLIP fails ---------------------------------------------------------------------------


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("method", OURS)
def test_a_clip_that_says_no_number_leaves_the_picture_alone_and_is_reported(
    monkeypatch: pytest.MonkeyPatch, method: str
):
    def broken(x0: Tensor, found: Tensor) -> Tensor:
        return found * torch.nan if x0.requires_grad else found

    watch(monkeypatch, broken)
    last = paint(stop=0.5, repeats=1, **strong(method))
    assert last.failed_steps == [1, 2, 3]
    assert np.abs(pixels(last.pictures) - pixels(last.unguided)).max() <= 1
    assert np.isfinite(last.score_after).all()


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("method", OURS)
def test_one_picture_of_which_a_clip_says_no_number_does_not_spoil_the_others(
    monkeypatch: pytest.MonkeyPatch, method: str
):
    expected = paint(num_images=2, repeats=1, **strong(method))

    def broken(x0: Tensor, found: Tensor) -> Tensor:
        second = torch.tensor([1.0, torch.nan]).repeat(len(found) // 2)[:, None]
        return found * second if x0.requires_grad else found

    watch(monkeypatch, broken)
    last = paint(num_images=2, repeats=1, **strong(method))
    assert last.failed_steps == [1, 2, 3, 4, 5, 6]
    assert np.abs(pixels(last.pictures)[0] - pixels(expected.pictures)[0]).max() <= 1
    assert np.abs(pixels(last.pictures)[1] - pixels(last.unguided)[1]).max() <= 1
    assert np.abs(pixels(expected.pictures)[1] - pixels(expected.unguided)[1]).max() > 5
