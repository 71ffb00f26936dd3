"""The products of the studio, one module each, in the order of their tabs."""

from __future__ import annotations

from pipelines.products import color, digits, text
from pipelines.runs import provenance
from pipelines.runs.product import Product

PRODUCTS: dict[str, Product] = {p.name: p for p in (color.PRODUCT, text.PRODUCT, digits.PRODUCT)}
"""All products by name."""

provenance.register(PRODUCTS)
