"""Runs the parts of the soak and prints one table.

python -m benchmarks.soak
python -m benchmarks.soak --part clients --minutes 2
python -m benchmarks.soak --part hostile --part signals --scale 0.02
"""

from __future__ import annotations

import time
from typing import Annotated

import typer

from benchmarks.soak import hostile
from benchmarks.soak.report import table

PARTS = {"hostile": lambda scale, _: hostile.run(scale)}


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
        rows += PARTS[name](scale, minutes)
        print(f"{name}: {time.monotonic() - began:.0f} s since the start", flush=True)
    print(f"\n{table(rows)}")
    if not all(row.ok for row in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
