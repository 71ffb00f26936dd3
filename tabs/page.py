"""The page around the tabs: the language, and runs restored from files and links."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.blocks import Block, Blocks

from pipelines.core.errors import UserError, show
from pipelines.products import PRODUCTS
from pipelines.runs import links, provenance, timing
from tabs import common, i18n, marked, warm_up
from tabs.i18n import Translatable
from tabs.latest_run import runs
from tabs.tab import Tab, estimate_of, restore_run

_LANGUAGE_SCRIPT = "language => studio.speak(language)"
_TICK_SECONDS = 3.0
_FEW_MESSAGES = 5  # of a link

# Texts that scripts fill in: `assets/studio.js` while a run waits and below a picture control,
# `assets/access.js` names.
_TEMPLATES = (
    ("queue", "next"),
    ("queue", "many"),
    ("queue", "about"),
    ("upload", "kind"),
    ("upload", "size"),
    ("access", "number"),
    ("access", "reset"),
    ("access", "copy"),
)


@dataclass(frozen=True)
class Header:
    """Components above the tabs."""

    language: gr.Radio
    upload: gr.UploadButton
    notice: gr.HTML


def build_header(title: str) -> Header:
    """Lays out the components above the tabs; call inside `gr.Blocks`."""
    with gr.Row(elem_id="head"):
        with gr.Column(scale=1, min_width=220, elem_id="name"):
            gr.Markdown(f"# {title}", elem_id="title")
            gr.Markdown(Translatable("page.tagline"), elem_id="tagline")
        with gr.Column(scale=0, min_width=0, elem_id="tools"):
            upload = gr.UploadButton(
                Translatable("page.open"),
                type="filepath",
                size="sm",
                elem_id="open-picture",
                min_width=140,
            )
            language = gr.Radio(
                [(name, code) for code, name in i18n.LANGUAGES.items()],
                value=i18n.DEFAULT,
                show_label=False,
                label=Translatable("page.languages"),
                container=False,
                elem_id="language",
                min_width=140,
            )
    names = " ".join(name for name, product in PRODUCTS.items() if product.has_tab)
    gr.HTML(f'<i data-names="{names}"></i>', elem_id="products", elem_classes="template")
    for part, name in _TEMPLATES:
        gr.HTML(Translatable(f"{part}.{name}"), elem_id=f"{part}-{name}", elem_classes="template")
    return Header(language, upload, gr.HTML(elem_id="notice"))


def wire(demo: Blocks, header: Header, tabs_row: gr.Tabs, tabs: Mapping[str, Tab]) -> None:
    """Wires the language of the page, and runs from files and links; call last inside `demo`.

    Args:
        demo: app with all its components.
        header: components above the tabs.
        tabs_row: component that holds the tabs.
        tabs: tabs by name.
    """
    gr.api(runs.halt, api_name="leave", queue=False, api_visibility="undocumented")
    translatable = i18n.translatable_blocks(demo.blocks.values())
    shown = _Shown(header, tabs)
    outputs = _outputs(header, tabs_row, tabs, translatable)

    def translate_page(language: str, *values: Any) -> dict[Any, Any]:
        """Returns the updates that translate the whole page, with all that it shows."""
        updates: dict[Any, Any] = {b: i18n.translation_update(b, language) for b in translatable}
        return _merged(updates, shown.translated(language, values))

    def open_page(request: gr.Request) -> dict[Any, Any]:
        """Sets the language of the browser, and restores the run of the link."""
        warm_up.page_opened()
        query = dict(request.query_params)
        language = _visitor_language(query, request.headers.get("accept-language", ""))
        updates: dict[Any, Any] = {header.language: gr.update(value=language)}
        if language != i18n.DEFAULT:
            updates = _merged(updates, translate_page(language, *shown.at_first()))
        updates = _merged(updates, _restore_link(header, tabs, query, language))
        if query.get("tab") in (*tabs, "about"):
            updates[tabs_row] = gr.Tabs(selected=query["tab"])
        return updates

    def open_picture(path: str | None, language: str) -> dict[Any, Any]:
        """Restores the run of a file in its tab."""
        return _restore_file(header, tabs_row, tabs, path, language)

    demo.load(open_page, outputs=outputs, **common.INSTANT_EVENT).then(
        None, inputs=header.language, js=_LANGUAGE_SCRIPT, **common.INSTANT_EVENT
    )
    header.language.input(
        translate_page,
        inputs=[header.language, *shown.inputs()],
        outputs=outputs,
        **common.INSTANT_EVENT,
    ).then(None, inputs=header.language, js=_LANGUAGE_SCRIPT, **common.INSTANT_EVENT)
    header.upload.upload(
        open_picture,
        inputs=[header.upload, header.language],
        outputs=outputs,
        **common.INSTANT_EVENT,
    )
    _wire_first_estimates(header, tabs)


@dataclass(frozen=True)
class _Shown:
    """What a page shows and holds besides its fixed texts, as an event gets it."""

    header: Header
    tabs: Mapping[str, Tab]

    def inputs(self) -> list[Any]:
        """Returns the components that `translated` needs: the notice, then those of each tab."""
        of_tabs = [c for tab in self.tabs.values() for c in tab.shown_inputs()]
        return [self.header.notice, *of_tabs]

    def at_first(self) -> list[Any]:
        """Returns the values of the inputs on a page that was just opened."""
        return [getattr(component, "value", None) or "" for component in self.inputs()]

    def translated(self, language: str, values: Sequence[Any]) -> dict[Any, Any]:
        """Returns the updates that translate all of it."""
        notice, *rest = values
        updates: dict[Any, Any] = {self.header.notice: marked.translated(notice, language)}
        for tab in self.tabs.values():
            count = len(tab.shown_inputs())
            updates |= tab.translated_with(language, rest[:count])
            rest = rest[count:]
        return updates


def _outputs(
    header: Header, tabs_row: gr.Tabs, tabs: Mapping[str, Tab], translatable: list[Block]
) -> list[Any]:
    """Returns all components that are translated or restored, each once."""
    others = [header.language, header.notice, tabs_row]
    of_tabs = [
        component
        for tab in tabs.values()
        for component in (
            *(tab.explanation, tab.examples, *tab.result.outputs()),
            *tab.shown_outputs(),
            *(*tab.sweep.axes(), *tab.sweep.outputs()),
        )
    ]
    return list(dict.fromkeys([*others, *translatable, *of_tabs]))


def _visitor_language(query: Mapping[str, str], accepted: str) -> str:
    language = query.get("lang", "")
    return language if language in i18n.LANGUAGES else i18n.preferred_language(accepted)


def _notice(*sentences: str, between: str = "<br>") -> str:
    """Returns sentences as HTML for the notice above the tabs, one a line; empty without any."""
    lines = between.join(marked.element("span", sentence) for sentence in sentences)
    return f'<p role="alert">{lines}</p>' if lines else ""


def _restore_file(
    header: Header, tabs_row: gr.Tabs, tabs: Mapping[str, Tab], path: str | None, language: str
) -> dict[Any, Any]:
    """Returns the updates that restore the run of a file, or a notice why it cannot be restored."""
    product = None
    try:
        if path is None:
            raise provenance.RecordError("record_no_png")
        facts = provenance.read_facts(path)
        product = PRODUCTS.get(str(facts.get("tab")))
        run = provenance.from_facts(facts)
        updates = restore_run(tabs, run, language)
    except UserError as error:
        return {header.notice: _notice(i18n.error_message(language, error, product))}
    return {**updates, tabs_row: gr.Tabs(selected=run.tab), header.notice: ""}


def _restore_link(
    header: Header, tabs: Mapping[str, Tab], query: Mapping[str, str], language: str
) -> dict[Any, Any]:
    """Returns the updates that restore the run of a link, with a notice of what is wrong in it."""
    if query.get("tab") == "about":
        return {}
    try:
        run = provenance.from_query(query)
        updates = restore_run(tabs, run, language) if run else {}
    except UserError as error:
        bad_link = i18n.translate(language, "page.bad_link")
        return {header.notice: _notice(bad_link, i18n.error_message(language, error), between=" ")}
    messages = _link_messages(run, query, language)
    return updates | ({header.notice: _notice(*messages)} if messages else {})


def _link_messages(
    run: provenance.Record | None, query: Mapping[str, str], language: str
) -> list[str]:
    """Returns what is said of a link that can be used in part: wrong values and unknown names."""
    product = PRODUCTS[run.tab] if run else None
    unknown = links.unknown_names(query, product.settings if product else None)
    problems = run.problems if run else ()
    messages: list[str] = [i18n.error_message(language, e, product) for e in problems]
    messages += [i18n.translate(language, "page.unknown_name", name=show(n)) for n in unknown]
    few, rest = messages[:_FEW_MESSAGES], len(messages) - _FEW_MESSAGES
    if run and run.problems:
        few.append(i18n.translate(language, "page.rest_of_link"))
    return [*few, i18n.translate(language, "page.more", count=rest)] if rest > 0 else few


def _merged(updates: Mapping[Any, Any], others: Mapping[Any, Any]) -> dict[Any, Any]:
    """Returns all updates; two of one component become one, in which the other's parts count."""
    merged = dict(updates)
    for component, other in others.items():
        update = merged.get(component)
        if isinstance(update, dict) and isinstance(other, dict):
            other = update | other
        merged[component] = other
    return merged


def _wire_first_estimates(header: Header, tabs: Mapping[str, Tab]) -> None:
    """Shows the estimated times as soon as the device has been measured."""
    timer = gr.Timer(_TICK_SECONDS)
    inputs = [header.language, *(c for tab in tabs.values() for c in tab.inputs_without_pictures())]

    def estimates(language: str, *values: Any) -> list[Any]:
        texts, rest = [], list(values)
        for tab in tabs.values():
            count = len(tab.inputs_without_pictures())
            texts.append(estimate_of(tab.product, language, rest[:count]))
            rest = rest[count:]
        return [*texts, gr.Timer(active=timing.estimator.measuring)]

    timer.tick(
        estimates,
        inputs=inputs,
        outputs=[*(tab.estimate for tab in tabs.values()), timer],
        **common.INSTANT_EVENT,
    )
