"""The app with networks as graphs: drawn over HTTP, told in About and in the record."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gradio_client import Client

from pipelines.core import graphs
from pipelines.models import checkpoints, clip, trials, ways
from pipelines.products.settings import ColorSettings
from pipelines.runs import provenance
from pipelines.runs.provenance import Record
from tabs import about
from tabs.tab import _restored

pytestmark = [
    pytest.mark.skipif(not graphs.is_available(), reason="openvino is not installed"),
    pytest.mark.thorough,
]


@pytest.fixture(autouse=True)
def wanted(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> Iterator[None]:
    monkeypatch.setenv("STUDIO_GRAPHS", "")
    monkeypatch.setenv("STUDIO_CACHE", str(tmp_path))
    ways._read.cache_clear()
    checkpoints.unload_all()
    clip.unload_all()
    yield
    ways._read.cache_clear()
    checkpoints.unload_all()
    clip.unload_all()


@pytest.mark.parametrize("tab", ["color", "text", "digits"])
def test_a_picture_comes_and_its_record_says_how_it_was_computed(served: str, tab: str):
    (path, *_), info = Client(served, verbose=False).predict(
        num_inference_steps=4, api_name=f"/{tab}"
    )
    facts = provenance.read_facts(path)
    assert facts["computed"]["by"] == "OpenVINO fp32"
    assert facts["computed"]["threads"] >= 1
    assert info["step"] == 4
    assert provenance.computed_otherwise(provenance.read(path)) == ""


def test_a_picture_that_was_computed_otherwise_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUDIO_GRAPHS", "0")
    settings = ColorSettings()
    record = Record("color", settings, facts={"computed": {"by": "OpenVINO fp32", "threads": 2}})
    by, here = "OpenVINO fp32", "PyTorch fp32"
    said = f"It was computed by {by}, and here by {here}: small differences are possible."
    assert _restored(record, "en")[1] == said
    for told in (None, {}, {"by": 7}, {"by": "<b>"}, {"by": "PyTorch fp32"}, []):
        record = Record("color", settings, facts={"computed": told})
        assert len(_restored(record, "en")) == 1


def test_this_machine_is_measured_once_and_about_tells_what_was_found():
    found = trials.measure()
    assert found is not None
    assert {"PyTorch fp32", "OpenVINO fp32"} <= set(found.milliseconds)
    assert found.differences["PyTorch fp32"] == 0
    assert found.differences["OpenVINO fp32"] < 0.1
    assert found.differences[found.chosen] <= ways.TOLERANCE
    told = about.text("en")
    assert f"Networks are computed by {found.chosen}." in told
    assert f"OpenVINO fp32 {found.milliseconds['OpenVINO fp32']:g} ms" in told
    assert trials.measure() is None
