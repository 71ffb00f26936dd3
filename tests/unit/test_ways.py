"""Which way of computing networks is taken: what is named, else what was measured here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.core import graphs
from pipelines.models import ways
from pipelines.models.ways import GRAPH, PLAIN, Measured, Trial, Way, chosen, measure

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_CACHE", str(tmp_path))
    monkeypatch.delenv("STUDIO_GRAPHS", raising=False)
    monkeypatch.delenv("STUDIO_PRECISION", raising=False)
    monkeypatch.setattr(graphs, "is_available", lambda: True)
    ways._read.cache_clear()


def trials(milliseconds: dict[str, float], differences: dict[str, float]):
    """Ways that take as long as is said."""

    def trial_of(way: Way) -> Trial:
        if way.name not in milliseconds:
            raise RuntimeError("not on this processor")
        taken = milliseconds[way.name] / 1000
        return Trial(lambda: ways.time.sleep(taken), differences[way.name])

    return trial_of


TIMES = {"PyTorch fp32": 6.0, "OpenVINO fp32": 3.0, "PyTorch bf16": 1.0, "OpenVINO bf16": 2.0}


@pytest.mark.parametrize(
    ("named", "precision", "there", "way"),
    [
        ("", "", True, GRAPH),
        ("1", "", True, GRAPH),
        ("0", "", True, PLAIN),
        ("", "fp32", True, GRAPH),
        ("", "", False, PLAIN),
        ("0", "bf16", True, Way("PyTorch", "bf16")),
        ("1", "bf16", True, Way("OpenVINO", "bf16")),
        ("", "bf16", True, Way("PyTorch", "bf16")),
    ],
)
def test_before_anything_is_measured_what_is_named_counts(
    named: str, precision: str, there: bool, way: Way, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("STUDIO_GRAPHS", named)
    monkeypatch.setenv("STUDIO_PRECISION", precision)
    monkeypatch.setattr(graphs, "is_available", lambda: there)
    assert chosen(CPU) == way


def test_a_card_needs_no_measurement(monkeypatch: pytest.MonkeyPatch):
    card = torch.device("cuda")
    assert chosen(card) == PLAIN
    monkeypatch.setenv("STUDIO_PRECISION", "fp16")
    assert chosen(card) == Way("PyTorch", "fp16")
    assert measure(card, lambda _: pytest.fail("measured")) is None


@pytest.mark.parametrize(
    ("variable", "value", "there", "device"),
    [
        ("STUDIO_GRAPHS", "yes", True, "cpu"),
        ("STUDIO_GRAPHS", "1", False, "cpu"),
        ("STUDIO_GRAPHS", "1", True, "cuda"),
        ("STUDIO_PRECISION", "half", True, "cpu"),
        ("STUDIO_PRECISION", "fp16", True, "cpu"),
    ],
)
def test_what_is_named_wrongly_is_refused(
    variable: str, value: str, there: bool, device: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(variable, value)
    monkeypatch.setattr(graphs, "is_available", lambda: there)
    with pytest.raises(ValueError, match=f"^{variable} must be .+, got '{value}'$"):
        chosen(torch.device(device))


def test_the_fastest_that_keeps_the_pictures_is_taken_and_kept(tmp_path: Path):
    differences = {"PyTorch fp32": 0.0, "OpenVINO fp32": 0.001, "PyTorch bf16": 2.7}
    found = measure(CPU, trials(TIMES, differences | {"OpenVINO bf16": 1.9}))
    assert found is not None
    assert found.chosen == "OpenVINO bf16"
    assert chosen(CPU) == Way("OpenVINO", "bf16")
    assert json.loads((tmp_path / "passes.json").read_text())["chosen"] == "OpenVINO bf16"
    assert measure(CPU, lambda _: pytest.fail("measured again")) is None


def test_what_a_processor_does_not_have_does_not_count():
    found = measure(
        CPU, trials({"PyTorch fp32": 1.0, "OpenVINO fp32": 5.0}, dict.fromkeys(TIMES, 0))
    )
    assert found is not None
    assert found.chosen == "PyTorch fp32"
    assert set(found.milliseconds) == {"PyTorch fp32", "OpenVINO fp32"}
    assert chosen(CPU) == PLAIN


def test_what_is_named_counts_more_than_what_was_measured(monkeypatch: pytest.MonkeyPatch):
    measure(CPU, trials(TIMES, dict.fromkeys(TIMES, 0)))
    assert chosen(CPU) == Way("PyTorch", "bf16")
    monkeypatch.setenv("STUDIO_PRECISION", "fp32")
    assert chosen(CPU) == GRAPH
    monkeypatch.setenv("STUDIO_GRAPHS", "0")
    assert chosen(CPU) == PLAIN


@pytest.mark.parametrize(
    "content",
    [
        "",
        "no json",
        "[1]",
        '{"chosen": "PyTorch bf16"}',
        json.dumps(
            {
                "machine": "of another processor",
                "chosen": "PyTorch bf16",
                "milliseconds": {},
                "differences": {},
            }
        ),
    ],
)
def test_the_file_of_another_machine_or_a_damaged_one_says_nothing(content: str, tmp_path: Path):
    (tmp_path / "passes.json").write_text(content)
    assert chosen(CPU) == GRAPH
    assert isinstance(measure(CPU, trials(TIMES, dict.fromkeys(TIMES, 0.0))), Measured)


def test_a_folder_that_cannot_be_written_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STUDIO_CACHE", str(tmp_path / "file"))
    assert measure(CPU, trials(TIMES, dict.fromkeys(TIMES, 0.0))) is not None
    assert chosen(CPU) == GRAPH


@pytest.mark.parametrize(
    "changes",
    [
        {"chosen": "x"},
        {"chosen": ["a"]},
        {"chosen": "OpenVINO bf16", "differences": {"OpenVINO bf16": 4.8, "PyTorch fp32": 0.0}},
        {"milliseconds": "x"},
        {"milliseconds": None},
        {"milliseconds": {"PyTorch fp32": float("nan"), "OpenVINO bf16": 1.0}},
        {"milliseconds": {"PyTorch fp32": -1.0, "OpenVINO bf16": 1.0}},
        {"milliseconds": {"PyTorch fp32": "1", "OpenVINO bf16": 1.0}},
        {"milliseconds": {"an abacus": 1.0}, "differences": {"an abacus": 1.0}},
        {"differences": None},
        {"differences": {}},
    ],
    ids=str,
)
def test_a_file_that_says_what_was_never_measured_says_nothing(
    changes: dict[str, Any], tmp_path: Path
):
    sound: dict[str, Any] = {
        "machine": ways.machine(),
        "chosen": "PyTorch fp32",
        "milliseconds": {"PyTorch fp32": 1.0, "OpenVINO bf16": 2.0},
        "differences": {"PyTorch fp32": 0.0, "OpenVINO bf16": 1.0},
    }
    path = tmp_path / "passes.json"
    for content, found in ((sound, True), (sound | changes, False)):
        path.write_text(json.dumps(content))
        ways._read.cache_clear()
        assert (ways.measured() is not None) is found
    path.write_text("[" * 100_000)
    ways._read.cache_clear()
    assert ways.measured() is None


def test_a_folder_may_begin_with_a_tilde(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUDIO_CACHE", "~/somewhere")
    assert ways._folder() == Path.home() / "somewhere"
