"""How colour guidance is shown: swatches to choose from, and what was reached beside the target."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from pipelines.core.rules import palette_entries
from pipelines.products import color
from pipelines.products.color import PRODUCT, ColorSettings
from tabs import controls, i18n
from tabs.guidance_view import MethodControls
from tabs.i18n import Translatable
from tabs.view import View, score_rows

SWATCHES = {
    "turquoise": "#44CCAA",
    "sky": "#6FA8DC",
    "ultramarine": "#2A3F8F",
    "violet": "#8E5AA8",
    "rose": "#D98AA5",
    "vermilion": "#C8452F",
    "amber": "#E0A030",
    "moss": "#6B7F3A",
    "ivory": "#E8E0CC",
    "charcoal": "#3A3D42",
}

# Returns `color` as #RRGGBB, or `last` if it is no opaque colour.
_HEX_SCRIPT = """(color, last) => {
  const context = document.createElement('canvas').getContext('2d');
  for (const style of [last, color]) context.fillStyle = style;
  const style = context.fillStyle;
  return [style.startsWith('#') ? style.toUpperCase() : last];
}"""


def alt_texts(settings: ColorSettings, language: str) -> list[str]:
    """Returns one alternative text per guided picture."""
    if settings.palette:
        alt = i18n.translate(language, "color.alt_palette", palette=settings.palette)
    elif settings.region != "all":
        part = i18n.translate(language, f"choice.{settings.region}")
        alt = i18n.translate(language, "color.alt_part", color=settings.color, part=part)
    else:
        alt = i18n.translate(language, "color.alt", color=settings.color)
    return [alt] * settings.count


def scores(preview: color.Preview, language: str) -> str:
    """Returns target and mean colour of each picture, and their distance, as HTML."""
    if preview.settings.palette:
        return _palette_scores(preview, language)
    target = preview.settings.color
    rows = []
    for i, picture in enumerate(preview.pictures):
        reached = color.mean_color(picture, preview.settings)
        alt = i18n.translate(language, "color.swatch_alt", target=target, reached=reached)
        rows.append(
            f'<div class="swatch" role="img" aria-label="{html.escape(alt)}">'
            f'<i style="background: {target}"></i><i style="background: {reached}"></i></div>'
            f"<div>{i18n.translate(language, 'color.reached')} <code>{reached}</code><br>"
            f"ΔE <b>{preview.score_after[i]:.1f}</b>, "
            f"{i18n.translate(language, 'chart.unguided')} {preview.score_before[i]:.1f}</div>"
        )
    return (
        f'<div class="scores"><p>{i18n.translate(language, "color.target")} '
        f"<code>{target}</code></p>"
        f"{''.join(rows)}<small>{i18n.translate(language, 'color.delta_e')}</small></div>"
    )


def _palette_scores(preview: color.Preview, language: str) -> str:
    palette = preview.settings.palette
    parts = "".join(
        f'<i style="background: {entry}; flex-grow: {share:g}"></i>'
        for entry, share in palette_entries(palette)
    )
    alt = html.escape(i18n.translate(language, "color.palette_alt", palette=palette))
    return (
        f'<div class="scores"><div class="swatch wide" role="img" aria-label="{alt}">{parts}</div>'
        f"{score_rows(preview, language, digits=1)}"
        f"<small>{i18n.translate(language, 'color.palette_distance')}</small></div>"
    )


def cell(settings: ColorSettings, score: float, language: str) -> str:
    """Returns the distance of a cell's picture to the target, with its unit."""
    if settings.palette:
        return f"{score:.1f} / 255"
    return f"ΔE {score:.1f}"


def cell_note(settings: ColorSettings, language: str) -> str:
    """Returns the sentence which distances are better."""
    if settings.palette:
        return i18n.translate(language, "color.cell_note_palette")
    return i18n.translate(language, "color.cell_note")


def _color_row() -> gr.Textbox:
    """Lays out text field, picker and swatches, which follow each other; runs use the text."""
    with gr.Row(equal_height=True):
        text: Any = controls.control(PRODUCT, "color", scale=3, min_width=160)
        picker = gr.ColorPicker(
            ColorSettings.color,
            label=Translatable("color.pick"),
            elem_id="color-picker",
            scale=1,
            min_width=80,
        )
    # Runs in the browser, so that Paint never overtakes an update from a slow server.
    in_browser: dict[str, Any] = {"fn": None, "queue": False, "api_visibility": "private"}
    picker.input(inputs=[picker, text], outputs=text, js=_HEX_SCRIPT, **in_browser)
    text.change(inputs=[text, picker], outputs=picker, js=_HEX_SCRIPT, **in_browser)
    with gr.Row(elem_classes="swatch-row"):
        for name, value in SWATCHES.items():
            button = gr.Button(
                Translatable(f"color.swatch.{name}"),
                size="sm",
                min_width=0,
                elem_id=f"swatch-{name}",
                elem_classes="wish-button",
            )
            button.click(outputs=[text, picker], js=f"() => ['{value}', '{value}']", **in_browser)
    return text


def _adjusted(values: dict[str, Any]) -> dict[str, Any]:
    """Returns the values with the whole picture as region if there is a mask, which is another."""
    return values | {"region": "all"} if values.get("mask") else values


_METHODS = MethodControls(PRODUCT, course_max=200)

VIEW = View(
    alt_texts=alt_texts,
    scores=scores,
    cell=cell,
    cell_note=cell_note,
    controls={"color": _color_row, **_METHODS.custom()},
    parts=[_METHODS.part],
    state=_METHODS.state,
    adjusted=_adjusted,
    wire=_METHODS.wire,
)
