"""Small line charts as SVG, without scripts, with a description for screen readers."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_WIDTH, _HEIGHT = 480, 150
_MIN_TICK_GAP = 0.12  # between tick labels, as a share of the axis
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 10, 24


@dataclass(frozen=True)
class Description:
    """Templates of the description of a chart, for screen readers.

    Attributes:
        chart: template with `y`, the name of the values, and `lines`.
        line: template with the `name` of a line and its values `first` and `last`.
        empty: text that replaces the lines if there are none.
    """

    chart: str = "{y} per step: {lines}"
    line: str = "{name} from {first} to {last}"
    empty: str = "nothing yet"


ENGLISH = Description()


def line_chart(
    series: Mapping[str, Sequence[float]],
    *,
    total: int,
    x_label: str,
    y_label: str,
    description: Description = ENGLISH,
) -> str:
    """Returns a line chart over the steps of a run; the first line is emphasised.

    Args:
        series: name to one value per finished step; at most three lines have distinct styles.
        total: number of steps of the run, the right end of the axis.
        x_label: label below the axis.
        y_label: name of the values.
        description: templates of the description.
    """
    finite = [value for values in series.values() for value in values if math.isfinite(value)]
    ends = _axis_ends(finite or [1.0])
    lines = "".join(
        _line(values, i, total, ends) for i, values in enumerate(series.values()) if values
    )
    legend = " ".join(
        f'<span class="line-{i}">{html.escape(name)}</span>' for i, name in enumerate(series)
    )
    aria_label = html.escape(describe(series, y_label, description))
    return (
        f'<figure class="chart"><figcaption>{html.escape(y_label)} {legend}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{aria_label}">'
        f"{_axes(total, ends, x_label)}{lines}</svg></figure>"
    )


def describe(
    series: Mapping[str, Sequence[float]], y_label: str, description: Description = ENGLISH
) -> str:
    """Returns the chart as text: the first and the last value of each line."""
    finite = {name: [v for v in values if math.isfinite(v)] for name, values in series.items()}
    lines = [
        description.line.format(name=name, first=f"{values[0]:.3g}", last=f"{values[-1]:.3g}")
        for name, values in finite.items()
        if values
    ]
    return description.chart.format(y=y_label, lines="; ".join(lines) or description.empty)


def _line(values: Sequence[float], number: int, total: int, ends: tuple[float, float]) -> str:
    points = " ".join(
        f"{_x(i + 1, total):.1f},{_y(value, ends):.1f}"
        for i, value in enumerate(values)
        if math.isfinite(value)
    )
    if not points:
        return ""
    x, y = points.split(" ")[-1].split(",")
    return (
        f'<polyline class="line-{number}" points="{points}"/>'
        f'<circle class="line-{number}" cx="{x}" cy="{y}" r="3"/>'
    )


def _axes(total: int, ends: tuple[float, float], x_label: str) -> str:
    ticks = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{_y(v, ends):.1f}" '
        f'y2="{_y(v, ends):.1f}"/><text x="{_LEFT - 6}" y="{_y(v, ends) + 4:.1f}" '
        f'text-anchor="end">{v:g}</text>'
        for v in _ticks(*ends)
    )
    captions = (
        f'<text x="{_x(1, total):.1f}" y="{_HEIGHT - 6}">1</text>'
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 6}" text-anchor="end">{total}</text>'
        f'<text x="{(_LEFT + _WIDTH) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">'
        f"{html.escape(x_label)}</text>"
    )
    return ticks + captions


def _x(step: int, total: int) -> float:
    share = (step - 1) / max(1, total - 1)
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _y(value: float, ends: tuple[float, float]) -> float:
    bottom, top = ends
    return _TOP + (top - value) / (top - bottom) * (_HEIGHT - _TOP - _BOTTOM)


def _axis_ends(values: Sequence[float]) -> tuple[float, float]:
    """Returns round numbers below and above all values; one end is 0 if all have the same sign."""
    lowest, highest = min(values), max(values)
    bottom = -_round_up(-lowest) if lowest < 0 else 0.0
    return bottom, _round_up(highest) if highest > 0 or bottom == 0 else 0.0


def _ticks(bottom: float, top: float) -> tuple[float, ...]:
    """Returns the values of grid lines: both ends and 0 or the middle; no end too close to 0."""
    if bottom == 0 or top == 0:
        return (bottom, (bottom + top) / 2, top)
    min_gap = _MIN_TICK_GAP * (top - bottom)
    return tuple(value for value in (bottom, 0.0, top) if value == 0 or abs(value) > min_gap)


def _round_up(value: float) -> float:
    """Returns the next higher value of 1, 2, 4, 5 or 10 times a power of ten."""
    power = 1.0
    while power < value:
        power *= 10
    while power / 10 >= value > 0:
        power /= 10
    return next((m * power for m in (0.1, 0.2, 0.4, 0.5, 1.0) if m * power >= value), 1.0)
