"""Chooses rows of a data set by what one of its columns says."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from datasets import ClassLabel, Dataset

EVERYDAY_THING = "everyday thing"
"""Column of what an emoji shows; empty for all other pictures."""
TOLD = "told of it"
"""Column of what is known of a picture, see `training.core.told.tell`."""


def without(data: Dataset, exclude: str) -> Dataset:
    """A data set less some of its rows.

    Args:
        data: with any columns.
        exclude: which rows, as `column=value, value`; classes by name or number.

    Raises:
        ValueError: if it is not written like that, or a column or value is not there.
    """
    column, listed = _column_and_rest(data, "exclude", exclude, "column=value, value")
    numbers = _class_numbers(data, column)
    present = [str(value) for value in data[column]]
    values = set(_values(listed, {*present, *numbers}))
    values = {numbers.get(value, value) for value in values}
    missing = values.difference(present)
    if missing:
        names = {number: name for name, number in numbers.items()}
        told = sorted(names.get(value, value) for value in missing)
        raise ValueError(
            f"exclude must name values of {column}, got {', '.join(told)}, "
            "which none of the rows has"
        )
    return data.select([i for i, value in enumerate(present) if value not in values])


def _class_numbers(data: Dataset, column: str) -> dict[str, str]:
    """The number of each class of a column of classes, by its name."""
    kind = data.features[column]
    kind = getattr(kind, "feature", kind)  # of a column of lists
    names = kind.names if isinstance(kind, ClassLabel) else []
    return {name: str(number) for number, name in enumerate(names)}


def _values(listed: str, known: Collection[str]) -> list[str]:
    """Splits values by commas; one that is known with a comma in it stays whole."""
    parts, values = listed.split(","), []
    while parts:
        lengths = (n for n in range(len(parts), 0, -1) if ",".join(parts[:n]).strip() in known)
        length = next(lengths, 1)
        values.append(",".join(parts[:length]).strip())
        del parts[:length]
    return [value for value in values if value]


def in_focus(data: Dataset, focus: str) -> list[bool]:
    """Which rows of a data set have a value that a pattern describes whole, in any case of letters.

    Args:
        data: with any columns; of one that holds lists, any value of a row may fit.
        focus: which rows, as `column=pattern`; the pattern is a regular expression; classes by
            name or number.

    Raises:
        ValueError: if it is not written like that, or no row has such a value, or every one.
    """
    column, written = _column_and_rest(data, "focus", focus, "column=pattern")
    try:
        pattern = re.compile(written, re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"focus must end with a regular expression, got {written!r}") from error
    names = {number: name for name, number in _class_numbers(data, column).items()}
    told = (_texts(value) for value in data[column])
    marked = [
        any(pattern.fullmatch(text) or pattern.fullmatch(names.get(text, text)) for text in texts)
        for texts in told
    ]
    if len(set(marked)) < 2:
        raise ValueError(
            f"focus must describe a part of the rows, got {written!r}, which describes "
            + ("all" if any(marked) else "none")
        )
    return marked


def _column_and_rest(data: Dataset, name: str, written: str, form: str) -> tuple[str, str]:
    """The two sides of an option that chooses rows by one of their columns."""
    column, _, rest = (part.strip() for part in written.partition("="))
    if not rest.strip(", "):
        raise ValueError(f"{name} must be like {form!r}, got {written!r}")
    names = [name for name in data.column_names if name not in (EVERYDAY_THING, TOLD)]
    if column not in names:
        raise ValueError(f"{name} must begin with one of {', '.join(names)}, got {column!r}")
    return column, rest


def _texts(value: Any) -> list[str]:
    """What a cell of a data set says: one text, several or none."""
    several = value if isinstance(value, list) else [value]
    return [str(part) for part in several if part is not None]
