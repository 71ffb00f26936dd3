"""The words of the pages: every key there, none unused, and the same in every language."""

from __future__ import annotations

import ast
import copy
import dataclasses
import pickle
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from string import Formatter
from typing import Any

import gradio as gr
import pytest
from gradio.components.api_component import Api

import app
from benchmarks.examples import EXAMPLES
from pipelines.core.errors import MESSAGES
from pipelines.core.rules import Choice, rule
from pipelines.diffusion.methods import METHODS, TEXT_METHODS
from pipelines.models.names import ModelName
from pipelines.products import PRODUCTS, edit_tasks
from tabs import controls, i18n
from tabs.i18n import Translatable
from tabs.views import color, text

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {
    str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8"))
    for path in [ROOT / "app.py", *(ROOT / "tabs").rglob("*.py")]
}
ENGLISH = i18n.table("en")
OTHERS = sorted(set(i18n.LANGUAGES) - {i18n.DEFAULT})
# In test_explain.py.
TESTED_ELSEWHERE = re.compile(r"(about|explain)\..+|\w+\.(idea|symbols|caption\..+)")
ONLY_TRANSLATED = "error."  # English sentences stand in `pipelines.core.errors`
CHINESE = re.compile(r"[\u4e00-\u9fff]")
PARTS = {key.partition(".")[0] for key in ENGLISH}


def places(sentence: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(sentence) if name}


# --- where words are said ------------------------------------------------------------------------


def strings(node: ast.AST) -> set[str]:
    """All texts in a piece of code."""
    return {
        n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)
    }


def calls() -> Iterator[tuple[str, ast.Call, ast.expr]]:
    """File, call and key of everything that says something by its key."""
    at = {"translate": 1, "Translatable": 0}
    for name, tree in SOURCES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = node.func
                said = called.attr if isinstance(called, ast.Attribute) else ""
                said = called.id if isinstance(called, ast.Name) else said
                if said in at and len(node.args) > at[said]:
                    yield name, node, node.args[at[said]]


LITERAL = [
    (name, key.value, call)
    for name, call, key in calls()
    if isinstance(key, ast.Constant) and isinstance(key.value, str)
]


def assembled() -> set[str]:
    """Keys that a text with places for names in it can become, with names out of the same file."""
    found: set[str] = set()
    for file, _, key in calls():
        known = strings(SOURCES[file]) | set(PRODUCTS)
        for joined in (n for n in ast.walk(key) if isinstance(n, ast.JoinedStr)):
            pattern = "".join(
                re.escape(str(part.value)) if isinstance(part, ast.Constant) else "([^.]+)"
                for part in joined.values
            )
            matches = {k: re.fullmatch(pattern, k) for k in ENGLISH}
            found |= {k for k, match in matches.items() if match and set(match.groups()) <= known}
    return found


def settings_of_all() -> list[tuple[type[Any], str]]:
    return [(p.settings, f.name) for p in PRODUCTS.values() for f in dataclasses.fields(p.settings)]


def options() -> set[str]:
    """Every name that a setting accepts."""
    rules = [rule(kind, name) for kind, name in settings_of_all()]
    return {o for r in rules if isinstance(r, (Choice, ModelName)) for o in r.options}


def families() -> set[str]:
    """Keys that follow by rule from what the studio has."""
    names = {name for _, name in settings_of_all()}
    owns = ["", *(f"{name}." for name in PRODUCTS)]
    groups = [group for product in PRODUCTS.values() for group in controls.groups(product)]
    return {
        *(
            f"{own}{part}.{name}"
            for own in owns
            for part in ("setting", "info", "short")
            for name in names
        ),
        *(f"{own}{key}" for own in owns[1:] for key in ("title", "introduction", "run", "alt")),
        *(f"{own}shared.{key}" for own in owns[1:] for key in ("cut", "unguided_alt", "live_info")),
        *(f"{own}error.{kind}" for own in owns[1:] for kind in MESSAGES),
        *(f"edit.does.{task}" for task in edit_tasks.NAMES),
        *(f"{own}{part}.{g}" for own in owns for part in ("group", "group_help") for g in groups),
        *(f"{p.name}.{key}" for p in PRODUCTS.values() for key in p.texts if "curve" in key),
        *(f"choice.{name}" for name in options()),
        *(f"method.{name}" for name in {**METHODS, **TEXT_METHODS}),
        *(f"example.{name}" for name in EXAMPLES),
        *(f"color.swatch.{name}" for name in color.SWATCHES),
    }


