"""Writes the tables of docs/api.md that list the parameters of the endpoints, from their settings.

python -m benchmarks.api_tables
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import typer

from pipelines.core.rules import meaning_of
from pipelines.products import PRODUCTS
from pipelines.runs.product import Product

PAGE = Path(__file__).resolve().parent.parent / "docs" / "api.md"


def table(product: Product) -> str:
    """Returns the table of a product's parameters, as Markdown."""
    head = f"| `/{product.name}` takes | default | accepts | meaning |\n| --- | --- | --- | --- |"
    rows = []
    for field in dataclasses.fields(product.settings):
        default = json.dumps(field.default, ensure_ascii=False)
        accepts = field.metadata["rule"].accepts.replace("|", "\\|")
        meaning = meaning_of(product.settings, field.name).replace("|", "\\|")
        rows.append(f"| `{field.name}` | `{default}` | {accepts} | {meaning} |")
    return "\n".join([head, *rows])


def written(page: str) -> str:
    """Returns the page with the tables of all products."""
    for product in PRODUCTS.values():
        old = re.compile(rf"^\| `/{product.name}` takes \|.*\n(?:\|.*\n)+", re.MULTILINE)
        if found := old.search(page):
            page = f"{page[: found.start()]}{table(product)}\n{page[found.end() :]}"
    return page


def main() -> None:
    """Writes the tables into the page."""
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
