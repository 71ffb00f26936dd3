"""Draws a sweep as one labelled picture."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import product
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from pipelines.runs.sweep import Axis, Sweep, label

_LABEL_LINES = 3
_WHITE, _INK, _FAINT, _PENDING = "#FFFFFF", "#1F2328", "#656D76", "#E4E7EB"
_MARGIN, _GAP, _LABEL_GAP, _NAME_GAP, _SCORE_GAP = 16, 6, 8, 10, 4


ScoreText = Callable[[int, int], str]
"""Maps row and column of a cell to its score in words."""


def sheet(state: Sweep, *, cell_px: int = 128, score_text: ScoreText | None = None) -> Image.Image:
    """Returns all pictures on one RGB sheet, labelled with names and values of the settings.

    Args:
        state: the sweep.
        cell_px: side of a cell; pictures are enlarged by the largest whole factor that fits.
        score_text: called for cells that have a score; None writes the number alone.
    """
    layout = _Layout(state, cell_px)
    canvas = Image.new("RGB", layout.size, _WHITE)
    draw = ImageDraw.Draw(canvas)
    _draw_columns(draw, layout)
    _draw_rows(canvas, draw, layout)
    for i, j in product(range(len(state.rows.values)), range(len(state.columns.values))):
        corner = layout.corner(i, j)
        _draw_picture(canvas, state.pictures[i][j], corner, layout.side)
        score = state.scores[i][j]
        if score is not None:
            text = score_text(i, j) if score_text else f"{round(score, 3):.3g}"
            _draw_score(draw, text, corner, layout)
    return canvas


def _draw_columns(draw: ImageDraw.ImageDraw, layout: _Layout) -> None:
    """Draws the name and the values above the cells."""
    middle = layout.left + layout.width / 2
    draw.text((middle, _MARGIN), layout.column_name, _INK, _font(layout.name_px), anchor="ma")
    for j, text in enumerate(layout.column_labels):
        top = layout.top - _LABEL_GAP - _height_px(text, layout.label_px)
        position = (layout.corner(0, j)[0] + layout.side / 2, top)
        font = _font(layout.label_px)
        draw.multiline_text(position, text, _INK, font, anchor="ma", align="center")


def _draw_rows(canvas: Image.Image, draw: ImageDraw.ImageDraw, layout: _Layout) -> None:
    """Draws the name, turned upwards, and the values at the left of the cells."""
    length = int(_font(layout.name_px).getlength(layout.row_name)) + 1
    name = Image.new("L", (length, layout.name_px + _NAME_GAP // 2))
    ImageDraw.Draw(name).text((0, 0), layout.row_name, 255, _font(layout.name_px))
    name = name.transpose(Image.Transpose.ROTATE_90)
    canvas.paste(_INK, (_MARGIN, layout.top + (layout.height - length) // 2), name)
    for i, text in enumerate(layout.row_labels):
        position = (layout.left - _LABEL_GAP, layout.corner(i, 0)[1] + layout.side / 2)
        font = _font(layout.label_px)
        draw.multiline_text(position, text, _INK, font, anchor="rm", align="right")


def _draw_picture(
    canvas: Image.Image, picture: Image.Image | None, corner: tuple[int, int], side: int
) -> None:
    """Draws a picture in the middle of its cell, or a grey square if it is not drawn yet."""
    if picture is None:
        canvas.paste(_PENDING, (*corner, corner[0] + side, corner[1] + side))
        return
    scale = max(1, side // max(picture.size))
    width, height = picture.width * scale, picture.height * scale
    large = picture.convert("RGB").resize((width, height), Image.Resampling.NEAREST)
    canvas.paste(large, (corner[0] + (side - width) // 2, corner[1] + (side - height) // 2))


def _draw_score(
    draw: ImageDraw.ImageDraw, text: str, corner: tuple[int, int], layout: _Layout
) -> None:
    """Draws a score below its cell, smaller if it is too wide."""
    text = text.replace("Δ", "Delta ")  # which the font does not have
    width = _font(layout.score_px).getlength(text)
    font = _font(max(8, int(layout.score_px * min(1, layout.side / width))))
    position = (corner[0] + layout.side / 2, corner[1] + layout.side + _SCORE_GAP)
    draw.text(position, text, _FAINT, font, anchor="ma")


def _scaled_px(picture: Image.Image, cell_px: int) -> int:
    """Returns the longer side of a picture on the sheet; larger ones than a cell are not scaled."""
    longer = max(picture.size)
    return longer * max(1, cell_px // longer)


def _height_px(text: str, size_px: int) -> int:
    """Returns the height in pixels of text with line breaks."""
    draw = ImageDraw.Draw(Image.new("L", (1, 1)))
    return int(draw.multiline_textbbox((0, 0), text, _font(size_px))[3])


def _broken(text: str, font: Any, width_px: int) -> str:
    """Returns text in lines of at most that width; shortens the last line if there are too many."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and (font.getlength(longer) <= width_px or len(lines) == _LABEL_LINES):
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(_shortened(line, font, width_px) for line in lines)


def _shortened(text: str, font: Any, width_px: int) -> str:
    """Returns text of at most that width; longer text ends with an ellipsis."""
    if font.getlength(text) <= width_px:
        return text
    while text and font.getlength(text + "…") > width_px:
        text = text[:-1].rstrip()
    return text + "…"


@lru_cache
def _font(size_px: int) -> Any:
    return ImageFont.load_default(size=size_px)


class _Layout:
    """The positions and sizes of everything on a sheet, in pixels.

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
        """Returns the left and top of a cell."""
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
