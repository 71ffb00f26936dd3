"""How digits are shown: one alternative text for each, and how sure a judge is of them."""

from __future__ import annotations

from typing import Any

import gradio as gr

from pipelines.products import digits
from pipelines.products.digits import PRODUCT, DigitsSettings
from pipelines.runs.product import mean
from tabs import controls, i18n
from tabs.i18n import Translatable
from tabs.view import View


def alt_texts(settings: DigitsSettings, language: str) -> list[str]:
    """Returns one alternative text per image."""
    key = "digits.alt_blend" if settings.blend_with else "digits.alt"
    return [
        i18n.translate(language, key, digit=digit, other=settings.blend_with)
        for digit in settings.digits
    ]


def scores(preview: digits.Preview, language: str) -> str:
    """Returns the judge's mean probability of the digits, as HTML."""
    after, before = mean(preview.score_after), mean(preview.score_before)
    probability = i18n.translate(
        language, "digits.sure", after=f"<b>{100 * after:.1f} %</b>", before=f"{100 * before:.1f} %"
    )
    return (
        f'<div class="scores"><p>{probability}</p>{_loss_line(preview, language)}'
        f"<small>{i18n.translate(language, 'digits.judge')}</small></div>"
    )


def cell(settings: DigitsSettings, score: float, language: str) -> str:
    """Returns how sure the judge is of the digit of a cell, as a percentage."""
    return f"{100 * score:.1f} %"


def cell_note(settings: DigitsSettings, language: str) -> str:
    """Returns the sentence which percentages are better."""
    return i18n.translate(language, "digits.cell_note")


def _loss_line(preview: digits.Preview, language: str) -> str:
    """Returns how far the loss of symmetry, brightness and contrast fell; empty without one."""
    if not preview.losses:
        return ""
    first, last = (mean(preview.losses[i]) for i in (0, -1))
    line = i18n.translate(language, "digits.loss", first=f"{first:.4f}", last=f"<b>{last:.4f}</b>")
    return f"<p>{line}</p>"


def _second_digit() -> gr.Dropdown:
    return gr.Dropdown(
        [(Translatable("digits.no_blend"), ""), *((digit, digit) for digit in "0123456789")],
        value="",
        min_width=120,
        **controls.texts(PRODUCT, "blend_with"),
    )


def _adjusted(values: dict[str, Any]) -> dict[str, Any]:
    """Returns the values without spaces around the digits, which people copy along."""
    typed = values.get("digits")
    return values | {"digits": typed.strip()} if isinstance(typed, str) else values


VIEW = View(
    alt_texts=alt_texts,
    scores=scores,
    cell=cell,
    cell_note=cell_note,
    controls={"blend_with": _second_digit},
    adjusted=_adjusted,
)
