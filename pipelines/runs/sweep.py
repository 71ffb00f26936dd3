"""A labelled grid of pictures: what one or two settings do, value by value."""

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

NONE = "none"  # how an empty value is written among others
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
_GOOD = {
    "num_inference_steps": ["5", "10", "20", "50"],
    "guidance_scale": ["0", "0.05", "0.1", "0.2", "0.5"],
    "cfg_scale": ["0", "1", "2.2", "4", "8"],
    "digits": ["0", "1", "2", "3", "4", "5"],
    "blend_with": ["0", "1", "3", "8"],
}
"""Where other values tell more than equal steps through the range."""


class Preview(Protocol):
    """What a cell's run yields, step by step; some also have `score_after`, one per picture."""

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
    """Along which one setting changes.

    Attributes:
        name: of the setting; empty for none, with `None` as the only value.
        values: as checked.
    """

    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Sweep:
    """The state of a sweep after one step of one cell.

    Attributes:
        rows: what changes from top to bottom.
        columns: what changes from left to right.
        pictures: by row and column; of the cell that is being drawn what the network predicts,
            of those to come None.
        scores: by row and column, of finished cells whose run has a score.
        done: finished cells.
        total: cells.
        seconds: since the sweep began.
        settings: as checked, of all cells; what changes is as in the first cell.
        model: key of the checkpoint of the last cell.
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
    """Names of the settings that can change along an axis."""
    return [
        f.name
        for f in dataclasses.fields(settings)
        if f.name != "num_images"
        and not isinstance(f.metadata["rule"], accepted.Picture | accepted.Mask)
    ]


def suggestion(settings: Any, name: str) -> str:
    """Values to begin with, as `parse_axis` reads them; those that contradict `settings` left out.

    Args:
        settings: the present ones.
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
    """A few values, as text."""
    present = getattr(settings, name)
    if name == "seed":
        first = min(max(int(present), 0), MAX_SEED - 3)
        return [str(first + i) for i in range(4)]
    if name == "guidance_scale" and settings.methods[settings.method].has_own_scale:
        scale = settings.methods[settings.method].default_scale
        return [label(scale * i / 4) for i in range(5)]
    if name in _GOOD:
        return _GOOD[name]
    if isinstance(rule, accepted.Whole | accepted.Real):
        return [label(number) for number in _numbers(rule)]
    if isinstance(rule, accepted.Color):
        return _with_present(present, _COLORS)
    if isinstance(rule, accepted.Palette):
        return _PALETTES
    if isinstance(rule, accepted.Prompt):
        return _with_present(present, _SENTENCES)[:2]
    return list(rule.options)


def _with_present(present: str, others: list[str]) -> list[str]:
    """The present value, then others; it must not hold what separates values."""
    first = " ".join(present.replace(";", ",").split()) or NONE
    return [first, *(other for other in others if other != first)]


def _numbers(rule: accepted.Whole | accepted.Real) -> list[float]:
    """Some from all of the range: a small one whole, a large one by doubling, others evenly."""
    if isinstance(rule, accepted.Whole):
        span = range(rule.minimum, rule.maximum + 1)
        return list(span) if len(span) <= 5 else [2**i for i in range(5) if 2**i in span]
    if isinstance(rule, accepted.RealOrOff):
        return [accepted.OFF, *_spread(rule.minimum, rule.maximum, 3)]
    return _spread(rule.minimum, rule.maximum, _RANGE_LENGTH)


def _spread(first: float, last: float, count: int) -> list[float]:
    """Evenly from one number to another, the two exact and those between fit to be read."""
    between = [round(first + (last - first) * i / (count - 1), 4) for i in range(1, count - 1)]
    return [first, *between, last]


