"""Guided Diffusion Studio: composes the tabs and starts the server.

python app.py
"""

from __future__ import annotations

import os
import sys
from typing import Any

# Read by Gradio and diffusers when they are imported.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr
from gradio.block_function import BlockFunction

from pipelines.core import devices
from pipelines.core.assets import ASSETS
from pipelines.models.names import own_checkpoints
from tabs import about, color, common, digits, i18n, page, text, warm_up
from tabs.i18n import Translatable
from tabs.server.limits import check_environment
from tabs.server.middleware import middleware
from tabs.theme import theme

TITLE = "Guided Diffusion Studio"
MAX_QUEUE = 24


class Studio(gr.Blocks):
    """The app; its endpoints accept calls without the last parameters."""

    def validate_inputs(self, block_fn: BlockFunction, inputs: list[Any]) -> None:
        """Appends the defaults of missing trailing values, so that clients of older versions work.

        Args:
            block_fn: function that is called.
            inputs: values in the order of its parameters.
        """
        if block_fn.api_visibility == "public":
            missing: Any = block_fn.inputs[len(inputs) :]
            inputs.extend(component.value for component in missing)
        super().validate_inputs(block_fn, inputs)

    async def preprocess_data(self, *args: Any, **kwargs: Any) -> Any:
        """Refuses values that no control sends, such as text for a slider, with one sentence."""
        with common.as_refused_request():
            return await super().preprocess_data(*args, **kwargs)

    async def call_function(self, *args: Any, **kwargs: Any) -> Any:
        """Raises the errors of all events as sentences; those of runs know their language."""
        with common.as_gradio_errors(i18n.DEFAULT):
            return await super().call_function(*args, **kwargs)


def build_demo(*, max_queue: int = MAX_QUEUE) -> gr.Blocks:
    """Builds all tabs and endpoints; loads no weights, and does not start the server.

    Args:
        max_queue: longest queue; further runs are refused because the queue is full.
    """
    with Studio(title=TITLE, analytics_enabled=False, delete_cache=(3600, 3600)) as demo:
        header = page.build_header(TITLE)
        with gr.Tabs(selected="color", elem_id="tabs") as row:
            with gr.Tab(Translatable("color.title"), id="color"):
                color_tab = color.build(header.language)
            with gr.Tab(Translatable("text.title"), id="text"):
                text_tab = text.build(header.language)
            with gr.Tab(Translatable("digits.title"), id="digits"):
                digits_tab = digits.build(header.language)
            with gr.Tab(Translatable("about.title"), id="about") as about_tab:
                about.build(about_tab, header.language)
        page.wire(demo, header, row, {"color": color_tab, "text": text_tab, "digits": digits_tab})
    return demo.queue(max_size=max_queue, api_open=False)


def launch_options() -> dict[str, Any]:
    """Returns the options of `launch` besides the address, for the app, the tests and Spaces."""
    return {
        "theme": theme(),
        "css_paths": ASSETS / "style.css",
        "js": (ASSETS / "studio.js").read_text(encoding="utf-8"),
        "ssr_mode": False,
        "max_file_size": "10mb",
        "run_history": False,
        "app_kwargs": {"middleware": middleware()},
        "footer_links": ["api", "gradio", "settings"],
    }


def main() -> None:
    """Starts the server and measures the device; exits with 2 on wrong environment variables."""
    try:
        check_environment()
        own_checkpoints()
        devices.precision(devices.device())
    except ValueError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    warm_up.start()
    build_demo().launch(**launch_options())


if __name__ == "__main__":
    main()
