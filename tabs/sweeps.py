"""The sweep of a tab: a labelled grid over two settings, generated cell by cell."""

from __future__ import annotations

import dataclasses
import functools
import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.context import LocalContext

from pipelines.core import images
from pipelines.core.cache import Cache
from pipelines.core.rules import NONE
from pipelines.runs import provenance, time_limit
from pipelines.runs.product import Product
from pipelines.runs.sheet import sheet
from pipelines.runs.sweep import (
    Axis,
    Sweep,
    check,
    label,
    parameters,
    parse_axis,
    suggestion,
    sweep,
)
from tabs import common, i18n
from tabs.i18n import Translatable
from tabs.lane import Overtime, Turn
from tabs.results import failure_updates, recorded
from tabs.server import limits

_UPDATE_SECONDS = 0.4  # between two updates of the grid, which are larger than those of a picture
_CELL_PX = 128
_SHOWN_BYTES = 64 * 2**20


_shown: Cache[Sweep] = Cache(_SHOWN_BYTES, lambda state: state.num_bytes)
"""The latest state of the sweeps of a few visitors, by visitor and tab, for the Stop button."""


@dataclass(frozen=True)
class Panel:
    """Components of a sweep."""

    rows: gr.Dropdown
    row_values: gr.Textbox
    columns: gr.Dropdown
    column_values: gr.Textbox
    run: gr.Button
    stop: gr.Button
    status: gr.HTML
    grid: gr.HTML
    download: gr.DownloadButton

    def axes(self) -> list[Component]:
        """Returns the components that choose the two axes."""
        return [self.rows, self.row_values, self.columns, self.column_values]


def layout(product: Product) -> Panel:
    """Lays out the sweep; call inside `gr.Blocks`."""
    prefix = f"{product.prefix}sweep-"
    gr.Markdown(Translatable("sweep.introduction"))
    rows, columns = product.first_sweep
    with gr.Row(elem_classes="axis"):
        row_choice, row_values = _axis(product, "rows", rows)
    with gr.Row(elem_classes="axis"):
        column_choice, column_values = _axis(product, "columns", columns)
    with gr.Row(elem_classes="run-row"):
        run = gr.Button(Translatable("sweep.run"), variant="primary", elem_id=f"{prefix}draw")
        stop = gr.Button(Translatable("shared.stop"), elem_id=f"{prefix}stop")
    status = gr.HTML(elem_id=f"{prefix}status")
    grid = gr.HTML(elem_id=f"{prefix}grid")
    download = gr.DownloadButton(
        Translatable("sweep.save"), interactive=False, size="sm", elem_id=f"{prefix}download"
    )
    return Panel(
        row_choice, row_values, column_choice, column_values, run, stop, status, grid, download
    )


def _axis(product: Product, name: str, setting: str) -> tuple[gr.Dropdown, gr.Textbox]:
    prefix = f"{product.prefix}sweep-"

    def named(setting: str) -> Translatable:
        return Translatable(i18n.key_of(product, "setting", setting))

    choice = gr.Dropdown(
        [(named(p), p) for p in parameters(product.settings)],
        value=setting,
        label=Translatable(f"sweep.{name}"),
        elem_id=prefix + name,
        scale=1,
        min_width=140,
    )
    values = gr.Textbox(
        suggestion(product.settings(), setting),
        label=Translatable("sweep.values"),
        info=Translatable("sweep.values_info"),
        elem_id=f"{prefix}{name}-values",
        scale=2,
        min_width=160,
    )
    return choice, values


def wire(
    panel: Panel,
    product: Product,
    language: Component,
    inputs: Sequence[Component],
    settings_of: Callable[[Sequence[Any]], Any],
    plain_inputs: Sequence[Component],
    settings_without_pictures: Callable[[Sequence[Any]], Any],
) -> None:
    """Wires the events of the sweep.

    Args:
        panel: components of the sweep.
        product: product that the tab generates.
        language: component that holds the language.
        inputs: controls with the settings that all cells share.
        settings_of: function from the values of the controls to settings.
        plain_inputs: those of the controls that are no pictures.
        settings_without_pictures: function from their values to settings.
    """

    _wire_suggestions(panel, product, plain_inputs, settings_without_pictures)

    def draw(language_code: str, *values: Any) -> Iterator[list[Any]]:
        state, axes, values = None, values[:4], values[4:]
        try:
            with common.as_gradio_errors(language_code, product):
                turn = Turn(language_code, seconds=limits.deadline_seconds())
                chosen = _axes(product, *axes)
                states = _in_time(product, settings_of(values), *chosen, turn)
                yield _begun(language_code)
                for state in common.throttle(states, _UPDATE_SECONDS):
                    _shown.put(_place(product), state)
                    yield _update(product, state, language_code)
        except gr.Error as error:
            status = _failed_status(state, language_code, error)
            yield [status, gr.skip(), _download(product, state)]
            raise

    event = panel.run.click(
        draw,
        inputs=[language, *panel.axes(), *inputs],
        outputs=[panel.status, panel.grid, panel.download],
        show_progress_on=panel.status,
        api_visibility="private",
        **common.DEVICE_QUEUE,
    )
    _wire_stop(panel, product, language, event)