def test_everything_said_by_its_key_is_there():
    assert len(LITERAL) > 70
    assert {(file, key) for file, key, _ in LITERAL if key not in ENGLISH} == set()


def test_every_text_that_looks_like_a_key_is_one():
    """Also those that reach the page by way of a name."""
    looks = re.compile(rf"({'|'.join(PARTS)})\.[a-z][a-z_.-]*")
    endings = (".png", ".js", ".css", ".webp", ".py")
    found = {
        (file, said)
        for file, tree in SOURCES.items()
        for said in strings(tree)
        if looks.fullmatch(said) and not said.endswith((*endings, ".", "_"))
    }
    assert {(file, said) for file, said in found if said not in ENGLISH} == set()


def test_what_is_said_by_its_key_gets_just_the_values_that_it_has_places_for():
    wrong = []
    for file, key, call in LITERAL:
        given = {keyword.arg for keyword in call.keywords}
        if None not in given and given != places(ENGLISH[key]):
            wrong.append((file, key, given))
    assert wrong == []


def test_every_sentence_is_said_somewhere():
    known = set().union(*(strings(tree) for tree in SOURCES.values()))
    said = {key for key in ENGLISH if key in known} | assembled() | families()
    unused = {key for key in ENGLISH if not TESTED_ELSEWHERE.fullmatch(key)} - said
    assert unused == set()


def test_every_phrase_of_the_page_has_a_key_and_says_what_is_there():
    blocks = app.build_demo().blocks.values()
    found = [phrase for block in blocks for phrase in phrases(block.constructor_args)]
    assert len(found) > 150
    for phrase in found:
        assert ENGLISH[phrase.key] == phrase


def phrases(given: Any) -> Iterator[Translatable]:
    if isinstance(given, Translatable):
        yield given
    elif isinstance(given, (list, tuple)):
        for part in given:
            yield from phrases(part)
    elif isinstance(given, dict):
        yield from phrases(list(given.values()))


def test_everything_on_the_page_that_speaks_is_a_phrase_or_is_said_anew_in_another_language():
    """Whatever is left must be the same in every language: names, numbers, prompts of a model."""
    allowed = {"Language", ""}
    prompts = {prompt for prompts in text.EXAMPLES.values() for prompt in prompts}
    spoken = ("label", "info", "placeholder")
    left: set[str] = set()
    for block in app.build_demo().blocks.values():
        if isinstance(block, Api):  # what stands for the parameters of an endpoint
            continue
        for name in (*spoken, "value") if isinstance(block, gr.Button) else spoken:
            said = block.constructor_args.get(name)
            if isinstance(said, str) and not isinstance(said, Translatable):
                left.add(said)
    assert left - allowed - prompts == set()


@pytest.mark.parametrize("language", OTHERS)
def test_a_prompt_to_try_shows_the_english_words_that_it_fills_in(language: str):
    for model, names in text.PROMPTS.items():
        for name, prompt in zip(names, text.EXAMPLES[model], strict=True):
            label = i18n.translate(language, f"text.try.{name}")
            assert label.endswith(f" {prompt}")
            assert not label.removesuffix(prompt).isascii()
            assert prompt.isascii()


def test_a_chinese_page_asks_for_english_prompts_and_gives_an_example():
    for key in ("text.placeholder", "info.prompt", "info.negative_prompt"):
        said = i18n.translate("zh", key)
        assert "请用英文，例如 " in said
        assert re.search(r"例如 [a-z]+", said)


