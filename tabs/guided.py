"""What the tabs that guide an unconditional model share: pairs of pictures, and the controls."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from PIL import Image

from pipelines import images, sampling
from pipelines.comparison import Preview
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
            elem_id=common.element_id(self.prefix, name),
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


def build(
    controls: Controls,
    introduction: str,
    *,
    wish: Callable[[], dict[str, Any]],
    extras: Callable[[], dict[str, Any]],
    draw: Callable[..., Iterator[tuple[Any, ...]]],
    scores_name: str,
    submits: Sequence[str],
) -> dict[str, Any]:
    """Lays out a tab and wires its run; call inside `gr.Blocks`.

    Args:
        controls: of the tab.
        introduction: Markdown above everything.
        wish: makes the controls that come first; here and below, by the name of their setting.
        extras: makes those that come last.
        draw: the run; takes all settings in order.
        scores_name: of the element that says what was reached.
        submits: names of the text fields in which the Enter key starts a run.

    Returns:
        All controls.
    """
    prefix, settings = controls.prefix, controls.settings
    gr.Markdown(introduction)
    with gr.Row(elem_classes="workspace"):
        with gr.Column(elem_classes="wish", min_width=0):
            made = wish()
            with gr.Row():
                run = gr.Button("Paint", variant="primary", elem_id=f"{prefix}draw", min_width=100)
                stop = gr.Button("Stop", elem_id=f"{prefix}stop", min_width=80)
        with gr.Column(elem_classes="shown", min_width=0):
            shown = result(prefix, settings.seed, scores_name)
        with gr.Column(elem_classes="controls", min_width=0):
            made |= controls.main() | extras()
    controls.follow_method(made)
    event = gr.on(
        [run.click, *(made[name].submit for name in submits)],
        draw,
        inputs=[made[field.name] for field in dataclasses.fields(settings)],
        outputs=shown.outputs,
        show_progress_on=shown.status,
        api_visibility="private",
        **common.LANE,
    )
    common.stops(stop, event, shown.status)
    return made


def update(
    preview: Preview, wish: str, scores: str, chart: str, noted: Mapping[str, Any]
) -> tuple[Any, ...]:
    """What the components of `Shown` become after a step.

    Args:
        preview: of the run.
        wish: what the guided pictures are, as alternative text.
        scores: as HTML.
        chart: as HTML.
        noted: what the saved sheet says besides its settings.
    """
    path = None
    if preview.finished:
        sheet = images.grid(preview.pictures, columns=SHEET_COLUMNS, scale=SHEET_SCALE)
        metadata = {**common.metadata_of(preview), **noted}
        path = common.save_png(images.with_metadata(sheet, metadata), "paintings")
    return (
        tiles(preview.pictures, preview.unguided, wish),
        common.status_of(preview),
        scores,
        chart,
        gr.DownloadButton(value=path, interactive=path is not None),
    )


def answer(preview: Preview, noted: Mapping[str, Any]) -> list[gr.FileData]:
    """The pictures as files that say how they were made, for API callers."""
    metadata = {**common.metadata_of(preview), **noted}
    return common.save_pictures(preview.pictures, metadata, "painting")
