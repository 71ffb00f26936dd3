"""How editing is shown: a canvas to paint on, its tools, and how far a picture was changed.

The canvas is `assets/canvas.js`. Picture, mask and square stay in the browser until a run; hidden
text fields hold them as the settings of the run.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component

from pipelines.products import edit, edit_tasks
from pipelines.products.edit import PRODUCT, EditSettings
from tabs import controls, i18n
from tabs.guidance_view import MethodControls
from tabs.i18n import Translatable
from tabs.view import Updates, View

TOOLS = ("brush", "eraser", "square", "pick")
TEMPLATES = (
    *("label", "keys", "empty", "size", "size_clear", "facts"),
    *("shrunk", "small", "large", "unreadable"),
    *("transparent", "picked", "palette", "bordered", "bordered_smaller"),
)
"""Sentences that `assets/canvas.js` fills in."""

CANVAS, CHANGED = f"{PRODUCT.prefix}canvas", f"{PRODUCT.prefix}changed"

_EASEL = """
<div class="easel">
  <canvas tabindex="0" role="application" aria-describedby="canvas-help"></canvas>
  <p id="canvas-help" class="keys sr-only"></p>
  <button type="button" class="empty"></button>
  <p class="error" role="alert"></p>
  <p class="note" role="status"></p>
  <p class="facts" role="status"></p>
</div>
"""
# `window.studio` may not be loaded yet.
_ATTACH = """
const attach = () => window.studio?.canvas
  ? window.studio.canvas.attach(element, trigger) : setTimeout(attach, 30);
attach();
"""
_IN_BROWSER: dict[str, Any] = {"fn": None, "queue": False, "api_visibility": "private"}


def alt_texts(settings: EditSettings, language: str) -> list[str]:
    """Returns one alternative text per edited picture."""
    if settings.prompt:
        alt = i18n.translate(language, "edit.alt_words", prompt=settings.prompt)
    else:
        alt = i18n.text_of(PRODUCT, language, "alt")
    return [alt] * settings.count


def scores(preview: edit.Preview, language: str) -> str:
    """Returns how well each picture fits the words, or else how far it was changed, as HTML."""
    with_words = bool(preview.clip_revision)
    pairs = zip(preview.score_after, preview.score_before, strict=True)
    rows = [
        i18n.translate(
            language,
            "edit.score_row_words",
            number=i + 1,
            after=f"<b>{after:.2f}</b>",
            before=f"{before:.2f}",
        )
        if with_words
        else i18n.translate(language, "edit.score_row", number=i + 1, after=f"<b>{after:.1f}</b>")
        for i, (after, before) in enumerate(pairs)
    ]
    lines = "".join(f"<p>{row}</p>" for row in rows)
    clip = html.escape(preview.settings.clip_model)
    note = (
        i18n.translate(language, "edit.score_words", clip=clip)
        if with_words
        else i18n.translate(language, "edit.score_note")
    )
    return f'<div class="scores">{lines}<small>{note}</small></div>'


def cell(settings: EditSettings, score: float, language: str) -> str:
    """Returns the score of a cell's picture, with what it is."""
    if settings.prompt:
        return i18n.translate(language, "edit.cell_words", score=f"{score:.2f}")
    return i18n.translate(language, "edit.cell", score=f"{score:.1f}")


def cell_note(settings: EditSettings, language: str) -> str:
    """Returns the sentence what the scores of cells are."""
    return i18n.translate(language, "edit.cell_note_words" if settings.prompt else "edit.cell_note")


def file_name(count: int) -> str:
    """Returns the name of a file of so many edited pictures, without its ending."""
    return PRODUCT.file_name if count == 1 else f"{PRODUCT.file_name}-{count}-pictures"


def _image() -> Component:
    """Lays out the canvas with its tools, and the hidden field that holds the picture."""
    canvas = gr.HTML(_EASEL, js_on_load=_ATTACH, elem_id=CANVAS)
    for name in TEMPLATES:
        gr.HTML(Translatable(f"canvas.{name}"), elem_id=f"canvas-{name}", elem_classes="template")
    with gr.Column(elem_classes="canvas-tools", min_width=0):
        _tools(canvas)
    gr.HTML(Translatable("edit.privacy"), elem_classes="canvas-privacy")
    gr.Textbox("", visible="hidden", elem_id=CHANGED)
    return _hidden("image")


def _button(name: str, **options: Any) -> gr.Button:
    """Lays out a button that calls the function of its name in `assets/canvas.js`."""
    text = Translatable(f"edit.{name}")
    made = gr.Button(text, size="sm", min_width=0, elem_id=f"{PRODUCT.prefix}{name}", **options)
    made.click(js=f"() => studio.canvas.{name}()", **_IN_BROWSER)
    return made


