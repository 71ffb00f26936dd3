"""How a generating tab is laid out: wish, button, controls, result, examples, sweep."""

from __future__ import annotations

from typing import Any

import gradio as gr

from pipelines.runs.product import Product
from tabs import chips, common, controls, examples, explain, i18n, results, sweeps
from tabs.i18n import Translatable
from tabs.results import ResultComponents
from tabs.tab import READY, Tab
from tabs.views import view_of


def layout(product: Product) -> tuple[Tab, gr.Button, gr.Button, gr.Button]:
    """Lays out a tab; returns it with its buttons: Paint, Stop and Copy link."""
    custom = view_of(product).controls
    gr.Markdown(Translatable(f"{product.name}.introduction"), elem_classes="introduction")
    # On a narrow page the style sheet dissolves the columns and orders their parts.
    with gr.Row(elem_classes="workspace"):
        with gr.Column(elem_classes="hands", min_width=0):
            heading(product, "shared.settings", classes="sr-only")
            with gr.Column(elem_classes="wish", min_width=0):
                laid_out = controls.layout(product, controls.WISH, custom)
                of_chips = chips.build(product)
                run, stop, estimate = _buttons(product)
            with gr.Column(elem_classes="controls", min_width=0):
                for group in (controls.MAIN, *controls.groups(product)):
                    laid_out |= controls.layout(product, group, custom)
        with gr.Column(elem_classes="eyes", min_width=0):
            with gr.Column(elem_classes="shown", min_width=0):
                heading(product, "shared.result", classes="sr-only")
                result, copy = _result_components(product)
            with gr.Column(elem_classes="shelf", min_width=0):
                heading(product, "shared.examples")
                shelf = examples.build(product)
            with gr.Column(elem_classes="look", min_width=0):
                heading(product, "inside.title")
                result.charts.render()
                result.filmstrip.render()
    tab = Tab(
        product=product,
        controls=laid_out,
        result=result,
        token=gr.Textbox(visible=False),
        estimate=estimate,
        chips=of_chips,
        sections=controls.sections(product),
        thumbnails=controls.thumbnails(product),
        parts={part: controls.laid_out(part) for part in view_of(product).parts},
        examples=shelf,
        sweep=_sweep(product),  # above the explanation
        explanation=_explanation(product),
    )
    return tab, run, stop, copy


def _sweep(product: Product) -> sweeps.Panel:
    with gr.Accordion(Translatable("sweep.title"), open=False, elem_id=f"{product.prefix}sweep"):
        return sweeps.layout(product)


def _explanation(product: Product) -> gr.Markdown:
    with gr.Accordion(
        Translatable("explain.title"), open=False, elem_id=f"{product.prefix}explain"
    ):
        return gr.Markdown(
            explain.page(product, i18n.DEFAULT),
            latex_delimiters=[{"left": "$$", "right": "$$", "display": True}],
            elem_classes="how",
        )


def heading(product: Product, key: str, *, classes: str = "") -> gr.HTML:
    """Lays out the heading of a part of a tab.

    Args:
        product: that the tab generates.
        key: of the text.
        classes: of the element; "sr-only" is for screen readers alone.
    """
    return gr.HTML(
        Translatable(key),
        html_template="<h2>${value}</h2>",
        elem_id=f"{product.prefix}{key.replace('.', '-')}-heading",
        elem_classes=["heading", classes],
    )


def _buttons(product: Product) -> tuple[gr.Button, gr.Button, gr.HTML]:
    """Lays out Paint and Stop, the switch for live sliders, and the estimated time."""
    prefix = product.prefix
    with gr.Row(elem_classes="run-row"):
        run = gr.Button(
            Translatable(f"{product.name}.run"),
            variant="primary",
            elem_id=f"{prefix}draw",
            min_width=100,
        )
        stop = gr.Button(Translatable("shared.stop"), elem_id=f"{prefix}stop", min_width=80)
    with gr.Row(elem_classes="live-row"):
        gr.Checkbox(
            False,
            label=Translatable("shared.live"),
            info=Translatable(i18n.own_key(product, "shared.live_info")),
            elem_id=f"{prefix}live",
            container=False,
            interactive=True,  # `assets/studio.js` reads it
        )
        estimate = gr.HTML(elem_id=f"{prefix}estimate", elem_classes="estimate")
    return run, stop, estimate


def _result_components(product: Product) -> tuple[ResultComponents, gr.Button]:
    """Lays out pictures, status, scores and downloads; plots and filmstrip are rendered later."""
    prefix = product.prefix
    with gr.Row(elem_classes=["result", "stacked"] if product.crisp else "result"):
        with gr.Column(min_width=0):
            pictures = gr.HTML(results.starting_noise(product), elem_id=f"{prefix}result")
            gr.Slider(  # moved by `assets/studio.js`, without asking the server
                0,
                100,
                50,
                step=1,
                label=Translatable(i18n.own_key(product, "shared.cut")),
                interactive=True,  # Gradio disables it otherwise, because no event uses it
                buttons=[],
                elem_id=f"{prefix}cut",
                elem_classes="cut",
            )
        with gr.Column(min_width=0):
            ready = common.status_line(i18n.translate(i18n.DEFAULT, READY))
            status = gr.HTML(ready, elem_id=f"{prefix}status")
            scores = gr.HTML(elem_id=f"{prefix}scores")
            download, animation, private, copy = _take_away(product)
    result = ResultComponents(
        pictures=pictures,
        status=status,
        scores=scores,
        charts=gr.HTML(elem_id=f"{prefix}chart", render=False),
        filmstrip=gr.HTML(elem_id=f"{prefix}inside", render=False),
        download=download,
        animation=animation,
        private=private,
        link=gr.Textbox(visible=False),
    )
    return result, copy


def _take_away(
    product: Product,
) -> tuple[gr.DownloadButton, gr.DownloadButton, gr.DownloadButton, gr.Button]:
    """Lays out what takes a result away: picture, animation, picture without uploads, and link."""
    prefix, small = product.prefix, dict[str, Any](size="sm", min_width=60)
    has_private = view_of(product).saves_without_pictures
    with gr.Row(elem_classes="take-away"):
        download, animation, private = (
            gr.DownloadButton(
                Translatable(f"shared.{key}"),
                interactive=False,
                visible=has_private or name != "private",
                elem_id=prefix + name,
                **small,
            )
            for key, name in (
                ("save", "download"),
                ("animation", "animation"),
                ("save_private", "private"),
            )
        )
        copy = gr.Button(Translatable("shared.copy_link"), elem_id=f"{prefix}copy-link", **small)
    return download, animation, private, copy
