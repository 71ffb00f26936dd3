"""The grid of a sweep as an HTML table; every picture is a button that opens its settings."""

from __future__ import annotations

import html

from pipelines.core import images
from pipelines.runs import provenance
from pipelines.runs.product import Product
from pipelines.runs.sweep import Axis, Sweep, label
from tabs import i18n
from tabs.results import recorded
from tabs.views import view_of

SCRIPT = """
element.addEventListener('click', event => {
  const cell = event.target.closest('button.cell')?.dataset;
  if (cell) trigger('click', {row: Number(cell.row), column: Number(cell.column)});
});
"""
"""Sends row and column of a picture that is pressed."""


def table(product: Product, state: Sweep, language: str) -> str:
    """Returns the grid as an HTML table."""
    heads = "".join(f"<th scope='col'>{html.escape(label(v))}</th>" for v in state.columns.values)
    rows = "".join(
        f"<tr><th scope='row'>{html.escape(label(value))}</th>"
        f"{_cells(product, state, i, language)}</tr>"
        for i, value in enumerate(state.rows.values)
    )
    crisp = " crisp" if product.crisp else ""
    return (
        f'<div class="sweep{crisp}" tabindex="0" role="group" '
        f'aria-label="{html.escape(i18n.translate(language, "sweep.grid"))}"><table>'
        f"<caption>{_caption(product, state, language)}</caption>"
        f"<thead><tr><td></td>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _caption(product: Product, state: Sweep, language: str) -> str:
    """Returns the names of both settings, which scores are better, and what a press does."""
    rows, columns = (
        html.escape(_name_of(product, axis, language)) for axis in (state.rows, state.columns)
    )
    sentences = [*_notes(product, state, language), i18n.translate(language, "sweep.open")]
    notes = " ".join(html.escape(sentence) for sentence in sentences)
    return f"<span>{rows} ↓ &nbsp; {columns} →<br>{notes}</span>"


def _notes(product: Product, state: Sweep, language: str) -> list[str]:
    """Returns the sentences which scores are better; several if cells differ in that."""
    note = view_of(product).cell_note
    if note is None:
        return []
    cells = [
        state.cell(i, j)
        for i in range(len(state.rows.values))
        for j in range(len(state.columns.values))
    ]
    return list(dict.fromkeys(note(cell, language) for cell in cells))


def _name_of(product: Product, axis: Axis, language: str) -> str:
    """Returns the name of the setting of an axis."""
    return i18n.translate(language, i18n.key_of(product, "setting", axis.name))


def _cells(product: Product, state: Sweep, row: int, language: str) -> str:
    return "".join(
        _cell(product, state, row, column, language) for column in range(len(state.columns.values))
    )


def _cell(product: Product, state: Sweep, row: int, column: int, language: str) -> str:
    picture, cell = state.pictures[row][column], state.cells[row][column]
    if picture is None:
        return '<td class="empty"></td>'
    if cell is not None:
        (picture,) = recorded([picture], lambda _: provenance.facts_of(cell), on_page=state.total)
    alt = i18n.translate(
        language,
        "sweep.alt",
        rows=_name_of(product, state.rows, language),
        row=label(state.rows.values[row]),
        columns=_name_of(product, state.columns, language),
        column=label(state.columns.values[column]),
    )
    score = text_of_score(product, state, row, column, language)
    below = f"<small>{html.escape(score)}</small>" if score else ""
    return (
        f'<td><button type="button" class="cell" data-row="{row}" data-column="{column}">'
        f'<img src="{images.to_data_uri(picture)}" alt="{html.escape(alt)}">{below}</button></td>'
    )


def text_of_score(product: Product, state: Sweep, row: int, column: int, language: str) -> str:
    """Returns the score of a cell with its unit; empty without one."""
    score, of_view = state.scores[row][column], view_of(product).cell
    if score is None:
        return ""
    if of_view is None:
        return f"{round(score, 2):g}"
    return of_view(state.cell(row, column), score, language)