def parse_axis(settings: type, name: str, text: str) -> Axis:
    """The values that `text` lists for a setting.

    They stand between `;` or new lines, or, where there is no `;`, between commas that are not
    inside parentheses; the commas of prompts and palettes are their own. `1-6` is every whole
    number, `0..0.5 x 6` so many evenly, 5 if it does not say. `none` is an empty value. A seed
    of -1 is drawn.

    Args:
        settings: whose setting it is.
        name: of the setting; empty for an axis along which nothing changes.

    Raises:
        SettingsError: if the setting does not accept a value, or two are the same.
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
    return Axis(name, tuple(_drawn(name, value) for value in values))


def _unknown(settings: type, name: Any) -> SettingsError:
    options = ", ".join(parameters(settings))
    return SettingsError("sweep_name", options=options, got=show(name))


def _entries(rule: Any, text: str) -> list[str]:
    """What stands between separators, without what is empty."""
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
    """The values of one entry, several if it is a range."""
    numeric = isinstance(rule, accepted.Whole | accepted.Real)
    found = _FROM_TO.fullmatch(entry)
    if found and (numeric or isinstance(rule, accepted.DigitString)):
        return _every(name, rule, entry, found["first"], found["last"])
    found = _SPREAD.fullmatch(entry)
    if found and numeric:
        return _evenly(name, rule, entry, found)
    return [_value(name, rule, entry)]


def _value(name: str, rule: Any, entry: str) -> Any:
    """One value, as its setting accepts it."""
    if isinstance(rule, accepted.Whole | accepted.Real):
        return rule.check(name, _number(entry))
    empty = entry == NONE and isinstance(rule, _MAY_BE_EMPTY)
    value = rule.check(name, "" if empty else entry)
    if isinstance(rule, accepted.DigitString) and len(value) > 1:
        raise SettingsError("sweep_digit", name=name, got=show(entry))
    return value


def _number(text: str) -> int | float | str:
    """The number, or the text itself for a rule to refuse."""
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text


def _every(name: str, rule: Any, entry: str, first: str, last: str) -> list[Any]:
    """Every whole number from one to another, either way."""
    ends = int(_value(name, rule, first)), int(_value(name, rule, last))
    span = range(ends[0], ends[1] + 1) if ends[0] <= ends[1] else range(ends[0], ends[1] - 1, -1)
    _check_length(name, entry, len(span))
    return [_value(name, rule, str(number)) for number in span]


def _evenly(name: str, rule: Any, entry: str, found: re.Match[str]) -> list[Any]:
    """So many numbers from one to another."""
    first, last = (_value(name, rule, found[end]) for end in ("first", "last"))
    whole = isinstance(rule, accepted.Whole)
    count = int(found["count"]) if found["count"] else _RANGE_LENGTH
    if whole and not found["count"]:
        count = min(count, abs(last - first) + 1)  # 1..3 has no five
    _check_length(name, entry, count)
    numbers = _spread(first, last, count)
    return [rule.check(name, round(number) if whole else number) for number in numbers]


def _check_length(name: str, entry: str, count: int) -> None:
    if not 2 <= count <= MAX_CELLS:
        raise SettingsError("sweep_range", name=name, maximum=MAX_CELLS, got=show(entry))


def _drawn(name: str, value: Any) -> Any:
    """The value, or a seed in place of the random one, so that all of its cells have the same."""
    return secrets.randbelow(2**31) if name == "seed" and value == RANDOM_SEED else value


def check(settings: Any, rows: Axis, columns: Axis) -> list[list[Any]]:
    """The settings of every cell, by row and column, each of one picture.

    Raises:
        SettingsError: if there are too many cells, or a cell's settings are wrong or contradict
            each other.
    """
    for axis in (rows, columns):
        if axis.name and axis.name not in parameters(type(settings)):
            raise _unknown(type(settings), axis.name)
    if rows.name == columns.name:
        raise SettingsError("sweep_axes", got=show(rows.name))
    down, across = len(rows.values), len(columns.values)
    if down * across > MAX_CELLS:
        raise SettingsError("sweep_cells", maximum=MAX_CELLS, rows=down, columns=across)
    shared = replace(settings, **_of_one_picture(settings))
    return [
        [accepted.validate(_cell(shared, (rows, i), (columns, j))) for j in columns.values]
        for i in rows.values
    ]


def _of_one_picture(settings: Any) -> dict[str, Any]:
    """The changes that make a run one of a single picture, of a seed that is known."""
    changes: dict[str, Any] = {"seed": _drawn("seed", settings.seed)}
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
    """Draws the cells row by row, yielding at every step of each.

    Args:
        settings: what all cells share.
        rows: what changes from top to bottom.
        columns: what changes from left to right.
        generate: settings of one picture to its previews.

    Raises:
        SettingsError: see `check`; raised at once, before anything is drawn.
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
    """The run of a cell, which ends here if the sweep does."""
    try:
        yield previews
    finally:
        close = getattr(previews, "close", None)  # only generators have one
        if close is not None:
            close()


def _score(preview: Preview) -> float | None:
    found = getattr(preview, "score_after", [])
    return found[0] if found else None


def label(value: Any) -> str:
    """How a value is written on a sheet: short, and never empty but for `None`."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:g}"
    text = " ".join(str(value).split()) or NONE
    return text if len(text) <= _LABEL_LENGTH else text[: _LABEL_LENGTH - 1].rstrip() + "…"
