"""Perceived colour difference: sRGB to CIELAB, and CIEDE2000."""

from __future__ import annotations

import math
from collections.abc import Sequence

Rgb = tuple[int, int, int]
"""Red, green and blue of sRGB, 0 to 255."""

Lab = tuple[float, float, float]
"""L* (0 black to 100 white), a* (green to red) and b* (blue to yellow) under D65."""

_WHITE = (0.95047, 1.0, 1.08883)
_XYZ_OF_RGB = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)


def _linear(value: float) -> float:
    share = value / 255
    return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4


def _cube_root(value: float) -> float:
    return math.cbrt(value) if value > 216 / 24389 else (24389 / 27 * value + 16) / 116


def lab(rgb: Sequence[float]) -> Lab:
    """Returns the CIELAB value of an sRGB colour, 0 to 255 each; fractions are accepted."""
    linear = [_linear(value) for value in rgb]
    xyz = [sum(m * v for m, v in zip(row, linear, strict=True)) for row in _XYZ_OF_RGB]
    x, y, z = (_cube_root(v / white) for v, white in zip(xyz, _WHITE, strict=True))
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def ciede2000(first: Lab, second: Lab) -> float:
    """Returns the CIEDE2000 difference (Sharma, Wu & Dalal 2005).

    About 1 is just visible; above 20 is another colour.
    """
    (l1, a1, b1), (l2, a2, b2) = first, second
    chroma7 = ((math.hypot(a1, b1) + math.hypot(a2, b2)) / 2) ** 7
    stretch = 1.5 - 0.5 * math.sqrt(chroma7 / (chroma7 + 25**7))
    c1, h1 = _polar(a1 * stretch, b1)
    c2, h2 = _polar(a2 * stretch, b2)
    delta_l, delta_c = l2 - l1, c2 - c1
    delta_h, mean_h = _hues(c1, h1, c2, h2)
    delta_hue = 2 * math.sqrt(c1 * c2) * math.sin(math.radians(delta_h / 2))
    lightness = ((l1 + l2) / 2 - 50) ** 2
    mean_c = (c1 + c2) / 2
    scale_l = 1 + 0.015 * lightness / math.sqrt(20 + lightness)
    scale_c = 1 + 0.045 * mean_c
    scale_h = 1 + 0.015 * mean_c * _hue_weight(mean_h)
    angle = 60 * math.exp(-(((mean_h - 275) / 25) ** 2))
    turn = -2 * math.sqrt(mean_c**7 / (mean_c**7 + 25**7)) * math.sin(math.radians(angle))
    l_part, c_part, h_part = delta_l / scale_l, delta_c / scale_c, delta_hue / scale_h
    return math.sqrt(l_part**2 + c_part**2 + h_part**2 + turn * c_part * h_part)


def _polar(a: float, b: float) -> tuple[float, float]:
    """Returns chroma, and hue in degrees (0 for grey)."""
    return math.hypot(a, b), math.degrees(math.atan2(b, a)) % 360 if a or b else 0.0


def _hues(c1: float, h1: float, c2: float, h2: float) -> tuple[float, float]:
    """Returns difference and mean of two hues in degrees, along the shorter arc."""
    if c1 * c2 == 0:
        return 0.0, h1 + h2
    delta = h2 - h1
    if abs(delta) <= 180:
        return delta, (h1 + h2) / 2
    mean = (h1 + h2 + (360 if h1 + h2 < 360 else -360)) / 2
    return delta - math.copysign(360, delta), mean


def _hue_weight(hue: float) -> float:
    def cosine(degrees: float) -> float:
        return math.cos(math.radians(degrees))

    return (
        1
        - 0.17 * cosine(hue - 30)
        + 0.24 * cosine(2 * hue)
        + 0.32 * cosine(3 * hue + 6)
        - 0.20 * cosine(4 * hue - 63)
    )


def difference(first: Sequence[float], second: Sequence[float]) -> float:
    """Returns the CIEDE2000 difference of two sRGB colours, 0 to 255 each."""
    return ciede2000(lab(first), lab(second))
