"""Examples that are shown at once: finished runs in `assets/examples`.

Each is a PNG file written by `provenance.save_example`, with the settings and the whole preview.
"""

from __future__ import annotations

import html
import logging
from collections.abc import Mapping
from functools import cache
from typing import Any

import gradio as gr

from pipelines.core import images
from pipelines.core.assets import ASSETS
from pipelines.core.errors import UserError
from pipelines.runs import provenance
from pipelines.runs.product import Product
from tabs import i18n

logger = logging.getLogger("studio")

FOLDER = ASSETS / "examples"

_SCRIPT = """
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-name]');
  if (button) trigger('click', {name: button.dataset.name});
});
"""


def names(product: Product) -> list[str]:
    """Returns the names of the examples of a tab."""
    return list(_loaded(product))


@cache
def _loaded(product: Product) -> Mapping[str, Any]:
    """Returns the examples of a tab by name; damaged files are left out, and logged."""
    previews: dict[str, Any] = {}
    for path in sorted(FOLDER.glob(f"{product.name}-*.png")):
        try:
            previews[path.stem] = provenance.load_example(path, product.preview)
        except UserError as error:
            logger.error("example %s: %s", path.stem, error)
    return previews


def load(product: Product, name: str) -> Any:
    """Returns the finished run of an example.

    Raises:
        RecordError: if its file is missing or damaged.
    """
    if name not in names(product):
        raise provenance.RecordError("record_no_png")
    return _loaded(product)[name]


def build(product: Product) -> gr.HTML:
    """Lays out the examples of a tab; call inside `gr.Blocks`."""
    return gr.HTML(
        gallery(product, i18n.DEFAULT),
        js_on_load=_SCRIPT,
        elem_id=f"{product.prefix}examples",
    )


def gallery(product: Product, language: str) -> str:
    """Returns a row of small pictures with titles as HTML; each is a button."""
    buttons = "".join(_button(product, name, language) for name in names(product))
    return f'<div class="examples-shelf{" crisp" if product.crisp else ""}">{buttons}</div>'


def _button(product: Product, name: str, language: str) -> str:
    preview = load(product, name)
    title = html.escape(i18n.translate(language, f"example.{name}"))
    thumbnail = images.to_data_uri(preview.pictures[0])
    return (
        f'<button type="button" class="example" data-name="{name}">'
        f'<img src="{thumbnail}" alt=""><span>{title}</span></button>'
    )
