"""The Colour tab and the `/color` endpoint: steering an unconditional model towards colours."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import gradio as gr

from pipelines import color, guidance
from pipelines.settings import ColorSettings, palette_entries
from tabs import charts, common, guided
from tabs.guided import Controls

DEFAULTS = ColorSettings()
SWATCHES = {
    "Turquoise": "#44CCAA",
    "Sky": "#6FA8DC",
    "Ultramarine": "#2A3F8F",
    "Violet": "#8E5AA8",
    "Rose": "#D98AA5",
    "Vermilion": "#C8452F",
    "Amber": "#E0A030",
    "Moss": "#6B7F3A",
    "Ivory": "#E8E0CC",
    "Charcoal": "#3A3D42",
}
_PREFIX = "color-"
CONTROLS = Controls(ColorSettings, _PREFIX, guidance.METHODS, course_max=200)

INTRODUCTION = """Choose a colour and press **Paint**. A model that has only ever learned to paint
is steered, step by step, towards pictures of that colour; nothing is trained for it. Slide between
the picture with and without guidance: both grow from the same noise.
"""

# The first as #RRGGBB, or the second where it is no colour, or a translucent one.
_HEX_SCRIPT = """(color, last) => {
  const context = document.createElement('canvas').getContext('2d');
  for (const style of [last, color]) context.fillStyle = style;
  const found = context.fillStyle;
  return [found.startsWith('#') ? found.toUpperCase() : last];
}"""


def describe(settings: ColorSettings) -> str:
    """What the guided pictures are, as alternative text."""
    if settings.palette:
        return f"Picture guided towards the palette {settings.palette}"
    where = "" if settings.region == "all" else f" in its part {settings.region}"
    return f"Picture guided towards {settings.color}{where}"


def swatches(preview: color.Preview) -> str:
    """Target and reached colour of each picture, and how far apart they are before and after."""
    if preview.settings.palette:
        return _palette_scores(preview)
    target = preview.settings.color
    rows = []
    for i, picture in enumerate(preview.pictures):
        reached = color.mean_color(picture, preview.settings)
        rows.append(
            f'<div class="swatch" role="img" aria-label="Target {target}, reached {reached}">'
            f'<i style="background: {target}"></i><i style="background: {reached}"></i></div>'
            f"<div>reached <code>{reached}</code><br>"
            f"ΔE <b>{preview.score_after[i]:.1f}</b>, "
            f"unguided {preview.score_before[i]:.1f}</div>"
        )
    return (
        f'<div class="scores"><p>Target <code>{target}</code></p>{"".join(rows)}'
        "<small>ΔE tells how different two colours look: below 2 is hard to see.</small></div>"
    )


def _palette_scores(preview: color.Preview) -> str:
    palette = preview.settings.palette
    parts = "".join(
        f'<i style="background: {entry}; flex-grow: {share:g}"></i>'
        for entry, share in palette_entries(palette)
    )
    rows = [
        f"<p>Picture {i + 1}: <b>{after:.1f}</b>, unguided {before:.1f}</p>"
        for i, (after, before) in enumerate(
            zip(preview.score_after, preview.score_before, strict=True)
        )
    ]
    return (
        f'<div class="scores">'
        f'<div class="swatch wide" role="img" aria-label="Palette {palette}">{parts}</div>'
        f"{''.join(rows)}<small>Distance to the palette, in steps of 255.</small></div>"
    )


def loss_chart(preview: color.Preview) -> str:
    """The mean distance of what the network predicts to the target, per step."""
    squared = preview.settings.loss == "mean" and preview.settings.method != "course"

    def in_steps(losses: list[list[float]]) -> list[float]:
        means = [sum(values) / len(values) for values in losses]
        return [127.5 * (mean**0.5 if squared else mean) for mean in means]

    return charts.line_chart(
        {
            "guided": in_steps(preview.losses),
            "unguided": in_steps(preview.unguided_losses),
        },
        total=preview.total_steps,
        x_label="step",
        y_label="Distance of the predicted picture to the target, in steps of 255",
    )


def scores_of(preview: color.Preview) -> dict[str, Any]:
    """The distances to the target, as API callers and saved files get them."""
    return {
        "score": "palette distance" if preview.settings.palette else "CIEDE2000",
        "score_before": [round(value, 3) for value in preview.score_before],
        "score_after": [round(value, 3) for value in preview.score_after],
    }


def info_of(preview: color.Preview) -> dict[str, Any]:
    """What API callers get beside the images."""
    return (
        common.info_of(preview)
        | scores_of(preview)
        | {
            "loss": [[round(value, 6) for value in step] for step in preview.losses],
            "failed_steps": preview.failed_steps,
        }
    )


@common.explained
def draw(*values: Any) -> Iterator[tuple[Any, ...]]:
    """The tab's run; `values` are those of the controls, in the order of `INPUTS`."""
    given = dict(zip(INPUTS, values, strict=True))
    given["mask"] = guided.upload_address(given["mask"])
    if given["mask"]:
        given["region"] = "all"
    for preview in common.throttled(color.generate(ColorSettings(**given))):
        wish, noted = describe(preview.settings), scores_of(preview)
        yield guided.update(preview, wish, swatches(preview), loss_chart(preview), noted)


