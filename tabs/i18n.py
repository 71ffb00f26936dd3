"""Texts of the pages in each language, by key.

English texts of products and settings stand where those are declared; all others, and all of the
other languages, in `assets/words/LANGUAGE/*.toml`. What a language leaves out is English.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import gradio as gr
from gradio.blocks import Block

from pipelines.core import rules
from pipelines.core.assets import ASSETS
from pipelines.core.errors import (
    MESSAGES,
    Message,
    Option,
    Setting,
    Several,
    UserError,
    fill,
)
from pipelines.products import PRODUCTS
from pipelines.runs.product import Product

FOLDER = ASSETS / "words"
DEFAULT = "en"

_TRANSLATED_ARGS = ("label", "info", "placeholder", "value", "choices")


def _languages() -> dict[str, str]:
    """Returns the name of every language that has a folder, English first."""
    codes = sorted(
        (path.name for path in FOLDER.iterdir()), key=lambda code: (code != DEFAULT, code)
    )
    return {code: _read(code)["page.language"] for code in codes}


class Translatable(str):
    """English text that remembers its key, so that the page can be translated later."""

    key: str

    def __new__(cls, key: str) -> Translatable:
        text = super().__new__(cls, translate(DEFAULT, key))
        text.key = key
        return text

    def __getnewargs__(self) -> tuple[str]:
        """Makes copies from the key, not from the text."""
        return (self.key,)


def table(language: str) -> Mapping[str, str]:
    """Returns every key, `part.name`, with its text in a language."""
    return _english(tuple(PRODUCTS.values())) if language == DEFAULT else _read(language)


@cache
def _english(products: tuple[Product, ...]) -> Mapping[str, str]:
    return _declared(products) | _read(DEFAULT)


@cache
def _read(language: str) -> dict[str, str]:
    paths = sorted((FOLDER / language).glob("*.toml"))
    tables = (tomllib.loads(path.read_text(encoding="utf-8")) for path in paths)
    return {key: text for table in tables for key, text in _flatten(table, "")}


def _declared(products: Iterable[Product]) -> dict[str, str]:
    """Returns the English texts of products and of their settings.

    A setting of several products has one key, `setting.NAME`; where a product says something else
    of it, another one, `PRODUCT.setting.NAME`.
    """
    declared: dict[str, str] = {}
    for product in products:
        declared |= {f"{product.name}.{key}": text for key, text in product.texts.items()}
        for field in dataclasses.fields(product.settings):
            label = rules.label_of(product.settings, field.name)
            for part, text in (("setting", label), ("info", field.metadata["help"])):
                key = f"{part}.{field.name}"
                if text and declared.setdefault(key, text) != text:
                    declared[f"{product.name}.{key}"] = text
    return declared


def _flatten(entries: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, str]]:
    for name, entry in entries.items():
        if isinstance(entry, str):
            yield prefix + name, entry
        else:
            yield from _flatten(entry, f"{prefix}{name}.")


def translate(language: str, key: str, /, **values: Any) -> str:
    """Returns the text of a key in a language, or else in English, with its values filled in.

    A language that is not known is English too.

    Raises:
        KeyError: if neither language has the key, or if a value is missing.
    """
    text = table(language).get(key) if language in LANGUAGES else None
    text = table(DEFAULT)[key] if text is None else text
    return text.format(**values) if values else text


def key_of(product: Product, part: str, name: str) -> str:
    """Returns the key of a text that a product may have of its own, else the one of all.

    Args:
        product: whose text it is.
        part: of the key, such as "setting" or "info".
        name: rest of the key.
    """
    own = f"{product.name}.{part}.{name}"
    return own if own in table(DEFAULT) else f"{part}.{name}"


def text_of(product: Product, language: str, key: str, **values: Any) -> str:
    """Returns one of a product's own texts; see `translate`."""
    return translate(language, f"{product.name}.{key}", **values)


def preferred_language(accepted: str) -> str:
    """Returns the first known language that a browser accepts (`Accept-Language`)."""
    tags = [part.partition(";")[0].strip().lower() for part in (accepted or "").split(",")]
    known = (next((k for k in LANGUAGES if tag.split("-")[0] == k), None) for tag in tags)
    return next((language for language in known if language), DEFAULT)


def translatable_blocks(blocks: Iterable[Block]) -> list[Block]:
    """Returns the components that have translatable texts."""
    return [block for block in blocks if _translatable_args(block)]


def translation_update(block: Block, language: str) -> dict[str, Any]:
    """Returns the Gradio update that translates a component."""
    arguments = _translatable_args(block)
    return gr.update(**{n: _translate_nested(language, value) for n, value in arguments.items()})


def _translatable_args(block: Block) -> dict[str, Any]:
    arguments = block.constructor_args
    names = [name for name in _TRANSLATED_ARGS if _is_translatable(arguments.get(name))]
    return {name: arguments[name] for name in names}


def _is_translatable(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_is_translatable(part) for part in value)
    return isinstance(value, Translatable)


def _translate_nested(language: str, value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_translate_nested(language, part) for part in value)
    return translate(language, value.key) if isinstance(value, Translatable) else value


def joined(language: str, parts: Iterable[str]) -> str:
    """Returns a list as text, with the comma of a language between its parts."""
    return translate(language, "page.comma").join(parts)


def label_of(product: Product, language: str, name: str) -> str:
    """Returns the label of the control of a setting, or of an axis of a sweep; else the name."""
    known = table(DEFAULT)
    keys = (key_of(product, "setting", name), f"sweep.{name}")
    key = next((key for key in keys if key in known), None)
    return translate(language, key) if key else name


def choice_of(language: str, option: str) -> str:
    """Returns the label of a choice; one that has none is its own label."""
    key = f"choice.{option}"
    return translate(language, key) if key in table(DEFAULT) else option


def error_message(language: str, error: UserError | Message, product: Product | None = None) -> str:
    """Returns the message of an error in a language, or in English if it has no translation.

    Args:
        language: of the message.
        error: whose message it is.
        product: on whose page it is shown, with the labels of its controls; None names settings as
            callers of the API know them.
    """
    is_translated = language in LANGUAGES and language != DEFAULT
    template = table(language).get(f"error.{error.kind}") if is_translated else None
    return fill(
        MESSAGES[error.kind] if template is None else template,
        error.parts,
        lambda part: _shown(language, part, product),
    )


def _shown(language: str, part: Any, product: Product | None) -> Any:
    """Returns a part of an error as it is shown."""
    if isinstance(part, Message):
        return error_message(language, part, product)
    if isinstance(part, Several):
        return joined(language, (_shown(language, one, product) for one in part))
    if product is not None and isinstance(part, Setting):
        return translate(language, "page.quoted", text=label_of(product, language, part))
    if product is not None and isinstance(part, Option):
        return choice_of(language, part)
    return part


LANGUAGES = _languages()
"""Every language by its code, with its own name."""
