"""Small charts as SVG inside the page: no script, light and dark, with a description."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

_WIDTH, _HEIGHT = 480, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 10, 24


def line_chart(
    series: Mapping[str, Sequence[float]], *, total: int, x_label: str, y_label: str
) -> str:
    """Lines over the steps of a run, the first emphasised.

    Args:
        series: name to one value per step done; at most three lines can be told apart.
        total: steps of the run, the right end of the axis.
        x_label: below the axis.
        y_label: what the values are.
    """
    shown = [value for values in series.values() for value in values if math.isfinite(value)]
    top = _round_up(max(shown, default=1.0))
    lines = "".join(
        _line(values, i, total, top) for i, values in enumerate(series.values()) if values
    )
    legend = " ".join(
        f'<span class="line-{i}">{html.escape(name)}</span>' for i, name in enumerate(series)
    )
    description = html.escape(describe(series, y_label))
    return (
        f'<figure class="chart"><figcaption>{html.escape(y_label)} {legend}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{description}">'
        f"{_axes(total, top, x_label)}{lines}</svg></figure>"
    )


def describe(series: Mapping[str, Sequence[float]], y_label: str) -> str:
    """The chart in words: where each line begins and ends."""
    parts = [f"{n} from {v[0]:.3g} to {v[-1]:.3g}" for n, v in series.items() if v]
    return f"{y_label} per step: {'; '.join(parts) or 'nothing yet'}"


def _line(values: Sequence[float], number: int, total: int, top: float) -> str:
    points = " ".join(
        f"{_x(i + 1, total):.1f},{_y(value, top):.1f}"
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


def _axes(total: int, top: float, x_label: str) -> str:
    ticks = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{_y(v, top):.1f}" '
        f'y2="{_y(v, top):.1f}"/><text x="{_LEFT - 6}" y="{_y(v, top) + 4:.1f}" '
        f'text-anchor="end">{v:g}</text>'
        for v in (0, top / 2, top)
    )
    ends = (
        f'<text x="{_x(1, total):.1f}" y="{_HEIGHT - 6}">1</text>'
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 6}" text-anchor="end">{total}</text>'
        f'<text x="{(_LEFT + _WIDTH) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">'
        f"{html.escape(x_label)}</text>"
    )
    return ticks + ends


def _x(step: int, total: int) -> float:
    share = (step - 1) / max(1, total - 1)
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _y(value: float, top: float) -> float:
    return _TOP + (1 - value / top) * (_HEIGHT - _TOP - _BOTTOM)


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 5 or 10 times a power of ten."""
    power = 1.0
    while power < value:
        power *= 10
    while power / 10 >= value > 0:
        power /= 10
    return next((m * power for m in (0.1, 0.2, 0.4, 0.5, 1.0) if m * power >= value), 1.0)
