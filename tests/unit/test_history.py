"""What is kept of a run to look back at: the right moments, what guidance changed, an animation."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from PIL import Image, ImageSequence
from torch import Tensor, nn

from pipelines.core import images
from pipelines.diffusion import guidance, losses, sampling
from pipelines.diffusion.denoisers import classifier_free_guidance
from pipelines.diffusion.methods import METHODS
from pipelines.diffusion.noise import draw_noise, image_generators
from pipelines.diffusion.sampling import SampleStep
from pipelines.diffusion.solvers import make_schedule
from pipelines.models import checkpoints
from pipelines.products import color, digits, text
from pipelines.products.settings import ColorSettings, DigitsSettings, TextSettings
from pipelines.runs import history
from pipelines.runs.history import History

pytestmark = pytest.mark.slow

COSINE = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2"}
LUMA = torch.tensor(losses.LUMINANCE)


def step_of(index: int, total: int, *, changed: float = 0.0, count: int = 1) -> SampleStep:
    """A step whose pictures tell by their brightness which it is."""
    x0 = torch.full((count, 3, 4, 4), index / (2 * total))
    noisy = x0 + 0.3  # little noise, which is not toned down
    return SampleStep(
        index=index,
        total=total,
        t=999 - index,
        x_t=noisy,
        x0=x0 + changed,
        x0_network=x0,
        x0_unguided=x0,
        x_prev=torch.full((count, 3, 4, 4), 0.9),
        gradient=torch.full((count,), float(index)),
    )


def traced(total: int, **options: Any) -> tuple[History, list[SampleStep]]:
    steps = [step_of(index, total, **options) for index in range(total)]
    found = History()
    for step in steps:
        found.add(step)
    return found, steps


def grey(picture: Image.Image) -> float:
    """The one value of all pixels of a picture, in [-1, 1]."""
    values = images.to_tensor(picture)
    assert values.min() == values.max()
    return float(values[0, 0, 0, 0])


# --- which moments -------------------------------------------------------------------------------


@pytest.mark.parametrize("total", range(1, 13))
def test_of_a_short_run_every_step_is_a_moment(total: int):
    found, _ = traced(total)
    assert [moment.step for moment in found.moments] == list(range(1, total + 1))


@pytest.mark.parametrize("total", [13, 20, 21, 49, 50, 100, 250])
def test_of_a_long_run_eight_to_twelve_are_evenly_spread_from_the_first_to_the_last(total: int):
    found = [moment.step for moment in traced(total)[0].moments]
    assert 8 <= len(found) <= 12
    assert (found[0], found[-1]) == (1, total)
    gaps = [after - before for before, after in pairwise(found)]
    assert min(gaps) >= 1
    assert max(gaps) - min(gaps) <= 1


def test_there_are_no_moments_before_the_last_step():
    found = History()
    for index in range(20):
        assert found.moments == []
        found.add(step_of(index, 20))
    assert len(found.moments) == 10


def test_a_moment_shows_its_own_step_and_the_last_one_the_result():
    found, steps = traced(30, count=2)
    for moment in found.moments:
        step = steps[moment.step - 1]
        assert moment.t == step.t
        assert len(moment.noisy) == len(moment.predicted) == len(moment.change) == 2
        assert grey(moment.noisy[1]) == pytest.approx(float(step.x_t[1, 0, 0, 0]), abs=1.1 / 255)
        predicted = 0.9 if moment.step == 30 else float(step.x0_network[1, 0, 0, 0])
        assert grey(moment.predicted[1]) == pytest.approx(predicted, abs=1.1 / 255)


def test_gradients_are_noted_of_every_step_and_empty_where_it_was_not_guided():
    found = History()
    found.add(step_of(0, 3, count=2))
    found.add(replace(step_of(1, 3, count=2), gradient=None))
    found.add(step_of(2, 3, count=2))
    assert found.gradients == [[0.0, 0.0], [], [2.0, 2.0]]


def test_noise_beyond_the_range_is_toned_down_to_be_seen():
    noise = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = History()
    found.add(replace(step_of(0, 1), x_t=noise, x0_network=torch.zeros_like(noise)))
    shown = images.to_tensor(found.moments[0].noisy[0])
    torch.testing.assert_close(shown, (noise / 2).clamp(-1, 1), atol=0.02, rtol=0)
    assert (shown.abs() == 1).float().mean() < 0.06


@pytest.mark.parametrize("value", [-1.0, -0.3, 1.0])
def test_a_clean_picture_is_shown_as_it_is_however_dark_or_bright(value: float):
    clean = torch.full((1, 3, 4, 4), value)
    found = History()
    found.add(replace(step_of(0, 1), x_t=clean, x0_network=clean))
    assert grey(found.moments[0].noisy[0]) == pytest.approx(value, abs=1 / 255)


# --- the heat map --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.0, (0, 0, 4)),
        (0.125, (31, 12, 72)),
        (0.1875, (58, 14, 90)),  # half way between two colours
        (0.5, (186, 54, 85)),
        (1.0, (252, 255, 164)),
        (-0.2, (0, 0, 4)),
        (3.0, (252, 255, 164)),
    ],
)
def test_the_scale_of_the_heat_map_gives_known_values_known_colours(
    share: float, expected: tuple[int, int, int]
):
    found = history.heat(torch.full((2, 3, 5), share))
    assert found.dtype == torch.uint8
    assert found.shape == (2, 3, 3, 5)
    colors = found.permute(0, 2, 3, 1).reshape(-1, 3).int()
    assert (colors - torch.tensor(expected)).abs().max() <= (share == 0.1875)


def test_the_heat_map_grows_brighter_all_the_way():
    shares = torch.linspace(0, 1, 200)
    brightness = LUMA @ history.heat(shares.view(1, 1, -1))[0, :, 0].float()
    assert (brightness.diff() >= -0.5).all()  # rounded to 8 bits
    assert (brightness[::10].diff() > 0).all()


def test_the_largest_change_of_the_run_is_the_brightest_and_half_of_it_half_way():
    found = History()
    for index, changed in enumerate([0.0, 0.2, 0.4]):
        found.add(step_of(index, 3, changed=changed))
    assert found.largest_change == pytest.approx(0.2)  # 0.4 of a range of 2
    for moment, share in zip(found.moments, [0.0, 0.5, 1.0], strict=True):
        expected = history.heat(torch.full((1, 4, 4), share))
        seen = images.to_uint8(images.to_tensor(moment.change[0]))
        assert (seen.int() - expected.int()).abs().max() <= 1


def test_a_change_in_one_place_glows_in_that_place_alone():
    step = step_of(0, 1)
    moved = step.x0.clone()
    moved[0, :, 1, 2] += 0.6
    found = History()
    found.add(replace(step, x0=moved))
    seen = np.asarray(found.moments[0].change[0])
    assert tuple(seen[1, 2]) == (252, 255, 164)
    seen = seen.copy()
    seen[1, 2] = (0, 0, 4)
    assert (seen == (0, 0, 4)).all()


# --- of real runs --------------------------------------------------------------------------------

RUNS = {
    "color": (color.generate, ColorSettings(num_inference_steps=6)),
    "course": (
        color.generate,
        ColorSettings(num_inference_steps=6, method="course", guidance_scale=40),
    ),
    "text": (text.generate, TextSettings(num_inference_steps=6)),
    "digits": (digits.generate, DigitsSettings(digits="47", num_inference_steps=6)),
}


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("name", ["color", "text"])
def test_without_guidance_nothing_is_changed(name: str):
    generate, settings = RUNS[name]
    off, on = (
        list(generate(replace(settings, guidance_scale=scale)))[-1].history for scale in (0, 0.2)
    )
    assert off.largest_change == 0
    for moment in off.moments:
        assert (np.asarray(moment.change[0]) == (0, 0, 4)).all()
    assert off.gradients == [[]] * 6
    assert on.largest_change > 0.01


def test_the_plain_condition_changes_nothing_and_has_no_gradient():
    # With the bundled network: to an untrained one all classes are nearly the same.
    settings = DigitsSettings(digits="47", num_inference_steps=6)
    off, on = (list(digits.generate(replace(settings, cfg_scale=s)))[-1].history for s in (1, 4))
    assert off.largest_change == 0
    assert off.gradients == [[]] * 6
    assert on.largest_change > 0.01
    assert all(len(values) == 2 and min(values) > 0 for values in on.gradients)


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("name", RUNS)
def test_the_last_moment_of_a_run_is_its_result_and_the_first_its_noise(name: str):
    generate, settings = RUNS[name]
    *_, last = generate(settings)
    first, *_, end = last.history.moments
    assert [p.tobytes() for p in end.predicted] == [p.tobytes() for p in last.pictures]
    shape = (len(last.pictures[0].getbands()), *last.pictures[0].size)
    count = len(last.pictures)
    noise = draw_noise(image_generators(settings.seed, count), shape)
    for seen, expected in zip(first.noisy, images.to_pil(noise / 2), strict=True):
        alike = np.corrcoef(np.asarray(seen).ravel(), np.asarray(expected).ravel())[0, 1]
        assert alike > 0.99


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("name", RUNS)
def test_every_preview_shows_what_its_moment_does(name: str):
    generate, settings = RUNS[name]
    previews = list(generate(settings))
    for preview, moment in zip(previews, previews[-1].history.moments, strict=True):
        assert preview.step == moment.step
        assert [p.tobytes() for p in preview.pictures] == [p.tobytes() for p in moment.predicted]


# --- what guidance follows -----------------------------------------------------------------------


class Linear(nn.Module):
    """Answers with one number per class, in every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.values = torch.arange(11.0) / 20  # the null class is 0.5

    def forward(self, x_t: Tensor, t: Tensor, class_labels: Tensor) -> Any:
        value = (class_labels * self.values).sum(dim=1)  # (b,)
        return type("Output", (), {"sample": value[:, None, None, None].expand_as(x_t)})


