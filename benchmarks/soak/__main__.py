"""Runs the parts of the soak and prints one table.

python -m benchmarks.soak
python -m benchmarks.soak --part clients --minutes 2
python -m benchmarks.soak --part hostile --part signals --scale 0.02
"""

from __future__ import annotations

import importlib
import time
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any

import typer

from benchmarks.soak import cancels, clients, hostile, kills, pictures, signals, worst
from benchmarks.soak.report import Row, table

_DAMAGED_FILES = 150


def damaged_files(scale: float) -> list[Row]:
    """Damages bundled files; returns the row of the table."""
    damage: Any = importlib.import_module("benchmarks.soak.damage")
    results = damage.run(max(round(_DAMAGED_FILES * scale), 1))
    outcomes = Counter(outcome for _, outcome, _ in results)
    figure = ", ".join(f"{outcome}: {count}" for outcome, count in sorted(outcomes.items()))
    is_good = not set(outcomes) - {damage.SENTENCE, damage.SAME}
    limit = "a sentence or the same picture"
    return [Row("damage", f"{len(results)} damaged files", figure, limit, is_good)]


PARTS: dict[str, Callable[[float, float], list[Row]]] = {
    "hostile": lambda scale, _: hostile.run(scale),
    "pictures": lambda scale, _: pictures.run(scale),
    "clients": lambda scale, minutes: clients.run(minutes * scale),
    "cancels": lambda scale, _: cancels.run(scale),
    "worst": lambda scale, _: worst.run(scale),
    "damage": lambda scale, _: damaged_files(scale),
    "kills": lambda scale, _: kills.run(scale),
    "signals": lambda scale, _: signals.run(scale),
}


def main(
    part: Annotated[list[str] | None, typer.Option(help=f"of {', '.join(PARTS)}; all")] = None,
    scale: Annotated[float, typer.Option(min=0.0001, max=1, help="share of the full size")] = 1.0,
    minutes: Annotated[float, typer.Option(min=0.1, help="of the mixed clients")] = 15.0,
) -> None:
    """Uses the app hard on this machine, and prints what held."""
    for name in part or []:
        if name not in PARTS:
            raise typer.BadParameter(f"part must be one of {', '.join(PARTS)}, got {name}")
    rows, began = [], time.monotonic()
    for name in part or PARTS:
        found = PARTS[name](scale, minutes)
        rows += found
        print(f"{name}: {time.monotonic() - began:.0f} s since the start", flush=True)
        print(f"{table(found)}\n", flush=True)
    print(table(rows))
    if not all(row.ok for row in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
