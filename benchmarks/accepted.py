"""Writes docs/accepted.md: forms that people type, and what the rules make of each or say of it.

python -m benchmarks.accepted
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import typer

from benchmarks import accepted_files, accepted_training
from pipelines.core.errors import UserError
from pipelines.core.rules import Color, Palette, Prompt
from pipelines.products.settings import ColorSettings
from pipelines.runs.sweep import label, parse_axis

PAGE = Path(__file__).resolve().parent.parent / "docs" / "accepted.md"

_HEAD = """# What is accepted

What people write, and what becomes of it. `.venv/bin/python -m benchmarks.accepted` writes this
page from the rules themselves, and a test feeds every example to them again.
"""


@dataclass(frozen=True)
class Section:
    """A part of the page: forms of one kind of setting.

    Attributes:
        title: its heading.
        about: a few sentences before its tables.
        check: returns what an example becomes; raises a `UserError` that says why it is refused.
        accepted: pairs of a form, in words, and an example.
        refused: pairs alike.
    """

    title: str
    about: str
    check: Callable[[str], str]
    accepted: tuple[tuple[str, str], ...]
    refused: tuple[tuple[str, str], ...]


def _values_of_scale(text: str) -> str:
    return ", ".join(map(label, parse_axis(ColorSettings, "guidance_scale", text).values))


WORDS = Section(
    "Words",
    "For `prompt` and `negative_prompt`, on the page, by API, in sweeps, links and files. Bars "
    "part entries; the weight of each, from -5 to 5 and not 0, stands at its end after a colon.",
    lambda text: Prompt().check("prompt", text),
    (
        ("words", "a red heart"),
        ("weights", "snow:1 | people:-0.5"),
        ("spaces", "snow : 2.50 | trees: +1"),
        ("full-width marks and digits", "a red heart：１｜a blue square：－０．５"),
        ("other bars, colons, dashes and points", "snow∶1。5 ¦ people:− 0.5"),
        ("other scripts' digits", "snow:٠٫٥ ‖ people︰１"),
        ("parentheses around a whole entry", "(a red heart:1.2)"),
        ("words that end in a digit", "(route 66:2)"),
        ("the same with a space", "route 66 :2"),
        ("times, ratios and verses are words", "time 12:30 | a photo --ar 16:9"),
        ("a weight after them", "time 12:30:1 | 4:3:2"),
        ("titles and addresses are words", "Star Wars: a new hope | http://localhost:7860"),
        ("a word after a colon, without weights", "portrait:woman"),
        ("the same beside weights", "portrait:woman:1 | snow:2"),
    ),
    (
        ("a number that is none", "snow:0,5"),
        ("a percentage", "snow:50%"),
        ("a percentage after a space", "snow:50 %"),
        ("a number in brackets", "snow:(1.2)"),
        ("two points", "snow :1.2.3"),
        ("a fraction", "snow:½"),
        ("a weight that is too large", "snow:9"),
        ("a weight of 0", "snow:0"),
        ("a weight too small to count", "snow:0.00001"),
        ("weights within an entry", "snow:1, people:-0.5"),
        ("double colons", "snow::2 people::-.5"),
        ("brackets around a part", "(red:1.2) heart"),
        ("square or double brackets", "[snow:0.5]"),
        ("networks by name", "<lora:snow:0.8>"),
        ("a word in the place of a weight", "snow:abc | people:-0.5"),
        ("no words", "snow | :2"),
        ("pictures alone", "🎨"),
    ),
)

COLORS = Section(
    "Colours",
    "For `color`. An opacity is ignored; a colour outside sRGB is cut off at its bounds.",
    lambda text: Color().check("color", text),
    (
        ("hex of six digits", "#44CCAA"),
        ("of three, four or eight", "#4ca"),
        ("without #", "44ccaa"),
        ("full-width", "＃４４ＣＣＡＡ"),
        ("name", "Teal"),
        ("rgb with commas", "rgb(68, 204, 170)"),
        ("rgb with full-width commas", "rgb（68，204、170）"),
        ("rgb with spaces", "rgb(68 204 170)"),
        ("rgb with an opacity", "rgb(68 204 170 / 50%)"),
        ("rgb in percent", "rgb(27% 80% 67%)"),
        ("hsl in degrees", "hsl(160deg 57% 53%)"),
        ("hsl in turns", "hsl(0.44turn 57% 53%)"),
        ("hsl with commas", "hsl(160, 57%, 53%)"),
        ("hwb", "hwb(160 27% 20%)"),
        ("lab", "lab(74 -40 5)"),
        ("lch", "lch(74 45 170)"),
        ("oklab", "oklab(0.7 -0.1 0.02)"),
        ("oklch", "oklch(70% 0.1 170)"),
        ("color() in sRGB", "color(srgb 0.2 0.8 0.6)"),
        ("color() in Display P3", "color(display-p3 0 1 0)"),
        ("more than there is", "color(srgb 2 0 0)"),
        ("a chroma below 0", "lch(50 -10 0)"),
        ("Arabic commas", "rgb(68، 204، 170)"),
    ),
    (
        ("five digits", "#44CCA"),
        ("a number above 255", "rgb(300 0 0)"),
        ("a percentage above 100", "hsl(0 500% 50%)"),
        ("two numbers", "rgb(1, 2)"),
        ("an unknown name", "notacolour"),
        ("no colour of its own", "transparent"),
    ),
)

PALETTES = Section(
    "Palettes",
    "For `palette`: up to five colours in any form of the last section, with shares in percent "
    "that add up to 100, or all without.",
    lambda text: Palette().check("palette", text),
    (
        ("shares after a space", "#102040 60, gold 40"),
        ("with percent signs", "#102040 60%; gold 40 %"),
        ("after a colon", "#102040:60, gold: 40%"),
        ("full-width", "＃102040　６０％，gold：４０"),
        ("ideographic commas, no shares", "red、lime、blue、gold"),
        ("lines", "red 50\nblue 50"),
        ("functions", "rgb(16 32 64) 60, hsl(51, 100%, 50%) 40"),
        ("Arabic commas and points", "gold ٦٠٫٥، navy ٣٩٫٥"),
    ),
    (
        ("a sum other than 100", "red 60, blue 30"),
        ("shares of some", "red 20, blue"),
        ("a share of 0", "red 0, blue 100"),
        ("a decimal comma", "gold 60,5; navy 39,5"),
        ("shares before colours", "60 gold, 40 navy"),
        ("six colours", "red, lime, blue, gold, teal, pink"),
        ("what is no colour", "red 50, notacolour 50"),
    ),
)

NUMBERS = Section(
    "Numbers in sweeps and links",
    "For every number that is written as text; here for `guidance_scale` along an axis of a sweep.",
    _values_of_scale,
    (
        ("commas", "0.1, 0.2"),
        ("full-width", "０．１，０．２"),
        ("ideographic commas", "0.1、0.2"),
        ("spread evenly", "0..0.4 x 3"),
        ("spread, as keyboards write it", "０…０．４ × ３"),
        ("whole numbers", "1–3"),
        ("decimal commas between semicolons", "0,5; 1,5"),
        ("Arabic", "٠٫٥؛ ١٫٥"),
        ("several whole numbers without spaces", "1,5,10"),
    ),
    (
        ("what may be one number or two", "0,5"),
        ("commas of two kinds", "0,5, 1,5"),
        ("thousands", "1,000"),
        ("three points", "1...6"),
        ("words", "low, high"),
        ("the same value twice", "0.2, ０．２"),
        ("too many", "1-99"),
    ),
)

_OTHERS = (*accepted_files.PARTS, *accepted_training.PARTS)
SECTIONS: list[Section] = [WORDS, COLORS, PALETTES, NUMBERS, *(Section(*o) for o in _OTHERS)]


def code(text: str) -> str:
    """Returns a text as a code span in a cell of a table."""
    return "`" + (text or " ").replace("|", "\\|").replace("\n", "\\n") + "`"


def outcome(section: Section, example: str) -> str:
    """Returns what an example becomes, as a code span, or the sentence that refuses it."""
    try:
        return code(section.check(example))
    except (UserError, ValueError) as error:
        return str(error).replace("|", "\\|")


def page(sections: list[Section]) -> str:
    """Returns the page as Markdown."""
    return "\n".join([_HEAD, *map(_written, sections)])


def _written(section: Section) -> str:
    tables = (("becomes", section.accepted), ("refused with", section.refused))
    lines = [f"## {section.title}\n", f"{section.about}\n"]
    for head, rows in tables:
        lines += [f"| form | example | {head} |", "| --- | --- | --- |"]
        lines += [f"| {form} | {code(text)} | {outcome(section, text)} |" for form, text in rows]
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Writes the page."""
    PAGE.write_text(page(SECTIONS), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
