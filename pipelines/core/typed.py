"""Text as keyboards type it: full-width characters, and the dashes and bars of every layout.

Every rule for words, colours, numbers and digits reads through these functions.
"""

from __future__ import annotations

import unicodedata

DASHES = "−‐‑‒–—―⸺⸻﹘﹣－⁻˗➖─ー-"
"""Characters that people type as a minus sign; the hyphen is last, as classes of `re` need it."""

PLUSES = "+＋﹢⁺➕"
COLONS = ":：﹕︓︰∶꞉ː"
BARS = "|｜￨│┃︱︲¦￤∣❘❙丨ǀ‖∥║ǁ"
POINTS = ".。｡٫"
COMMAS = ",，﹐︐、﹑､،٬"
SEMICOLONS = ";；﹔︔؛"

_UNSEEN = dict.fromkeys(map(ord, "\u00ad\u200b\u200e\u200f\u2060\ufeff"))
_KEPT = str.maketrans("︱︲︰", "||:")  # NFKC would make dashes and points of these
_SIGNS = dict.fromkeys(DASHES, "-") | dict.fromkeys(PLUSES, "+")
_MARKS = dict.fromkeys(POINTS, ".") | dict.fromkeys(COMMAS, ",") | dict.fromkeys(SEMICOLONS, ";")
_OF_NUMBERS = str.maketrans(_SIGNS | _MARKS)


def plain(text: str) -> str:
    """Returns a text in NFKC, so that `Ａ：１` is `A:1`, without characters that nobody sees."""
    return unicodedata.normalize("NFKC", text.translate(_UNSEEN | _KEPT))


def plain_number(text: str) -> str:
    """Returns a number, or several, with the digits, signs, points and commas of ASCII."""
    folded = plain(text.translate(_OF_NUMBERS)).translate(_OF_NUMBERS)
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in folded)
