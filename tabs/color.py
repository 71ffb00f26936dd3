"""The Colour tab and the `/color` endpoint: guides an unconditional model towards colours."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from pipelines.core.rules import palette_entries
from pipelines.diffusion.methods import METHODS
from pipelines.products import color
from pipelines.products.settings import ColorSettings
from tabs import common, guidance_controls, i18n, results, shell, uploads
from tabs.guidance_controls import Controls
from tabs.i18n import Translatable
from tabs.results import Curve

DEFAULTS = ColorSettings()
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
CONTROLS = Controls(ColorSettings, "color-", METHODS, course_max=200)

# Returns `color` as #RRGGBB, or `last` if it is no opaque colour.
_HEX_SCRIPT = """(color, last) => {
  const context = document.createElement('canvas').getContext('2d');
  for (const style of [last, color]) context.fillStyle = style;
  const style = context.fillStyle;
  return [style.startsWith('#') ? style.toUpperCase() : last];
}"""


def describe(settings: ColorSettings, language: str) -> list[str]:
    """Returns one alternative text per guided picture."""
    if settings.palette:
        alt = i18n.translate(language, "color.alt_palette", palette=settings.palette)
    elif settings.region != "all":
        part = i18n.translate(language, f"choice.{settings.region}")
        alt = i18n.translate(language, "color.alt_part", color=settings.color, part=part)
    else:
        alt = i18n.translate(language, "color.alt", color=settings.color)
    return [alt] * settings.num_images


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
        f"{guidance_controls.score_rows(preview, language, digits=1)}"
        f"<small>{i18n.translate(language, 'color.palette_distance')}</small></div>"
    )


def curve(preview: color.Preview, language: str) -> Curve:
    """Returns the mean distance between predicted and target colour, per step."""
    squared = preview.settings.loss == "mean" and preview.settings.method != "course"

    def distances(losses: list[list[float]]) -> list[float]:
        means = [results.mean(values) for values in losses]
        return [127.5 * (mean**0.5 if squared else mean) for mean in means]

    label = i18n.translate(language, "color.curve")
    return Curve(label, distances(preview.losses), distances(preview.unguided_losses))


def scores_of(preview: color.Preview) -> dict[str, Any]:
    """Returns the distances to the target, for API callers and saved files."""
    return {
        "score": "palette distance" if preview.settings.palette else "CIEDE2000",
        "score_before": [round(value, 3) for value in preview.score_before],
        "score_after": [round(value, 3) for value in preview.score_after],
    }


PRODUCT = results.Product(
    name="color",
    settings=ColorSettings,
    generate=color.generate,
    checkpoints=lambda settings: (settings.model,),
    load=color.load,
    work=color.work,
    preview=color.Preview,
    describe=describe,
    scores=scores,
    facts=scores_of,
    curve=curve,
    file_name="painting",
    columns=guidance_controls.COLUMNS,
    scale=guidance_controls.SCALE,
)


def api_result(preview: color.Preview) -> tuple[list[gr.FileData], dict[str, Any]]:
    """Paints pictures of a colour, with a model that was not trained for it.

    Streams `(images, info)`: PNG files and a dict with seed, step, total_steps, seconds, model,
    revision, settings, versions, loss (per step, one value per image), score_before and score_after
    (per image: CIEDE2000 between its mean colour and the target). The last result is complete.
    """
    info = (
        common.run_info(preview)
        | scores_of(preview)
        | {
            "loss": [[round(value, 6) for value in step] for step in preview.losses],
            "failed_steps": preview.failed_steps,
        }
    )
    return results.picture_files(PRODUCT, preview), info


def build(language: gr.Radio) -> shell.Tab:
    """Lays out the tab; call inside `gr.Blocks`."""
    tab = shell.build(
        PRODUCT,
        language,
        main_controls=lambda: {"color": _color_row()},
        more_controls=lambda: CONTROLS.main() | _more() | _advanced(),
        placeholder=guidance_controls.starting_noise(PRODUCT),
        submit_fields=("color", "palette"),
        extra_updates=CONTROLS.extra_updates,
    )
    CONTROLS.follow_method(tab.controls, language)
    common.add_run_endpoint(ColorSettings, PRODUCT.run, api_result, api_name="color")
    return tab


def _color_row() -> gr.Textbox:
    """Lays out text field, picker and swatches, which follow each other; runs use the text."""
    with gr.Row(equal_height=True):
        text = gr.Textbox(
            DEFAULTS.color,
            label=Translatable("setting.color"),
            info=Translatable("info.color"),
            elem_id="color-text",
            scale=3,
            min_width=160,
        )
        picker = gr.ColorPicker(
            DEFAULTS.color,
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


def _more() -> dict[str, Any]:
    """Lays out palette, region, mask and further losses."""
    slider = CONTROLS.slider
    with gr.Accordion(Translatable("shared.more"), open=False, elem_id="color-more"):
        palette = gr.Textbox(
            DEFAULTS.palette,
            label=Translatable("setting.palette"),
            info=Translatable("info.palette"),
            elem_id="color-palette",
        )
        region = CONTROLS.radio("region")
        mask = uploads.picture_upload(label=Translatable("setting.mask"), elem_id="color-mask")
        return {
            "palette": palette,
            "region": region,
            "mask": mask,
            "symmetry": CONTROLS.radio("symmetry"),
            "brightness": slider("brightness"),
            "contrast": slider("contrast"),
            "extras_weight": slider("extras_weight"),
        }


def _advanced() -> dict[str, Any]:
    with gr.Accordion(Translatable("shared.advanced"), open=False, elem_id="color-advanced"):
        return {"loss": CONTROLS.radio("loss")} | CONTROLS.advanced()