def steered(prediction: str) -> list[SampleStep]:
    labels = torch.eye(11)[[3, 9]]
    scheduler = make_schedule(
        {**COSINE, "prediction_type": prediction},
        solver="ddim",
        num_inference_steps=5,
        device="cpu",
    )
    predict = classifier_free_guidance(Linear(), labels, 2.0)
    noise = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return list(sampling.sample(predict, noise, scheduler, prediction_type=prediction, clip=False))


def test_under_classifier_free_guidance_the_unguided_x0_is_the_conditional_one():
    for step in steered("sample"):
        torch.testing.assert_close(step.x0_unguided[:, 0, 0, 0], torch.tensor([0.15, 0.45]))
        torch.testing.assert_close(step.x0_network[:, 0, 0, 0], torch.tensor([-0.2, 0.4]))
        torch.testing.assert_close(step.change[:, 0, 0, 0], torch.tensor([-0.35, -0.05]))


def test_the_gradient_of_classifier_free_guidance_is_the_length_of_what_the_class_changes_in_x0():
    apart = torch.tensor([0.35, 0.05]) * 4  # the root of 16 pixels
    for step in steered("sample"):
        torch.testing.assert_close(step.gradient, apart)
    alphas_cumprod = DDPMScheduler(**COSINE).alphas_cumprod
    for step in steered("v_prediction"):
        sigma = (1 - alphas_cumprod[step.t]) ** 0.5
        torch.testing.assert_close(step.gradient, sigma * apart, rtol=1e-3, atol=1e-4)


