"""The products of the studio: every module of this folder that has a `PRODUCT`."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from pipelines.runs import provenance
from pipelines.runs.product import Product


def _found() -> dict[str, Product]:
    """Returns the products of this folder by name, in the order of their tabs."""
    modules = (import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__))
    products = [m.PRODUCT for m in modules if hasattr(m, "PRODUCT")]
    names = [p.name for p in products]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"products must have names of their own, got two of {min(repeated)!r}")
    return {p.name: p for p in sorted(products, key=lambda p: (p.position, p.name))}


PRODUCTS: dict[str, Product] = _found()
"""All products by name."""

provenance.register(PRODUCTS)
