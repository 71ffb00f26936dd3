"""Limits on memory and disk that the person who runs the app may change."""

from __future__ import annotations

import os

MEGABYTE = 2**20


def limit(name: str, default: int) -> int:
    """Returns a limit from an environment variable.

    Args:
        name: of the variable.
        default: used if the variable is missing or empty.

    Raises:
        ValueError: if it is not a whole number of 1 or more.
    """
    text = os.environ.get(name, "").strip() or str(default)
    if not (text.isascii() and text.isdecimal()) or not 1 <= len(text) <= 9 or int(text) < 1:
        raise ValueError(f"{name} must be a whole number from 1 to 999999999, got {text!r}")
    return int(text)
