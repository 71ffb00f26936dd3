"""How guidance by words is shown: prompts to try, and words that the CLIP never saw."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import gradio as gr
from gradio.components import Component

from pipelines.products import text
from pipelines.products.text import PRODUCT, TextSettings
from tabs import common, controls, i18n
from tabs.guidance_view import MethodControls
from tabs.i18n import Translatable
from tabs.view import View, score_rows

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


def alt_texts(settings: TextSettings, language: str) -> list[str]:
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
    return [alt] * settings.count


def scores(preview: text.Preview, language: str) -> str:
    """Returns the similarity of each picture to the prompt, and unknown words, as HTML.

    Empty while seeds are tried, because no picture has been drawn yet.
    """
    if preview.step == 0:
        return ""
    clip = html.escape(preview.settings.clip_model)
    return (
        f'<div class="scores"><p>{_goal(preview, language, "score_of")}</p>'
        f"{score_rows(preview, language)}{_unseen(preview, language)}"
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
    unseen = f"<b>{i18n.joined(language, map(html.escape, preview.unseen_words))}</b>"
    return (
        f'<p class="unseen">{i18n.translate(language, "text.unseen", clip=clip, words=unseen)}</p>'
    )


def _prompt() -> Component:
    """Lays out the prompt, and below it one row of prompts to try per model."""
    prompt = controls.control(PRODUCT, "prompt")
    for model, sentences in EXAMPLES.items():
        is_chosen = model == TextSettings.model
        with gr.Row(elem_classes="examples", visible=is_chosen, elem_id=_row_id(model)):
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
    return prompt


def _row_id(model: str) -> str:
    return f"text-try-{model}"


def _wire(components: Mapping[str, Component], language: gr.Radio) -> None:
    """Shows the prompts to try of the model that is chosen."""
    _METHODS.wire(components, language)
    model: Any = components["model"]
    model.change(
        lambda model: [gr.Row(visible=model == name) for name in EXAMPLES],
        inputs=model,
        outputs=[controls.laid_out(_row_id(name)) for name in EXAMPLES],
        **common.INSTANT_EVENT,
    )


_METHODS = MethodControls(PRODUCT, course_max=100)

VIEW = View(
    alt_texts=alt_texts,
    scores=scores,
    controls={"prompt": _prompt, **_METHODS.custom()},
    extra_updates=_METHODS.extra_updates,
    wire=_wire,
)
