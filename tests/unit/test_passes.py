"""Networks as graphs draw what PyTorch draws, and PyTorch steps in where there is no graph."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator

import pytest
import torch

from pipelines.core import graphs
from pipelines.models import checkpoints, clip, ways
from pipelines.products import color, digits, text
from pipelines.products.settings import ColorSettings, DigitsSettings, TextSettings

needs_openvino = pytest.mark.skipif(not graphs.is_available(), reason="openvino is not installed")


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    checkpoints.unload_all()
    clip.unload_all()
    yield
    checkpoints.unload_all()
    clip.unload_all()


def last(product: object, settings: object, monkeypatch: pytest.MonkeyPatch, wanted: str):
    monkeypatch.setenv("STUDIO_GRAPHS", wanted)
    checkpoints.unload_all()
    clip.unload_all()
    *_, preview = product.generate(settings)  # pyright: ignore[reportAttributeAccessIssue]
    return preview


@needs_openvino
@pytest.mark.parametrize(
    ("product", "settings"),
    [
        (color, ColorSettings(num_inference_steps=6, num_images=2)),
        (digits, DigitsSettings(digits="407", num_inference_steps=6)),
        (digits, DigitsSettings(digits="4", num_inference_steps=4, conditioning="cross-attention")),
        (digits, DigitsSettings(digits="4", num_inference_steps=4, conditioning="channels")),
    ],
)
def test_graphs_draw_what_pytorch_draws(
    product: object, settings: object, monkeypatch: pytest.MonkeyPatch
):
    by_graph = last(product, settings, monkeypatch, "1")
    by_pytorch = last(product, settings, monkeypatch, "0")
    for mine, theirs in zip(by_graph.pictures, by_pytorch.pictures, strict=True):
        difference = torch.tensor(list(mine.tobytes())) - torch.tensor(list(theirs.tobytes()))
        assert difference.abs().max() <= 1


@needs_openvino
def test_a_step_of_text_guidance_follows_the_same_gradient(monkeypatch: pytest.MonkeyPatch):
    settings = TextSettings(num_inference_steps=2, num_images=3, cutouts=2)  # 6 views
    by_graph = last(text, settings, monkeypatch, "1")
    by_pytorch = last(text, settings, monkeypatch, "0")
    losses = [torch.tensor(p.losses[0]) for p in (by_graph, by_pytorch)]
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-5)
    first = [torch.tensor(p.history.gradients[0]) for p in (by_graph, by_pytorch)]
    torch.testing.assert_close(*first, rtol=1e-3, atol=1e-6)


@needs_openvino
def test_methods_that_need_gradients_through_the_network_have_them(
    monkeypatch: pytest.MonkeyPatch,
):
    settings = ColorSettings(num_inference_steps=3, method="thorough")
    assert last(color, settings, monkeypatch, "1").score_after == pytest.approx(
        last(color, settings, monkeypatch, "0").score_after, abs=0.05
    )


@needs_openvino
def test_where_no_graph_can_be_made_pytorch_computes_and_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def refuse(*_: object, **__: object) -> None:
        raise graphs.GraphError("no such operation")

    monkeypatch.setattr(graphs, "Graphs", refuse)
    settings = ColorSettings(num_inference_steps=2)
    with caplog.at_level(logging.WARNING):
        found = last(color, settings, monkeypatch, "1")
    told = [r.getMessage() for r in caplog.records if "no graph" in r.getMessage()]
    assert told == ["paintings has no graph here, PyTorch computes it: no such operation"]
    assert (
        found.pictures[0].tobytes() == last(color, settings, monkeypatch, "0").pictures[0].tobytes()
    )


@needs_openvino
def test_a_network_that_is_large_stays_in_pytorch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ways, "MOST_BYTES", 1000)
    monkeypatch.setattr(graphs, "Graphs", lambda *_, **__: pytest.fail("made"))
    settings = dataclasses.replace(ColorSettings(), num_inference_steps=1)
    assert last(color, settings, monkeypatch, "1").pictures
