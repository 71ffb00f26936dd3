"""The About tab and the `/checkpoints` endpoint: checkpoints, machine and limits."""

from __future__ import annotations

import html
import platform
import re
from pathlib import Path
from typing import Any

import gradio as gr

from pipelines.core import devices
from pipelines.core.packages import installed
from pipelines.core.rules import rule
from pipelines.diffusion import plugins
from pipelines.models import checkpoints, ways
from pipelines.products.settings import MAX_DIGITS, MAX_IMAGES, DigitsSettings
from pipelines.runs.explanation import COURSE
from tabs import endpoints, i18n

_COLUMNS = ("key", "summary", "size", "data", "licence", "source", "revision")
_PACKAGES = ("torch", "openvino", "diffusers", "open_clip_torch", "gradio")
_PARAGRAPHS = ("data", "keyboard", "privacy")
_LINKS = {
    "course": COURSE,
    "diffusers": "https://github.com/huggingface/diffusers",
    "open_clip": "https://github.com/mlfoundations/open_clip",
    "gradio": "https://www.gradio.app",
}


def limits() -> dict[str, int]:
    """Returns the limits of one run."""
    return {
        "max_digits": MAX_DIGITS,
        "max_num_images": MAX_IMAGES,
        "max_num_inference_steps": rule(DigitsSettings, "num_inference_steps").maximum,
    }


def endpoint() -> list[dict[str, Any]]:
    """Lists the checkpoints: key, size, licence, source, availability, device and limits."""
    shared = {"device": devices.describe_device(), "limits": limits()}
    return [row | shared for row in checkpoints.describe()]


def text(language: str = i18n.DEFAULT) -> str:
    """Returns the page as Markdown; called whenever the tab is opened."""
    return "\n\n".join(
        [
            i18n.translate(language, "about.idea"),
            _heading(language, "checkpoints"),
            _table(language),
            *_plugins(language),
            *(part for name in _PARAGRAPHS for part in _section(language, name)),
            _heading(language, "machine"),
            _machine(language),
            _limits(language),
            _heading(language, "links"),
            _links(language),
        ]
    )


def _plugins(language: str) -> list[str]:
    """Returns the files of the user's own, with their hashes and what they add; empty without."""
    rows = []
    for plugin in plugins.PLUGINS:
        adds = ", ".join((*plugin.losses, *plugin.methods))
        known = f"`{Path(plugin.path).name}`" + (plugin.sha256 and f" `{plugin.sha256[:16]}`")
        rows.append(f"- {known}: {_cell(plugin.problem or adds)}")
        if clashing := plugins.clashes(plugin):
            names = ", ".join(clashing)
            rows.append(f"  - {i18n.translate(language, 'about.plugins_clash', names=names)}")
    return [_heading(language, "plugins"), "\n".join(rows)] if rows else []


def _heading(language: str, name: str) -> str:
    return f"## {i18n.translate(language, f'about.heading.{name}')}"


def _section(language: str, name: str) -> tuple[str, str]:
    return _heading(language, name), i18n.translate(language, f"about.{name}")


def _table(language: str) -> str:
    names = [i18n.translate(language, f"about.column.{name}") for name in _COLUMNS]
    header = f"| {' | '.join(names)} |\n|{'---|' * len(_COLUMNS)}"
    return "\n".join([header, *(_row(language, entry) for entry in checkpoints.describe())])


def _row(language: str, entry: dict[str, Any]) -> str:
    name = entry["key"].replace(".", "-")
    cells = (
        f"`{entry['key']}`",
        _translate_or(language, f"checkpoint.{name}", entry["summary"]),
        entry["size_px"],
        _translate_or(language, f"trained.{name}", entry["data"]),
        _translate_or(language, f"licence.{entry['licence']}", entry["licence"]),
        _source(language, entry),
        entry["revision"],
    )
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _source(language: str, entry: dict[str, Any]) -> str:
    source = entry["source"]
    if entry["available"]:
        return _translate_or(language, f"source.{source}", source)
    if source.startswith("Hub:"):
        return i18n.translate(language, "about.fetched", source=source)
    return entry["problem"]


def _translate_or(language: str, key: str, default: str) -> str:
    """Returns the translation of a key, or `default` if there is none."""
    try:
        return i18n.translate(language, f"about.{key}")
    except KeyError:
        return default


def _cell(content: Any) -> str:
    """Returns content as one cell of a table, with HTML and `|` escaped."""
    line = " ".join(str(content).split())
    return html.escape(line, quote=False).replace("|", "\\|")


def _machine(language: str) -> str:
    packages = [f"{name} {number}" for name, number in installed(_PACKAGES).items()]
    return i18n.translate(
        language,
        "about.machine",
        device=_device(language),
        packages=", ".join([f"Python {platform.python_version()}", *packages]),
    ) + _computed(language)


def _computed(language: str) -> str:
    """Returns how networks are computed, and what each way took where that was measured."""
    by = ways.chosen(devices.device()).name
    sentences = [i18n.translate(language, "about.computed", by=by)]
    if found := ways.measured():
        times = ", ".join(f"{name} {ms:g} ms" for name, ms in found.milliseconds.items())
        sentences.append(i18n.translate(language, "about.measured", times=times))
    return " " + " ".join(sentences)


def _device(language: str) -> str:
    """Returns the device, with its number of threads in the language."""
    description = devices.describe_device()
    match = re.fullmatch(r"(\w+), (\d+) threads?", description)
    if match is None or match[2] == "1":
        return description
    return i18n.translate(language, "about.threads", device=match[1], count=match[2])


def _limits(language: str) -> str:
    maximums = limits()
    return i18n.translate(
        language,
        "about.limits",
        pictures=maximums["max_num_images"],
        digits=maximums["max_digits"],
        steps=maximums["max_num_inference_steps"],
    )


def _links(language: str) -> str:
    links = (
        i18n.translate(language, f"about.link.{name}", url=url) for name, url in _LINKS.items()
    )
    return "\n".join(f"- {link}" for link in links)


def build(tab: gr.Tab, language: gr.Radio | gr.Dropdown | None = None) -> None:
    """Lays out the tab; call inside it.

    Args:
        tab: tab that contains the page, and fills it when it is opened.
        language: component that holds the language, which the page follows; None for English.
    """
    page = gr.Markdown(elem_id="about-text")
    events = [tab.select] if language is None else [tab.select, language.change]
    gr.on(
        events,
        text,
        inputs=language,
        outputs=page,
        trigger_mode="always_last",  # otherwise a change of language while the page loads is lost
        queue=False,
        api_visibility="private",
        show_progress="hidden",
    )
    endpoints.add_endpoint(endpoint, api_name="checkpoints", returns=list[dict], uses_device=False)
