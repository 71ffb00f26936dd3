"""The page of accepted forms: what it says of every example is what the rules do."""

from __future__ import annotations

import re

import pytest

from benchmarks import accepted
from benchmarks.accepted import SECTIONS, Section
from pipelines.core.errors import UserError

TYPED = accepted.SECTIONS[:4]
"""Whose results may be typed again."""

PAGE = accepted.PAGE.read_text(encoding="utf-8")


def rows(section: Section, head: str) -> list[tuple[str, str]]:
    """Examples and third cells of a table of the page, as they are without Markdown."""
    part = PAGE.partition(f"\n## {section.title}\n")[2].partition("\n## ")[0]
    table = part.partition(f"| form | example | {head} |\n")[2].partition("\n\n")[0]
    cells = [re.split(r"(?<!\\) *\| *", line)[2:4] for line in table.splitlines()[1:]]
    return [(read(example), read(outcome)) for example, outcome in cells]


def read(cell: str) -> str:
    plain = cell.replace("\\|", "|")
    if not plain.startswith("`"):
        return plain
    return plain[1:-1].replace("\\n", "\n").strip() if plain != "` `" else ""


def test_the_page_is_as_the_rules_are():
    assert accepted.page(SECTIONS) == PAGE


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)
def test_accepted_examples_become_what_the_page_says(section: Section):
    found = rows(section, "becomes")
    assert [example for example, _ in found] == [example for _, example in section.accepted]
    for example, value in found:
        assert section.check(example) == value
        if section in TYPED:
            assert section.check(value) == value


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)
def test_refused_examples_are_refused_with_the_sentence_of_the_page(section: Section):
    found = rows(section, "refused with")
    assert [example for example, _ in found] == [example for _, example in section.refused]
    for example, sentence in found:
        with pytest.raises((UserError, ValueError)) as told:
            section.check(example)
        assert str(told.value) == sentence
