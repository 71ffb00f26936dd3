"""From measured figures to model cards: writes `figures.json` beside the weights they measure."""

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
    """What a card says of one conditioning, in the format of `training.cards`."""
    found: dict[str, dict[str, str]] = {}
    for i, score in enumerate(scores):
        name, count, judged, _, distance = scoring.row(score)
        found[f"accuracy_{i}"] = _figure(f"{name}, {count} digits: judged as asked", judged)
        found[f"distance_{i}"] = _figure(f"{name}, {count} digits: Fréchet distance", distance)
    label = f"row 0-9: times less than {timing.course_steps:,} steps of DDPM"
    found["ratio"] = _figure(label, f"{timing.ratio:.0f}")
    return found


def _figure(label: str, value: Any) -> dict[str, str]:
    return {"label": label, "value": str(value)}


def record(key: str, measured: Mapping[str, tuple[str, str]]) -> None:
    """Puts figures into the card of a bundled checkpoint, beside those of other benchmarks.

    Args:
        key: of the checkpoint, or of a CLIP.
        measured: name to label and value; a figure of the same name is replaced.

    Raises:
        OSError: if the card cannot be written.
    """
    folder = (TABLE | CLIPS)[key].folder
    path = folder / model_card.FIGURES_FILE
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    found |= {name: _figure(label, value) for name, (label, value) in measured.items()}
    path.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    model_card.write_card(folder)


def write_cards(scores: dict[str, list[Score]], timings: Sequence[Timing]) -> None:
    """Puts the figures into the bundled checkpoints' cards.

    Raises:
        OSError: if a card cannot be written.
    """
    for timing in timings:
        folder = TABLE[f"digits-{timing.conditioning}"].folder
        figures = figures_of(scores[timing.conditioning], timing)
        text = json.dumps(figures, indent=2, ensure_ascii=False) + "\n"
        (folder / model_card.FIGURES_FILE).write_text(text, encoding="utf-8")
        model_card.write_card(folder)
