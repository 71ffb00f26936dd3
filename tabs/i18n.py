"""What the pages say, in each language: every sentence has a key, and stands in
`assets/words/LANGUAGE/*.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import gradio as gr
from gradio.blocks import Block

from pipelines.core.assets import ASSETS
from pipelines.core.errors import Message, UserError

FOLDER = ASSETS / "words"
LANGUAGES = {"en": "English", "zh": "中文"}
DEFAULT = "en"

_TRANSLATED = ("label", "info", "placeholder", "value", "choices")


class Translatable(str):
    """The English words of a key, which remember it, so that a page can be translated later."""

    key: str

    def __new__(cls, key: str) -> Translatable:
        phrase = super().__new__(cls, translate(DEFAULT, key))
        phrase.key = key
        return phrase

    def __getnewargs__(self) -> tuple[str]:
        """For copies: what makes one is its key, not what it says."""
        return (self.key,)


@cache
def table(language: str) -> Mapping[str, str]:
    """Every key, `part.name`, and what it says in a language."""
    texts = [
        path.read_text(encoding="utf-8") for path in sorted((FOLDER / language).glob("*.toml"))
    ]
    return {key: said for text in texts for key, said in _flat(tomllib.loads(text), "")}


def _flat(entries: Mapping[str, Any], before: str) -> Iterable[tuple[str, str]]:
    for name, entry in entries.items():
        if isinstance(entry, str):
            yield before + name, entry
        else:
            yield from _flat(entry, f"{before}{name}.")


def translate(language: str, key: str, **values: Any) -> str:
    """A sentence in a language, with values in its places.

    Raises:
        KeyError: if no language has such a sentence.
    """
    sentence = table(language).get(key)
    sentence = table(DEFAULT)[key] if sentence is None else sentence
    return sentence.format(**values) if values else sentence


def chosen(accepted: str) -> str:
    """The language to begin with, of what a browser accepts (`Accept-Language`)."""
    wanted = [part.partition(";")[0].strip().lower() for part in (accepted or "").split(",")]
    known = (next((k for k in LANGUAGES if w.split("-")[0] == k), None) for w in wanted)
    return next((language for language in known if language), DEFAULT)


def translatable(blocks: Iterable[Block]) -> list[Block]:
    """The parts of a page that say something."""
    return [block for block in blocks if _phrases(block)]


def translated(block: Block, language: str) -> dict[str, Any]:
    """What a part of a page says in a language, as Gradio's update of it."""
    return gr.update(**{name: _in(language, said) for name, said in _phrases(block).items()})


def _phrases(block: Block) -> dict[str, Any]:
    given = block.constructor_args
    return {name: given[name] for name in _TRANSLATED if _has_phrase(given.get(name))}


def _has_phrase(said: Any) -> bool:
    if isinstance(said, (list, tuple)):
        return any(_has_phrase(part) for part in said)
    return isinstance(said, Translatable)


def _in(language: str, said: Any) -> Any:
    if isinstance(said, (list, tuple)):
        return type(said)(_in(language, part) for part in said)
    return translate(language, said.key) if isinstance(said, Translatable) else said


def sentence(language: str, error: UserError | Message) -> str:
    """What an error says, in a language; in English where that has no sentence of its kind."""
    template = None if language == DEFAULT else table(language).get(f"error.{error.kind}")
    if template is None:
        return str(error)
    parts = {name: _said(language, part) for name, part in error.parts.items()}
    return template.format(**parts)


def _said(language: str, part: Any) -> Any:
    return sentence(language, part) if isinstance(part, Message) else part
