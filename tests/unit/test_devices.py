"""The device: chosen, named, and locked once; its precision, and its memory when that is short."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor

from pipelines.core import devices, images
from pipelines.core.errors import CheckpointError
from pipelines.diffusion.unets import SpaceToDepthUNet2DModel
from pipelines.models import checkpoints, clip
from pipelines.models.ways import Way
from pipelines.products import color
from pipelines.products.color import PRODUCT
from pipelines.products.guided import run_of
from pipelines.products.settings import ColorSettings
from pipelines.runs import comparison, provenance
from tabs import results

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
PAINTING = ColorSettings(color="#2E6F95", num_inference_steps=5, seed=3)
ACCEPTED = "fp32, bf16 or, on a graphics card, fp16"


@pytest.mark.parametrize("name", ["abacus", "cuda:77"])
def test_the_device_can_be_set_and_a_wrong_one_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str
):
    monkeypatch.setenv("STUDIO_DEVICE", "cpu")
    assert devices.device() == torch.device("cpu")
    monkeypatch.setenv("STUDIO_DEVICE", name)
    with pytest.raises(ValueError, match=rf"STUDIO_DEVICE must be a device .*, got '{name}'"):
        devices.device()


def test_without_a_setting_a_graphics_card_is_used_if_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.delenv("STUDIO_DEVICE", raising=False)
    for found, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda found=found: found)
        assert devices.device().type == expected


def test_the_device_is_named_in_words(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUDIO_DEVICE", "cpu")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert devices.describe_device() == "CPU, 1 thread"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert devices.describe_device() == "CPU, 8 threads"


def test_each_device_has_one_lock_of_its_own():
    cpu = devices.device_lock(torch.device("cpu"))
    assert cpu is devices.device_lock(torch.device("cpu"))
    assert cpu is not devices.device_lock(torch.device("cuda:0"))


@pytest.mark.parametrize(("name", "dtype"), [("", None), ("fp32", None), ("bf16", torch.bfloat16)])
def test_a_precision_is_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str, dtype: torch.dtype | None
):
    monkeypatch.setenv("STUDIO_PRECISION", name)
    assert devices.precision(CPU) is dtype
    assert devices.precision(torch.device("cuda")) is dtype


def test_half_precision_is_for_graphics_cards(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUDIO_PRECISION", "fp16")
    assert devices.precision(torch.device("cuda")) is torch.float16
    with pytest.raises(ValueError, match="fp16") as caught:
        devices.precision(CPU)
    assert str(caught.value) == f"STUDIO_PRECISION must be {ACCEPTED}, got 'fp16'"


@pytest.mark.parametrize("wrong", ["fp8", "BF16", "float32", "bf16 "])
def test_a_wrong_precision_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch, wrong: str):
    monkeypatch.setenv("STUDIO_PRECISION", wrong)
    for device in (CPU, torch.device("cuda")):
        with pytest.raises(ValueError, match="STUDIO_PRECISION") as caught:
            devices.precision(device)
        assert str(caught.value) == f"STUDIO_PRECISION must be {ACCEPTED}, got {wrong!r}"


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """No unguided run of another precision is remembered."""
    comparison.unguided_runs.clear()


def last_of(settings: ColorSettings) -> color.Preview:
    *_, last = color.generate(settings)
    return last


def guided_steps(settings: ColorSettings) -> list[Any]:
    """The guided run itself, with its tensors."""
    loaded = checkpoints.load(settings.model)
    terms = color.terms_of(settings, loaded.checkpoint.size_px)
    return list(run_of(settings, loaded, terms).steps())


@pytest.mark.usefixtures("forgetful")
@pytest.mark.thorough
def test_pictures_of_less_precision_are_nearly_the_same(monkeypatch: pytest.MonkeyPatch):
    exact = last_of(PAINTING)
    monkeypatch.setenv("STUDIO_PRECISION", "bf16")
    comparison.unguided_runs.clear()
    rough = last_of(PAINTING)
    for pictures, others in ((exact.pictures, rough.pictures), (exact.unguided, rough.unguided)):
        for one, other in zip(pictures, others, strict=True):
            found, expected = images.to_tensor(other), images.to_tensor(one)
            assert not torch.equal(found, expected)
            torch.testing.assert_close(found, expected, rtol=0, atol=6 / 127.5)
    torch.testing.assert_close(
        torch.tensor(rough.score_after), torch.tensor(exact.score_after), rtol=0, atol=0.5
    )


@pytest.mark.thorough
def test_less_precision_is_inside_the_network_alone(monkeypatch: pytest.MonkeyPatch):
    seen: list[torch.dtype] = []
    plain: Any = SpaceToDepthUNet2DModel.forward

    def noted(unet: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        found = plain(unet, sample, *args, **kwargs)
        seen.append(found.sample.dtype)
        return found

    monkeypatch.setattr(SpaceToDepthUNet2DModel, "forward", noted)
    monkeypatch.setenv("STUDIO_PRECISION", "bf16")
    steps = guided_steps(dataclasses.replace(PAINTING, method="thorough", num_inference_steps=2))
    assert set(seen) == {torch.bfloat16}
    for step in steps:
        shown = (step.x_t, step.x0, step.x0_network, step.x_prev, step.loss, step.gradient)
        assert {tensor.dtype for tensor in shown} == {torch.float32}
        assert all(bool(tensor.isfinite().all()) for tensor in shown)
    weights = checkpoints.load(PAINTING.model).unet.parameters()
    assert {weight.dtype for weight in weights} == {torch.float32}


def test_clip_answers_in_the_precision_that_it_was_asked_in(monkeypatch: pytest.MonkeyPatch):
    model = clip.load("clip-small")
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    exact = clip.encode_images(model, pictures)
    in_bf16 = model.by(Way("PyTorch", "bf16"))  # as a run may ask for
    monkeypatch.setenv("STUDIO_PRECISION", "bf16")
    clip.unload_all()  # the way is chosen when a network is first used
    rough = clip.encode_images(clip.load("clip-small"), pictures)
    assert torch.equal(clip.encode_images(in_bf16, pictures), rough)
    clip.unload_all()
    assert rough.dtype is torch.float32
    assert not torch.equal(rough, exact)
    torch.testing.assert_close((rough * exact).sum(dim=1), torch.ones(2), rtol=0, atol=0.01)


@pytest.mark.usefixtures("forgetful")
@pytest.mark.thorough
def test_what_a_picture_says_of_itself_is_right_in_less_precision(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUDIO_PRECISION", "bf16")
    preview = last_of(PAINTING)
    facts = PRODUCT.metadata(preview)
    assert facts["settings"] == dataclasses.asdict(PAINTING)
    assert facts["revision"] == checkpoints.load(PAINTING.model).revision
    saved = results.picture_files(PRODUCT, preview)[0].path
    assert provenance.read(saved).settings == PAINTING
    scores = [color.score(picture, PAINTING) for picture in preview.pictures]
    assert facts["score_after"] == [round(score, 3) for score in scores]


def test_too_much_for_this_machine_is_out_of_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**48, dtype=torch.uint8)
    assert type(caught.value) is RuntimeError
    assert devices.is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_too_little_memory_is_told_from_the_error_also_behind_another(error: Exception):
    assert devices.is_out_of_memory(error)
    damaged = CheckpointError("files_damaged", key="paintings")
    damaged.__cause__ = error
    assert devices.is_out_of_memory(damaged)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        RuntimeError("CUDA error: device-side assert triggered"),
        ValueError("can't allocate memory"),
        OSError(28, "No space left on device"),
        KeyError("memory"),
        CheckpointError("files_damaged", key="paintings"),
        KeyboardInterrupt(),
    ],
)
def test_other_errors_are_not_taken_for_too_little_memory(error: BaseException):
    assert not devices.is_out_of_memory(error)


def test_freeing_memory_lets_go_of_what_errors_hold_while_they_are_handled():
    held: list[weakref.ref[Tensor]] = []

    def failing() -> None:
        large = torch.zeros(1000)
        held.append(weakref.ref(large))
        raise MemoryError

    def failing_again() -> None:
        try:
            failing()
        except MemoryError as error:
            raise ValueError("damaged") from error

    gc.collect()
    try:
        failing_again()
    except ValueError as error:
        assert held[0]() is not None
        devices.free_memory(error)
        assert held[0]() is None


def test_on_zerogpu_only_a_process_with_a_card_computes_on_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("STUDIO_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda where: f"card {where}")
    monkeypatch.setattr(devices, "ZERO_GPU", True)
    assert devices.device() == CPU
    assert devices.describe_device() == "card cuda"
    devices._lent.set()
    try:
        assert devices.device() == torch.device("cuda")
    finally:
        devices._lent.clear()
