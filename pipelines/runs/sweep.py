"""A sweep: a grid of pictures over the values of one or two settings."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Protocol

from PIL import Image

from pipelines.core import images, rules
from pipelines.core.errors import Setting, Several
from pipelines.core.rules import SettingsError, show
from pipelines.core.typed import COMMAS, SEMICOLONS, plain

MAX_CELLS = 36

MAX_CELL_PX = 256
"""Longest side of a cell's picture; a larger one, as edited pictures may be, is shrunk."""

_LABEL_LENGTH = 60
_SEMICOLONS = str.maketrans(dict.fromkeys(SEMICOLONS, ";"))
_COMMAS = str.maketrans(dict.fromkeys(COMMAS, ","))


class Preview(Protocol):
    """The previews that a cell's run yields; some also have `score_after`, one per picture."""

    @property
    def pictures(self) -> Sequence[Image.Image]: ...
    @property
    def finished(self) -> bool: ...
    @property
    def model(self) -> str: ...
    @property
    def revision(self) -> str: ...
    @property
    def revisions(self) -> Mapping[str, str]: ...


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
class Cell:
    """A finished cell, as far as the record of its picture tells; see `provenance.Drawn`."""

    settings: Any
    model: str
    revision: str
    revisions: Mapping[str, str]


@dataclass(frozen=True)
class Sweep:
    """The state of a sweep after one step of one cell.

    Attributes:
        rows: axis from top to bottom.
        columns: axis from left to right.
        pictures: by row and column; None for cells that have not begun.
        scores: by row and column; None for unfinished cells and runs without a score.
        cells: by row and column; None for cells that have not finished.
        done: number of finished cells.
        total: number of cells.
        seconds: since the sweep began.
        settings: checked, of the first cell.
        model: key of the checkpoint of the latest cell.
        revision: of its weights.
        revisions: of all weights that took part so far, by key of the checkpoint.
    """

    rows: Axis
    columns: Axis
    pictures: list[list[Image.Image | None]]
    scores: list[list[float | None]]
    cells: list[list[Cell | None]]
    done: int
    total: int
    seconds: float
    settings: Any
    model: str
    revision: str
    revisions: Mapping[str, str]

    @property
    def finished(self) -> bool:
        return self.done == self.total

    @property
    def num_bytes(self) -> int:
        """The memory of all pictures."""
        return sum(images.num_bytes(p) for row in self.pictures for p in row if p is not None)

    def cell(self, row: int, column: int) -> Any:
        """Returns the checked settings of a cell.

        Args:
            row: from 0, from the top.
            column: from 0, from the left.
        """
        return rules.validate(_cell(self.settings, (self.rows, row), (self.columns, column)))


def parameters(settings: type) -> list[str]:
    """Returns the names of the settings that can change along an axis."""
    return [f.name for f in dataclasses.fields(settings) if f.metadata["in_sweeps"]]


def suggestion(settings: Any, name: str) -> str:
    """Returns suggested values, as `parse_axis` reads them, that do not contradict `settings`.

    Args:
        settings: the current settings.
        name: one of `parameters`.
    """
    texts = _suggested(settings, name)
    fitting = [text for text in texts if _fits(settings, name, text)]
    separator = "; " if rules.rule(settings, name).contains_commas else ", "
    return separator.join(fitting or texts)


def _suggested(settings: Any, name: str) -> Sequence[str]:
    suggested: rules.Suggested | None = rules.declared(settings, name).metadata["suggested"]
    if suggested is None:
        return rules.rule(settings, name).suggestions(getattr(settings, name))
    return suggested(settings) if callable(suggested) else suggested


def _fits(settings: Any, name: str, text: str) -> bool:
    try:
        (value,) = parse_axis(type(settings), name, text).values
        rules.validate(replace(settings, **{name: value}))
    except SettingsError:
        return False
    return True


