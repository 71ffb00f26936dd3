"""A device that runs out of memory in the middle: advice is given, nothing is held or stuck."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from gradio_client import Client
from gradio_client.exceptions import AppError
from playwright.sync_api import Browser, expect
from torch import Tensor

from pipelines.core import devices
from pipelines.diffusion.unets import SpaceToDepthUNet2DModel
from pipelines.models import checkpoints, clip
from pipelines.products.color import PRODUCT
from pipelines.products.settings import ColorSettings
from tabs import common, i18n
from tests.browser.visits import hasten, visit

SENTENCE = (
    "The device has too little memory for this run. Ask for fewer pictures, a smaller model, or "
    "another method than thorough; the app goes on."
)
ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    MemoryError("no more"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
]


@dataclass
class Small:
    """A device whose memory ends at one evaluation of the network.

    Attributes:
        error: what is raised then.
        at: at which evaluation, from 1; 0 is at none.
        calls: evaluations so far.
        held: tensors of the runs that failed.
        gone: whether they were gone, as memory was given back.
    """

    error: Exception = field(default_factory=lambda: ERRORS[0])
    at: int = 0
    calls: int = 0
    held: list[weakref.ref[Tensor]] = field(default_factory=list)
    gone: list[bool] = field(default_factory=list)

    def fails_at(self, at: int) -> None:
        """From now on, at the evaluation of that number."""
        self.at, self.calls = at, 0

    def __call__(self, sample: Tensor) -> None:
        self.calls += 1
        if self.calls == self.at:
            large = torch.zeros(2_000_000) + sample.mean()
            self.held += [weakref.ref(large), weakref.ref(sample)]
            raise self.error


@pytest.fixture
def small(tiny_checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    """Tiny checkpoints on a device with little memory."""
    small, forward = Small(), SpaceToDepthUNet2DModel.forward
    give_back = devices.free_memory

    def limited(unet: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        small(sample)
        return forward(unet, sample, *args, **kwargs)

    def noted(error: BaseException) -> None:
        give_back(error)
        small.gone.append(all(tensor() is None for tensor in small.held))

    monkeypatch.setattr(SpaceToDepthUNet2DModel, "forward", limited)
    monkeypatch.setattr(devices, "free_memory", noted)
    return small


@pytest.fixture
def unlogged(monkeypatch: pytest.MonkeyPatch) -> None:
    """No log: pytest keeps all that is logged, and with it what an error holds."""
    monkeypatch.setattr(common.logger, "disabled", True)


@pytest.fixture
def client(served: str) -> Client:
    return Client(served, verbose=False)


def assert_the_lane_is_free(client: Client) -> None:
    for endpoint, wish in (("/color", "gold"), ("/digits", "7")):
        _, info = client.predict(wish, num_inference_steps=2, api_name=endpoint)
        assert info["step"] == 2


def test_the_sentence_gives_advice():
    assert i18n.translate("en", "status.out_of_memory") == SENTENCE


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.thorough
def test_a_run_that_needs_too_much_is_told_with_advice_and_the_next_one_works(
    client: Client, small: Small, error: Exception, caplog: pytest.LogCaptureFixture
):
    small.error = error
    small.fails_at(4)
    with caplog.at_level(logging.ERROR, "studio"), pytest.raises(AppError) as caught:
        client.predict("gold", num_images=8, num_inference_steps=6, api_name="/color")
    assert str(caught.value) == SENTENCE
    assert "out of memory" in caplog.text
    assert str(error) in caplog.text
    assert_the_lane_is_free(client)


@pytest.mark.parametrize(
    ("endpoint", "wish", "options"),
    [
        ("/color", "gold", {"method": "thorough"}),
        ("/text", "ships on the sea", {"method": "thorough"}),
        ("/text", "ships on the sea", {}),
        ("/digits", "12", {}),
    ],
)
@pytest.mark.usefixtures("unlogged")
@pytest.mark.thorough
def test_nothing_of_a_failed_run_is_held_once_its_memory_is_given_back(
    client: Client, small: Small, endpoint: str, wish: str, options: dict[str, Any]
):
    small.fails_at(5)
    with pytest.raises(AppError, match="too little memory"):
        client.predict(wish, num_inference_steps=8, **options, api_name=endpoint)
    assert small.gone == [True]
    gc.collect()
    assert [tensor() for tensor in small.held] == [None, None]


@pytest.mark.usefixtures("unlogged")
@pytest.mark.thorough
def test_runs_that_fail_again_and_again_do_not_pile_up(client: Client, small: Small):
    for _ in range(4):
        small.fails_at(3)
        with pytest.raises(AppError, match="too little memory"):
            client.predict("gold", num_images=4, num_inference_steps=4, api_name="/color")
    assert small.gone == [True] * 4
    assert_the_lane_is_free(client)


@pytest.mark.thorough
def test_too_little_memory_while_a_model_is_loaded_is_not_taken_for_a_damaged_file(
    client: Client, tiny_checkpoints: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: Any, **__: Any) -> Any:
        raise ERRORS[0]

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "_read", full)
        with pytest.raises(AppError) as caught:
            client.predict("gold", num_inference_steps=2, api_name="/color")
        assert str(caught.value) == SENTENCE
    with monkeypatch.context() as patched:
        patched.setattr(clip, "open_folder", full)
        with pytest.raises(AppError) as caught:
            client.predict("snow", num_inference_steps=2, api_name="/text")
        assert str(caught.value) == SENTENCE
    assert_the_lane_is_free(client)


def test_python_gets_the_error_itself(small: Small):
    small.fails_at(1)
    with pytest.raises(torch.OutOfMemoryError):
        list(PRODUCT.run(ColorSettings(num_inference_steps=2)))


@pytest.mark.thorough
def test_the_page_says_it_and_draws_the_next_picture(browser: Browser, served: str, small: Small):
    found = visit(browser, served, tab="Colour")
    hasten(found)
    small.fails_at(4)
    with found.drawn_anew("Nothing was drawn."):
        found.part("draw").click()
    expect(found.page.get_by_text(SENTENCE)).to_be_visible()
    found.finish("gold")
    found.leave()


def test_what_came_before_an_error_is_shown_before_it():
    def failing() -> Iterator[int]:
        yield from range(5)
        raise MemoryError

    stream, shown = common.throttle(failing(), seconds=60), []
    with pytest.raises(MemoryError):
        shown.extend(stream)
    assert shown == [0, 4]


@pytest.mark.thorough
def test_a_sweep_says_it_keeps_its_cells_and_can_be_drawn_again(
    browser: Browser, served: str, small: Small
):
    found = visit(browser, served, tab="Colour")
    hasten(found)
    found.unfold("sweep")
    for name, values in (("rows", "0, 0.2"), ("columns", "1, 2")):
        found.part(f"sweep-{name}-values").locator("input, textarea").fill(values)
    status, draw = found.part("sweep-status"), found.part("sweep-draw")
    small.fails_at(2)  # of the first cell's four
    draw.click()
    expect(status).to_contain_text("Nothing was drawn.")
    small.fails_at(4 * 2 + 3)  # in the third
    draw.click()
    expect(status).to_contain_text("Stopped. 2 of 4 cells are drawn")
    expect(status.locator("progress")).to_have_count(0)
    expect(found.page.get_by_text(SENTENCE).first).to_be_visible()
    expect(found.part("sweep-grid").locator("td img")).to_have_count(3)
    draw.click()
    expect(status).to_contain_text("Done")
    expect(found.part("sweep-grid").locator("td img")).to_have_count(4)
    found.leave()
