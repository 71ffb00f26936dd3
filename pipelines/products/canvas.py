"""The picture that is edited: what of it a model sees, what is redrawn, and how it is put back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from pipelines.core import images
from pipelines.core.rules import crop_numbers

Agreed = Callable[[Tensor, Tensor], Tensor]
"""Drawn squares `(b, 3, s, s)` and that of the picture `(1, 3, s, s)` to squares that agree."""

MOST_PX = 1024
"""Longest side of a picture that is made larger."""

LEAST_GREY = 0.05
"""A mask below it is black: there is no step in which the pixel would be free."""

_PLANES = ("pixels", "redrawn", "opacity", "marked")
_ROOM = 1.6  # side of the square that is seen, in sides of what is redrawn
_SOFT_SHARE = 0.1  # of the side of a square without a mask, along which it fades in


@dataclass(frozen=True)
class Canvas:
    """A picture, the square of it that is worked on, and what of it is redrawn.

    Attributes:
        pixels: `(3, h, w)` in [-1, 1].
        redrawn: `(h, w)` in [0, 1]: 0 is kept to the bit, 1 is free, between is "in between".
        square: left edge, top edge and side of what the model sees, in pixels; it may reach beyond
            the picture, where that is narrower than what is redrawn.
        has_mask: whether somebody said what is redrawn; else it is the square.
        opacity: `(h, w)` in [0, 1] of a picture that lies over what is drawn, as one with a
            transparent ground; None is opaque.
        marked: `(h, w)`, what is redrawn of an opaque picture; None is `redrawn`.
    """

    pixels: Tensor
    redrawn: Tensor
    square: tuple[int, int, int]
    has_mask: bool
    opacity: Tensor | None = None
    marked: Tensor | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.shape[2], self.pixels.shape[1]

    def seen(self, size_px: int) -> Tensor:
        """Returns the square as the model draws it, `(1, 3, size_px, size_px)` in [-1, 1]."""
        opacity = torch.ones_like(self.redrawn) if self.opacity is None else self.opacity
        weights = self._cut(opacity, beyond=None)
        known = _resized(self._cut(self.pixels, beyond=None) * weights, size_px)
        return known / _resized(weights, size_px).clamp(min=1e-3)

    def free(self, size_px: int) -> Tensor:
        """Returns how far each pixel of the model is redrawn, `(size_px, size_px)` in [0, 1].

        A pixel that is redrawn in part is redrawn as its freest part; beyond the picture all are.
        """
        cut = self._cut(self.redrawn, beyond=1.0)  # (1, 1, side, side)
        if cut.shape[-1] <= size_px:
            return F.interpolate(cut, (size_px, size_px), mode="nearest-exact")[0, 0]
        return F.adaptive_max_pool2d(cut, size_px)[0, 0]

    def put_back(self, drawn: Tensor, agreed: Agreed | None = None) -> list[Image.Image]:
        """Returns the picture with each drawn square in its place.

        What is kept comes back to the bit. Seams are softened inside of what is redrawn alone.

        Args:
            drawn: `(b, 3, s, s)` in [-1, 1].
            agreed: makes squares of this picture's size agree with what is known of it.
        """
        left, top, side = self.square
        squares = _resized(drawn.float().cpu(), side)
        if agreed is not None:
            squares = agreed(squares, self._cut(self.pixels, beyond=None))
        rows, columns = self._inside
        of_square = squares[:, :, rows.start - top : rows.stop - top]
        of_square = of_square[..., columns.start - left : columns.stop - left]
        results = self.pixels.expand(len(drawn), -1, -1, -1).clone()
        place = results[:, :, rows, columns]
        place.copy_(torch.lerp(place, of_square, self._shares[rows, columns]))
        return images.to_pil(results)

    def original(self) -> Image.Image:
        """Returns the picture that came; what is transparent is white."""
        white = torch.ones_like(self.pixels)
        over_white = self.pixels if self.opacity is None else white.lerp(self.pixels, self.opacity)
        return images.to_pil(over_white[None])[0]

    def shrunk(self, longest_px: int) -> Canvas:
        """Returns the canvas with a longest side of at most that many pixels."""
        scale = longest_px / max(self.size)
        if scale >= 1:
            return self
        width, height = (max(1, round(scale * length)) for length in self.size)

        def small(plane: Tensor) -> Tensor:
            whole = plane.reshape(1, -1, *self.redrawn.shape)
            return F.interpolate(whole, (height, width), mode="area").view(
                *plane.shape[:-2], height, width
            )

        left, top, side = (round(scale * number) for number in self.square)
        planes = {
            n: small(p) for n, p in vars(self).items() if isinstance(p, Tensor) and n in _PLANES
        }
        return replace(self, square=(left, top, max(1, side)), **planes)

    @property
    def inside(self) -> Tensor:
        """How far each pixel of the picture in the square is redrawn, `(h, w)`."""
        return self.redrawn[self._inside]

    @property
    def _inside(self) -> tuple[slice, slice]:
        """The rows and columns of the picture that lie in the square, which may reach beyond it."""
        left, top, side = self.square
        width, height = self.size
        return (
            slice(max(top, 0), min(top + side, height)),
            slice(max(left, 0), min(left + side, width)),
        )

    def _cut(self, plane: Tensor, beyond: float | None) -> Tensor:
        """Returns the square of `(h, w)` or `(c, h, w)`, as `(1, c, side, side)`.

        Args:
            plane: values of the picture.
            beyond: value of pixels that the picture does not have; None is that of its edge.
        """
        left, top, side = self.square
        rows, columns = self._inside
        cut = plane[..., rows, columns].reshape(1, -1, _length(rows), _length(columns))
        over = (columns.start - left, left + side - columns.stop)
        under = (rows.start - top, top + side - rows.stop)
        if beyond is None:
            return F.pad(cut, (*over, *under), mode="replicate")
        return F.pad(cut, (*over, *under), value=beyond)

    @cached_property
    def _shares(self) -> Tensor:
        """The share of what is drawn in each pixel, `(h, w)`; 0 where the picture is kept."""
        inside = torch.zeros_like(self.redrawn)
        inside[self._inside] = 1
        marked = self.redrawn if self.marked is None else self.marked
        area = (marked * inside > 0).float()
        share = area if self.softness_px < 1 else _faded(area, self.softness_px)
        return share if self.opacity is None else torch.maximum(share, (1 - self.opacity) * inside)

    @property
    def softness_px(self) -> int:
        """How far a seam reaches into what is redrawn, in pixels of the picture."""
        side = self.square[2]
        if self.has_mask:
            return round(side / 64) if side > 64 else 0
        return 0 if self.inside.shape == self.redrawn.shape else round(_SOFT_SHARE * side)


def _length(part: slice) -> int:
    return part.stop - part.start


def _faded(area: Tensor, reach_px: int) -> Tensor:
    """Returns an area `(h, w)` of 0 and 1 that rises from its inner edge, and is 0 outside.

    Where it is too narrow to rise, it is 1 at once.
    """
    window = 2 * reach_px + 1
    padded = F.pad(area[None, None], [reach_px] * 4, mode="replicate")
    # Rows, then columns: all at once takes seconds for a wide seam in a large picture.
    around = F.avg_pool2d(F.avg_pool2d(padded, (window, 1), 1), (1, window), 1)  # 1/2 at an edge
    eroded = (around > 1 - 0.5 / window**2).float()
    wide = F.max_pool2d(eroded, (window, 1), 1, (reach_px, 0))
    wide = F.max_pool2d(wide, (1, window), 1, (0, reach_px))
    return torch.where(wide > 0, (2 * around - 1).clamp(0, 1), 1.0)[0, 0] * area


def _resized(plane: Tensor, side_px: int) -> Tensor:
    """Returns squares `(b, c, s, s)` of another side: averaged down, or cubic up."""
    side = plane.shape[-1]
    if side == side_px:
        return plane
    if side > side_px:
        return F.interpolate(plane, (side_px, side_px), mode="area")
    return F.interpolate(plane, (side_px, side_px), mode="bicubic", antialias=False)


def canvas(image: str, mask: str, crop: str, *, takes_transparency: bool) -> Canvas:
    """Returns the canvas of checked settings; see `edit.EditSettings`.

    Args:
        image: address of the picture.
        mask: address of a mask of its size; empty is all.
        crop: as the setting; empty is chosen from what is redrawn.
        takes_transparency: whether what is transparent is redrawn.
    """
    picture = images.from_data_uri(image)
    opacity, pixels = None, images.to_tensor(picture)[0]  # on white, where it is transparent
    shape = pixels.shape[1:]
    if takes_transparency and picture.has_transparency_data:
        layer = picture.convert("RGBA")
        opacity = images.to_mask(layer.getchannel("A"))
        pixels = images.to_tensor(layer.convert("RGB"))[0]
    of_mask = _marked(mask) if mask else torch.ones(shape)
    marked, redrawn = None, of_mask
    if opacity is not None and of_mask.shape == shape:  # else refused by `check_canvas`
        marked = of_mask if mask else torch.zeros(shape)
        redrawn = torch.maximum(marked, 1 - opacity)
    has_mask = bool(mask) or opacity is not None
    square = crop_numbers(crop) if crop else _square(redrawn, has_mask)
    return Canvas(pixels, redrawn, square, has_mask, opacity, marked)


def _marked(mask: str) -> Tensor:
    """Returns a mask `(h, w)`, in which what is nearly black is black."""
    values = images.to_mask(images.from_data_uri(mask))
    return torch.where(values < LEAST_GREY, 0.0, values)


def _square(redrawn: Tensor, has_mask: bool) -> tuple[int, int, int]:
    """Returns a square around what is redrawn with room around it, or around all of the picture.

    It reaches beyond the picture where that is narrower than what is redrawn, and where the square
    would show nothing that is kept otherwise.
    """
    height, width = redrawn.shape
    if not has_mask:
        side = max(height, width)
        return (width - side) // 2, (height - side) // 2, side
    rows, columns = (
        (redrawn > 0).any(dim=dim).nonzero().flatten().tolist() or [0] for dim in (1, 0)
    )
    extent = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    left = top = side = 0
    for most in (max(min(height, width), extent), max(height, width)):
        side = min(most, max(64, round(_ROOM * extent)))
        left, top = (
            _placed((found[0] + found[-1] + 1 - side) // 2, length - side)
            for found, length in ((columns, width), (rows, height))
        )
        inside = redrawn[max(0, top) : top + side, max(0, left) : left + side]
        if float(inside.amin()) < 1:
            break
    return left, top, side


def _placed(wanted: int, room: int) -> int:
    """Returns an edge of the square inside the picture; in the middle, if there is no room."""
    return min(max(0, wanted), room) if room >= 0 else room // 2


def enlarged(canvas: Canvas, size_px: int) -> Canvas:
    """Returns the canvas with the square at least as large as the model draws.

    Args:
        canvas: of a picture that may be small.
        size_px: side of what the model draws.
    """
    *corner, side = canvas.square
    scale = size_px / side
    if scale <= 1 or max(canvas.size) * scale > MOST_PX:
        return canvas
    width, height = (round(length * scale) for length in canvas.size)
    left, top = (
        min(round(at * scale), length - size_px) if length >= size_px else round(at * scale)
        for at, length in zip(corner, (width, height), strict=True)
    )
    pixels = F.interpolate(canvas.pixels[None], (height, width), mode="bicubic").clamp(-1, 1)[0]
    redrawn = F.interpolate(canvas.redrawn[None, None], (height, width), mode="nearest-exact")
    return Canvas(pixels, redrawn[0, 0], (left, top, size_px), canvas.has_mask)
