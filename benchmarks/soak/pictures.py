"""Damaged pictures through the one function that opens pictures from outside."""

from __future__ import annotations

import importlib
import time
from collections import Counter
from typing import Any

from benchmarks.soak.report import Row, at_most
from pipelines.core.errors import UserError
from pipelines.core.rules import SettingsError

PICTURES = 38_000
_SECONDS = 600.0


def run(scale: float, seed: int = 0) -> list[Row]:
    """Opens damaged pictures; returns the rows of the table."""
    mutations = importlib.import_module("benchmarks.soak.mutations")
    door: Any = importlib.import_module("pipelines.core.pictures")
    outcomes: Counter[str] = Counter()
    began, slowest = time.monotonic(), 0.0
    for content in mutations.mutated_pictures(round(PICTURES * scale), seed):
        started = time.monotonic()
        outcomes[_outcome(door, content)] += 1
        slowest = max(slowest, time.monotonic() - started)
        if time.monotonic() - began > _SECONDS:
            break
    good = {"a picture", "a sentence"}
    bad = {kind: count for kind, count in outcomes.items() if kind not in good}
    tried = f"{outcomes.total():,} mutated pictures"
    figure = ", ".join(f"{kind}: {count:,}" for kind, count in sorted(outcomes.items()))
    return [
        Row("pictures", tried, figure, "a picture or a sentence", not bad),
        at_most("pictures", "the slowest", slowest, 5.0, "s"),
    ]


def _outcome(door: Any, content: bytes) -> str:
    try:
        door.open_picture(content, name="mask").load()
    except (UserError, SettingsError):
        return "a sentence"
    except Exception as error:  # the fault that this looks for
        return type(error).__name__
    return "a picture"
