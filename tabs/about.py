"""The About tab and the `/checkpoints` endpoint: what is installed here and what it may do."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import gradio as gr

from pipelines import checkpoints, runtime
from pipelines.settings import MAX_DIGITS, MAX_IMAGES, DigitsSettings, rule
from tabs import common

_COLUMNS = ("Checkpoint", "Draws", "Pixels", "Trained on", "Licence", "Source", "Revision")
_PACKAGES = ("torch", "diffusers", "gradio")


def limits() -> dict[str, int]:
    """The most that one run may ask for."""
    return {
        "max_digits": MAX_DIGITS,
        "max_num_images": MAX_IMAGES,
        "max_num_inference_steps": rule(DigitsSettings, "num_inference_steps").maximum,
    }


def endpoint() -> list[dict[str, Any]]:
    """Lists the checkpoints: key, size, licence, source, availability, device and limits."""
    shared = {"device": runtime.describe_device(), "limits": limits()}
    return [row | shared for row in checkpoints.describe()]


def _row(entry: dict[str, Any]) -> str:
    source = entry["source"] if entry["available"] else entry["problem"]
    cells = (
        f"`{entry['key']}`",
        entry["summary"],
        entry["size_px"],
        entry["data"],
        entry["licence"],
        source,
        entry["revision"],
    )
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def text() -> str:
    """The page as Markdown, read when it is opened."""
    rows = [_row(entry) for entry in checkpoints.describe()]
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    header = f"| {' | '.join(_COLUMNS)} |\n|{'---|' * len(_COLUMNS)}"
    return "\n".join(
        [
            "## Checkpoints",
            header,
            *rows,
            "",
            f"**Runs on** {runtime.describe_device()}, with {packages}.",
            "",
            f"**Limits** of a run: {MAX_IMAGES} pictures of a colour or {MAX_DIGITS} digits, "
            f"{limits()['max_num_inference_steps']} steps. One run at a time; others wait.",
        ]
    )


def build(tab: gr.Tab) -> None:
    """Lays out the tab; call inside it."""
    page = gr.Markdown(elem_id="about-text")
    tab.select(text, outputs=page, api_visibility="private", show_progress="hidden")
    common.publish(endpoint, api_name="checkpoints", returns=list[dict], lane=False)
