"""How a product works, as a page: the idea, the equations of a step, the code, and papers."""

from __future__ import annotations

from collections.abc import Callable

from pipelines.runs.explanation import ADDRESSES, Excerpt
from pipelines.runs.product import Product
from tabs import i18n


def page(product: Product, language: str) -> str:
    """Returns the explanation of a product as Markdown, with LaTeX between `$$`.

    Args:
        product: to explain.
        language: a key of `i18n.LANGUAGES`.
    """
    explanation, translate = product.explanation, _translator(language)
    parts = [i18n.text_of(product, language, "idea")]
    if explanation.equations:
        parts += [f"### {translate('step')}", *(f"$$ {e} $$" for e in explanation.equations)]
        parts.append(i18n.text_of(product, language, "symbols"))
    if explanation.excerpts:
        parts.append(f"### {translate('code')}")
        parts += [_code_block(product, excerpt, language) for excerpt in explanation.excerpts]
    if explanation.links:
        links = (translate(f"link.{name}", url=ADDRESSES[name]) for name in explanation.links)
        parts += [f"### {translate('links')}", "\n".join(f"- {link}" for link in links)]
    return "\n\n".join(parts)


def _translator(language: str) -> Callable[..., str]:
    return lambda key, **values: i18n.translate(language, f"explain.{key}", **values)


def _code_block(product: Product, excerpt: Excerpt, language: str) -> str:
    """Returns the code of an excerpt as Markdown, below its caption and the name of its file."""
    key = f"caption.{excerpt.caption}"
    is_own = key in product.texts
    caption = (
        i18n.text_of(product, language, key)
        if is_own
        else i18n.translate(language, f"explain.{key}")
    )
    header = f"# {excerpt.file}, {excerpt.function.__qualname__}"
    return f"{caption}\n\n```python\n{header}\n{excerpt.code}\n```"
