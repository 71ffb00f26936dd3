"""Writes measured figures into model cards: `figures.json` in the folder of the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import scoring
from benchmarks.scoring import Score
from benchmarks.timing import Timing
from pipelines.models.table import CLIPS, TABLE
from training.cards import model_card


def figures_of(scores: Sequence[Score], timing: Timing) -> dict[str, dict[str, str]]:
    """Returns the figures of one conditioning, in the format of `training.cards`."""
    figures: dict[str, dict[str, str]] = {}
    for i, score in enumerate(scores):
        name, count, judged, _, distance = scoring.row(score)
        figures[f"accuracy_{i}"] = _figure(f"{name}, {count} digits: judged as asked", judged)
        figures[f"distance_{i}"] = _figure(f"{name}, {count} digits: Fréchet distance", distance)
    label = f"row 0-9: times less than {timing.course_steps:,} steps of DDPM"
    figures["ratio"] = _figure(label, f"{timing.ratio:.0f}")
    return figures


def _figure(label: str, value: Any) -> dict[str, str]:
    return {"label": label, "value": str(value)}


def record(key: str, measured: Mapping[str, tuple[str, str]]) -> None:
    """Adds figures to the card of a bundled checkpoint; keeps those of other benchmarks.

    Args:
        key: of the checkpoint, or of a CLIP.
        measured: name to label and value; replaces a figure of the same name.

    Raises:
        OSError: if the card cannot be written.
    """
    folder = (TABLE | CLIPS)[key].folder
    path = folder / model_card.FIGURES_FILE
    figures = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    figures |= {name: _figure(label, value) for name, (label, value) in measured.items()}
    path.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    model_card.write_card(folder)


def write_cards(scores: dict[str, list[Score]], timings: Sequence[Timing]) -> None:
    """Writes the figures of the digits into the cards of their checkpoints.

    Raises:
        OSError: if a card cannot be written.
    """
    for timing in timings:
        folder = TABLE[f"digits-{timing.conditioning}"].folder
        figures = figures_of(scores[timing.conditioning], timing)
        text = json.dumps(figures, indent=2, ensure_ascii=False) + "\n"
        (folder / model_card.FIGURES_FILE).write_text(text, encoding="utf-8")
        model_card.write_card(folder)
