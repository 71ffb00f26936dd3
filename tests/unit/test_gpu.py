"""What only a graphics card can show; skipped where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from benchmarks import precision
from pipelines.core import devices, images
from pipelines.diffusion import guidance, losses, sampling
from pipelines.diffusion.denoisers import unconditional
from pipelines.diffusion.methods import METHODS
from pipelines.diffusion.noise import draw_noise, image_generators
from pipelines.diffusion.solvers import make_schedule
from pipelines.models import checkpoints, clip
from pipelines.products import color, digits, text
from pipelines.products.guided import run_of
from pipelines.products.settings import ColorSettings, DigitsSettings, TextSettings
from pipelines.runs import comparison

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a graphics card")

STEPS = 6
RUNS = [
    (color.generate, ColorSettings(num_inference_steps=STEPS, num_images=2)),
    (color.generate, ColorSettings(num_inference_steps=STEPS, method="thorough")),
    (color.generate, ColorSettings(num_inference_steps=STEPS, method="course", guidance_scale=40)),
    (
        color.generate,
        ColorSettings(
            num_inference_steps=STEPS,
            palette="#102040 60, gold 40",
            symmetry="left-right",
            brightness=0.5,
            contrast=0.2,
        ),
    ),
    (text.generate, TextSettings(num_inference_steps=STEPS, num_images=2, cutouts=2)),
    (text.generate, TextSettings(num_inference_steps=STEPS, method="thorough", color="gold")),
    (digits.generate, DigitsSettings(digits="0123", num_inference_steps=STEPS)),
    (digits.generate, DigitsSettings(digits="7", num_inference_steps=STEPS, solver="ddim", eta=1)),
    *(
        (digits.generate, DigitsSettings(digits="5", conditioning=how, num_inference_steps=STEPS))
        for how in ("cross-attention", "channels")
    ),
]
MEBIBYTE = 2**20


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Full precision on the card, without TF32, and models that are loaded anew."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.delenv("STUDIO_PRECISION", raising=False)
    monkeypatch.delenv("STUDIO_DEVICE", raising=False)
    forget(monkeypatch)
    yield
    forget(monkeypatch)
    torch.cuda.empty_cache()


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    comparison.unguided_runs.clear()
    checkpoints.unload_all()
    clip.unload_all()


def drawn_on(
    device: str, generate: Callable[..., Any], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """The last preview of a run on a device."""
    monkeypatch.setenv("STUDIO_DEVICE", device)
    forget(monkeypatch)
    *_, last = generate(settings)
    return last


def steps_apart(some: list[Image.Image], others: list[Image.Image]) -> Tensor:
    """How far the pixels of pictures are apart, in steps of 255."""
    pairs = zip(some, others, strict=True)
    found = [(images.to_tensor(a) - images.to_tensor(b)).abs().flatten() for a, b in pairs]
    return 127.5 * torch.cat(found)


@pytest.mark.parametrize(("generate", "settings"), RUNS)
def test_a_card_draws_what_the_cpu_draws(
    monkeypatch: pytest.MonkeyPatch, generate: Callable[..., Any], settings: Any
):
    on_cpu = drawn_on("cpu", generate, settings, monkeypatch)
    on_card = drawn_on("cuda", generate, settings, monkeypatch)
    guided = steps_apart(on_cpu.pictures, on_card.pictures)
    unguided = steps_apart(on_cpu.unguided, on_card.unguided)
    # Guidance follows gradients, which carries rounding further than the network alone does.
    assert float(unguided.max()) <= 2
    assert float(guided.quantile(0.99)) <= 4
    assert on_card.step == on_card.total_steps == STEPS
    torch.testing.assert_close(
        torch.tensor(on_card.score_after), torch.tensor(on_cpu.score_after), rtol=0.05, atol=0.05
    )


@pytest.mark.parametrize("name", ["bf16", "fp16"])
@pytest.mark.parametrize(("generate", "settings"), RUNS)
def test_less_precision_on_a_card_draws_nearly_the_same(
    monkeypatch: pytest.MonkeyPatch, name: str, generate: Callable[..., Any], settings: Any
):
    plain = drawn_on("cuda", generate, settings, monkeypatch)
    monkeypatch.setenv("STUDIO_PRECISION", name)
    rough = drawn_on("cuda", generate, settings, monkeypatch)
    guided = steps_apart(plain.pictures, rough.pictures)
    unguided = steps_apart(plain.unguided, rough.unguided)
    assert float(unguided.quantile(0.99)) <= 6
    # Of two ways to fit the same words, a little rounding may take the other.
    if not isinstance(settings, TextSettings):
        assert float(guided.quantile(0.95)) <= 16
    off = max(abs(a - b) for a, b in zip(rough.score_after, plain.score_after, strict=True))
    assert off <= (1.0 if isinstance(settings, ColorSettings) else 0.1)  # Delta E, or a share
    assert rough.failed_steps == []


def test_everything_of_a_run_is_on_the_card_and_noise_is_that_of_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
):
    first = {}
    for device in ("cpu", "cuda"):
        monkeypatch.setenv("STUDIO_DEVICE", device)
        forget(monkeypatch)
        first[device] = next(guided_run("paintings", ColorSettings(num_inference_steps=STEPS)))
        for tensor in (first[device].x_t, first[device].x0, first[device].x_prev):
            assert tensor.device.type == device
    torch.testing.assert_close(first["cuda"].x_t.cpu(), first["cpu"].x_t, rtol=0, atol=0)


def guided_run(key: str, settings: ColorSettings) -> Iterator[sampling.SampleStep]:
    loaded = checkpoints.load(key)
    return run_of(settings, loaded, color.terms_of(settings, loaded.checkpoint.size_px)).steps()


def stock(num_images: int, method: str) -> Iterator[sampling.SampleStep]:
    """A guided run of 256 px, of a network as large as the public ones, with random weights."""
    unet, how = precision.network(256), METHODS[method]
    generators = image_generators(0, num_images)
    noise = draw_noise(generators, (3, 256, 256)).to(devices.device())  # (b, 3, 256, 256)
    scheduler = make_schedule(
        {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02},
        solver=how.solver,
        num_inference_steps=STEPS,
        device=devices.device(),
    )
    terms = [losses.Term(losses.MeanColor(images.color_to_tensor("#44CCAA")))]
    return sampling.sample(
        unconditional(unet),
        noise,
        scheduler,
        prediction_type="epsilon",
        eta=how.eta,
        generators=generators,
        guide=guidance.Guide(how, terms, 0.2),
    )


@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("method", ["balanced", "thorough"])
def test_a_guided_run_of_256_px_fits_and_tells_what_it_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, method: str
):
    monkeypatch.setenv("STUDIO_PRECISION", name)
    torch.cuda.reset_peak_memory_stats()
    *_, last = stock(num_images=1, method=method)
    most = torch.cuda.max_memory_allocated() / MEBIBYTE
    with capsys.disabled():
        print(f"\n256 px, 1 picture, {method}, {name}: at most {most:.0f} MiB of the card")
    assert last.x_prev.dtype is torch.float32
    assert bool(last.x_prev.isfinite().all())
    assert most < 16 * 1024


def test_a_card_that_is_too_small_is_told_and_draws_the_next_picture(
    monkeypatch: pytest.MonkeyPatch,
):
    settings = ColorSettings(num_inference_steps=2, method="thorough", num_images=8)
    monkeypatch.setenv("STUDIO_DEVICE", "cuda")
    checkpoints.load(settings.model)
    torch.cuda.empty_cache()
    before, total = torch.cuda.memory_allocated(), torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction((before + 16 * MEBIBYTE) / total)
    try:
        with pytest.raises(torch.OutOfMemoryError) as caught:
            list(color.generate(settings))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert devices.is_out_of_memory(caught.value)
    devices.free_memory(caught.value)
    assert torch.cuda.memory_allocated() < before + 16 * MEBIBYTE
    *_, last = color.generate(replace(settings, num_images=1))
    assert last.finished


def test_more_than_the_card_has_is_out_of_memory_and_nothing_is_held():
    before = torch.cuda.memory_allocated()
    with pytest.raises(torch.OutOfMemoryError) as caught:
        torch.empty(2**46, dtype=torch.uint8, device="cuda")
    assert devices.is_out_of_memory(caught.value)
    devices.free_memory(caught.value)
    assert torch.cuda.memory_allocated() == before


def test_the_card_is_named_and_every_arithmetic_is_measured_on_it():
    assert devices.describe_device() == torch.cuda.get_device_name()
    rows = precision.measure(64, 1)
    assert [row[0] for row in rows] == ["fp32", "fp32", "bf16", "bf16", "fp16", "fp16"]
    assert all(row[5].endswith(" MiB") for row in rows)
