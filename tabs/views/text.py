"""How guidance by words is shown: prompts to try, and words that the CLIP never saw."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence

import gradio as gr
from gradio.components import Component

from pipelines.products import text, words
from pipelines.products.text import PRODUCT, TextSettings
from tabs import controls, i18n
from tabs.guidance_view import MethodControls
from tabs.i18n import Translatable
from tabs.view import Updates, View, score_rows

PROMPTS = {
    "paintings": ("woman", "landscape", "street", "fruit", "ships", "sketch"),
    "scenes": ("forest", "glacier", "mountains", "sea", "street", "buildings"),
    "emoji": ("red-heart", "tree", "face", "car", "purple-heart", "moon"),
}
"""Names of the prompts to try, by model."""

EXAMPLES = {
    model: tuple(i18n.translate(i18n.DEFAULT, f"text.try.{name}") for name in names)
    for model, names in PROMPTS.items()
}
"""What they say to the CLIP, which is English in every language."""


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


def cell(settings: TextSettings, score: float, language: str) -> str:
    """Returns the similarity of a cell's picture to the prompt, with what it is."""
    return i18n.translate(language, "text.cell", score=f"{score:.2f}")


def cell_note(settings: TextSettings, language: str) -> str:
    """Returns the sentence which similarities are better."""
    return i18n.translate(language, "text.cell_note")


def _goal(preview: text.Preview, language: str, name: str) -> str:
    """Returns a text about the similarity to the prompt, or else to the image prompt."""
    return i18n.translate(
        language, f"text.{name}_{'words' if preview.settings.prompt else 'picture'}"
    )


def _unseen(preview: text.Preview, language: str) -> str:
    """Returns a sentence about the words that the CLIP cannot read, and one about the unseen."""
    unreadable = words.unreadable_words(preview.settings, preview.unseen_words)
    guessed = [word for word in preview.unseen_words if word not in unreadable]
    return _about_words(preview, language, "unreadable", unreadable) + _about_words(
        preview, language, "unseen", guessed
    )


def _about_words(preview: text.Preview, language: str, name: str, found: Sequence[str]) -> str:
    if not found:
        return ""
    clip = html.escape(preview.settings.clip_model)
    listed = f"<b>{i18n.joined(language, map(html.escape, found))}</b>"
    return (
        f'<p class="unseen">{i18n.translate(language, f"text.{name}", clip=clip, words=listed)}</p>'
    )


def _prompt() -> Component:
    """Lays out the prompt, and below it one row of prompts to try per model."""
    prompt = controls.control(PRODUCT, "prompt", placeholder=Translatable("text.placeholder"))
    for model, names in PROMPTS.items():
        is_chosen = model == TextSettings.model
        with gr.Row(elem_classes="examples", visible=is_chosen, elem_id=_row_id(model)):
            gr.Markdown(Translatable(f"text.try_{model}"), elem_classes="examples-label")
            for name in names:
                label = Translatable(f"text.try.{name}")
                button = gr.Button(label, size="sm", min_width=0, elem_classes="wish-button")
                button.click(
                    None,
                    outputs=prompt,
                    js=f"() => {json.dumps(str(label))}",
                    queue=False,
                    api_visibility="private",
                )
    return prompt


def _row_id(model: str) -> str:
    return f"text-try-{model}"


def _state(settings: TextSettings, language: str) -> Updates:
    """Returns what follows from method and model: only its prompts to try are shown."""
    rows = {_row_id(model): {"visible": model == settings.model} for model in EXAMPLES}
    return _METHODS.state(settings, language) | rows


_METHODS = MethodControls(PRODUCT, course_max=100)

VIEW = View(
    alt_texts=alt_texts,
    scores=scores,
    cell=cell,
    cell_note=cell_note,
    controls={"prompt": _prompt, **_METHODS.custom()},
    parts=[_METHODS.part, *(_row_id(model) for model in EXAMPLES)],
    state=_state,
    wire=_METHODS.wire,
)
