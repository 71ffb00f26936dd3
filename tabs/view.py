"""What may be special about how a product is shown; all else follows from the product."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from gradio.components import Component

from tabs import i18n

Updates = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class View:
    """How a product is shown.

    Attributes:
        alt_texts: function from settings and language to one alternative text per picture; None is
            the product's text `alt` for each.
        scores: function from preview and language to the scores as HTML; None is one line per
            picture, with and without guidance.
        cell: function from settings, score and language to the score of a cell of a sweep, with its
            unit; None is the number alone.
        cell_note: function from settings and language to the sentence which scores are better;
            None is no sentence.
        controls: functions that lay out the controls of settings, by name, in place of the usual.
        parts: element ids of components that `controls` lay out besides the controls.
        state: function from settings and language to what follows from the settings, besides the
            values of the controls: updates by the names of controls, and by the ids of `parts`.
        adjusted: function from the values of the controls, by name, to those of the settings.
        wire: adds events between the controls, by name; gets the component of the language too.
        changed: element id of the one of `parts` whose value changes whenever the browser has set
            controls that it may not show yet, as those in a part that is folded; empty is none.
        saves_without_pictures: whether a result can also be saved without the uploaded pictures.
        file_name: function from the number of pictures to the name of a file of them; None is the
            plural of the product's own.
    """

    alt_texts: Callable[[Any, str], Sequence[str]] | None = None
    scores: Callable[[Any, str], str] | None = None
    cell: Callable[[Any, float, str], str] | None = None
    cell_note: Callable[[Any, str], str] | None = None
    controls: Mapping[str, Callable[[], Component]] = field(default_factory=dict)
    parts: Sequence[str] = ()
    state: Callable[[Any, str], Updates] = field(default=lambda *_: {})
    adjusted: Callable[[dict[str, Any]], dict[str, Any]] = field(default=lambda values: values)
    wire: Callable[[Mapping[str, Component], gr.Radio], None] = field(default=lambda *_: None)
    changed: str = ""
    saves_without_pictures: bool = False
    file_name: Callable[[int], str] | None = None


def score_rows(preview: Any, language: str, *, digits: int = 2) -> str:
    """Returns the score of each picture with and without guidance, as HTML."""
    rows = [
        i18n.translate(
            language,
            "shared.score_row",
            number=i + 1,
            after=f"<b>{after:.{digits}f}</b>",
            before=f"{before:.{digits}f}",
        )
        for i, (after, before) in enumerate(
            zip(preview.score_after, preview.score_before, strict=True)
        )
    ]
    return "".join(f"<p>{row}</p>" for row in rows)
