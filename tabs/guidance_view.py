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

_COARSE = 10  # a slider to more than that has whole numbers


@dataclass(frozen=True)
class MethodControls:
    """The controls of the method, and of what each method determines.

    Attributes:
        product: with the settings `method`, `guidance_scale` and `stop`.
        course_max: right end of the strength slider for methods of their own scale, where
            they allow that much.
    """

    product: Product
    course_max: float

    @property
    def part(self) -> str:
        """Element id of the component with the method that the strength belongs to."""
        return f"{self.product.prefix}method-of-strength"

    def custom(self) -> dict[str, Callable[[], Component]]:
        """Returns what lays out strength and method."""
        make = partial(controls.control, self.product)
        return {
            "guidance_scale": lambda: make("guidance_scale", maximum=MAX_LAMBDA),
            "method": self._method,
        }

    def _method(self) -> Component:
        chosen = self.product.settings.method
        gr.Textbox(chosen, visible=False, elem_id=self.part)
        info = Translatable(f"method.{chosen}")
        return controls.control(self.product, "method", info=info)

    def wire(self, components: Mapping[str, Component], language: gr.Radio) -> None:
        """Keeps strength and last guided step when a method of the same scale is chosen.

        A method of another scale sets both to its defaults.
        """
        method: Any = components["method"]
        before, strength, stop = (
            controls.laid_out(self.part),
            components["guidance_scale"],
            components["stop"],
        )
        method.input(
            self._chosen,
            inputs=[method, before, strength, stop, language],
            outputs=[before, strength, stop],
            trigger_mode="multiple",
            **common.INSTANT_EVENT,
        )

    def _chosen(
        self, name: Any, before: Any, strength: Any, stop: Any, language: str
    ) -> tuple[Any, Any, Any]:
        """Returns the updates of `part`, of the strength and of the last guided step."""
        methods = self.product.settings.methods
        if not isinstance(name, str) or name not in methods:
            return gr.skip(), gr.skip(), gr.skip()
        before = before if before in methods else self.product.settings.method
        if self._scale_of(name) != self._scale_of(before):
            strength = methods[name].default_scale
            stop = self._stop_of(name) if stop == self._stop_of(before) else stop
        state = self._strength(name, strength, language)
        return name, gr.update(value=strength, **state), stop

    def state(self, settings: Any, language: str) -> dict[str, dict[str, Any]]:
        """Returns what follows from the method, for `View.state`."""
        return {
            "method": {"info": self._description(settings.method, language)},
            "guidance_scale": self._strength(settings.method, settings.guidance_scale, language),
            self.part: {"value": settings.method},
        }

    def _description(self, name: str, language: str) -> str:
        """Returns what a method does; of one of the user's own, what its file says."""
        if f"method.{name}" in i18n.table(i18n.DEFAULT):
            return i18n.translate(language, f"method.{name}")
        return self.product.settings.methods[name].summary

    def _strength(self, name: str, value: Any, language: str) -> dict[str, Any]:
        """Returns maximum, step and help of the strength slider; a larger value has room too."""
        method = self.product.settings.methods[name]
        if not method.has_own_scale:
            info = i18n.translate(language, "info.guidance_scale")
            return {"maximum": MAX_LAMBDA, "step": 0.01, "info": info}
        usual = min(self.course_max, method.max_scale)
        maximum = max(usual, value) if isinstance(value, int | float) else usual
        info = i18n.translate(language, "info.own_scale", usual=method.default_scale)
        return {"maximum": maximum, "step": 1 if maximum > _COARSE else 0.01, "info": info}

    def _scale_of(self, name: str) -> str:
        """Returns a name of the scale of a method's strength; most share one."""
        return name if self.product.settings.methods[name].has_own_scale else ""

    def _stop_of(self, name: str) -> float:
        """Returns the last guided step to begin with; methods of their own scale guide them all."""
        return 1.0 if self._scale_of(name) else self.product.settings.stop