# --- every language says the same ----------------------------------------------------------------


@pytest.mark.parametrize("language", OTHERS)
def test_every_language_has_the_same_keys(language: str):
    found = {key for key in i18n.table(language) if not key.startswith(ONLY_TRANSLATED)}
    assert found - set(ENGLISH) == set()
    assert set(ENGLISH) - found == set()
    assert not any(key.startswith(ONLY_TRANSLATED) for key in ENGLISH)


@pytest.mark.parametrize("language", OTHERS)
def test_every_language_has_the_same_places_for_values(language: str):
    other = i18n.table(language)
    wrong = [k for k in ENGLISH if k in other and places(ENGLISH[k]) != places(other[k])]
    assert wrong == []


@pytest.mark.parametrize("language", i18n.LANGUAGES)
def test_no_sentence_is_empty_and_no_place_is_without_a_name(language: str):
    for key, said in i18n.table(language).items():
        assert said.strip() == said != "" or key in ("text.and", "page.comma", "page.space"), key
        if not key.startswith("explain."):  # equations have braces of their own
            assert all(name != "" for _, name, _, _ in Formatter().parse(said)), key


@pytest.mark.parametrize("language", i18n.LANGUAGES)
def test_no_key_stands_in_two_files(language: str):
    """Of which one would be lost."""
    paths = sorted((i18n.FOLDER / language).glob("*.toml"))
    keys = [
        key
        for path in paths
        for key, _ in i18n._flatten(tomllib.loads(path.read_text(encoding="utf-8")), "")
    ]
    assert len(keys) == len(set(keys))
    assert set(keys) <= set(i18n.table(language))


def test_every_setting_has_a_name_in_every_language():
    for language in i18n.LANGUAGES:
        named = i18n.table(language)
        missing = {n for _, n in settings_of_all() if not named.get(f"setting.{n}", "").strip()}
        assert missing == set()


def test_names_of_the_settings_of_a_tab_differ():
    """Or nobody could tell two axes of a sweep apart."""
    for language in i18n.LANGUAGES:
        for product in PRODUCTS.values():
            names = [f.name for f in dataclasses.fields(product.settings)]
            keys = [i18n.key_of(product, "setting", name) for name in names]
            said = [i18n.translate(language, key) for key in keys]
            assert len(said) == len(set(said)), (language, product.name)


def test_every_choice_that_has_words_has_chinese_ones():
    said = {key for key in ENGLISH if key.startswith(("choice.", "method.", "setting."))}
    without = {k for k in said if not CHINESE.search(i18n.table("zh").get(k, ""))}
    assert without - {"setting.eta"} == set()


def test_choices_of_one_setting_differ_in_every_language():
    for language in i18n.LANGUAGES:
        table = i18n.table(language)
        for kind, name in settings_of_all():
            accepted = rule(kind, name)
            if isinstance(accepted, Choice):
                said = [table.get(f"choice.{o}", o) for o in accepted.options]
                assert len(said) == len(set(said)), (language, name)


def test_what_the_page_says_in_chinese_is_chinese_and_in_english_is_not():
    names = {
        "page.comma",
        "page.quoted",
        "setting.eta",
        "text.and",
        "chart.per_step",
        "sweep.alt",
    }
    chinese = [key for key in i18n.table("zh") if not TESTED_ELSEWHERE.fullmatch(key)]
    spoken = {key for key in chinese if ".info." not in f".{key}"}
    assert {k for k in spoken - names if not CHINESE.search(i18n.translate("zh", k))} == set()
    assert {k for k in ENGLISH if CHINESE.search(ENGLISH[k])} == set()


# --- a phrase and its key ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda phrase: pickle.loads(pickle.dumps(phrase))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_a_phrase_survives_being_copied(copied: Any):
    phrase = Translatable("shared.stop")
    for found in (copied(phrase), copied([phrase])[0], copied({"a": (phrase,)})["a"][0]):
        assert type(found) is Translatable
        assert (found, found.key) == ("Stop", "shared.stop")


