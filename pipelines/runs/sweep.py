"""A sweep: a grid of pictures over the values of one or two settings."""

from __future__ import annotations

import dataclasses
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Protocol

from PIL import Image

from pipelines.core import rules as accepted
from pipelines.core.rules import MAX_SEED, RANDOM_SEED, SettingsError, show

MAX_CELLS = 36

NONE = "none"  # stands for an empty value
_RANGE_LENGTH = 5
_LABEL_LENGTH = 60
_MAY_BE_EMPTY = (
    accepted.Prompt,
    accepted.Palette,
    accepted.ColorOrNone,
    accepted.DigitString,
)

_NUMBER = r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)"
_FROM_TO = re.compile(r"(?P<first>\d+)\s*-\s*(?P<last>\d+)")
_SPREAD = re.compile(
    rf"(?P<first>{_NUMBER})\s*\.\.\s*(?P<last>{_NUMBER})(?:\s*[x×*]\s*(?P<count>\d{{1,6}}))?"
)

_COLORS = ["#C8553D", "#2E6F95", "#E0B040", "#3F7D4E"]
_PALETTES = ["#102040 60, #FFD700 40", "#2F6B4F 50, #E8E0C8 30, #C8553D 20"]
_SENTENCES = ["a portrait of a woman", "a winter landscape with snow"]
_GOOD_VALUES = {
    "num_inference_steps": ["5", "10", "20", "50"],
    "guidance_scale": ["0", "0.05", "0.1", "0.2", "0.5"],
    "cfg_scale": ["0", "1", "2.2", "4", "8"],
    "digits": ["0", "1", "2", "3", "4", "5"],
    "blend_with": ["0", "1", "3", "8"],
}
"""Suggested values of settings for which equal steps through the range are not useful."""


class Preview(Protocol):
    """The previews that a cell's run yields; some also have `score_after`, one per picture."""

    @property
    def pictures(self) -> list[Image.Image]: ...
    @property
    def finished(self) -> bool: ...
    @property
    def model(self) -> str: ...
    @property
    def revision(self) -> str: ...


@dataclass(frozen=True)
class Axis:
    """An axis of a sweep, along which one setting changes.

    Attributes:
        name: of the setting; empty for no setting, with `None` as the only value.
        values: checked.
    """

    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Sweep:
    """The state of a sweep after one step of one cell.

    Attributes:
        rows: axis from top to bottom.
        columns: axis from left to right.
        pictures: by row and column; None for cells that have not begun.
        scores: by row and column; None for unfinished cells and runs without a score.
        done: number of finished cells.
        total: number of cells.
        seconds: since the sweep began.
        settings: checked, of the first cell.
        model: key of the checkpoint of the latest cell.
        revision: of its weights.
    """

    rows: Axis
    columns: Axis
    pictures: list[list[Image.Image | None]]
    scores: list[list[float | None]]
    done: int
    total: int
    seconds: float
    settings: Any
    model: str
    revision: str

    @property
    def finished(self) -> bool:
        return self.done == self.total


def parameters(settings: type) -> list[str]:
    """Returns the names of the settings that can change along an axis."""
    return [
        f.name
        for f in dataclasses.fields(settings)
        if f.name != "num_images"
        and not isinstance(f.metadata["rule"], accepted.Picture | accepted.Mask)
    ]


def suggestion(settings: Any, name: str) -> str:
    """Returns suggested values, as `parse_axis` reads them, that do not contradict `settings`.

    Args:
        settings: the current settings.
        name: one of `parameters`.
    """
    rule = accepted.rule(settings, name)
    texts = _candidates(settings, name, rule)
    fitting = [text for text in texts if _fits(settings, name, text)]
    separator = "; " if isinstance(rule, accepted.Prompt | accepted.Palette) else ", "
    return separator.join(fitting or texts)


def _fits(settings: Any, name: str, text: str) -> bool:
    try:
        (value,) = parse_axis(type(settings), name, text).values
        accepted.validate(replace(settings, **{name: value}))
    except SettingsError:
        return False
    return True


def _candidates(settings: Any, name: str, rule: Any) -> list[str]:
    """Returns a few suggested values, as text."""
    current = getattr(settings, name)
    if name == "seed":
        first = min(max(int(current), 0), MAX_SEED - 3)
        return [str(first + i) for i in range(4)]
    if name == "guidance_scale" and settings.methods[settings.method].has_own_scale:
        scale = settings.methods[settings.method].default_scale
        return [label(scale * i / 4) for i in range(5)]
    if name in _GOOD_VALUES:
        return _GOOD_VALUES[name]
    if isinstance(rule, accepted.Whole | accepted.Real):
        return [label(number) for number in _numbers(rule)]
    if isinstance(rule, accepted.Color):
        return _with_current(current, _COLORS)
    if isinstance(rule, accepted.Palette):
        return _PALETTES
    if isinstance(rule, accepted.Prompt):
        return _with_current(current, _SENTENCES)[:2]
    return list(rule.options)


