"""What the views of products with several methods of guidance share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component

from pipelines.diffusion.methods import MAX_LAMBDA
from pipelines.runs.product import Product
from tabs import common, controls, i18n
from tabs.i18n import Translatable


@dataclass(frozen=True)
class MethodControls:
    """The controls of the method, and of what each method determines.

    Attributes:
        product: with the settings `method`, `guidance_scale` and `stop`.
        course_max: right end of the strength slider for the course's method.
    """

    product: Product
    course_max: float

    def custom(self) -> dict[str, Callable[[], Component]]:
        """Returns what lays out strength and method."""
        make = partial(controls.control, self.product)
        method = Translatable(f"method.{self.product.settings.method}")
        return {
            "guidance_scale": lambda: make("guidance_scale", maximum=MAX_LAMBDA),
            "method": lambda: make("method", info=method),
        }

    def wire(self, components: Mapping[str, Component], language: gr.Radio) -> None:
        """Sets strength and last guided step to the defaults of a method when it is chosen."""
        method: Any = components["method"]
        method.input(
            self._method_updates,
            inputs=[method, language],
            outputs=[components[name] for name in ("method", "guidance_scale", "stop")],
            **common.INSTANT_EVENT,
        )

    def _method_updates(
        self, name: str | None, language: str
    ) -> tuple[dict[str, Any], dict[str, Any], float | dict[str, Any]]:
        """Returns the description of a method, the slider of its strength, and its stop.

        The course's method has its own scale, and guides until the last step.
        """
        settings = self.product.settings
        if name is None or name not in settings.methods:
            return gr.skip(), gr.skip(), gr.skip()
        description = gr.update(info=self._description(name, language))
        scale: dict[str, Any] = self._range(name) | {
            "value": settings.methods[name].default_scale,
            "info": i18n.translate(language, self._scale_info(name)),
        }
        return description, gr.update(**scale), 1.0 if self._is_course(name) else settings.stop

    def _description(self, name: str, language: str) -> str:
        """Returns what a method does; of one of the user's own, what its file says."""
        if f"method.{name}" in i18n.table(i18n.DEFAULT):
            return i18n.translate(language, f"method.{name}")
        return self.product.settings.methods[name].summary

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
        return self.product.settings.methods[method].max_scale > MAX_LAMBDA
