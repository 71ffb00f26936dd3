"""The sweep of a tab: a labelled grid over two settings, generated cell by cell."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from pipelines.core import images
from pipelines.core.rules import NONE
from pipelines.runs import provenance, time_limit
from pipelines.runs.product import Product
from pipelines.runs.sheet import sheet
from pipelines.runs.sweep import (
    Axis,
    Sweep,
    check,
    parameters,
    parse_axis,
    suggestion,
    sweep,
)
from tabs import common, i18n
from tabs.i18n import Translatable
from tabs.lane import Overtime, Turn
from tabs.latest_run import runs
from tabs.results import failure_updates
from tabs.server import limits
from tabs.sweep_table import SCRIPT, table, text_of_score

_UPDATE_SECONDS = 0.4  # between two updates of the grid, which are larger than those of a picture
_CELL_PX = 128


@dataclass(frozen=True)
class Panel:
    """Components of a sweep; `token` holds that of the latest one."""

    rows: gr.Dropdown
    row_values: gr.Textbox
    columns: gr.Dropdown
    column_values: gr.Textbox
    run: gr.Button
    stop: gr.Button
    status: gr.HTML
    grid: gr.HTML
    download: gr.DownloadButton
    token: gr.Textbox

    def outputs(self) -> list[Component]:
        """Returns the components that show a sweep."""
        return [self.status, self.grid, self.download]

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
    status = gr.HTML(common.status_line(""), elem_id=f"{prefix}status")
    grid = gr.HTML(elem_id=f"{prefix}grid", js_on_load=SCRIPT)
    download = gr.DownloadButton(
        Translatable("sweep.save"), interactive=False, size="sm", elem_id=f"{prefix}download"
    )
    return Panel(
        rows=row_choice,
        row_values=row_values,
        columns=column_choice,
        column_values=column_values,
        run=run,
        stop=stop,
        status=status,
        grid=grid,
        download=download,
        token=gr.Textbox(visible=False),
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
        label=Translatable(f"sweep.{name}_values"),
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

    def draw(token: str, language_code: str, *values: Any) -> Iterator[list[Any]]:
        token = runs.announce(token)
        runs.begin(token)
        try:
            yield from _updates_of_sweep(
                product, values[:4], lambda: settings_of(values[4:]), token, language_code
            )
        finally:
            runs.end(token)

    event = panel.run.click(
        runs.announce,
        inputs=panel.token,
        outputs=panel.token,
        js=common.press_script(f"{product.prefix}sweep"),
        **common.INSTANT_EVENT,
    ).then(
        draw,
        inputs=[panel.token, language, *panel.axes(), *inputs],
        outputs=panel.outputs(),
        show_progress_on=panel.status,
        api_visibility="private",
        **common.DEVICE_QUEUE,
    )
    _wire_stop(panel, product, language, event)


def _updates_of_sweep(
    product: Product,
    axes: Sequence[str],
    settings: Callable[[], Any],
    token: str,
    language: str,
) -> Iterator[list[Any]]:
    """Yields the updates of status, grid and download, from the start of a sweep to its end.

    Args:
        product: product of the sweep.
        axes: setting and values of rows and of columns, as the page has them.
        settings: makes the settings that all cells share.
        token: of the sweep, which takes the language of its page.
        language: of the page, until it changes.

    Raises:
        gr.Error: if a value is wrong, or the sweep cannot end in time.
    """
    state = None
    try:
        with common.as_gradio_errors(language, product):
            turn = Turn(language, seconds=limits.deadline_seconds())
            chosen = _axes(product, *axes)
            states = _in_time(product, settings(), *chosen, turn)
            yield _begun(runs.language(token, language))
            for state in common.throttle(states, _UPDATE_SECONDS):
                runs.remember(token, state)
                yield _update(product, state, runs.language(token, language))
    except gr.Error as error:
        status = _failed_status(state, runs.language(token, language), error)
        yield [status, gr.skip(), _download(product, state)]
        raise


def _wire_stop(panel: Panel, product: Product, language: Component, event: Any) -> None:
    """Makes the Stop button end the event of a sweep, whose cells can then be saved."""

    def stopped(token: str, status: str | None, language_code: str) -> list[Any]:
        return _stopped(product, _kept(product, token), status, language_code)

    panel.stop.click(None, cancels=[event], **common.INSTANT_EVENT).then(
        stopped,
        inputs=[panel.token, panel.status, language],
        outputs=panel.outputs(),
        **common.INSTANT_EVENT,
    )


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
    status = common.status_line(i18n.translate(language, "status.begins"), kind=common.BEGINS)
    return [status, gr.skip(), gr.DownloadButton(interactive=False)]


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
    """Returns the updates of `Panel.outputs` that show the state of a sweep."""
    done = _download(product, state) if state.finished else gr.DownloadButton(interactive=False)
    return [_status(state, language), table(product, state, language), done]


def translated(
    panel: Panel, product: Product, language: str, token: str | None, status: str
) -> dict[Any, Any]:
    """Returns the updates that translate a sweep that the page shows.

    Args:
        panel: components of the sweep.
        product: product that the tab generates.
        language: its code.
        token: of the page's latest sweep; empty if there was none.
        status: as the page shows it.
    """
    updates: dict[Any, Any] = {panel.status: common.translated_status(status, language)}
    state = _kept(product, token)
    if state is not None:
        updates[panel.grid] = table(product, state, language)
    return updates


def _kept(product: Product, token: str | None) -> Sweep | None:
    """Returns the sweep of a token; None if there is none of the product, or it was dropped."""
    state = runs.preview(token)
    is_own = isinstance(state, Sweep) and isinstance(state.settings, product.settings)
    return state if is_own else None


def record_of_cell(
    product: Product, token: str | None, event: Any, language: str
) -> provenance.Record:
    """Returns the record of the picture in a cell of a sweep.

    Args:
        product: product that the tab generates.
        token: of the sweep.
        event: what the page sent, `row` and `column` of the cell; anyone can send an event.
        language: of the error.

    Raises:
        gr.Error: if there is no such sweep any more, or no such picture in it.
    """
    state = _kept(product, token)
    place = _place(state, event) if state else None
    if state is None or place is None:
        raise gr.Error(i18n.translate(language, "sweep.gone"), print_exception=False)
    return provenance.Record(product.name, state.cell(*place), state.revisions)


def _place(state: Sweep, event: Any) -> tuple[int, int] | None:
    """Returns row and column of the cell that an event names; None if it has no picture."""
    named = (event.get("row"), event.get("column")) if isinstance(event, dict) else None
    places = itertools.product(range(len(state.rows.values)), range(len(state.columns.values)))
    drawn = (place for place in places if state.pictures[place[0]][place[1]] is not None)
    return next((place for place in drawn if place == named), None)


def _status(state: Sweep, language: str) -> str:
    """Returns the status line of a sweep: cell, total and time left; at the end, the time."""
    if state.finished:
        seconds = f"{state.seconds:.1f}"
        return common.status_line(
            i18n.translate(language, "sweep.done", total=state.total, seconds=seconds)
        )
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
    return common.status_line(text, kind=common.QUIET)


def save(product: Product, state: Sweep) -> str:
    """Saves the grid as one picture with metadata; returns the path."""
    axes = {
        "rows": dataclasses.asdict(state.rows),
        "columns": dataclasses.asdict(state.columns),
        "scores": state.scores,
        "done": state.done,
    }
    facts = provenance.facts_of(state) | {"sweep": axes}

    def score_text(row: int, column: int) -> str:
        return text_of_score(product, state, row, column, i18n.DEFAULT)  # the sheet's font is Latin

    picture = sheet(state, cell_px=_CELL_PX, score_text=score_text)
    picture = images.with_metadata(picture, facts)
    return common.save_png(picture, f"{product.file_name}-sweep")