def gentle(x_t: Tensor, t: Tensor) -> Tensor:
    """A smooth network of no meaning, that answers x0."""
    return 0.5 * torch.tanh(x_t) + 0.1 * x_t.roll(1, dims=-1)


@pytest.mark.parametrize("method", ["fast", "balanced", "thorough", "course"])
def test_the_gradient_of_a_loss_is_that_of_finite_differences(method: str):
    """Of x0 itself, or through the network where the method goes through it."""
    chosen = METHODS[method]
    loss = losses.TargetColor(torch.tensor([0.5, -0.2, 0.1]))
    scheduler = make_schedule(
        {**COSINE, "prediction_type": "sample"},
        solver=chosen.solver,
        num_inference_steps=4,
        device="cpu",
    )
    noise = torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(1)).double()
    steps = sampling.sample(
        gentle,
        noise,
        scheduler,
        prediction_type="sample",
        generators=image_generators(0, 1),
        guide=guidance.Guide(chosen, [losses.Term(loss)], 0.1, repeats=1),
    )
    checked = 0
    for index, step in enumerate(steps):
        if chosen.clamped and step.x0_network.abs().max() >= 1:
            continue
        alpha = scheduler.alpha[index]
        x, scale, through = step.x0_network, 1.0, chosen.through_network
        if through:
            x, scale = step.x_t, float(alpha)

        def value(at: Tensor, step: SampleStep = step, through: bool = through) -> float:
            return float(loss(gentle(at, torch.tensor(step.t)) if through else at))

        found = []
        for i in range(x.numel()):
            nudge = torch.zeros_like(x)
            nudge.view(-1)[i] = 1e-5
            found.append((value(x + nudge) - value(x - nudge)) / 2e-5)
        expected = scale * torch.tensor(found).norm()
        assert step.gradient is not None
        assert float(step.gradient) == pytest.approx(float(expected), rel=1e-4)
        checked += 1
    assert checked >= 2


