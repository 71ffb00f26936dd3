"""Fixtures that several test files share: small checkpoints, a served app, its visitors."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from playwright.sync_api import Browser
from torch import Tensor

import app
from benchmarks.soak.server import free_port
from pipelines.diffusion import denoisers
from pipelines.diffusion.denoisers import CfgOutput, Predictor
from pipelines.diffusion.unets import (
    ClassChannelsUNet,
    ClassCrossAttentionUNet,
    SpaceToDepthUNet2DModel,
)
from pipelines.models import checkpoints, clip
from pipelines.runs import comparison
from tabs.latest_run import runs
from tests.browser.visits import Visit, chromium, hasten, visit
from tests.fakes import tiny_clip

TINY = {
    "embedding": lambda: SpaceToDepthUNet2DModel(
        sample_size=28,
        in_channels=1,
        out_channels=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 32),
        attention_head_dim=32,
        num_class_embeds=11,
    ),
    "cross-attention": lambda: ClassCrossAttentionUNet(block_out_channels=(32, 32)),
    "channels": lambda: ClassChannelsUNet(
        block_out_channels=(32, 32, 32), layers_per_block=1, attention_head_dim=32
    ),
}


def tiny_painter() -> SpaceToDepthUNet2DModel:
    """A network that takes a picture alone, as those behind the Colour tab do."""
    return SpaceToDepthUNet2DModel(
        sample_size=64,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 32),
        layers_per_block=1,
        attention_head_dim=32,
    )


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints with the names of the bundled ones, tiny and with random weights."""
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(0)
    makers = {f"digits-{conditioning}": make for conditioning, make in TINY.items()}
    painters = dict.fromkeys(("paintings", "scenes", "emoji"), tiny_painter)
    for key, make in {**makers, **painters}.items():
        target = folder / key
        make().save_pretrained(target / "unet")
        DDPMScheduler(
            beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction"
        ).save_pretrained(target / "scheduler")
    tiny_clip.save(folder / "clip-small")
    return folder


@pytest.fixture
def tiny_checkpoints(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Puts the tiny checkpoints in place of the bundled ones."""
    monkeypatch.setattr("pipelines.models.table.BUNDLED", tiny_folder)
    comparison.unguided_runs.clear()
    checkpoints.unload_all()
    clip.unload_all()
    yield tiny_folder
    checkpoints.unload_all()
    clip.unload_all()


@dataclass
class Meter:
    """Counts network evaluations, and slows each down so that a test can act in the middle."""

    seconds: float = 0.05
    calls: int = 0
    running: int = 0
    most_at_once: int = 0
    started: threading.Event = field(default_factory=threading.Event)

    def wrap(self, predict: Predictor) -> Predictor:
        def slow(x_t: Tensor, t: Tensor) -> Tensor | CfgOutput:
            self.calls += 1
            self.running += 1
            self.most_at_once = max(self.most_at_once, self.running)
            self.started.set()
            time.sleep(self.seconds)
            try:
                return predict(x_t, t)
            finally:
                self.running -= 1

        return slow

    def metered(self, make: Callable[..., Predictor]) -> Callable[..., Predictor]:
        """A maker of predictors whose predictors are all metered."""
        return lambda *args, **kwargs: self.wrap(make(*args, **kwargs))

    def settled(self, seconds: float = 1.0, deadline: float = 20.0) -> bool:
        """Whether computing stops, seen as no call for `seconds`, before the deadline."""
        ends = time.monotonic() + deadline
        while time.monotonic() < ends:
            before = self.calls
            time.sleep(seconds)
            if self.calls == before and not self.running:
                return True
        return False


@pytest.fixture
def meter(tiny_checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> Meter:
    """Tiny checkpoints whose every evaluation takes 50 ms and is counted.

    Long runs are not refused, however slow the device.
    """
    monkeypatch.setenv("STUDIO_DEADLINE_SECONDS", "3600")
    meter = Meter()
    monkeypatch.setattr(denoisers, "denoiser", meter.metered(denoisers.denoiser))
    return meter


@pytest.fixture(scope="session")
def served() -> Iterator[str]:
    """Address of the app, served in this process for the whole session."""
    with serve() as url:
        yield url


@contextmanager
def serve(**options: Any) -> Iterator[str]:
    """The app on a free port; `options` go to `build_demo`."""
    demo = app.build_demo(**options)
    _, url, _ = demo.launch(
        server_port=free_port(), prevent_thread_lock=True, quiet=True, **app.launch_options()
    )
    try:
        yield url
    finally:
        demo.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def wide(browser: Browser, served: str) -> Iterator[Visit]:
    """The Digits tab in a wide window."""
    found = visit(browser, served)
    yield found
    found.leave()


@pytest.fixture
def easel(browser: Browser, served: str) -> Iterator[Visit]:
    """The Colour tab in a wide window, set to the fast method and few steps."""
    found = visit(browser, served, tab="Colour")
    hasten(found)
    yield found
    found.leave()


@pytest.fixture
def desk(browser: Browser, served: str) -> Iterator[Visit]:
    """The Text tab in a wide window, set to the fast method and few steps."""
    found = visit(browser, served, tab="Text")
    hasten(found)
    yield found
    found.leave()


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens of the runs that pages began."""
    tokens, begin = [], runs.begin

    def noted(token: str) -> bool:
        begins = begin(token)
        if begins:
            tokens.append(token)
        return begins

    monkeypatch.setattr(runs, "begin", noted)
    return tokens
