"""Parts shared by the tabs that guide an unconditional model: controls and a first picture."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from pipelines.core import images
from pipelines.diffusion.methods import MAX_LAMBDA, Method
from pipelines.diffusion.noise import draw_noise, image_generators
from tabs import common, i18n, results
from tabs.i18n import Translatable

COLUMNS, SCALE = (4, 2, 3), 4


def starting_noise(product: results.Product) -> str:
    """Returns the noise that the default run starts from, shown before the first run."""
    seed = product.settings().seed
    noise = draw_noise(image_generators(seed, 1), (3, 64, 64))
    pictures = images.to_pil(noise / 3)
    alt = i18n.translate(i18n.DEFAULT, "shared.noise_alt")
    return results.pairs(product, pictures, pictures, [alt], i18n.DEFAULT)


def score_rows(preview: Any, language: str, *, digits: int) -> str:
    """Returns the score of each picture with and without guidance, as HTML."""
    rows = [
        i18n.translate(
            language,
            "shared.score_row",
            number=i + 1,
            after=f"<b>{after:.{digits}f}</b>",
            before=f"{before:.{digits}f}",
        )
        for i, (after, before) in enumerate(
            zip(preview.score_after, preview.score_before, strict=True)
        )
    ]
    return "".join(f"<p>{row}</p>" for row in rows)


def bold_list(names: list[str]) -> str:
    """Returns names as a bold list in HTML, escaped."""
    return f"<b>{', '.join(html.escape(name) for name in names)}</b>"


@dataclass(frozen=True)
class Controls:
    """Lays out the controls that both tabs have, by the names of the settings.

    Attributes:
        settings: settings class.
        prefix: prefix of the element ids.
        methods: methods to choose from.
        course_max: right end of the strength slider for the course's method.
    """

    settings: type[Any]
    prefix: str
    methods: Mapping[str, Method]
    course_max: float

    def slider(self, name: str, **options: Any) -> gr.Slider:
        return common.slider(self.settings, name, prefix=self.prefix, **options)

    def radio(self, name: str, **options: Any) -> gr.Radio:
        return common.radio(self.settings, name, prefix=self.prefix, **options)

    def main(self) -> dict[str, Any]:
        """Lays out strength, steps, number of images, seed, model and method."""
        return {
            "guidance_scale": self.slider("guidance_scale", maximum=MAX_LAMBDA),
            "num_inference_steps": self.slider("num_inference_steps"),
            "num_images": self.slider("num_images"),
            "seed": common.seed_row(self.settings.seed, self.prefix),
            "model": self.radio("model"),
            "method": self.radio("method", info=Translatable(f"method.{self.settings.method}")),
        }

    def follow_method(self, controls: Mapping[str, Any], language: gr.Radio) -> None:
        """Sets strength and last guided step to the defaults of a method when it is chosen.

        Args:
            controls: controls of `main` and `advanced`.
            language: component that holds the language.
        """
        controls["method"].input(
            self._method_updates,
            inputs=[controls["method"], language],
            outputs=[controls[name] for name in ("method", "guidance_scale", "stop")],
            **common.INSTANT_EVENT,
        )

    def _method_updates(
        self, name: str | None, language: str
    ) -> tuple[dict[str, Any], dict[str, Any], float | dict[str, Any]]:
        """Returns the description of a method, the slider of its strength, and its stop.

        The course's method has its own scale, and guides until the last step.
        """
        if name is None or name not in self.methods:
            return gr.skip(), gr.skip(), gr.skip()
        method = self.methods[name]
        description = gr.update(info=i18n.translate(language, f"method.{name}"))
        scale: dict[str, Any] = self._range(name) | {
            "value": method.default_scale,
            "info": i18n.translate(language, self._scale_info(name)),
        }
        return description, gr.update(**scale), 1.0 if self._is_course(name) else self.settings.stop

    def extra_updates(self, settings: Any) -> dict[str, dict[str, Any]]:
        """Returns updates besides the values, for controls that are set to settings."""
        return {"guidance_scale": self._range(settings.method)}

    def _range(self, method: str) -> dict[str, Any]:
        """Returns maximum and step of the strength slider."""
        course = self._is_course(method)
        return {
            "maximum": self.course_max if course else MAX_LAMBDA,
            "step": 1 if course else 0.01,
        }

    def _scale_info(self, method: str) -> str:
        return "info.course_scale" if self._is_course(method) else "info.guidance_scale"

    def _is_course(self, method: str) -> bool:
        return self.methods[method].max_scale > MAX_LAMBDA

    def advanced(self) -> dict[str, Any]:
        """Lays out when and how often to guide, and the noise; call inside an accordion."""
        return {name: self.slider(name) for name in ("start", "stop", "every", "repeats", "eta")}
