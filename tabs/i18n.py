"""Texts of the pages in each language, by key.

English texts of products and settings stand where those are declared; all others, and all of the
other languages, in `assets/words/LANGUAGE/*.toml`. What a language leaves out is English.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
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
    folders = (path.name for path in FOLDER.iterdir() if path.is_dir() and any(path.glob("*.toml")))
    codes = sorted(folders, key=lambda code: (code != DEFAULT, code))
    return {code: _read(code).get("page.language", code) for code in codes}


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


class Translated(str):
    """A text in one language that remembers what it says, so that another can say it too.

    Attributes:
        source: a `key` of the texts or the kind of an `error`, and the `values` of its parts; a
            part of its own is a source, several are a list.
    """

    source: dict[str, Any]


def table(language: str) -> Mapping[str, str]:
    """Returns every key, `part.name`, with its text in a language."""
    return _english(tuple(PRODUCTS.values())) if language == DEFAULT else _read(language)


@cache
def _english(products: tuple[Product, ...]) -> Mapping[str, str]:
    return _declared(products) | _read(DEFAULT)


@cache
def _read(language: str) -> dict[str, str]:
    paths = sorted((FOLDER / language).glob("*.toml"))
    return {key: text for path in paths for key, text in _flatten(_parsed(path), "")}


def _parsed(path: Path) -> Mapping[str, Any]:
    """Returns the entries of a file of texts.

    Raises:
        ValueError: naming the file, if it is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} must be TOML, got {error}") from error


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
            parts = {
                "setting": label,
                "info": field.metadata["help"],
                "short": field.metadata["short"],
            }
            for part, text in parts.items():
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


def translate(language: str, key: str, /, **values: Any) -> Translated:
    """Returns the text of a key in a language, or else in English, with its values filled in.

    A language that is not known is English too.

    Args:
        language: its code.
        key: of the text.
        values: of its parts; several texts are listed.

    Raises:
        KeyError: if neither language has the key, or if a value is missing.
    """
    text = table(language).get(key) if language in LANGUAGES else None
    text = table(DEFAULT)[key] if text is None else text
    filled = text.format(**{n: _joined(language, v) for n, v in values.items()}) if values else text
    return _translated(filled, {"key": key}, values)


def _joined(language: str, value: Any) -> Any:
    """Returns several texts as one, and any other value as it is."""
    return joined(language, map(str, value)) if isinstance(value, (list, tuple)) else value


def _translated(text: str, source: dict[str, Any], values: Mapping[str, Any]) -> Translated:
    translated = Translated(text)
    translated.source = source | {"values": {n: _source_of(v) for n, v in values.items()}}
    return translated


def _source_of(value: Any) -> Any:
    """Returns a part of a text as JSON can hold it."""
    if isinstance(value, Translated):
        return value.source
    if isinstance(value, Message):
        return {"error": value.kind, "values": {n: _source_of(v) for n, v in value.parts.items()}}
    if isinstance(value, (list, tuple)):
        return [_source_of(part) for part in value]
    if isinstance(value, Setting):
        return {"setting": str(value)}
    if isinstance(value, Option):
        return {"setting": value.setting, "option": str(value)}
    return value if isinstance(value, (int, float)) else str(value)


def said_in(language: str, source: Any) -> Any:
    """Returns what the source of a `Translated` says in a language; other values as they are.

    Raises:
        KeyError: if it is no source of a text that there is, or if a value is missing.
    """
    if isinstance(source, Sequence) and not isinstance(source, str):
        return Several(said_in(language, part) for part in source)
    if not isinstance(source, Mapping):
        return source
    if "option" in source:
        return Option(source["setting"], source["option"])
    if "setting" in source:
        return Setting(source["setting"])
    values = {str(n): said_in(language, value) for n, value in source["values"].items()}
    if "error" in source:
        product = PRODUCTS.get(str(source.get("product")))
        return error_message(language, Message(source["error"], **values), product)
    return translate(language, source["key"], **values)


def key_of(product: Product, part: str, name: str) -> str:
    """Returns the key of a text that a product may have of its own, else the one of all.

    Args:
        product: whose text it is.
        part: of the key, such as "setting" or "info".
        name: rest of the key.
    """
    own = f"{product.name}.{part}.{name}"
    return own if own in table(DEFAULT) else f"{part}.{name}"


def own_key(product: Product, key: str) -> str:
    """Returns the key of a text of the page, or that of the text which a product has instead."""
    own = f"{product.name}.{key}"
    return own if own in table(DEFAULT) else key


def short_name(product: Product, language: str, name: str) -> Translated:
    """Returns the name of a setting where there is little room."""
    declared = next(f for f in dataclasses.fields(product.settings) if f.name == name)
    part = "short" if declared.metadata["short"] else "setting"
    return translate(language, key_of(product, part, name))


def text_of(product: Product, language: str, key: str, **values: Any) -> str:
    """Returns one of a product's own texts; see `translate`."""
    return translate(language, f"{product.name}.{key}", **values)


def preferred_language(accepted: str) -> str:
    """Returns the first known language that a browser accepts (`Accept-Language`)."""
    tags = [part.partition(";")[0].strip().lower() for part in (accepted or "").split(",")]
    return next((language for tag in tags if (language := _nearest(tag))), DEFAULT)


def _nearest(tag: str) -> str:
    """Returns the language of a tag such as `pt-br`: that one, or else one of the same family."""
    exact = [code for code in LANGUAGES if code.lower() == tag]
    plain = [code for code in LANGUAGES if code.lower() == tag.split("-")[0]]
    family = [c for c in LANGUAGES if tag and c.lower().split("-")[0] == tag.split("-")[0]]
    return next(iter([*exact, *plain, *family]), "")


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


def error_message(
    language: str, error: UserError | Message, product: Product | None = None
) -> Translated:
    """Returns the message of an error in a language, or in English if it has no translation.

    Args:
        language: of the message.
        error: whose message it is.
        product: on whose page it is shown, with the labels of its controls, and in its own words
            where it has a text `error.KIND`; None names settings as callers of the API know them.
    """
    text = fill(
        _sentence(language, error.kind, product),
        error.parts,
        lambda part: _shown(language, part, product),
    )
    on_page = {"product": product.name} if product else {}
    return _translated(text, {"error": error.kind} | on_page, error.parts)


def _sentence(language: str, kind: str, product: Product | None) -> str:
    """Returns the sentence of an error, with places for its parts."""
    known = table(language if language in LANGUAGES else DEFAULT)
    own = known.get(f"{product.name}.error.{kind}") if product else None
    return own or known.get(f"error.{kind}") or MESSAGES[kind]


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
