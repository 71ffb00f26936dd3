"""Examples that are shown at once: finished runs in `assets/examples`.

Each is a PNG file written by `example_files.save_example`, with the settings and the whole preview.
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
from pipelines.runs import example_files, provenance
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
    return list(_thumbnails(product))


@cache
def _thumbnails(product: Product) -> Mapping[str, str]:
    """Returns the first picture of each example of a tab as a data address, by name.

    Damaged files are left out, and logged.
    """
    pictures: dict[str, str] = {}
    for path in sorted(FOLDER.glob(f"{product.name}-*.png")):
        try:
            pictures[path.stem] = images.to_data_uri(example_files.first_picture(path))
        except UserError as error:
            logger.error("example %s: %s", path.stem, error)
    return pictures


@cache
def load(product: Product, name: str) -> Any:
    """Returns the finished run of an example, which is read when it is first wanted.

    Raises:
        RecordError: if its file is missing or damaged.
    """
    if name not in names(product):
        raise provenance.RecordError("record_no_png")
    return example_files.load_example(FOLDER / f"{name}.png", product.preview)


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
    title = html.escape(i18n.translate(language, f"example.{name}"))
    return (
        f'<button type="button" class="example" data-name="{name}">'
        f'<img src="{_thumbnails(product)[name]}" alt=""><span>{title}</span></button>'
    )
