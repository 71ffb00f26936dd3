"""How a product is shown, where that is special: one module for each such product, by its name."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from pipelines.runs.product import Product
from tabs.view import View


def view_of(product: Product) -> View:
    """Returns how a product is shown: as `VIEW` of the module of its name says, else as usual."""
    name = f"{__name__}.{product.name}"
    return import_module(name).VIEW if find_spec(name) else View()
