"""Sentences of errors: each is made somewhere, with its parts, and said in every language."""

from __future__ import annotations

import ast
import pickle
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any

import pytest

from pipelines.core.errors import MESSAGES, CheckpointError, Message, UserError
from pipelines.core.rules import SettingsError, validate
from pipelines.products.settings import DigitsSettings, TextSettings
from tabs import i18n

PIPELINES = Path(__file__).resolve().parents[2] / "pipelines"
TREES = [ast.parse(path.read_text(encoding="utf-8")) for path in PIPELINES.rglob("*.py")]
TRANSLATED = sorted(set(i18n.LANGUAGES) - {i18n.DEFAULT})


def places(template: str) -> set[tuple[str, str | None]]:
    """Names of the parts of a sentence, and how numbers are written in them."""
    return {(name, how) for _, name, how, _ in Formatter().parse(template) if name}


def named(nodes: Iterable[ast.expr]) -> set[str]:
    return {node.id for node in nodes if isinstance(node, ast.Name)}


def makers() -> set[str]:
    """Names of the classes that are sentences: errors that are `UserError`, and `Message`."""
    classes = [n for tree in TREES for n in ast.walk(tree) if isinstance(n, ast.ClassDef)]
    return {c.name for c in classes if "UserError" in named(c.bases)} | {"Message"}


@cache
def made() -> list[tuple[str, set[str]]]:
    """Kind and names of the parts of every sentence that a module of the pipelines makes."""
    calls = [n for tree in TREES for n in ast.walk(tree) if isinstance(n, ast.Call)]
    classes = makers()
    found = [call for call in calls if named([call.func]) & classes]
    return [(kind_of(call), {str(part.arg) for part in call.keywords}) for call in found]


def kind_of(call: ast.Call) -> str:
    (kind,) = call.args
    assert isinstance(kind, ast.Constant), ast.unparse(call)
    return str(kind.value)


def test_every_sentence_is_made_somewhere_and_none_is_made_that_is_not_there():
    assert {kind for kind, _ in made()} == set(MESSAGES)


def test_every_sentence_is_given_just_the_parts_that_it_has_places_for():
    wrong = [
        (kind, parts)
        for kind, parts in made()
        if parts != {name for name, _ in places(MESSAGES[kind]) if not name.startswith("@")}
    ]
    assert not wrong


@pytest.mark.parametrize("language", TRANSLATED)
def test_every_sentence_is_there_in_other_languages_with_the_same_places(language: str):
    table = i18n.table(language)
    found = {k.removeprefix("error."): v for k, v in table.items() if k.startswith("error.")}
    assert set(found) == set(MESSAGES)
    assert {kind: places(said) for kind, said in found.items()} == {
        kind: places(said) for kind, said in MESSAGES.items()
    }


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_sentence_is_one_line_without_markup(kind: str):
    assert not set("\n<>&") & set(MESSAGES[kind])


def test_the_message_of_an_error_is_its_sentence():
    error = CheckpointError("files_missing", key="paintings", files="a, b")
    assert (error.kind, error.parts) == ("files_missing", {"key": "paintings", "files": "a, b"})
    assert str(error) == (
        "Checkpoint paintings cannot be loaded, files are missing: a, b; "
        "restore them from the project's repository."
    )
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def refused(settings: Any) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        validate(settings)
    return caught.value


def test_an_error_of_a_setting_is_a_value_error_with_a_kind_and_parts():
    error = refused(DigitsSettings(num_inference_steps=0))
    assert isinstance(error, ValueError)
    assert isinstance(error, UserError)
    assert error.kind == "whole"
    assert error.parts == {
        "name": "num_inference_steps",
        "minimum": 1,
        "maximum": 250,
        "got": "0",
    }


def test_an_error_is_said_in_the_language_asked_for():
    error = refused(DigitsSettings(cfg_scale=11))
    assert i18n.error_message("en", error) == "cfg_scale must be a number from 0 to 10, got 11"
    assert i18n.error_message("zh", error) == "cfg_scale 必须是 0 到 10 之间的数，收到的是 11"


@pytest.mark.parametrize(
    ("settings", "english", "chinese"),
    [
        (DigitsSettings(digits=""), "got nothing", "收到的是 空值"),
        (DigitsSettings(digits="1" * 65), "got 65 of them", "收到的是 65 个"),
        (TextSettings(prompt="x" * 501), "got 501 characters", "收到的是 501 个字符"),
    ],
    ids=["nothing", "of them", "characters"],
)
def test_what_came_is_said_in_that_language_too(settings: Any, english: str, chinese: str):
    error = refused(settings)
    assert str(error).endswith(english)
    assert i18n.error_message("zh", error).endswith(chinese)


def test_a_sentence_that_a_language_does_not_have_is_said_in_english():
    error = refused(DigitsSettings(cfg_scale=11))
    assert i18n.error_message("xx", error) == str(error)


def test_words_in_a_sentence_are_text_like_any_other():
    assert Message("that_many", count=3) == "3 of them"


def test_words_in_a_sentence_survive_the_way_to_another_process():
    said = Message("hub_no_file", file="config.json")
    again = pickle.loads(pickle.dumps(said))
    assert (type(again), again, again.kind, again.parts) == (Message, said, said.kind, said.parts)
