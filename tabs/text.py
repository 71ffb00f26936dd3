"""The Text tab and the `/text` endpoint: steering an unconditional model by words, with a CLIP."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Iterator
from typing import Any

import gradio as gr

from pipelines import guidance, text
from pipelines.settings import TextSettings
from tabs import charts, common, guided
from tabs.guided import Controls

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
}
_PREFIX = "text-"
CONTROLS = Controls(TextSettings, _PREFIX, guidance.TEXT_METHODS, course_max=100)

INTRODUCTION = """Say what you want to see and press **Paint**. A model that has only learned to
paint, and knows no words, is steered by a second one, a CLIP, that can tell how well words fit a
picture. Slide between the picture with and without guidance: both grow from the same noise.
"""


def describe(settings: TextSettings) -> str:
    """What the guided pictures are, as alternative text."""
    parts = [f"towards the words: {settings.prompt}"] if settings.prompt else []
    parts += ["towards an uploaded picture"] if settings.image_prompt else []
    parts += [f"away from: {settings.negative_prompt}"] if settings.negative_prompt else []
    parts += [f"towards the colour {settings.color}"] if settings.color else []
    return f"Picture guided {', '.join(parts)}"


def scores(preview: text.Preview) -> str:
    """How near each picture is to the words, and what the CLIP does not know."""
    rows = [
        f"<p>Picture {i + 1}: <b>{after:.2f}</b>, unguided {before:.2f}</p>"
        for i, (after, before) in enumerate(
            zip(preview.score_after, preview.score_before, strict=True)
        )
    ]
    key = html.escape(preview.settings.clip_model)
    return (
        f'<div class="scores"><p>Similarity to {_goal(preview)}</p>'
        f"{''.join(rows)}{_unseen(preview)}"
        f"<small>As {key} sees it: 1 is the best there could be, 0 is unrelated. It is the judge "
        "of its own work here, so trust your eyes.</small></div>"
    )


def _goal(preview: text.Preview) -> str:
    settings = preview.settings
    return "the words" if settings.prompt else "the picture"


def _unseen(preview: text.Preview) -> str:
    if not preview.unseen_words:
        return ""
    words = ", ".join(html.escape(word) for word in preview.unseen_words)
    key = html.escape(preview.settings.clip_model)
    return f'<p class="unseen">{key} never saw these words, and can only guess: <b>{words}</b></p>'


def similarity_chart(preview: text.Preview) -> str:
    """The mean similarity of what the network predicts to the words, per step."""

    def means(values: list[list[float]]) -> list[float]:
        return [sum(step) / len(step) for step in values]

    return charts.line_chart(
        {
            "guided": means(preview.similarities),
            "unguided": means(preview.unguided_similarities),
        },
        total=preview.total_steps,
        x_label="step",
        y_label=f"Similarity of the predicted picture to {_goal(preview)}",
    )


def scores_of(preview: text.Preview) -> dict[str, Any]:
    """The similarities, as API callers and saved files get them."""
    return {
        "score": "cosine similarity",
        "score_before": [round(value, 4) for value in preview.score_before],
        "score_after": [round(value, 4) for value in preview.score_after],
        "clip_revision": preview.clip_revision,
    }


def info_of(preview: text.Preview) -> dict[str, Any]:
    """What API callers get beside the images."""
    return (
        common.info_of(preview)
        | scores_of(preview)
        | {
            "loss": [[round(value, 6) for value in step] for step in preview.losses],
            "similarity": [[round(value, 4) for value in step] for step in preview.similarities],
            "failed_steps": preview.failed_steps,
            "unseen_words": preview.unseen_words,
        }
    )


@common.explained
def draw(*values: Any) -> Iterator[tuple[Any, ...]]:
    """The tab's run; `values` are those of the controls, in the order of `INPUTS`."""
    given = dict(zip(INPUTS, values, strict=True))
    given["image_prompt"] = guided.upload_address(given["image_prompt"])
    for preview in common.throttled(text.generate(TextSettings(**given))):
        wish, noted = describe(preview.settings), scores_of(preview)
        yield guided.update(preview, wish, scores(preview), similarity_chart(preview), noted)


def answer(preview: text.Preview) -> tuple[list[gr.FileData], dict[str, Any]]:
    """Paints pictures of what words say, with a model that knows no words and a CLIP.

    Streams `(images, info)`: PNG files and a dict with seed, step, total_steps, seconds, model,
    revision, settings, loss (per guided step, one value per image), score_before and score_after
    (per image: cosine similarity to the prompt). The last one is complete.
    """
    return guided.answer(preview, scores_of(preview)), info_of(preview)


def build() -> None:
    """Lays out the tab; call inside `gr.Blocks`."""
    examples: list[gr.Row] = []
    controls = guided.build(
        CONTROLS,
        INTRODUCTION,
        wish=lambda: _wish(examples),
        extras=lambda: _more() | _advanced(),
        draw=draw,
        scores_name="scores",
        submits=("prompt", "negative_prompt"),
    )
    controls["model"].change(
        lambda model: [gr.Row(visible=model == name) for name in EXAMPLES],
        inputs=controls["model"],
        outputs=examples,
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
    common.publish_run(TextSettings, text.generate, answer, api_name="text")


def _wish(examples: list[gr.Row]) -> dict[str, Any]:
    """The prompts; a row of examples for each model is added to `examples`."""
    prompt = gr.Textbox(
        DEFAULTS.prompt,
        label="Prompt",
        info="Several with weights: snow:1 | people:-0.5",
        elem_id="text-text",
    )
    for model, prompts in EXAMPLES.items():
        with gr.Row(elem_classes="examples", visible=model == DEFAULTS.model) as row:
            gr.HTML(f"These work on {model}:", elem_classes="examples-label", min_width=0)
            for example in prompts:
                button = gr.Button(example, size="sm", min_width=0)
                button.click(
                    None,
                    outputs=prompt,
                    js=f"() => '{example}'",
                    queue=False,
                    api_visibility="private",
                )
        examples.append(row)
    negative = gr.Textbox(
        DEFAULTS.negative_prompt,
        label="Negative prompt",
        info="What it should not be like",
        elem_id="text-negative-prompt",
    )
    return {"prompt": prompt, "negative_prompt": negative}


def _more() -> dict[str, Any]:
    """What else a picture can be steered by."""
    with gr.Accordion("More to steer", open=False, elem_id="text-more"):
        image = gr.Image(
            label="A picture to be like",
            type="pil",
            image_mode=None,
            sources=["upload"],
            elem_id="text-image-prompt",
            height=120,
        )
        weight = CONTROLS.slider("image_weight", "Weight of that picture", "A sentence weighs 1")
        color = gr.Textbox(
            DEFAULTS.color,
            label="Mean colour as well",
            info="#44CCAA, rgb(68, 204, 170) or teal; empty: none",
            elem_id="text-color",
        )
        return {
            "image_prompt": image,
            "image_weight": weight,
            "color": color,
            "color_weight": CONTROLS.slider("color_weight", "Weight of the colour", "0: none"),
        }


def _advanced() -> dict[str, Any]:
    with gr.Accordion("Advanced", open=False, elem_id="text-advanced"):
        clip_model = CONTROLS.radio(
            "clip_model", "CLIP", info="clip-small is here; the others are fetched from the Hub"
        )
        cutouts = CONTROLS.slider("cutouts", "Cutouts", "Crops it looks at in each guided step")
        return {"clip_model": clip_model, "cutouts": cutouts} | CONTROLS.advanced()


INPUTS = tuple(field.name for field in dataclasses.fields(TextSettings))