def _wire_stop(panel: Panel, product: Product, language: Component, event: Any) -> None:
    """Makes the Stop button end the event of a sweep, whose cells can then be saved."""

    def stopped(status: str | None, language_code: str) -> list[Any]:
        return _stopped(product, _shown.get(_place(product)), status, language_code)

    panel.stop.click(None, cancels=[event], **common.INSTANT_EVENT).then(
        stopped,
        inputs=[panel.status, language],
        outputs=[panel.status, panel.grid, panel.download],
        **common.INSTANT_EVENT,
    )


def _place(product: Product) -> tuple[str, str]:
    """Returns the visitor of the current event, and the tab."""
    request = LocalContext.request.get(None)
    return getattr(request, "session_hash", None) or "", product.name


def _stopped(product: Product, state: Sweep | None, status: str | None, language: str) -> list[Any]:
    """Returns the updates after Stop: the cells that are drawn can be saved."""
    if state is None or state.finished or not (isinstance(status, str) and "<progress" in status):
        return [common.status_before_pictures(status, language), gr.skip(), gr.skip()]
    text = i18n.translate(language, "sweep.stopped", done=state.done, total=state.total)
    return [
        common.status_line(text),
        table(product, state, language),
        _download(product, state),
    ]


def _download(product: Product, state: Sweep | None) -> Any:
    """Returns the update of the Save button for what is drawn, also of an unfinished sweep."""
    if state is None or not state.done:
        return gr.skip()
    return gr.DownloadButton(value=save(product, state), interactive=True)


def _wire_suggestions(
    panel: Panel,
    product: Product,
    inputs: Sequence[Component],
    settings_without_pictures: Callable[[Sequence[Any]], Any],
) -> None:
    """Makes the choice of a setting suggest values that fit the controls."""

    def suggest_values(name: str | None, *values: Any) -> str:
        if name is None or name not in parameters(product.settings):
            return ""
        try:
            return suggestion(settings_without_pictures(values), name)
        except Exception:  # a half-typed control must not prevent the choice
            return suggestion(product.settings(), name)

    for choice, text in ((panel.rows, panel.row_values), (panel.columns, panel.column_values)):
        choice.input(suggest_values, inputs=[choice, *inputs], outputs=text, **common.INSTANT_EVENT)


def _axes(
    product: Product, rows: str, row_text: str, columns: str, column_text: str
) -> tuple[Axis, Axis]:
    """Returns both axes, as they are chosen on the page.

    Raises:
        SettingsError: if a value is wrong.
    """
    kind = product.settings
    return parse_axis(kind, rows, row_text), parse_axis(kind, columns, column_text)


def _begun(language: str) -> list[Any]:
    """Returns the updates of a sweep that begins."""
    status = common.status_line(i18n.translate(language, "status.begins"))
    return [status, gr.skip(), gr.skip()]


def _in_time(
    product: Product, settings: Any, rows: Axis, columns: Axis, turn: Turn
) -> Iterator[Sweep]:
    """Yields the states of a sweep until its deadline.

    Raises:
        SettingsError: at once, if a setting is wrong or the sweep cannot end in time.
        Overtime: when it passes its deadline, also while a cell loads a checkpoint.
    """
    cells = [cell for row in check(settings, rows, columns) for cell in row]
    work_of = functools.partial(product.work, compare=False)
    time_limit.check_sweep(cells, work_of, limit_seconds=limits.deadline_seconds())
    states = sweep(
        settings,
        rows,
        columns,
        lambda cell: turn.wait(lambda: product.run(cell, compare=False)),
    )
    return _checked(states, turn)


def _checked(states: Iterator[Sweep], turn: Turn) -> Iterator[Sweep]:
    for state in states:
        yield state
        if not state.finished:
            turn.check("sweep.deadline", cell=state.done + 1, total=state.total)


