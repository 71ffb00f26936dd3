"""Guided Diffusion Studio: composes the tabs and starts the server.

python app.py
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

# Read by Gradio and diffusers when they are imported.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr

from tabs import about, color, digits, text

TITLE = "Guided Diffusion Studio"
MAX_QUEUE = 24
STYLE = Path(__file__).parent / "assets" / "style.css"
FONTS = ["system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
MONOSPACE = ["ui-monospace", "Menlo", "Consolas", "monospace"]


def theme() -> gr.themes.Base:
    """The look; only fonts that are on the visitor's machine, so nothing is fetched elsewhere."""
    return gr.themes.Default(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="slate",
        font=FONTS,
        font_mono=MONOSPACE,
    )


def build_demo(*, max_queue: int = MAX_QUEUE) -> gr.Blocks:
    """All tabs and endpoints, not yet served; loads no weights.

    Args:
        max_queue: how many may wait; one more is told that the queue is full.
    """
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, 3600)) as demo:
        gr.Markdown(f"# {TITLE}\nSteer a diffusion model, and see why it works.", elem_id="title")
        with gr.Tab("Colour", id="color"):
            color.build()
        with gr.Tab("Text", id="text"):
            text.build()
        with gr.Tab("Digits", id="digits"):
            digits.build()
        with gr.Tab("About", id="about") as about_tab:
            about.build(about_tab)
    return demo.queue(max_size=max_queue, api_open=False)


def launch_options() -> dict[str, Any]:
    """What `launch` takes besides the address, the same here, in tests and on Spaces."""
    return {
        "theme": theme(),
        "css_paths": STYLE,
        "ssr_mode": False,
        "max_file_size": "10mb",
        "run_history": False,
        "footer_links": ["api", "gradio", "settings"],
    }


if __name__ == "__main__":
    build_demo().launch(**launch_options())
