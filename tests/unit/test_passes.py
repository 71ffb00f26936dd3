"""Networks as graphs draw what PyTorch draws, and PyTorch steps in where there is no graph."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from pipelines.core import graphs
from pipelines.core.rules import SettingsError, validate
from pipelines.models import checkpoints, clip, ways
from pipelines.products import color, digits, text
from pipelines.products.settings import ColorSettings, DigitsSettings, TextSettings
from pipelines.runs import provenance

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


@needs_openvino
@pytest.mark.parametrize(
    ("product", "settings"),
    [
        (color, ColorSettings(num_inference_steps=3)),
        (text, TextSettings(num_inference_steps=3)),
        (digits, DigitsSettings(digits="4", num_inference_steps=3)),
    ],
)
def test_a_run_is_computed_as_it_asks(product: Any, settings: Any, monkeypatch: pytest.MonkeyPatch):
    in_pytorch = last(product, settings, monkeypatch, "0")
    monkeypatch.delenv("STUDIO_GRAPHS")
    monkeypatch.setattr(ways, "measured", lambda: None)  # then it is a graph
    of_graph, asked = (
        [*product.generate(dataclasses.replace(settings, computed_by=by))][-1]
        for by in (ways.MEASURED, "PyTorch fp32")
    )
    assert asked.pictures[0].tobytes() == in_pytorch.pictures[0].tobytes()
    assert asked.history.gradients == in_pytorch.history.gradients
    assert of_graph.history.frames[0].shape == asked.history.frames[0].shape
    told = [product.PRODUCT.picture_metadata(p, 0)["computed"]["by"] for p in (of_graph, asked)]
    assert told == ["OpenVINO fp32", "PyTorch fp32"]


def test_a_way_that_this_machine_does_not_have_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("STUDIO_GRAPHS", "0")
    for settings in (ColorSettings(), TextSettings(), DigitsSettings()):
        with pytest.raises(SettingsError) as caught:
            validate(dataclasses.replace(settings, computed_by="OpenVINO fp32"))
        sentence = str(caught.value)
        assert "computed_by" in sentence
        assert "measured, PyTorch fp32, PyTorch bf16" in sentence
        assert sentence.endswith("got OpenVINO fp32")


@pytest.mark.parametrize(
    ("told", "asks", "notice"),
    [
        ("PyTorch fp32", "measured", ""),  # as this machine does by itself
        ("PyTorch bf16", "PyTorch bf16", ""),
        ("OpenVINO fp32", "measured", "OpenVINO fp32"),  # which it cannot
        ("PyTorch fp16", "measured", "PyTorch fp16"),  # of a graphics card
        ("an abacus", "measured", ""),
    ],
)
def test_a_restored_picture_asks_for_the_way_that_drew_it(
    told: str, asks: str, notice: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("STUDIO_GRAPHS", "0")
    *_, preview = color.generate(ColorSettings(num_inference_steps=1), compare=False)
    facts = color.PRODUCT.picture_metadata(preview, 0)
    for values in ({}, {"computed_by": told} if told in ways.WAYS else {}):
        changed = {
            **facts,
            "settings": {**facts["settings"], **values},
            "computed": {"by": told, "threads": 2},
        }
        record = provenance.from_facts(changed)
        assert record.settings.computed_by == asks
        assert provenance.computed_otherwise(record) == notice