def _with_current(current: str, others: list[str]) -> list[str]:
    """Returns the current value without separators of values, then the others."""
    first = " ".join(current.replace(";", ",").split()) or NONE
    return [first, *(other for other in others if other != first)]


def _numbers(rule: accepted.Whole | accepted.Real) -> list[float]:
    """Returns numbers from a range: all of a few integers, powers of 2, or evenly spread."""
    if isinstance(rule, accepted.Whole):
        span = range(rule.minimum, rule.maximum + 1)
        return list(span) if len(span) <= 5 else [2**i for i in range(5) if 2**i in span]
    if isinstance(rule, accepted.RealOrOff):
        return [accepted.OFF, *_spread(rule.minimum, rule.maximum, 3)]
    return _spread(rule.minimum, rule.maximum, _RANGE_LENGTH)


def _spread(first: float, last: float, count: int) -> list[float]:
    """Returns evenly spread numbers; the first and last are exact, the others rounded."""
    between = [round(first + (last - first) * i / (count - 1), 4) for i in range(1, count - 1)]
    return [first, *between, last]


def parse_axis(settings: type, name: str, text: str) -> Axis:
    """Returns the axis with the values that `text` lists for a setting.

    `;` and new lines separate values. Without any `;`, commas outside parentheses separate them
    too, except in prompts and palettes. `1-6` means every integer from 1 to 6, `0..0.5 x 6` six
    evenly spread numbers (default 5), `none` an empty value. A seed of -1 becomes a random one.

    Args:
        settings: class of the settings.
        name: of the setting; empty for an axis along which nothing changes.
        text: the list of values.

    Raises:
        SettingsError: if the setting does not accept a value, or two values are equal.
    """
    if name == "":
        return Axis("", (None,))
    if name not in parameters(settings):
        raise _unknown(settings, name)
    rule = accepted.rule(settings, name)
    entries = _entries(rule, text) if isinstance(text, str) else []
    if not entries:
        raise SettingsError("sweep_values", name=name, got=show(text))
    values = []
    for entry in entries:
        values += _values(name, rule, entry)
        if len(values) > MAX_CELLS:
            raise SettingsError("sweep_many", name=name, maximum=MAX_CELLS, got=show(text))
    repeated = [value for i, value in enumerate(values) if value in values[:i]]
    if repeated:
        raise SettingsError("sweep_repeated", name=name, got=show(repeated[0]))
    return Axis(name, tuple(_with_seed_drawn(name, value) for value in values))


def _unknown(settings: type, name: Any) -> SettingsError:
    options = ", ".join(parameters(settings))
    return SettingsError("sweep_name", options=options, got=show(name))


def _entries(rule: Any, text: str) -> list[str]:
    """Returns the entries between separators, without empty ones."""
    semicolons = isinstance(rule, accepted.Prompt | accepted.Palette) or ";" in text
    entries, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        comma = character == "," and depth <= 0 and not semicolons
        if comma or character in ";\n":
            entries.append("")
        else:
            entries[-1] += character
    return [entry.strip() for entry in entries if entry.strip()]


def _values(name: str, rule: Any, entry: str) -> list[Any]:
    """Returns the values of an entry; a range has several."""
    is_numeric = isinstance(rule, accepted.Whole | accepted.Real)
    match = _FROM_TO.fullmatch(entry)
    if match and (is_numeric or isinstance(rule, accepted.DigitString)):
        return _every(name, rule, entry, match["first"], match["last"])
    match = _SPREAD.fullmatch(entry)
    if match and is_numeric:
        return _evenly(name, rule, entry, match)
    return [_value(name, rule, entry)]


def _value(name: str, rule: Any, entry: str) -> Any:
    """Returns a value, checked by the rule of its setting."""
    if isinstance(rule, accepted.Whole | accepted.Real):
        return rule.check(name, _number(entry))
    is_empty = entry == NONE and isinstance(rule, _MAY_BE_EMPTY)
    value = rule.check(name, "" if is_empty else entry)
    if isinstance(rule, accepted.DigitString) and len(value) > 1:
        raise SettingsError("sweep_digit", name=name, got=show(entry))
    return value


def _number(text: str) -> int | float | str:
    """Returns the text as a number, or the text itself, which the rule then refuses."""
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text


def _every(name: str, rule: Any, entry: str, first: str, last: str) -> list[Any]:
    """Returns every integer from one to another, rising or falling."""
    ends = int(_value(name, rule, first)), int(_value(name, rule, last))
    span = range(ends[0], ends[1] + 1) if ends[0] <= ends[1] else range(ends[0], ends[1] - 1, -1)
    _check_length(name, entry, len(span))
    return [_value(name, rule, str(number)) for number in span]


