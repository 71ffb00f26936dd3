"""Damaged bundled files: the command that looks for wrong pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.soak import damage
from benchmarks.soak.damage import DAMAGES, SENTENCE, Case
from pipelines.core.assets import ASSETS
from pipelines.models import table


def test_the_same_seed_damages_the_same_files():
    assert list(damage.cases(30, 1)) == list(damage.cases(30, 1))
    assert list(damage.cases(30, 1)) != list(damage.cases(30, 2))


def test_every_kind_of_file_meets_every_kind_of_damage():
    met = {(Path(case.name).name.split(".")[0][:6], case.damage) for case in damage.cases(150, 0)}
    for start in ("diffus", "config", "schedu", "open_c", "digit_"):
        assert {what for name, what in met if name == start} == set(DAMAGES)


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_judge_gives_a_sentence_and_is_restored(how: str):
    case = Case("digit_judge.safetensors", how, "examples/digits-1-pi.png", "0")
    before = table.BUNDLED
    with damage.copied_assets() as assets:
        assert damage.outcome(assets, case, expected="")[0] == SENTENCE
        assert (assets / case.name).resolve() == ASSETS / case.name
    assert before == table.BUNDLED
