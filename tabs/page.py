"""What lies around the tabs: the language, and files and links that bring a run back."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.blocks import Block, Blocks

from pipelines.core.errors import UserError
from pipelines.runs import provenance, timing
from tabs import common, i18n, shell
from tabs.i18n import Translatable
from tabs.latest_run import runs

_LANGUAGE_SCRIPT = "language => studio.speak(language)"
_TICK_SECONDS = 3.0


@dataclass(frozen=True)
class Head:
    """The components above the tabs."""

    language: gr.Radio
    upload: gr.UploadButton
    notice: gr.HTML


def head(title: str) -> Head:
    """Lays them out; call inside `gr.Blocks`."""
    with gr.Row(elem_id="head"):
        with gr.Column(scale=1, min_width=220, elem_id="name"):
            gr.Markdown(f"# {title}", elem_id="title")
            gr.Markdown(Translatable("page.tagline"), elem_id="tagline")
        with gr.Column(scale=0, min_width=0, elem_id="tools"):
            upload = gr.UploadButton(
                Translatable("page.open"),
                file_types=[".png"],
                type="filepath",
                size="sm",
                elem_id="open-picture",
                min_width=140,
            )
            language = gr.Radio(
                [(name, code) for code, name in i18n.LANGUAGES.items()],
                value=i18n.DEFAULT,
                show_label=False,
                label="Language",
                container=False,
                elem_id="language",
                min_width=140,
            )
    return Head(language, upload, gr.HTML(elem_id="notice"))


def wire(demo: Blocks, found: Head, tabs_row: gr.Tabs, tabs: Mapping[str, shell.Tab]) -> None:
    """Makes the page speak the visitor's language and take runs back; call inside `demo`, last.

    Args:
        demo: with all its components.
        found: the components above the tabs.
        tabs_row: that holds the tabs.
        tabs: by name.
    """
    gr.api(runs.halt, api_name="leave", queue=False, api_visibility="undocumented")
    fixed = i18n.translatable(demo.blocks.values())
    tokens = [tab.token for tab in tabs.values()]
    outputs = _outputs(found, tabs_row, tabs, fixed)

    def say_all(language: str, *shown: str) -> dict[Any, Any]:
        """Every word of the page in a language."""
        updates: dict[Any, Any] = {b: i18n.translated(b, language) for b in fixed}
        for tab, token in zip(tabs.values(), shown, strict=True):
            updates |= tab.said(language, token)
        return updates

    def open_page(request: gr.Request) -> dict[Any, Any]:
        """What a visitor finds: the language of the browser, and the run of the link."""
        query = dict(request.query_params)
        language = _language(query, request.headers.get("accept-language", ""))
        updates: dict[Any, Any] = {found.language: language}
        if language != i18n.DEFAULT:
            updates |= say_all(language, *[""] * len(tabs))
        for name, update in _linked(found, tabs, query, language).items():
            updates[name] = _merged(updates.get(name), update)
        if query.get("tab") in (*tabs, "about"):
            updates[tabs_row] = gr.Tabs(selected=query["tab"])
        return updates

    def open_picture(path: str, language: str) -> dict[Any, Any]:
        """The run of a file, in its tab."""
        try:
            run = provenance.read(path)
        except UserError as error:
            return {found.notice: _notice(i18n.sentence(language, error))}
        updates = shell.bring_back(tabs, run, language)
        return {**updates, tabs_row: gr.Tabs(selected=run.tab), found.notice: ""}

    demo.load(open_page, outputs=outputs, **common.QUIET).then(
        None, inputs=found.language, js=_LANGUAGE_SCRIPT, **common.QUIET
    )
    found.language.input(
        say_all, inputs=[found.language, *tokens], outputs=outputs, **common.QUIET
    ).then(None, inputs=found.language, js=_LANGUAGE_SCRIPT, **common.QUIET)
    found.upload.upload(
        open_picture, inputs=[found.upload, found.language], outputs=outputs, **common.QUIET
    )
    _wire_first_estimates(found, tabs)


def _outputs(
    found: Head, tabs_row: gr.Tabs, tabs: Mapping[str, shell.Tab], fixed: list[Block]
) -> list[Any]:
    """Everything that speaks or can be brought back, each once."""
    spoken = [c for tab in tabs.values() for c in (tab.how, tab.examples, *tab.shown.outputs())]
    controls = [c for tab in tabs.values() for c in (*tab.inputs(), *tab.sweep.axes())]
    around = [found.language, found.notice, tabs_row]
    return list(dict.fromkeys([*around, *fixed, *spoken, *controls]))


def _language(query: Mapping[str, str], accepted: str) -> str:
    wanted = query.get("lang", "")
    return wanted if wanted in i18n.LANGUAGES else i18n.chosen(accepted)


def _notice(sentence: str) -> str:
    """What went wrong above the tabs, where it stays until it is mended."""
    return f'<p role="alert">{html.escape(sentence, quote=False)}</p>'


def _linked(
    found: Head, tabs: Mapping[str, shell.Tab], query: Mapping[str, str], language: str
) -> dict[Any, Any]:
    """The updates that bring back the run of a link; a wrong link is told, and nothing is lost."""
    if query.get("tab") == "about":
        return {}
    try:
        run = provenance.from_query(query)
    except UserError as error:
        why = f"{i18n.translate(language, 'page.bad_link')} {i18n.sentence(language, error)}"
        return {found.notice: _notice(why)}
    return shell.bring_back(tabs, run, language) if run else {}


def _merged(update: Any, other: Any) -> Any:
    """Two updates of one component as one."""
    if isinstance(update, dict) and isinstance(other, dict):
        return update | other
    return other


def _wire_first_estimates(found: Head, tabs: Mapping[str, shell.Tab]) -> None:
    """Says how long runs take as soon as the device has been measured."""
    timer = gr.Timer(_TICK_SECONDS)
    inputs = [found.language, *(c for tab in tabs.values() for c in tab.inputs())]

    def estimates(language: str, *values: Any) -> list[Any]:
        said, rest = [], list(values)
        for tab in tabs.values():
            count = len(tab.inputs())
            said.append(shell.estimate_of(tab.product, language, rest[:count]))
            rest = rest[count:]
        return [*said, gr.Timer(active=timing.estimator.measuring)]

    timer.tick(
        estimates,
        inputs=inputs,
        outputs=[*(tab.estimate for tab in tabs.values()), timer],
        **common.QUIET,
    )
