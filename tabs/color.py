"""The Colour tab and the `/color` endpoint: steering an unconditional model towards colours."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from pipelines.core.rules import palette_entries
from pipelines.diffusion.methods import METHODS
from pipelines.products import color
from pipelines.products.settings import ColorSettings
from tabs import common, guidance_controls, i18n, results, shell
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

# The first as #RRGGBB, or the second where it is no colour, or a translucent one.
_HEX_SCRIPT = """(color, last) => {
  const context = document.createElement('canvas').getContext('2d');
  for (const style of [last, color]) context.fillStyle = style;
  const found = context.fillStyle;
  return [found.startsWith('#') ? found.toUpperCase() : last];
}"""


def describe(settings: ColorSettings, language: str) -> list[str]:
    """What the guided pictures are, as alternative text."""
    if settings.palette:
        said = i18n.translate(language, "color.alt_palette", palette=settings.palette)
    elif settings.region != "all":
        part = i18n.translate(language, f"choice.{settings.region}")
        said = i18n.translate(language, "color.alt_part", color=settings.color, part=part)
    else:
        said = i18n.translate(language, "color.alt", color=settings.color)
    return [said] * settings.num_images


def scores(preview: color.Preview, language: str) -> str:
    """Target and reached colour of each picture, and how far apart they are before and after."""
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
    """The mean distance of what the network predicts to the target, per step."""
    squared = preview.settings.loss == "mean" and preview.settings.method != "course"

    def in_steps(losses: list[list[float]]) -> list[float]:
        means = [results.mean(values) for values in losses]
        return [127.5 * (mean**0.5 if squared else mean) for mean in means]

    label = i18n.translate(language, "color.curve")
    return Curve(label, in_steps(preview.losses), in_steps(preview.unguided_losses))


def scores_of(preview: color.Preview) -> dict[str, Any]:
    """The distances to the target, as API callers and saved files get them."""
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
    noun="painting",
    columns=guidance_controls.COLUMNS,
    scale=guidance_controls.SCALE,
)


def answer(preview: color.Preview) -> tuple[list[gr.FileData], dict[str, Any]]:
    """Paints pictures of a colour, without any training for it.

    Streams `(images, info)`: PNG files and a dict with seed, step, total_steps, seconds, model,
    revision, settings, versions, loss (per step, one value per image), score_before and score_after
    (per image: CIEDE2000 between its mean colour and the wanted one). The last one is complete.
    """
    info = (
        common.info_of(preview)
        | scores_of(preview)
        | {
            "loss": [[round(value, 6) for value in step] for step in preview.losses],
            "failed_steps": preview.failed_steps,
        }
    )
    return results.answer(PRODUCT, preview), info


def build(language: gr.Radio) -> shell.Tab:
    """Lays out the tab; call inside `gr.Blocks`."""
    tab = shell.build(
        PRODUCT,
        language,
        wish=lambda: {"color": _color_row()},
        extras=lambda: CONTROLS.main() | _more() | _advanced(),
        starting=guidance_controls.starting_noise(PRODUCT),
        submits=("color", "palette"),
        of_settings=CONTROLS.of_settings,
    )
    CONTROLS.follow_method(tab.controls, language)
    common.publish_run(ColorSettings, PRODUCT.run, answer, api_name="color")
    return tab


def _color_row() -> gr.Textbox:
    """Text form, picker and swatches, which follow each other; the text is what counts."""
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
    # In the browser, so that Paint never comes before the answer of a server far away.
    here: dict[str, Any] = {"fn": None, "queue": False, "api_visibility": "private"}
    picker.input(inputs=[picker, text], outputs=text, js=_HEX_SCRIPT, **here)
    text.change(inputs=[text, picker], outputs=picker, js=_HEX_SCRIPT, **here)
    with gr.Row(elem_classes="swatch-row"):
        for name, value in SWATCHES.items():
            button = gr.Button(
                Translatable(f"color.swatch.{name}"),
                size="sm",
                min_width=0,
                elem_id=f"swatch-{name}",
                elem_classes="wish-button",
            )
            button.click(outputs=[text, picker], js=f"() => ['{value}', '{value}']", **here)
    return text


def _more() -> dict[str, Any]:
    """What else a picture can be steered by."""
    slider = CONTROLS.slider
    with gr.Accordion(Translatable("shared.more"), open=False, elem_id="color-more"):
        palette = gr.Textbox(
            DEFAULTS.palette,
            label=Translatable("setting.palette"),
            info=Translatable("info.palette"),
            elem_id="color-palette",
        )
        region = CONTROLS.radio("region")
        mask = gr.Image(
            label=Translatable("setting.mask"),
            type="pil",
            image_mode=None,
            sources=["upload"],
            format="png",  # a run brought back must have the very same picture
            elem_id="color-mask",
            height=120,
        )
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