def answer(preview: color.Preview) -> tuple[list[gr.FileData], dict[str, Any]]:
    """Paints pictures of a colour, without any training for it.

    Streams `(images, info)`: PNG files and a dict with seed, step, total_steps, seconds, model,
    revision, settings, loss (per step, one value per image), score_before and score_after (per
    image: CIEDE2000 between its mean colour and the wanted one). The last one is complete.
    """
    return guided.answer(preview, scores_of(preview)), info_of(preview)


def build() -> None:
    """Lays out the tab; call inside `gr.Blocks`."""
    guided.build(
        CONTROLS,
        INTRODUCTION,
        wish=lambda: {"color": _color_row()},
        extras=lambda: _more() | _advanced(),
        draw=draw,
        scores_name="swatches",
        submits=("color", "palette"),
    )
    common.publish_run(ColorSettings, color.generate, answer, api_name="color")


def _color_row() -> gr.Textbox:
    """Text form, picker and swatches, which follow each other; the text is what counts."""
    with gr.Row(equal_height=True):
        text = gr.Textbox(
            DEFAULTS.color,
            label="Colour",
            info="#44CCAA, rgb(68, 204, 170) or teal",
            elem_id="color-text",
            scale=3,
            min_width=160,
        )
        picker = gr.ColorPicker(
            DEFAULTS.color, label="Pick", elem_id="color-picker", scale=1, min_width=80
        )
    # In the browser, so that Paint never comes before the answer of a server far away.
    here: dict[str, Any] = {"fn": None, "queue": False, "api_visibility": "private"}
    picker.input(inputs=[picker, text], outputs=text, js=_HEX_SCRIPT, **here)
    text.change(inputs=[text, picker], outputs=picker, js=_HEX_SCRIPT, **here)
    with gr.Row(elem_classes="swatch-row"):
        for name, value in SWATCHES.items():
            button = gr.Button(name, size="sm", min_width=0, elem_id=f"swatch-{name.lower()}")
            button.click(outputs=[text, picker], js=f"() => ['{value}', '{value}']", **here)
    return text


def _more() -> dict[str, Any]:
    """What else a picture can be steered by."""
    slider = CONTROLS.slider
    with gr.Accordion("More to steer", open=False, elem_id="color-more"):
        palette = gr.Textbox(
            DEFAULTS.palette,
            label="Palette, instead of the colour",
            info="Up to five colours with shares: #102040 60, gold 40",
            elem_id="color-palette",
        )
        region = CONTROLS.radio("region", "Part of the picture that the colour is for")
        mask = gr.Image(
            label="Or a square mask picture, white where the colour belongs",
            type="pil",
            image_mode=None,
            sources=["upload"],
            elem_id="color-mask",
            height=120,
        )
        symmetry = CONTROLS.radio("symmetry", "Symmetry")
        return {
            "palette": palette,
            "region": region,
            "mask": mask,
            "symmetry": symmetry,
            "brightness": slider("brightness", "Brightness", "0: black, 1: white, -1: off"),
            "contrast": slider("contrast", "Contrast", "0: flat, 0.5: the most, -1: off"),
            "extras_weight": slider(
                "extras_weight", "Weight of these", "Symmetry, brightness, contrast"
            ),
        }


def _advanced() -> dict[str, Any]:
    with gr.Accordion("Advanced", open=False, elem_id="color-advanced"):
        loss = gr.Radio(
            [("the mean colour", "mean"), ("every pixel, as in the course", "pixels")],
            value=DEFAULTS.loss,
            label="What shall have the colour",
            elem_id="color-loss",
        )
        return {"loss": loss} | CONTROLS.advanced()


INPUTS = tuple(field.name for field in dataclasses.fields(ColorSettings))
