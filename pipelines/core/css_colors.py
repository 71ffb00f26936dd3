"""Colours in any notation of CSS, as red, green and blue."""

from __future__ import annotations

import math
import re

from PIL import ImageColor

from pipelines.core.typed import plain_number

_MAX_LENGTH = 100
_HEX = re.compile(r"(?:[0-9a-f]{3,4}|[0-9a-f]{6}|[0-9a-f]{8})", re.IGNORECASE)
_FUNCTION = re.compile(r"(?P<name>[a-z-]+)\(\s*(?P<parts>[^()]+)\)")
_WITHIN_SRGB = frozenset({"rgb", "rgba", "hsl", "hsla", "hwb"})
_OF_CHROMA = frozenset({"lch", "oklch"})
_ROUNDING = 1e-9  # so that 64.5 / 255 * 255 is still half
_TOLERANCE = 0.5 / 255 + _ROUNDING


def parse_color(text: str) -> tuple[int, int, int]:
    """Returns red, green and blue, 0 to 255, of a colour in CSS notation.

    Colours outside sRGB, such as `color(display-p3 0 1 0)`, are cut off at its bounds, as browsers
    do; a chroma below 0 is 0.

    Args:
        text: hex of 3, 4, 6 or 8 digits, with `#` or without; a CSS name; `rgb()`, `hsl()`,
            `hwb()`, `lab()`, `lch()`, `oklab()`, `oklch()` or `color()`, with spaces or commas.
            An opacity is ignored.

    Raises:
        ValueError: if it is none of these.
    """
    written = plain_number(text).replace("°", "deg").strip().lower()
    if len(written) > _MAX_LENGTH:
        raise ValueError(f"a colour has at most {_MAX_LENGTH} characters")
    function = _FUNCTION.fullmatch(written)
    try:
        red, green, blue, *_ = ImageColor.getrgb(
            f"#{written}" if _HEX.fullmatch(written) else written
        )
    except ValueError:
        if function is None:
            raise
        return _of_function(function["name"], function["parts"])
    if not all(0 <= value <= 255 for value in (red, green, blue)):
        raise ValueError("percentages are from 0 to 100, numbers from 0 to 255")
    return red, green, blue


def _of_function(name: str, parts: str) -> tuple[int, int, int]:
    """Returns the colour of a function such as `lab(74 -40 5)`."""
    from coloraide import Color  # takes a tenth of a second to import, and is rarely needed

    try:
        color = Color(f"{name}({_between_spaces(parts)})")
        if name in _OF_CHROMA:
            color["chroma"] = max(color["chroma"], 0)
        if not all(math.isfinite(value) for value in color.coords(nans=False)):
            raise ValueError("numbers must be finite")
        spaces = (color.space(), "srgb")
        is_within = all(color.in_gamut(space, tolerance=_TOLERANCE) for space in spaces)
        if name in _WITHIN_SRGB and not is_within:
            raise ValueError("percentages are from 0 to 100, numbers from 0 to 255")
        color = color.convert("srgb")
        values = (color if is_within else color.clip()).coords(nans=False)
    except OverflowError:
        raise ValueError("numbers are too large") from None
    red, green, blue = (_level(value) for value in values)
    return red, green, blue


def _between_spaces(parts: str) -> str:
    """Returns the numbers of a function with spaces between them; drops the fourth, an opacity."""
    numbers = [part.strip() for part in parts.split(",")]
    if len(numbers) == 1:
        return parts
    if len(numbers) not in (3, 4):
        raise ValueError("a colour has three numbers")
    return " ".join(numbers[:3])


def _level(value: float) -> int:
    """Returns a channel of [0, 1] as 0 to 255, halves up, as in CSS."""
    return min(max(int(value * 255 + 0.5 + _ROUNDING), 0), 255)