def _evenly(name: str, rule: Any, entry: str, match: re.Match[str]) -> list[Any]:
    """Returns the evenly spread numbers of a range."""
    first, last = (_value(name, rule, match[end]) for end in ("first", "last"))
    is_whole = isinstance(rule, accepted.Whole)
    count = int(match["count"]) if match["count"] else _RANGE_LENGTH
    if is_whole and not match["count"]:
        count = min(count, abs(last - first) + 1)  # 1..3 has only three integers
    _check_length(name, entry, count)
    numbers = _spread(first, last, count)
    return [rule.check(name, round(number) if is_whole else number) for number in numbers]


def _check_length(name: str, entry: str, count: int) -> None:
    if not 2 <= count <= MAX_CELLS:
        raise SettingsError("sweep_range", name=name, maximum=MAX_CELLS, got=show(entry))


def _with_seed_drawn(name: str, value: Any) -> Any:
    """Returns the value; draws a seed of -1 here, so that all cells get the same one."""
    return secrets.randbelow(2**31) if name == "seed" and value == RANDOM_SEED else value


def check(settings: Any, rows: Axis, columns: Axis) -> list[list[Any]]:
    """Returns the settings of every cell, by row and column; each draws one picture.

    Raises:
        SettingsError: if there are too many cells, or a cell's settings are wrong or contradict
            each other.
    """
    for axis in (rows, columns):
        if axis.name and axis.name not in parameters(type(settings)):
            raise _unknown(type(settings), axis.name)
    if rows.name == columns.name:
        raise SettingsError("sweep_axes", got=show(rows.name))
    num_rows, num_columns = len(rows.values), len(columns.values)
    if num_rows * num_columns > MAX_CELLS:
        raise SettingsError("sweep_cells", maximum=MAX_CELLS, rows=num_rows, columns=num_columns)
    shared = replace(settings, **_of_one_picture(settings))
    return [
        [accepted.validate(_cell(shared, (rows, i), (columns, j))) for j in columns.values]
        for i in rows.values
    ]


def _of_one_picture(settings: Any) -> dict[str, Any]:
    """Returns the changes of settings for a single picture with a known seed."""
    changes: dict[str, Any] = {"seed": _with_seed_drawn("seed", settings.seed)}
    if hasattr(settings, "num_images"):
        changes["num_images"] = 1
    if hasattr(settings, "digits"):
        rule = accepted.rule(settings, "digits")
        changes["digits"] = rule.check("digits", settings.digits)[:1]
    return changes


def _cell(shared: Any, *chosen: tuple[Axis, Any]) -> Any:
    return replace(shared, **{axis.name: value for axis, value in chosen if axis.name})


def sweep(
    settings: Any, rows: Axis, columns: Axis, generate: Callable[[Any], Iterator[Preview]]
) -> Iterator[Sweep]:
    """Draws the cells row by row; yields after every step.

    Args:
        settings: shared by all cells.
        rows: axis from top to bottom.
        columns: axis from left to right.
        generate: maps the settings of one picture to its previews.

    Raises:
        SettingsError: see `check`; raised at once, before the first cell.
    """
    return _sweep(check(settings, rows, columns), rows, columns, generate)


def _sweep(
    cells: list[list[Any]],
    rows: Axis,
    columns: Axis,
    generate: Callable[[Any], Iterator[Preview]],
) -> Iterator[Sweep]:
    began, done = time.monotonic(), 0
    pictures: list[list[Image.Image | None]] = [[None for _ in row] for row in cells]
    scores: list[list[float | None]] = [[None for _ in row] for row in cells]
    for i, j in product(range(len(rows.values)), range(len(columns.values))):
        with _closing(generate(cells[i][j])) as previews:
            for preview in previews:
                pictures[i][j] = preview.pictures[0]
                if preview.finished:
                    scores[i][j], done = _score(preview), done + 1
                yield Sweep(
                    rows=rows,
                    columns=columns,
                    pictures=[list(row) for row in pictures],
                    scores=[list(row) for row in scores],
                    done=done,
                    total=len(rows.values) * len(columns.values),
                    seconds=time.monotonic() - began,
                    settings=cells[0][0],
                    model=preview.model,
                    revision=preview.revision,
                )


@contextmanager
def _closing(previews: Iterator[Preview]) -> Iterator[Iterator[Preview]]:
    """Closes the run of a cell when the sweep ends early."""
    try:
        yield previews
    finally:
        close = getattr(previews, "close", None)  # only generators have one
        if close is not None:
            close()


def _score(preview: Preview) -> float | None:
    scores = getattr(preview, "score_after", [])
    return scores[0] if scores else None


def label(value: Any) -> str:
    """Returns the label of a value on a sheet: short; empty only for `None`."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:g}"
    text = " ".join(str(value).split()) or NONE
    return text if len(text) <= _LABEL_LENGTH else text[: _LABEL_LENGTH - 1].rstrip() + "…"
