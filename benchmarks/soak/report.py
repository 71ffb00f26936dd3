"""The table of the soak, and the statistics in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_NORMAL_95 = 1.96  # quantile of the normal distribution; the parts have hundreds of samples
_LEAST_SAMPLES = 3


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        part: name of the part.
        tried: what was done, with its number.
        figure: what was measured.
        limit: what it must be.
        ok: whether it is.
    """

    part: str
    tried: str
    figure: str
    limit: str
    ok: bool


def at_most(part: str, tried: str, value: float, most: float, unit: str = "") -> Row:
    """Returns the row of a figure that must not be above a limit."""
    suffix = f" {unit}" if unit else ""
    return Row(part, tried, f"{value:.4g}{suffix}", f"at most {most:g}{suffix}", value <= most)


def table(rows: Sequence[Row]) -> str:
    """Returns the rows as a Markdown table."""
    lines = ["| part | tried | figure | limit | ok |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        cells = (row.part, row.tried, row.figure, row.limit, "yes" if row.ok else "**no**")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def slope(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Returns the slope of the least-squares line and half of its 95 % interval.

    Raises:
        ValueError: if there are fewer than three points, or x does not vary.
    """
    count = len(x)
    if count < _LEAST_SAMPLES or len(set(x)) == 1:
        raise ValueError(f"x must be {_LEAST_SAMPLES} values or more that differ, got {count}")
    mean_x, mean_y = sum(x) / count, sum(y) / count
    spread = sum((a - mean_x) ** 2 for a in x)
    found = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
    residuals = (b - mean_y - found * (a - mean_x) for a, b in zip(x, y, strict=True))
    variance = sum(r**2 for r in residuals) / (count - 2)
    return found, _NORMAL_95 * math.sqrt(variance / spread)
