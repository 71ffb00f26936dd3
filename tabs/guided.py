"""What the tabs that guide an unconditional model share: pairs of pictures, and the controls."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from PIL import Image

from pipelines import images, sampling
from pipelines.guidance import Method
from pipelines.settings import MAX_LAMBDA, OFF
from tabs import common

SHEET_COLUMNS, SHEET_SCALE = 4, 4
SCALE_INFO = "0: off. 0.05: subtle. 0.2: clear. 0.5: the most"
_COURSE_INFO = "The course's own scale"
_FEW, _FEW_COLUMNS, _MANY_COLUMNS = 4, 2, 3
_UPLOAD_PX = 256


def tiles(guided: list[Image.Image], unguided: list[Image.Image], wish: str) -> str:
    """Pairs of pictures as HTML, the unguided one on top, cut off at `--cut`."""
    cells = "".join(
        f'<div class="pair"><img src="{images.to_data_uri(after)}" alt="{html.escape(wish)}">'
        f'<img class="before" src="{images.to_data_uri(before)}" '
        f'alt="The same seed without guidance"></div>'
        for after, before in zip(guided, unguided, strict=True)
    )
    columns = min(len(guided), _FEW_COLUMNS if len(guided) <= _FEW else _MANY_COLUMNS)
    return f'<div class="pairs" style="--columns: {columns}">{cells}</div>'


def starting_noise(seed: int) -> str:
    """What a tab shows before the first run: the noise that its default run starts from."""
    noise = sampling.draw_noise(sampling.image_generators(seed, 1), (3, 64, 64))
    pictures = images.to_pil(noise / 3)
    return tiles(pictures, pictures, "Pure noise, before the first step")


def upload_address(picture: Image.Image | None) -> str:
    """An uploaded picture as the setting that holds it."""
    if picture is None:
        return ""
    small = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    small.thumbnail((_UPLOAD_PX, _UPLOAD_PX))
    return images.to_data_uri(small)


def summary(method: Method) -> str:
    """What a method is, as a sentence begins."""
    return method.summary[0].upper() + method.summary[1:]


@dataclass(frozen=True)
class Controls:
    """Makes the controls that both tabs have, by the names of the settings.

    Attributes:
        settings: of the product.
        prefix: of the elements' ids.
        methods: to choose from.
        course_max: right end of the strength slider for the course's method.
    """

    settings: type[Any]
    prefix: str
    methods: Mapping[str, Method]
    course_max: float

    def slider(self, name: str, label: str, info: str, **options: Any) -> gr.Slider:
        return common.slider(self.settings, name, label, info, prefix=self.prefix, **options)

    def radio(self, name: str, label: str, **options: Any) -> gr.Radio:
        return gr.Radio(
            common.choices(self.settings, name),
            value=getattr(self.settings, name),
            label=label,
            elem_id=self.prefix + name.replace("_", "-"),
            **options,
        )

    def main(self) -> dict[str, Any]:
        """Strength, steps, number, seed, model and method."""
        slider = self.slider
        scale = slider("guidance_scale", "Guidance scale", SCALE_INFO, maximum=MAX_LAMBDA)
        found: dict[str, Any] = {
            "guidance_scale": scale,
            "num_inference_steps": self.slider(
                "num_inference_steps", "Steps", "More: slower, finer"
            ),
            "num_images": self.slider("num_images", "Pictures", "Of seeds that follow each other"),
            "seed": common.seed_row(self.settings.seed, self.prefix),
            "model": self.radio("model", "Model"),
        }
        chosen = self.methods[self.settings.method]
        found["method"] = self.radio("method", "Method", info=summary(chosen))
        return found

    def follow_method(self, controls: Mapping[str, Any]) -> None:
        """Makes strength and last guided step those of a method when it is chosen.

        Args:
            controls: of `main` and `advanced`.
        """
        controls["method"].change(
            self._of_method,
            inputs=controls["method"],
            outputs=[controls[name] for name in ("method", "guidance_scale", "stop")],
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )

    def _of_method(self, name: str) -> tuple[gr.Radio, gr.Slider, float]:
        """What a method is, the slider for its strength, and when it ends.

        The course has a scale of its own, and guides to the end.
        """
        chosen = self.methods[name]
        course = chosen.max_scale > MAX_LAMBDA
        scale = gr.Slider(
            maximum=self.course_max if course else MAX_LAMBDA,
            step=1 if course else 0.01,
            value=chosen.default_scale,
            info=_COURSE_INFO if course else SCALE_INFO,
        )
        return gr.Radio(info=summary(chosen)), scale, 1.0 if course else self.settings.stop

    def advanced(self) -> dict[str, Any]:
        """When to guide, how often, and how much noise; call inside an accordion."""
        slider = self.slider
        return {
            "start": slider("start", "Guide from", "Share of the steps"),
            "stop": slider("stop", "Guide until", "Share of the steps"),
            "every": slider("every", "Guide every so many steps", "Each that much more strongly"),
            "repeats": slider("repeats", "Repeats", "Middle steps; 0: as the method says"),
            "eta": slider("eta", "eta", f"Fresh noise per step; {OFF}: as the method says"),
        }


@dataclass(frozen=True)
class Shown:
    """The components of the result, as a run fills them."""

    pictures: gr.HTML
    status: gr.HTML
    scores: gr.HTML
    chart: gr.HTML
    download: gr.DownloadButton

    @property
    def outputs(self) -> list[gr.components.Component]:
        return [self.pictures, self.status, self.scores, self.chart, self.download]


def result(prefix: str, seed: int, scores_name: str) -> Shown:
    """Pictures under a slider, status, scores, download and chart."""
    with gr.Row():
        with gr.Column(scale=3, min_width=280):
            pictures = gr.HTML(starting_noise(seed), elem_id=f"{prefix}result")
            cut = gr.Slider(
                0,
                100,
                50,
                step=1,
                label="Left: unguided. Right: guided",
                buttons=[],
                elem_id=f"{prefix}cut",
            )
        with gr.Column(scale=2, min_width=200):
            status = gr.HTML(common.status_line("Ready."), elem_id=f"{prefix}status")
            scores = gr.HTML(elem_id=prefix + scores_name)
            download = gr.DownloadButton(
                "Save as PNG", interactive=False, size="sm", elem_id=f"{prefix}download"
            )
    chart = gr.HTML(elem_id=f"{prefix}chart")
    script = (
        f"(cut) => document.querySelector('#{prefix}result').style"
        ".setProperty('--cut', cut + '%') || []"
    )
    cut.input(None, inputs=cut, js=script, queue=False, api_visibility="private")
    return Shown(pictures, status, scores, chart, download)


def sheet(pictures: list[Image.Image], metadata: Mapping[str, Any]) -> Image.Image:
    """All pictures of a run on one sheet, carrying their settings."""
    large = images.grid(pictures, columns=SHEET_COLUMNS, scale=SHEET_SCALE)
    return images.with_metadata(large, metadata)
