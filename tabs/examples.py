"""Examples that answer at once: finished runs as files in `assets/examples`, made by a command.

Each is a PNG that `record.save_example` wrote, with its settings and everything that is shown.
"""

from __future__ import annotations

import html
from functools import cache
from typing import Any

import gradio as gr

from pipelines.core import images
from pipelines.core.assets import ASSETS
from pipelines.runs import provenance
from tabs import i18n
from tabs.results import Product

FOLDER = ASSETS / "examples"

_SCRIPT = """
element.addEventListener('click', event => {
  const chosen = event.target.closest('button[data-name]');
  if (chosen) trigger('click', {name: chosen.dataset.name});
});
"""


def names(product: Product) -> list[str]:
    """Of the examples of a tab."""
    return sorted(path.stem for path in FOLDER.glob(f"{product.name}-*.png"))


@cache
def load(product: Product, name: str) -> Any:
    """The finished run of an example.

    Raises:
        RecordError: if its file is missing or damaged.
    """
    if name not in names(product):
        raise provenance.RecordError("record_no_png")
    return provenance.load_example(FOLDER / f"{name}.png", product.preview)


def build(product: Product) -> gr.HTML:
    """The shelf of a tab; call inside `gr.Blocks`."""
    return gr.HTML(
        shelf(product, i18n.DEFAULT),
        js_on_load=_SCRIPT,
        elem_id=f"{product.prefix}examples",
    )


def shelf(product: Product, language: str) -> str:
    """A row of small pictures with titles, each a button."""
    buttons = "".join(_button(product, name, language) for name in names(product))
    return f'<div class="examples-shelf{" crisp" if product.crisp else ""}">{buttons}</div>'


def _button(product: Product, name: str, language: str) -> str:
    preview = load(product, name)
    title = html.escape(i18n.translate(language, f"example.{name}"))
    small = images.to_data_uri(preview.pictures[0])
    return (
        f'<button type="button" class="example" data-name="{name}">'
        f'<img src="{small}" alt=""><span>{title}</span></button>'
    )
