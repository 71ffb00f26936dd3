"""The Digits tab and the `/digits` endpoint: class-conditional generation."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

import gradio as gr
from PIL import Image

from pipelines import digits, images, sampling
from pipelines.settings import DigitsSettings
from tabs import common

DEFAULTS = DigitsSettings()
NO_BLEND = "off"
EXAMPLES = [["0123456789"], ["31415926535897932384"], ["2048"], ["7777777777"]]
_FEW_COLUMNS, _MANY_COLUMNS = 5, 8
_SHEET_COLUMNS, _SHEET_SCALE = 10, 8

INTRODUCTION = """Type digits and press **Draw**. A diffusion model starts from pure noise and
removes a little of it in every step; the class embedding of your digit tells it what to find there.
"""


def slider(name: str, label: str, info: str) -> gr.Slider:
    """A slider with the range and default of a setting."""
    return common.slider(DigitsSettings, name, label, info)


def choices(name: str) -> list[str]:
    return common.choices(DigitsSettings, name)


def tiles(pictures: list[Image.Image], descriptions: list[str]) -> str:
    """The pictures as HTML, large and with crisp pixels."""
    cells = (
        f'<img src="{images.to_data_uri(picture)}" alt="{html.escape(text)}">'
        for picture, text in zip(pictures, descriptions, strict=True)
    )
    columns = min(len(pictures), _FEW_COLUMNS if len(pictures) <= 20 else _MANY_COLUMNS)
    return f'<div class="tiles" style="--columns: {columns}">{"".join(cells)}</div>'


def describe(settings: DigitsSettings) -> list[str]:
    """One alternative text per image."""
    other = f" blended with {settings.blend_with}" if settings.blend_with else ""
    return [f"Handwritten digit {digit}{other}" for digit in settings.digits]


def starting_noise() -> str:
    """What the tab shows before the first run: the noise that its default run starts from."""
    count = len(DEFAULTS.digits)
    noise = sampling.draw_noise(sampling.image_generators(DEFAULTS.seed, count), (1, 28, 28))
    return tiles(images.to_pil(noise / 3), ["Pure noise, before the first step"] * count)


def sheet(preview: digits.Preview) -> Image.Image:
    """All images of a run on one sheet, carrying their settings."""
    large = images.grid(preview.pictures, columns=_SHEET_COLUMNS, scale=_SHEET_SCALE)
    return images.with_metadata(large, common.metadata_of(preview))


@common.explained
def draw(
    text: str,
    conditioning: str,
    cfg_scale: float,
    num_inference_steps: int,
    seed: int,
    blend_with: str,
    blend: float,
    solver: str,
    eta: float,
) -> Iterator[tuple[Any, ...]]:
    """The tab's run: yields the tiles, the status line and, at the end, the file to take away."""
    settings = DigitsSettings(
        digits=text.strip() if isinstance(text, str) else text,
        conditioning=conditioning,
        cfg_scale=cfg_scale,
        num_inference_steps=num_inference_steps,
        seed=seed,
        blend_with="" if blend_with == NO_BLEND else blend_with,
        blend=blend,
        solver=solver,
        eta=eta,
    )
    for preview in common.throttled(digits.generate(settings)):
        path = common.save_png(sheet(preview), "digits") if preview.finished else None
        yield (
            tiles(preview.pictures, describe(preview.settings)),
            common.status_of(preview),
            gr.DownloadButton(value=path, interactive=path is not None),
        )


def answer(preview: digits.Preview) -> tuple[list[gr.FileData], dict[str, Any]]:
    """Draws handwritten digits, one image per character.

    Streams `(images, info)`: PNG files and a dict with seed, step, total_steps, seconds, model,
    revision and settings. The last one is complete.
    """
    metadata = common.metadata_of(preview)
    return common.save_pictures(preview.pictures, metadata, "digit"), common.info_of(preview)


def build() -> None:
    """Lays out the tab; call inside `gr.Blocks`."""
    gr.Markdown(INTRODUCTION)
    with gr.Row(elem_classes="workspace"):
        with gr.Column(elem_classes="wish", min_width=0):
            text = gr.Textbox(
                DEFAULTS.digits,
                label="Digits to draw",
                info="0-9, up to 64; one image each",
                elem_id="digits-text",
            )
            with gr.Row():
                run = gr.Button("Draw", variant="primary", elem_id="digits-draw", min_width=100)
                stop = gr.Button("Stop", elem_id="digits-stop", min_width=80)
        with gr.Column(elem_classes="shown", min_width=0):
            result = gr.HTML(starting_noise(), elem_id="digits-result")
            status = gr.HTML(common.status_line("Ready."), elem_id="digits-status")
            download = gr.DownloadButton(
                "Save all as one PNG", interactive=False, size="sm", elem_id="digits-download"
            )
        with gr.Column(elem_classes="controls", min_width=0):
            controls = _controls()
            gr.Examples(EXAMPLES, inputs=[text], cache_examples=False, label="Try")
    event = gr.on(
        [run.click, text.submit],
        draw,
        inputs=[text, *controls],
        outputs=[result, status, download],
        show_progress_on=status,
        api_visibility="private",
        **common.LANE,
    )
    common.stops(stop, event, status)
    common.publish_run(DigitsSettings, digits.generate, answer, api_name="digits")


def _controls() -> list[gr.components.Component]:
    """The controls below the text field, in the order of `draw`'s parameters."""
    conditioning = gr.Radio(
        choices("conditioning"),
        value=DEFAULTS.conditioning,
        label="How the network is told of the class",
        elem_id="conditioning",
    )
    cfg_scale = slider("cfg_scale", "CFG scale", "1: off. More: clearer digits, less variety")
    steps = slider("num_inference_steps", "Steps", "More: slower, a little finer")
    seed = common.seed_row(DEFAULTS.seed)
    with gr.Row():
        blend_with = gr.Dropdown(
            [NO_BLEND, *"0123456789"],
            value=NO_BLEND,
            label="Blend with",
            info="A second digit",
            elem_id="blend-with",
            min_width=120,
        )
        blend = slider("blend", "Blend", "0: first digit, 1: second")
    with gr.Accordion("Advanced", open=False, elem_id="digits-advanced"):
        solver = gr.Radio(
            choices("solver"), value=DEFAULTS.solver, label="Solver", elem_id="solver"
        )
        eta = slider("eta", "eta", "Fresh noise per step, ddim only. 0: none, 1: as much as DDPM")
    return [conditioning, cfg_scale, steps, seed, blend_with, blend, solver, eta]