def axis_updates(panel: Panel, product: Product, facts: Mapping[str, Any]) -> dict[Component, Any]:
    """Returns the updates that restore the axes of a saved sweep; empty for other pictures."""
    try:
        axes = [_saved_axis(product, facts["sweep"][side]) for side in ("rows", "columns")]
    except (KeyError, TypeError, ValueError):  # no sweep, or saved in another format
        return {}
    (rows, row_text), (columns, column_text) = axes
    return {
        panel.rows: gr.update(value=rows),
        panel.row_values: gr.update(value=row_text),
        panel.columns: gr.update(value=columns),
        panel.column_values: gr.update(value=column_text),
    }


def cells_of(saved: Mapping[str, Any]) -> tuple[int, int]:
    """Returns how many cells of a saved sweep are drawn, and of how many; (0, 0) if unknown."""
    try:
        total = len(saved["rows"]["values"]) * len(saved["columns"]["values"])
        return int(saved["done"]), total
    except (KeyError, TypeError, ValueError):
        return 0, 0


def _saved_axis(product: Product, saved: Mapping[str, Any]) -> tuple[str, str]:
    """Returns the setting of a saved axis, and its values as text.

    Raises:
        ValueError: if there is no such setting, or if it does not accept the values.
    """
    text = "; ".join(str(value) if value != "" else NONE for value in saved["values"])
    return parse_axis(product.settings, saved["name"], text).name, text


def _update(product: Product, state: Sweep, language: str) -> list[Any]:
    if not state.finished:
        grid, save_later = table(product, state, language), gr.DownloadButton(interactive=False)
        return [_progress(state, language), grid, save_later]
    done = i18n.translate(language, "sweep.done", total=state.total, seconds=f"{state.seconds:.1f}")
    return [
        common.status_line(done),
        table(product, state, language),
        _download(product, state),
    ]


def _progress(state: Sweep, language: str) -> str:
    left = state.seconds / state.done * (state.total - state.done) if state.done else None
    key = "sweep.progress" if left is not None else "sweep.first"
    text = i18n.translate(
        language, key, cell=state.done + 1, total=state.total, left=f"{left or 0:.0f}"
    )
    return common.status_line(text, done=state.done, total=state.total)


def _failed_status(state: Sweep | None, language: str, error: Exception) -> str:
    """Returns the status of a failed sweep, with the cell that it had reached, if any."""
    if isinstance(error, Overtime) or state is None or not state.done:
        return failure_updates(language, error)["status"]
    text = i18n.translate(language, "sweep.stopped", done=state.done, total=state.total)
    return common.status_line(text)


def save(product: Product, state: Sweep) -> str:
    """Saves the grid as one picture with metadata; returns the path."""
    axes = {
        "rows": dataclasses.asdict(state.rows),
        "columns": dataclasses.asdict(state.columns),
        "scores": state.scores,
        "done": state.done,
    }
    facts = provenance.facts_of(state) | {"sweep": axes}
    picture = images.with_metadata(sheet(state, cell_px=_CELL_PX), facts)
    return common.save_png(picture, f"{product.file_name}-sweep")


def table(product: Product, state: Sweep, language: str) -> str:
    """Returns the grid as an HTML table."""
    heads = "".join(f"<th scope='col'>{html.escape(label(v))}</th>" for v in state.columns.values)
    rows = "".join(
        f"<tr><th scope='row'>{html.escape(label(value))}</th>"
        f"{_cells(product, state, i, language)}</tr>"
        for i, value in enumerate(state.rows.values)
    )
    rows_name, columns_name = (
        html.escape(_name_of(product, axis, language)) for axis in (state.rows, state.columns)
    )
    corner = f"{rows_name} ↓ &nbsp; {columns_name} →"
    crisp = " crisp" if product.crisp else ""
    return (
        f'<div class="sweep{crisp}" tabindex="0" role="region" '
        f'aria-label="{html.escape(i18n.translate(language, "sweep.title"))}"><table>'
        f"<caption>{corner}</caption><thead><tr><td></td>{heads}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


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
        (picture,) = recorded([picture], lambda _: provenance.facts_of(cell))
    alt = i18n.translate(
        language,
        "sweep.alt",
        rows=_name_of(product, state.rows, language),
        row=label(state.rows.values[row]),
        columns=_name_of(product, state.columns, language),
        column=label(state.columns.values[column]),
    )
    score = state.scores[row][column]
    below = f"<small>{round(score, 2):g}</small>" if score is not None else ""
    return f'<td><img src="{images.to_data_uri(picture)}" alt="{html.escape(alt)}">{below}</td>'
