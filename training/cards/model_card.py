"""Model cards: what a checkpoint is, how to load it, how it was made, how good it is.

    python -m training.cards assets/checkpoints/digits-embedding

writes `README.md` from `recipe.json` and, where a benchmark left one, `figures.json` beside it. The
latter holds `{"key": {"label": "Judged as asked for", "value": "99.5 %"}, ...}`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from training.cards import clip, digits, pictures
from training.cards.parts import CARD_FILE, FACTS_FILE, FIGURES_FILE, SAMPLES_FILE

__all__ = [
    "CARD_FILE",
    "FACTS_FILE",
    "FIGURES_FILE",
    "SAMPLES_FILE",
    "card_of",
    "render",
    "write_card",
]


def render(facts: Mapping[str, Any], figures: Mapping[str, Any], repo_id: str = "") -> str:
    """The card's text.

    Args:
        facts: what an export wrote to `recipe.json`; a `remark` may be added by hand.
        figures: what a benchmark wrote to `figures.json`; empty if none was run.
        repo_id: where on the Hub it says that the model can be loaded from; empty is the folder.
    """
    recipe = facts["recipe"]
    if "architecture" in recipe:
        return clip.render(facts, figures, repo_id)
    kind = digits if "conditioning" in recipe else pictures
    return kind.render(facts, figures, repo_id)


def card_of(folder: Path, repo_id: str = "") -> str:
    """The card of a checkpoint folder, from its `recipe.json` and `figures.json`.

    Raises:
        OSError: if there is no `recipe.json`.
    """
    facts = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
    figures = folder / FIGURES_FILE
    measured = json.loads(figures.read_text(encoding="utf-8")) if figures.is_file() else {}
    return render(facts, measured, repo_id)


def write_card(folder: Path) -> None:
    """Writes the card of a checkpoint folder.

    Raises:
        OSError: if there is no `recipe.json`, or the card cannot be written.
    """
    (folder / CARD_FILE).write_text(card_of(folder), encoding="utf-8")


def main(
    folder: Annotated[
        Path, typer.Argument(help="checkpoint folder with a recipe.json", exists=True)
    ],
) -> None:
    """Writes the model card of a checkpoint anew, with the figures of figures.json."""
    if not (folder / FACTS_FILE).is_file():
        raise typer.BadParameter(f"folder must hold a {FACTS_FILE}, got {folder} without one")
    write_card(folder)
    typer.echo(folder / CARD_FILE)