def _tools(canvas: gr.HTML) -> None:
    """Lays out what one paints with; keys on the canvas change tool and size too."""
    tool = gr.Radio(
        [(Translatable(f"edit.tool.{name}"), name) for name in TOOLS],
        value=TOOLS[0],
        label=Translatable("edit.tools"),
        interactive=True,
        elem_id=f"{PRODUCT.prefix}tool",
    )
    with gr.Row(elem_classes="canvas-row"):
        for name in ("choose", "undo", "redo", "clear", "invert", "border"):
            _button(name)
        gr.Button(
            Translatable("edit.take_palette"),
            size="sm",
            min_width=0,
            elem_id=f"{PRODUCT.prefix}take-palette",
        )
    with gr.Row(elem_classes="canvas-sliders"):
        size = _slider("size", 1, 50, 8)
        amount = _slider("amount", 5, 100, 100)
    tool.input(inputs=tool, js="tool => studio.canvas.use(tool)", **_IN_BROWSER)
    size.input(inputs=size, js="size => studio.canvas.size(size)", **_IN_BROWSER)
    amount.input(inputs=amount, js="amount => studio.canvas.amount(amount)", **_IN_BROWSER)
    canvas.change(outputs=[tool, size], js="() => studio.canvas.tools()", **_IN_BROWSER)


def _slider(name: str, minimum: int, maximum: int, value: int) -> gr.Slider:
    return gr.Slider(
        minimum,
        maximum,
        value,
        step=1,
        label=Translatable(f"edit.{name}"),
        buttons=[],
        interactive=True,
        min_width=220,
        elem_id=f"{PRODUCT.prefix}{name}",
    )


def _hidden(name: str) -> gr.Textbox:
    """Lays out the hidden fields that hold a picture, and that it is there, for its chip."""
    gr.Textbox("", visible=False, elem_id=controls.thumbnail_id(PRODUCT, name))
    texts = controls.texts(PRODUCT, name)
    texts.pop("info", None)
    return gr.Textbox("", visible="hidden", max_lines=1, **texts)


def _task() -> Component:
    does = Translatable(f"edit.does.{EditSettings.task}")
    return controls.control(PRODUCT, "task", info=does)


def _strength() -> Component:
    return controls.control(PRODUCT, "strength", visible=False)


def _factor() -> gr.Radio:
    return gr.Radio(
        [(str(factor), factor) for factor in edit_tasks.FACTORS],
        value=EditSettings.factor,
        visible=False,
        **controls.texts(PRODUCT, "factor"),
    )


def _state(settings: EditSettings, language: str) -> Updates:
    """Returns what follows from task and method: what the task does, and the controls it has."""
    of_task = {
        "task": {"info": i18n.translate(language, f"edit.does.{settings.task}")},
        "strength": {"visible": settings.task in ("restyle", "vary")},
        "factor": {"visible": settings.task == "sharpen"},
    }
    return _METHODS.state(settings, language) | of_task


def _wire(components: Mapping[str, Component], language: gr.Radio) -> None:
    """Makes the canvas put picture, mask, square and colours into their controls, and follow."""
    _METHODS.wire(components, language)
    canvas, changed = controls.laid_out(CANVAS), controls.laid_out(CHANGED)
    held: list[Any] = [components[name] for name in ("image", "mask", "crop")]
    color, palette = components["color"], components["palette"]
    canvas.input(outputs=[*held, changed], js="() => studio.canvas.values()", **_IN_BROWSER)
    canvas.select(outputs=[color, changed], js="() => studio.canvas.picked()", **_IN_BROWSER)
    take = controls.laid_out(f"{PRODUCT.prefix}take-palette")
    take.click(
        inputs=palette,
        outputs=[palette, changed],
        js="palette => studio.canvas.palette(palette)",
        **_IN_BROWSER,
    )
    follow = "(image, mask, square) => studio.canvas.follow(image, mask, square)"
    for event in (canvas.submit, *(component.change for component in held)):
        event(inputs=held, js=follow, **_IN_BROWSER)


_METHODS = MethodControls(PRODUCT, course_max=100)

VIEW = View(
    alt_texts=alt_texts,
    scores=scores,
    cell=cell,
    cell_note=cell_note,
    controls={
        "image": _image,
        "task": _task,
        "strength": _strength,
        "mask": partial(_hidden, "mask"),
        "factor": _factor,
        **_METHODS.custom(),
    },
    parts=[_METHODS.part, CHANGED],
    state=_state,
    wire=_wire,
    changed=CHANGED,
    saves_without_pictures=True,
    file_name=file_name,
)
