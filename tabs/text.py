"""The Text tab and the `/text` endpoint: guides an unconditional model by a prompt, with CLIP."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from pipelines.diffusion.methods import TEXT_METHODS
from pipelines.products import text
from pipelines.products.settings import TextSettings
from tabs import common, guidance_controls, i18n, results, shell, uploads
from tabs.guidance_controls import Controls
from tabs.i18n import Translatable
from tabs.results import Curve

DEFAULTS = TextSettings()
EXAMPLES = {
    "paintings": (
        "a portrait of a woman",
        "a landscape with trees",
        "a city street",
        "a still life with fruit",
        "ships on the sea",
        "a pencil sketch",
    ),
    "scenes": ("a forest", "a glacier", "mountains", "the sea", "a city street", "buildings"),
    "emoji": (
        "a red heart",
        "a green tree",
        "a yellow face",
        "a blue car",
        "a purple heart",
        "a yellow moon",
    ),
}
CONTROLS = Controls(TextSettings, "text-", TEXT_METHODS, course_max=100)


def describe(settings: TextSettings, language: str) -> list[str]:
    """Returns one alternative text per guided picture."""
    values = {
        "alt_prompt": settings.prompt,
        "alt_picture": settings.image_prompt,
        "alt_negative": settings.negative_prompt,
        "alt_color": settings.color,
    }
    parts = [i18n.translate(language, f"text.{k}", wish=v) for k, v in values.items() if v]
    alt = i18n.translate(
        language, "text.alt", wishes=i18n.translate(language, "text.and").join(parts)
    )
    return [alt] * settings.num_images


def scores(preview: text.Preview, language: str) -> str:
    """Returns the similarity of each picture to the prompt, and unknown words, as HTML.

    Empty while seeds are tried, because no picture has been drawn yet.
    """
    if preview.step == 0:
        return ""
    clip = html.escape(preview.settings.clip_model)
    return (
        f'<div class="scores"><p>{_goal(preview, language, "score_of")}</p>'
        f"{guidance_controls.score_rows(preview, language, digits=2)}{_unseen(preview, language)}"
        f"<small>{i18n.translate(language, 'text.judge', clip=clip)}</small></div>"
    )


def _goal(preview: text.Preview, language: str, name: str) -> str:
    """Returns a text about the similarity to the prompt, or else to the image prompt."""
    return i18n.translate(
        language, f"text.{name}_{'words' if preview.settings.prompt else 'picture'}"
    )


def _unseen(preview: text.Preview, language: str) -> str:
    if not preview.unseen_words:
        return ""
    clip = html.escape(preview.settings.clip_model)
    unseen = guidance_controls.bold_list(preview.unseen_words)
    return (
        f'<p class="unseen">{i18n.translate(language, "text.unseen", clip=clip, words=unseen)}</p>'
    )


def curve(preview: text.Preview, language: str) -> Curve:
    """Returns the mean similarity between predicted picture and prompt, per step."""
    return Curve(
        _goal(preview, language, "curve"),
        [results.mean(step) for step in preview.similarities],
        [results.mean(step) for step in preview.unguided_similarities],
    )


def scores_of(preview: text.Preview) -> dict[str, Any]:
    """Returns the similarities, for API callers and saved files."""
    return {
        "score": "cosine similarity",
        "score_before": [round(value, 4) for value in preview.score_before],
        "score_after": [round(value, 4) for value in preview.score_after],
        "clip_revision": preview.clip_revision,
    }


PRODUCT = results.Product(
    name="text",
    settings=TextSettings,
    generate=text.generate,
    checkpoints=lambda settings: (settings.model, settings.clip_model),
    load=text.load,
    work=text.work,
    preview=text.Preview,
    describe=describe,
    scores=scores,
    facts=scores_of,
    curve=curve,
    file_name="painting",
    columns=guidance_controls.COLUMNS,
    scale=guidance_controls.SCALE,
)


def api_result(preview: text.Preview) -> tuple[list[gr.FileData], dict[str, Any]]:
    """Paints pictures of a prompt, with an unconditional model and CLIP.

    Streams `(images, info)`: PNG files and a dict with seed, step, total_steps, seconds, model,
    revision, settings, versions, loss (per guided step, one value per image), score_before and
    score_after (per image: cosine similarity to the prompt), seeds (per image: the best
    of the tried seeds). The last result is complete; step is 0 while seeds are tried.
    """
    info = (
        common.run_info(preview)
        | scores_of(preview)
        | {
            "loss": [[round(value, 6) for value in step] for step in preview.losses],
            "similarity": [[round(value, 4) for value in step] for step in preview.similarities],
            "failed_steps": preview.failed_steps,
            "seeds": preview.seeds,
            "unseen_words": preview.unseen_words,
        }
    )
    return results.picture_files(PRODUCT, preview), info


def build(language: gr.Radio) -> shell.Tab:
    """Lays out the tab; call inside `gr.Blocks`."""
    prompts: list[gr.Row] = []
    tab = shell.build(
        PRODUCT,
        language,
        main_controls=lambda: _prompt_fields(prompts),
        more_controls=lambda: _main() | _more() | _advanced(),
        placeholder=guidance_controls.starting_noise(PRODUCT),
        submit_fields=("prompt", "negative_prompt"),
        extra_updates=CONTROLS.extra_updates,
    )
    CONTROLS.follow_method(tab.controls, language)
    tab.controls["model"].change(
        lambda model: [gr.Row(visible=model == name) for name in EXAMPLES],
        inputs=tab.controls["model"],
        outputs=prompts,
        **common.INSTANT_EVENT,
    )
    common.add_run_endpoint(TextSettings, PRODUCT.run, api_result, api_name="text")
    return tab


def _prompt_fields(prompts: list[gr.Row]) -> dict[str, Any]:
    """Lays out the prompts; adds to `prompts` one row of example prompts per model."""
    prompt = gr.Textbox(
        DEFAULTS.prompt,
        label=Translatable("setting.prompt"),
        info=Translatable("info.prompt"),
        elem_id="text-text",
    )
    for model, sentences in EXAMPLES.items():
        with gr.Row(elem_classes="examples", visible=model == DEFAULTS.model) as row:
            gr.Markdown(Translatable(f"text.try_{model}"), elem_classes="examples-label")
            for sentence in sentences:
                button = gr.Button(sentence, size="sm", min_width=0, elem_classes="wish-button")
                button.click(
                    None,
                    outputs=prompt,
                    js=f"() => '{sentence}'",
                    queue=False,
                    api_visibility="private",
                )
        prompts.append(row)
    negative = gr.Textbox(
        DEFAULTS.negative_prompt,
        label=Translatable("setting.negative_prompt"),
        info=Translatable("info.negative_prompt"),
        elem_id="text-negative-prompt",
    )
    return {"prompt": prompt, "negative_prompt": negative}


def _main() -> dict[str, Any]:
    return CONTROLS.main() | {"tries": CONTROLS.slider("tries")}


def _more() -> dict[str, Any]:
    """Lays out the image prompt and the colour."""
    with gr.Accordion(Translatable("shared.more"), open=False, elem_id="text-more"):
        return {
            "image_prompt": uploads.picture_upload(
                label=Translatable("setting.image_prompt"), elem_id="text-image-prompt"
            ),
            "image_weight": CONTROLS.slider("image_weight"),
            "color": gr.Textbox(
                DEFAULTS.color,
                label=Translatable("text.color_too"),
                info=Translatable("text.color_too_info"),
                elem_id="text-color",
            ),
            "color_weight": CONTROLS.slider("color_weight"),
        }


def _advanced() -> dict[str, Any]:
    with gr.Accordion(Translatable("shared.advanced"), open=False, elem_id="text-advanced"):
        clip_model = CONTROLS.radio("clip_model", info=Translatable("info.clip_model"))
        cutouts = CONTROLS.slider("cutouts")
        return {"clip_model": clip_model, "cutouts": cutouts} | CONTROLS.advanced()