def parse_axis(settings: type, name: str, text: str) -> Axis:
    """Returns the axis with the values that `text` lists for a setting.

    `;` and new lines separate values. Without any `;`, commas outside parentheses separate them
    too, except in prompts and palettes. Full-width characters are the same. `1-6` means every
    integer from 1 to 6, `0..0.5 x 6` six evenly spread numbers (default 5), `none` an empty value.
    A seed of -1 becomes a random one.

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
    rule = rules.rule(settings, name)
    entries = _entries(rule, name, text) if isinstance(text, str) else []
    if not entries:
        raise SettingsError("sweep_values", name=name, got=show(text))
    values = []
    for entry in entries:
        values += rule.values(name, entry, MAX_CELLS)
        if len(values) > MAX_CELLS:
            raise SettingsError("sweep_many", name=name, maximum=MAX_CELLS, got=show(text))
    repeated = [value for i, value in enumerate(values) if value in values[:i]]
    if repeated:
        raise SettingsError("sweep_repeated", name=name, got=show(repeated[0]))
    return Axis(name, tuple(_with_seed_drawn(name, value) for value in values))


def _unknown(settings: type, name: Any) -> SettingsError:
    options = Several(Setting(name) for name in parameters(settings))
    return SettingsError("sweep_name", options=options, got=show(name))


def _entries(rule: rules.Rule, name: str, text: str) -> list[str]:
    """Returns the entries between separators, without empty ones."""
    text = plain(text.replace("…", ".."))  # of its three points one would be left for a number
    text = text.translate(_SEMICOLONS)
    if not rule.contains_commas:
        text = text.translate(_COMMAS)
    rule.check_list(name, text)
    semicolons = rule.contains_commas or ";" in text
    entries, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        comma = character == "," and depth <= 0 and not semicolons
        if comma or character in ";\n":
            entries.append("")
        else:
            entries[-1] += character
    return [entry.strip() for entry in entries if entry.strip()]


def _with_seed_drawn(name: str, value: Any) -> Any:
    """Returns the value; draws a seed of -1 here, so that all cells get the same one."""
    return rules.drawn_seed(value) if name == "seed" else value


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
        raise SettingsError("sweep_axes", got=Setting(rows.name) if rows.name else show(""))
    num_rows, num_columns = len(rows.values), len(columns.values)
    if num_rows * num_columns > MAX_CELLS:
        raise SettingsError("sweep_cells", maximum=MAX_CELLS, rows=num_rows, columns=num_columns)
    one = settings.of_one_picture()
    shared = replace(one, seed=rules.drawn_seed(one.seed))
    return [
        [rules.validate(_cell(shared, (rows, i), (columns, j))) for j in range(num_columns)]
        for i in range(num_rows)
    ]


def _cell(shared: Any, *chosen: tuple[Axis, int]) -> Any:
    """Returns settings with the chosen values of axes, each by its number."""
    return replace(shared, **{axis.name: axis.values[i] for axis, i in chosen if axis.name})


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
    finished: list[list[Cell | None]] = [[None for _ in row] for row in cells]
    revisions: dict[str, str] = {}
    for i, j in product(range(len(rows.values)), range(len(columns.values))):
        with _closing(generate(cells[i][j])) as previews:
            for preview in previews:
                pictures[i][j] = _bounded(preview.pictures[0])
                revisions |= preview.revisions
                if preview.finished:
                    scores[i][j], done = _score(preview), done + 1
                    finished[i][j] = _cell_of(cells[i][j], preview)
                yield Sweep(
                    rows=rows,
                    columns=columns,
                    pictures=[list(row) for row in pictures],
                    scores=[list(row) for row in scores],
                    cells=[list(row) for row in finished],
                    done=done,
                    total=len(rows.values) * len(columns.values),
                    seconds=time.monotonic() - began,
                    settings=cells[0][0],
                    model=preview.model,
                    revision=preview.revision,
                    revisions=dict(revisions),
                )


def _bounded(picture: Image.Image) -> Image.Image:
    """Returns a picture with at most `MAX_CELL_PX` on its longer side."""
    if max(picture.size) <= MAX_CELL_PX:
        return picture
    smaller = picture.copy()
    smaller.thumbnail((MAX_CELL_PX, MAX_CELL_PX))
    return smaller


@contextmanager
def _closing(previews: Iterator[Preview]) -> Iterator[Iterator[Preview]]:
    """Closes the run of a cell when the sweep ends early."""
    try:
        yield previews
    finally:
        close = getattr(previews, "close", None)  # only generators have one
        if close is not None:
            close()


def _cell_of(settings: Any, preview: Preview) -> Cell:
    return Cell(settings, preview.model, preview.revision, preview.revisions)


def _score(preview: Preview) -> float | None:
    scores = getattr(preview, "score_after", [])
    return scores[0] if scores else None


def label(value: Any) -> str:
    """Returns the label of a value on a sheet: short; empty only for `None`."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:g}"
    text = " ".join(str(value).split()) or rules.NONE
    return text if len(text) <= _LABEL_LENGTH else text[: _LABEL_LENGTH - 1].rstrip() + "…"
