"""Common structure of the generating tabs: their parts, and the events between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from pipelines.core.rules import validate
from pipelines.models import hub
from pipelines.runs.product import Product
from tabs import common, controls, examples, i18n, lane, layout, results, sweeps, uploads
from tabs.lane import Turn
from tabs.latest_run import is_token, runs
from tabs.tab import (
    Tab,
    example_status,
    restore_run,
    settings_of,
    settings_without_pictures,
)
from tabs.views import view_of

# Copies the address of the page with the query of a run, and ticks the button for a moment.
_COPY_SCRIPT = """async (query, language) => {
  if (query && query !== '!') await studio.copyLink(query, '#%s');
  return [query, language];
}"""


def build(product: Product, language: gr.Radio) -> Tab:
    """Lays out the tab of a product and wires its runs; call inside `gr.Blocks`.

    Args:
        product: product that the tab generates.
        language: component that holds the language.
    """
    tab, run, stop, copy = layout.layout(product)
    wishes = [tab.controls[name] for name in controls.names_of(product, controls.WISH)]
    submits = [c.submit for c in wishes if isinstance(c, gr.Textbox)]
    event = _wire_run(tab, language, [run.click, *submits])
    _wire_stop(tab, language, stop, event)
    _wire_copy(tab, language, copy)
    _wire_cells(tab, language)
    _wire_examples(tab, language)
    _wire_state(tab, language)
    _wire_chips(tab, language)
    sweeps.wire(
        tab.sweep,
        product,
        language,
        tab.inputs(),
        lambda values: settings_of(product, values),
        tab.inputs_without_pictures(),
        lambda values: settings_without_pictures(product, values),
    )
    uploads.wire(product, tab.controls, language)
    view_of(product).wire(tab.controls, language)
    return tab


def _wire_run(tab: Tab, language: gr.Radio, triggers: Sequence[Any]) -> Any:
    """Makes a press announce a new run, which ends the current one, and then generate it."""

    def draw(token: str, language_code: str, *values: Any) -> Iterator[list[Any]]:
        if not is_token(token):
            message = i18n.translate(language_code, "status.page_token")
            raise gr.Error(message, print_exception=False)
        if not runs.begin(token):
            yield results.in_output_order({})
            return
        product, earlier = tab.product, runs.preview(token)
        try:
            with common.as_gradio_errors(language_code, product):
                for updates in _updates_of_run(product, token, language_code, values):
                    yield results.in_output_order(updates)
        except gr.Error as error:
            latest, spoken = runs.preview(token), runs.language(token, language_code)
            updates = results.end_updates(product, latest, earlier, spoken, error)
            runs.remember(token, results.shown_after(latest, earlier, error))
            yield results.in_output_order(updates)
            raise
        finally:
            runs.end(token)

    announcement = gr.on(
        triggers,
        runs.announce,
        inputs=tab.token,
        outputs=tab.token,
        js=common.press_script(tab.product.name),
        trigger_mode="multiple",
        **common.INSTANT_EVENT,
    )
    return announcement.then(
        draw,
        inputs=[tab.token, language, *tab.inputs()],
        outputs=tab.result.outputs(),
        show_progress_on=tab.result.status,
        trigger_mode="always_last",
        api_visibility="private",
        **common.DEVICE_QUEUE,
    )


def _updates_of_run(
    product: Product, token: str, language: str, values: Sequence[Any]
) -> Iterator[dict[str, Any]]:
    """Yields the updates of the result, by name, from the start of a run to its end.

    Raises:
        UserError: if a setting is wrong, or the run cannot end in time.
        Overtime: when it passes its deadline.
    """
    turn, limit = Turn(language), lane.deadline_seconds()
    settings = validate(settings_of(product, values))
    product.check_time(settings, limit)
    yield results.start_updates(runs.language(token, language))
    for status in load_checkpoints(product, settings, runs.language(token, language), turn):
        yield {"status": status}
    stream = common.throttle_previews(
        product.run(settings, limit_seconds=limit),
        turn=turn,
        should_continue=lambda: runs.is_latest(token),
    )
    for preview in stream:
        runs.remember(token, preview)
        yield results.updates(product, preview, runs.language(token, language))


def _wire_stop(tab: Tab, language: gr.Radio, button: gr.Button, event: Any) -> None:
    """Makes a button end the run of an event, whose last preview can then be taken away.

    The result is updated last: while the run still streams, its next preview would overwrite it.
    """

    def stopped(token: str, status: str | None, language_code: str) -> list[Any]:
        preview = runs.preview(token)
        updates = results.stop_updates(tab.product, preview, status, language_code)
        return results.in_output_order(updates)

    press = common.press_script(tab.product.name)
    button.click(runs.halt, inputs=tab.token, js=press, **common.INSTANT_EVENT)
    button.click(None, cancels=[event], **common.INSTANT_EVENT).then(
        stopped,
        inputs=[tab.token, tab.result.status, language],
        outputs=tab.result.outputs(),
        **common.INSTANT_EVENT,
    )


def load_checkpoints(product: Product, settings: Any, language: str, turn: Turn) -> Iterator[str]:
    """Loads the checkpoints of a run, downloads missing ones, and yields the status meanwhile.

    Raises:
        CheckpointError: if a checkpoint cannot be loaded.
        Overtime: if loading passes the deadline; it goes on for the next run.
    """
    for _ in turn.poll(lambda: product.load(settings)):
        yield _loading_status(product, settings, language)


def _loading_status(product: Product, settings: Any, language: str) -> str:
    for key in product.checkpoints(settings):
        download = hub.download_of(key)
        if download is not None and download.total:
            done, total = download.done / 1e6, download.total / 1e6
            text = i18n.translate(
                language, "status.fetching", name=key, done=f"{done:.0f}", total=f"{total:.0f}"
            )
            return common.status_line(text, done=download.done, total=download.total)
    return common.status_line(i18n.translate(language, "status.loading"), kind=common.QUIET)


def _wire_copy(tab: Tab, language: gr.Radio, copy: gr.Button) -> None:
    def explain_missing_link(query: str, language_code: str) -> Any:
        if query and query != results.TOO_LONG:
            return gr.skip()
        key = "shared.link_too_long" if query else "shared.no_link_yet"
        return common.status_line(i18n.translate(language_code, key))

    copy.click(
        explain_missing_link,
        inputs=[tab.result.link, language],
        outputs=tab.result.status,
        js=_COPY_SCRIPT % copy.elem_id,
        **common.INSTANT_EVENT,
    )


def _wire_examples(tab: Tab, language: gr.Radio) -> None:
    """Makes a press on an example show it, and set the controls to its settings."""

    def show(token: str, language_code: str, event: gr.EventData) -> dict[Any, Any]:
        data = event._data  # anyone can send an event
        with common.as_gradio_errors(language_code, tab.product):
            name = data.get("name") if isinstance(data, dict) else None
            preview = examples.load(tab.product, str(name))
        runs.halt(token)  # ends the current run
        runs.remember(token, preview)
        status = example_status(preview, language_code)
        updates = results.updates(tab.product, preview, language_code, status=status)
        values = results.in_output_order(updates)
        shown = dict(zip(tab.result.outputs(), values, strict=True))
        return {tab.token: token, **shown, **tab.shown(preview.settings, language_code)}

    tab.examples.click(
        show,
        inputs=[tab.token, language],
        outputs=[tab.token, *tab.result.outputs(), *tab.shown_outputs()],
        js=common.press_script(tab.product.name),
        **common.INSTANT_EVENT,
    )


def _wire_cells(tab: Tab, language: gr.Radio) -> None:
    """Makes a press on a picture of the sweep set the tab to its settings, and go there."""
    outputs: list[Any] = [*tab.shown_outputs(), *tab.sweep.axes(), tab.result.status]

    def open_cell(token: str, language_code: str, event: gr.EventData) -> dict[Any, Any]:
        with common.as_gradio_errors(language_code):
            record = sweeps.record_of_cell(tab.product, token, event._data, language_code)
        return restore_run({tab.product.name: tab}, record, language_code)

    tab.sweep.grid.click(
        open_cell,
        inputs=[tab.sweep.token, language],
        outputs=outputs,
        **common.INSTANT_EVENT,
    ).success(None, js=f"() => studio.focusResult('{tab.product.name}')", **common.INSTANT_EVENT)


def _wire_state(tab: Tab, language: gr.Radio) -> None:
    """Makes every change of a control update all that follows from it: chips, texts, estimate."""

    def update_state(language_code: str, *values: Any) -> dict[Any, Any]:
        return tab.state(tab.held(values), language_code)

    options: dict[str, Any] = {
        "inputs": [language, *tab.held_inputs()],
        "outputs": tab.state_outputs(),
        "trigger_mode": "always_last",
        **common.INSTANT_EVENT,
    }
    inputs: list[Any] = tab.inputs_without_pictures()
    changes = [component.change for component in inputs]
    if changed := view_of(tab.product).changed:
        changes.append(tab.parts[changed].change)
    # Every finished run improves the estimate.
    gr.on([*changes, tab.result.link.change], update_state, **options)
    for name, thumbnail in tab.thumbnails.items():
        picture = tab.controls[name]
        # In the browser, since nobody should send a picture again to see it small.
        picture.change(
            None,
            inputs=picture,
            outputs=thumbnail,
            js="picture => studio.thumbnail(picture)",
            **common.INSTANT_EVENT,
        ).then(update_state, **options)


def _wire_chips(tab: Tab, language: gr.Radio) -> None:
    """Makes a press on a chip take its setting back."""

    def remove_setting(event: gr.EventData, language_code: str, *values: Any) -> dict[Any, Any]:
        data = event._data  # anyone can send an event
        name = data.get("name") if isinstance(data, dict) else None
        return tab.without(name, tab.held(values), language_code)

    tab.chips.click(
        remove_setting,
        inputs=[language, *tab.held_inputs()],
        outputs=tab.shown_outputs(),
        trigger_mode="multiple",
        **common.INSTANT_EVENT,
    )