def test_a_phrase_is_the_english_text_to_everybody_else():
    assert Translatable("shared.stop") == "Stop"
    assert f"{Translatable('shared.stop')}!" == "Stop!"
    with pytest.raises(KeyError):
        Translatable("shared.nothing_of_that_name")


def test_a_sentence_has_its_values_in_their_places():
    assert i18n.translate("en", "inside.show", step=3) == "Show step 3"
    assert i18n.translate("en", "chart.per_step") == "{y} per step: {lines}", "a template stays one"
    with pytest.raises(KeyError):
        i18n.translate("en", "status.step", step=3)


def test_a_language_without_a_sentence_says_it_in_english(monkeypatch: pytest.MonkeyPatch):
    known = {"en": {"a.b": "one {n}"}, "zh": {}, "fr": {"a.b": ""}}
    monkeypatch.setattr(i18n, "table", lambda language: known[language])
    monkeypatch.setattr(i18n, "LANGUAGES", known)
    assert i18n.translate("zh", "a.b", n=1) == "one 1"
    assert i18n.translate("../../secret", "a.b", n=1) == "one 1"
    assert i18n.translate("fr", "a.b") == "", "what is left empty on purpose stays so"
    with pytest.raises(KeyError):
        i18n.translate("zh", "a.c")


# --- the language to begin with ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ("", "en"),
        ("en", "en"),
        ("zh", "zh"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("zh-Hant-TW", "zh"),
        ("ZH-tw", "zh"),
        (" zh ", "zh"),
        ("en-GB,en;q=0.9,zh;q=0.8", "en"),
        ("fr-FR,fr;q=0.9,zh-CN;q=0.8,en;q=0.7", "zh"),
        ("de", "en"),
        ("de-DE,de;q=0.9", "en"),
        ("*", "en"),
        ("zhx, eng", "en"),
        (",,;q=1,-", "en"),
        ("<script>", "en"),
        ("x" * 10_000, "en"),
    ],
)
def test_the_language_is_the_first_known_one_that_the_browser_accepts(accepted: str, expected: str):
    assert i18n.preferred_language(accepted) == expected


# --- a part of a page in another language --------------------------------------------------------


def test_a_part_of_a_page_is_translated_with_all_that_it_says():
    with gr.Blocks():
        block = gr.Radio(
            [(Translatable("choice.left"), "left"), ("dpm++", "dpm++")],
            label=Translatable("setting.region"),
            info=Translatable("info.seed"),
            value="left",
        )
    found = i18n.translation_update(block, "zh")
    assert found["label"] == i18n.translate("zh", "setting.region")
    assert found["info"] == i18n.translate("zh", "info.seed")
    assert found["choices"] == [(i18n.translate("zh", "choice.left"), "left"), ("dpm++", "dpm++")]
    assert "value" not in found, "what was chosen stays chosen"
    back = i18n.translation_update(block, "en")
    assert (back["label"], back["choices"][0][0]) == (Translatable("setting.region"), "left")


def test_parts_that_say_nothing_are_left_alone():
    with gr.Blocks() as page:
        speaks = gr.Button(Translatable("shared.stop"))
        gr.Button("Hamburg")
        gr.Textbox("Phrase", visible=False)
    assert i18n.translatable_blocks(page.blocks.values()) == [speaks]


@pytest.mark.parametrize("language", i18n.LANGUAGES)
def test_every_part_of_the_page_can_be_said_in_every_language(language: str):
    parts = i18n.translatable_blocks(app.build_demo().blocks.values())
    assert len(parts) > 80
    for part in parts:
        for name, said in i18n.translation_update(part, language).items():
            if isinstance(said, str) and name != "__type__" and language == "zh":
                assert CHINESE.search(said) or said in ("eta",) or not said.isascii(), said
