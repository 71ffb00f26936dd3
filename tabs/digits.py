"""The Digits tab and the `/digits` endpoint: class-conditional generation."""

from __future__ import annotations

from typing import Any

import gradio as gr

from pipelines.core import images
from pipelines.diffusion.noise import draw_noise, image_generators
from pipelines.products import digits
from pipelines.products.settings import DigitsSettings
from tabs import common, i18n, results, shell
from tabs.i18n import Translatable
from tabs.results import Curve

DEFAULTS = DigitsSettings()
_PREFIX = "digits-"


def describe(settings: DigitsSettings, language: str) -> list[str]:
    """Returns one alternative text per image."""
    key = "digits.alt_blend" if settings.blend_with else "digits.alt"
    return [
        i18n.translate(language, key, digit=digit, other=settings.blend_with)
        for digit in settings.digits
    ]


def scores(preview: digits.Preview, language: str) -> str:
    """Returns the judge's mean probability of the digits, as HTML."""
    after, before = results.mean(preview.score_after), results.mean(preview.score_before)
    probability = i18n.translate(
        language, "digits.sure", after=f"<b>{100 * after:.1f} %</b>", before=f"{100 * before:.1f} %"
    )
    return (
        f'<div class="scores"><p>{probability}</p>{_loss_line(preview, language)}'
        f"<small>{i18n.translate(language, 'digits.judge')}</small></div>"
    )


def _loss_line(preview: digits.Preview, language: str) -> str:
    """Returns how far the loss of symmetry, brightness and contrast fell; empty without one."""
    if not preview.losses:
        return ""
    first, last = (results.mean(preview.losses[i]) for i in (0, -1))
    line = i18n.translate(language, "digits.loss", first=f"{first:.4f}", last=f"<b>{last:.4f}</b>")
    return f"<p>{line}</p>"


def curve(preview: digits.Preview, language: str) -> Curve:
    """Returns the judge's mean probability of the digits in the predicted pictures, per step."""
    return Curve(
        i18n.translate(language, "digits.curve"),
        [results.mean(step) for step in preview.confidence],
        [results.mean(step) for step in preview.unguided_confidence],
    )


def scores_of(preview: digits.Preview) -> dict[str, Any]:
    """Returns the judge's probabilities, for API callers and saved files."""
    rounded = [[round(value, 5) for value in step] for step in preview.losses]
    return ({"loss": rounded} if rounded else {}) | {
        "score": "probability of the digit, by a judge that generation never sees",
        "score_before": [round(value, 4) for value in preview.score_before],
        "score_after": [round(value, 4) for value in preview.score_after],
    }


PRODUCT = results.Product(
    name="digits",
    settings=DigitsSettings,
    generate=digits.generate,
    checkpoints=lambda settings: (digits.checkpoint_of(settings),),
    load=digits.load,
    work=digits.work,
    preview=digits.Preview,
    describe=describe,
    scores=scores,
    facts=scores_of,
    curve=curve,
    file_name="digit",
    columns=(10, 5, 8),
    scale=8,
    crisp=True,
)


def api_result(preview: digits.Preview) -> tuple[list[gr.FileData], dict[str, Any]]:
    """Draws handwritten digits, one image per character.

    Streams `(images, info)`: PNG files and a dict with seed, step, total_steps, seconds, model,
    revision, settings, versions, score_before and score_after (per image: probability of the digit,
    without and with guidance, by a judge that generation never sees), and loss (per guided step,
    per image) if symmetry, brightness or contrast guide too. The last result is complete.
    """
    return results.picture_files(PRODUCT, preview), common.run_info(preview) | scores_of(preview)


def starting_noise() -> str:
    """Returns the noise that the default run starts from, shown before the first run."""
    count = len(DEFAULTS.digits)
    noise = draw_noise(image_generators(DEFAULTS.seed, count), (1, 28, 28))
    pictures = images.to_pil(noise / 3)
    alt = i18n.translate(i18n.DEFAULT, "shared.noise_alt")
    return results.pairs(PRODUCT, pictures, pictures, [alt] * count, i18n.DEFAULT)


def build(language: gr.Radio) -> shell.Tab:
    """Lays out the tab; call inside `gr.Blocks`."""
    tab = shell.build(
        PRODUCT,
        language,
        main_controls=_digits_field,
        more_controls=_controls,
        placeholder=starting_noise(),
        submit_fields=("digits",),
    )
    common.add_run_endpoint(DigitsSettings, PRODUCT.run, api_result, api_name="digits")
    return tab


def _digits_field() -> dict[str, Any]:
    return {
        "digits": gr.Textbox(
            DEFAULTS.digits,
            label=Translatable("setting.digits"),
            info=Translatable("info.digits"),
            elem_id=f"{_PREFIX}text",
        )
    }


def _slider(name: str, info: str = "") -> gr.Slider:
    return common.slider(DigitsSettings, name, prefix=_PREFIX, info=info)


def _controls() -> dict[str, Any]:
    """Lays out the controls below the text field, by the names of the settings."""
    conditioning = common.radio(DigitsSettings, "conditioning", prefix=_PREFIX)
    controls: dict[str, Any] = {
        "conditioning": conditioning,
        "cfg_scale": _slider("cfg_scale"),
        "num_inference_steps": _slider("num_inference_steps"),
        "seed": common.seed_row(DEFAULTS.seed, _PREFIX),
    }
    with gr.Row():
        controls["blend_with"] = gr.Dropdown(
            [(Translatable("digits.no_blend"), ""), *((d, d) for d in "0123456789")],
            value="",
            label=Translatable("setting.blend_with"),
            info=Translatable("info.blend_with"),
            elem_id=f"{_PREFIX}blend-with",
            min_width=120,
        )
        controls["blend"] = _slider("blend")
    with gr.Accordion(Translatable("digits.steer"), open=False, elem_id=f"{_PREFIX}steer"):
        gr.Markdown(Translatable("digits.steer_how"))
        controls |= {
            "guidance_scale": _slider("guidance_scale"),
            "symmetry": common.radio(DigitsSettings, "symmetry", prefix=_PREFIX),
            "brightness": _slider("brightness"),
            "contrast": _slider("contrast"),
            "method": common.radio(DigitsSettings, "method", prefix=_PREFIX),
            "start": _slider("start"),
            "stop": _slider("stop"),
        }
    with gr.Accordion(Translatable("shared.advanced"), open=False, elem_id=f"{_PREFIX}advanced"):
        controls |= {
            "solver": common.radio(DigitsSettings, "solver", prefix=_PREFIX),
            "eta": _slider("eta", info="digits.eta_info"),
            "cfg_start": _slider("cfg_start"),
            "cfg_stop": _slider("cfg_stop"),
        }
    return controls