# --- the animation -------------------------------------------------------------------------------


def frames_of(data: bytes) -> tuple[Image.Image, list[np.ndarray]]:
    picture = Image.open(io.BytesIO(data))
    frames = [np.asarray(f.convert("RGB")).astype(int) for f in ImageSequence.Iterator(picture)]
    return picture, frames


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("name", ["color", "digits"])
def test_an_animation_is_a_looping_webp_whose_frames_are_those_of_the_run(name: str):
    generate, settings = RUNS[name]
    previews = list(generate(settings))
    picture, frames = frames_of(history.animation(previews[-1].history, columns=4))
    assert (picture.format, picture.info["loop"]) == ("WEBP", 0)
    assert len(frames) == len(previews) == 6
    sheets = []
    for preview in previews:
        side = preview.pictures[0].width
        scale = frames[0].shape[0] // side
        assert 400 <= max(frames[0].shape) <= 640
        sheet = images.grid(preview.pictures, columns=4, scale=scale).convert("RGB")
        sheets.append(np.asarray(sheet).astype(int))
    for i, frame in enumerate(frames):  # WebP loses a little, and each is nearest to its own step
        assert frame.shape == sheets[i].shape
        away = [np.abs(frame - sheet).mean() for sheet in sheets]
        assert np.argmin(away) == i
        assert away[i] < 0.14 * sheets[i].std()  # the more is in a picture, the more is lost


def test_an_animation_rests_on_its_result():
    moving, _ = traced(12)
    picture = Image.open(io.BytesIO(history.animation(moving, columns=1)))
    waits = []
    for frame in range(getattr(picture, "n_frames", 1)):
        picture.seek(frame)
        picture.load()
        waits.append(picture.info["duration"])
    assert set(waits[:-1]) == {history.FRAME_MILLISECONDS}
    assert waits[-1] > 10 * history.FRAME_MILLISECONDS


def test_a_long_run_has_no_more_frames_than_can_be_sent():
    found = History()
    for index in range(250):  # pictures so different that none is left out for being like another
        x0 = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(index)) * 2 - 1
        found.add(replace(step_of(index, 250), x0_network=x0))
    assert len(found.frames) == history.MOST_FRAMES
    _, frames = frames_of(history.animation(found, columns=1))
    assert len(frames) == history.MOST_FRAMES
    assert np.abs(frames[-1] - 242).max() <= 3, "the last frame is the result"


def test_a_run_of_one_step_can_be_looked_back_at_and_animated():
    found, _ = traced(1)
    assert [moment.step for moment in found.moments] == [1]
    assert Image.open(io.BytesIO(history.animation(found, columns=1))).format == "WEBP"


def test_with_the_bundled_network_a_colour_changes_what_is_predicted_from_the_first_step_on():
    *_, last = color.generate(ColorSettings(color="#C8452F", num_inference_steps=12))
    found = last.history
    assert last.revision == checkpoints.load("paintings").revision
    assert 0.02 < found.largest_change <= 1
    assert [moment.step for moment in found.moments] == list(range(1, 13))
    assert all(values[0] > 0 for values in found.gradients)
    brightest = [np.asarray(m.change[0]).mean() for m in found.moments]
    assert brightest[0] > 5 * np.mean((0, 0, 4))
