"""A sweep as one labelled picture."""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from pipelines.runs.sweep import Axis, Sweep, label

_LABEL_LINES = 3
_WHITE, _INK, _FAINT, _TO_COME = "#FFFFFF", "#1F2328", "#656D76", "#E4E7EB"
_MARGIN, _GAP, _LABEL_GAP, _NAME_GAP, _SCORE_GAP = 16, 6, 8, 10, 4


def sheet(state: Sweep, *, cell_px: int = 128) -> Image.Image:
    """All pictures on one RGB sheet, with names and values of the settings at its edges.

    Args:
        cell_px: side of a cell; a picture's pixels become the largest crisp squares that fit.
    """
    layout = _Layout(state, cell_px)
    drawn = Image.new("RGB", layout.size, _WHITE)
    draw = ImageDraw.Draw(drawn)
    _draw_columns(draw, layout)
    _draw_rows(drawn, draw, layout)
    for i, j in product(range(len(state.rows.values)), range(len(state.columns.values))):
        corner = layout.corner(i, j)
        _draw_picture(drawn, state.pictures[i][j], corner, layout.side)
        _draw_score(draw, state.scores[i][j], corner, layout)
    return drawn


def _draw_columns(draw: ImageDraw.ImageDraw, layout: _Layout) -> None:
    """The name and the values above the cells."""
    middle = layout.left + layout.width / 2
    draw.text((middle, _MARGIN), layout.column_name, _INK, _font(layout.name_px), anchor="ma")
    for j, text in enumerate(layout.column_labels):
        top = layout.top - _LABEL_GAP - _height_px(text, layout.label_px)
        where = (layout.corner(0, j)[0] + layout.side / 2, top)
        font = _font(layout.label_px)
        draw.multiline_text(where, text, _INK, font, anchor="ma", align="center")


def _draw_rows(drawn: Image.Image, draw: ImageDraw.ImageDraw, layout: _Layout) -> None:
    """The name, which reads upwards, and the values at the left of the cells."""
    length = int(_font(layout.name_px).getlength(layout.row_name)) + 1
    name = Image.new("L", (length, layout.name_px + _NAME_GAP // 2))
    ImageDraw.Draw(name).text((0, 0), layout.row_name, 255, _font(layout.name_px))
    name = name.transpose(Image.Transpose.ROTATE_90)
    drawn.paste(_INK, (_MARGIN, layout.top + (layout.height - length) // 2), name)
    for i, text in enumerate(layout.row_labels):
        where = (layout.left - _LABEL_GAP, layout.corner(i, 0)[1] + layout.side / 2)
        font = _font(layout.label_px)
        draw.multiline_text(where, text, _INK, font, anchor="rm", align="right")


def _draw_picture(
    drawn: Image.Image, picture: Image.Image | None, corner: tuple[int, int], side: int
) -> None:
    """A picture in the middle of its cell, each pixel a square; grey if it is still to come."""
    if picture is None:
        drawn.paste(_TO_COME, (*corner, corner[0] + side, corner[1] + side))
        return
    scale = max(1, side // max(picture.size))
    width, height = picture.width * scale, picture.height * scale
    large = picture.convert("RGB").resize((width, height), Image.Resampling.NEAREST)
    drawn.paste(large, (corner[0] + (side - width) // 2, corner[1] + (side - height) // 2))


def _draw_score(
    draw: ImageDraw.ImageDraw, score: float | None, corner: tuple[int, int], layout: _Layout
) -> None:
    if score is not None:
        where = (corner[0] + layout.side / 2, corner[1] + layout.side + _SCORE_GAP)
        # Three decimals at most, for what is nearly 0 has no more to say.
        draw.text(where, f"{round(score, 3):.3g}", _FAINT, _font(layout.score_px), anchor="ma")


def _scaled_px(picture: Image.Image, cell_px: int) -> int:
    """The longer side of a picture on the sheet; one that is larger than a cell stays as it is."""
    longer = max(picture.size)
    return longer * max(1, cell_px // longer)


def _height_px(text: str, size_px: int) -> int:
    """Of lines of text, as PIL sets them."""
    draw = ImageDraw.Draw(Image.new("L", (1, 1)))
    return int(draw.multiline_textbbox((0, 0), text, _font(size_px))[3])


def _broken(text: str, font: Any, width_px: int) -> str:
    """Text in lines of at most that width, the last one shortened if there were more."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and (font.getlength(longer) <= width_px or len(lines) == _LABEL_LINES):
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(_shortened(line, font, width_px) for line in lines)


def _shortened(text: str, font: Any, width_px: int) -> str:
    """Text of at most that width, with an ellipsis where it was longer."""
    if font.getlength(text) <= width_px:
        return text
    while text and font.getlength(text + "…") > width_px:
        text = text[:-1].rstrip()
    return text + "…"


@lru_cache
def _font(size_px: int) -> Any:
    return ImageFont.load_default(size=size_px)


class _Layout:
    """Where everything is on a sheet.

    Attributes:
        side: of a cell.
        left, top: of the first cell.
        width, height: of all cells.
        row_labels, column_labels: the values, broken into lines.
        row_name, column_name: of the settings.
    """

    def __init__(self, state: Sweep, cell_px: int):
        self.label_px = max(12, cell_px // 9)
        self.name_px, self.score_px = self.label_px + 2, self.label_px - 2
        pictures = [p for row in state.pictures for p in row if p is not None]
        self.side = max((_scaled_px(p, cell_px) for p in pictures), default=cell_px)
        scored = any(score is not None for row in state.scores for score in row)
        self.below = _SCORE_GAP + self.score_px + _GAP if scored else 0
        rows, columns = len(state.rows.values), len(state.columns.values)
        self.width = columns * (self.side + _GAP) - _GAP
        self.height = rows * (self.side + self.below + _GAP) - _GAP
        self.row_labels = self._labels(state.rows, self.side)
        self.column_labels = self._labels(state.columns, self.side)
        self.row_name = self._name(state.rows, self.height)
        self.column_name = self._name(state.columns, self.width)
        self.left, self.top = self._left(), self._top()
        self.size = (self.left + self.width + _MARGIN, self.top + self.height + _MARGIN)

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """Left and top of a cell."""
        across, down = self.side + _GAP, self.side + self.below + _GAP
        return self.left + column * across, self.top + row * down

    def _labels(self, axis: Axis, width_px: int) -> list[str]:
        return [_broken(label(value), _font(self.label_px), width_px) for value in axis.values]

    def _name(self, axis: Axis, width_px: int) -> str:
        return _shortened(axis.name.replace("_", " "), _font(self.name_px), width_px)

    def _left(self) -> int:
        if not self.row_name:
            return _MARGIN
        lines = [line for text in self.row_labels for line in text.split("\n")]
        widest = max(_font(self.label_px).getlength(line) for line in lines)
        return _MARGIN + self.name_px + _NAME_GAP + int(widest) + _LABEL_GAP

    def _top(self) -> int:
        if not self.column_name:
            return _MARGIN
        tallest = max(_height_px(text, self.label_px) for text in self.column_labels)
        return _MARGIN + self.name_px + _NAME_GAP + tallest + _LABEL_GAP
