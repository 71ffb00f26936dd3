"""The sweep of a tab: its table, a cell that is opened, and another language."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from pipelines.products import PRODUCTS, color, digits, text
from pipelines.products.settings import ColorSettings, DigitsSettings, TextSettings
from pipelines.runs.product import Product
from pipelines.runs.sweep import Axis, Cell, Sweep
from tabs import i18n, sweeps
from tabs.latest_run import new_token, runs
from tabs.sweep_table import table
from tabs.views import color as color_view

SETTINGS: dict[str, Any] = {
    "color": ColorSettings(),
    "text": TextSettings(prompt="snow"),
    "digits": DigitsSettings(digits="4"),
}


def drawn(settings: Any, *, score: float = 0.5, done: int = 4, **axes: Axis) -> Sweep:
    """A sweep of two by two cells, of which the first `done` are drawn."""
    picture = Image.new("RGB", (8, 8))
    cells = [[picture if 2 * i + j < done else None for j in range(2)] for i in range(2)]
    cell = Cell(settings, "none", "0", {"none": "0"})
    return Sweep(
        rows=axes.get("rows", Axis("num_inference_steps", (5, 10))),
        columns=axes.get("columns", Axis("seed", (3, 4))),
        pictures=cells,
        scores=[[score if drawn else None for drawn in row] for row in cells],
        cells=[[cell if drawn else None for drawn in row] for row in cells],
        done=done,
        total=4,
        seconds=2.0,
        settings=replace(settings, num_inference_steps=5, seed=3),
        model="none",
        revision="0",
        revisions={"none": "0"},
    )


def kept(state: Sweep) -> str:
    token = runs.announce(new_token())
    runs.remember(token, state)
    return token


@pytest.mark.parametrize(
    ("product", "score", "shown", "note"),
    [
        (color.PRODUCT, 2.08, "ΔE 2.1", "ΔE to the wanted colour: lower is better."),
        (text.PRODUCT, 0.312, "similarity 0.31", "0 to 1: higher is better."),
        (digits.PRODUCT, 0.987, "98.7 %", "of the digit: higher is better."),
    ],
    ids=["color", "text", "digits"],
)
def test_a_cell_has_a_score_with_its_unit_and_the_caption_says_which_is_better(
    product: Product, score: float, shown: str, note: str
):
    page = table(product, drawn(SETTINGS[product.name], score=score), "en")
    assert page.count(f"<small>{shown}</small>") == 4
    assert page.count("is better") == 1
    assert note in page
    assert "越" in table(product, drawn(SETTINGS[product.name], score=score), "zh")


def test_cells_that_count_differently_have_a_sentence_for_each():
    columns = Axis("palette", ("", "#102040 60, #FFD700 40"))
    page = table(color.PRODUCT, drawn(ColorSettings(), columns=columns), "en")
    assert page.count("lower is better") == 2
    assert (page.count("ΔE 0.5"), page.count("0.5 / 255")) == (2, 2)


def test_cells_without_a_score_or_a_picture_claim_none():
    state = drawn(ColorSettings(), done=1)
    page = table(color.PRODUCT, replace(state, scores=[[None, None]] * 2), "en")
    assert "<small>" not in page
    assert page.count('class="cell"') == 1


def test_a_product_that_says_nothing_of_its_scores_shows_the_numbers(
    monkeypatch: pytest.MonkeyPatch,
):
    plain = replace(color_view.VIEW, cell=None, cell_note=None)
    monkeypatch.setattr(color_view, "VIEW", plain)
    page = table(color.PRODUCT, drawn(ColorSettings(), score=2.078), "en")
    assert page.count("<small>2.08</small>") == 4
    assert "is better" not in page


@pytest.mark.parametrize("product", [PRODUCTS[name] for name in SETTINGS], ids=list(SETTINGS))
def test_a_cell_brings_back_its_own_settings(product: Product):
    token = kept(drawn(SETTINGS[product.name]))
    record = sweeps.record_of_cell(product, token, {"row": 1, "column": 0}, "en")
    found = record.settings
    assert (record.tab, found.num_inference_steps, found.seed) == (product.name, 10, 3)
    assert record.revisions == {"none": "0"}


@pytest.mark.parametrize(
    "event",
    [
        None,
        "x",
        {},
        {"row": 0},
        {"row": 2, "column": 0},
        {"row": -1, "column": 0},
        {"row": "0", "column": 0},
        {"row": [0], "column": {}},
        {"row": 0.5, "column": 0},
        {"row": 1, "column": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("language", i18n.LANGUAGES)
def test_a_cell_that_is_not_there_is_told_in_the_language_of_the_page(event: Any, language: str):
    token = kept(drawn(ColorSettings(), done=3))
    with pytest.raises(gr.Error) as caught:
        sweeps.record_of_cell(color.PRODUCT, token, event, language)
    assert caught.value.message == i18n.translate(language, "sweep.gone")


@pytest.mark.parametrize("token", [None, "", "x", "0123456789abcdef:1"])
def test_a_cell_of_no_sweep_or_of_another_tab_is_told_too(token: str | None):
    for product, known in ((color.PRODUCT, token), (digits.PRODUCT, kept(drawn(ColorSettings())))):
        with pytest.raises(gr.Error, match="not kept any more"):
            sweeps.record_of_cell(product, known, {"row": 0, "column": 0}, "en")
