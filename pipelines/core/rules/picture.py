"""Rules for pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pipelines.core import images, pictures
from pipelines.core.errors import SettingsError
from pipelines.core.rules.base import Rule


@dataclass(frozen=True)
class Picture(Rule):
    """A picture, kept as a small PNG in a `data:image/png;base64,` address; empty is off.

    Accepts whatever `pictures.open_picture` opens; `max_side_px` is the longest side that is kept.
    """

    max_side_px: int = 256

    control: ClassVar[str] = "picture"
    may_be_empty: ClassVar[bool] = True

    @property
    def accepts(self) -> str:
        return "a picture as `data:image/png;base64,...` or an uploaded file; empty is off"

    def suggestions(self, current: Any) -> Sequence[str]:
        return []  # a picture does not change along an axis

    def check(self, name: str, value: Any) -> str:
        if value == "":
            return ""
        return pictures.to_setting(value, name=name, max_side_px=self.max_side_px)


@dataclass(frozen=True)
class Mask(Picture):
    """A square mask, white where it applies, kept like a `Picture`; empty is off.

    It is kept larger, because shrinking would lose small spots.
    """

    max_side_px: int = 1024

    @property
    def accepts(self) -> str:
        return super().accepts.replace("a picture", "a square picture", 1)

    def check(self, name: str, value: Any) -> str:
        address = super().check(name, value)
        if not address:
            return ""
        mask = images.to_mask(images.from_data_uri(address))
        if mask.shape[0] != mask.shape[1]:
            width, height = pictures.size_of(value, name=name)
            raise SettingsError("mask_square", name=name, width=width, height=height)
        if float(mask.max()) < 0.5:
            raise SettingsError("mask_black", name=name)
        return address


@dataclass(frozen=True)
class EditedPicture(Picture):
    """A picture to edit, which is kept at its size; a larger one is refused, and none shrunk."""

    max_side_px: int = 1024
    least_side_px: int = 16

    @property
    def accepts(self) -> str:
        return super().accepts.replace("empty is off", f"up to {self.max_side_px} px wide and high")

    def check(self, name: str, value: Any) -> str:
        if value == "":
            return ""
        width, height = pictures.size_of(value, name=name)
        if max(width, height) > self.max_side_px or min(width, height) < self.least_side_px:
            raise SettingsError(
                "edited_size",
                name=name,
                least=self.least_side_px,
                most=self.max_side_px,
                width=width,
                height=height,
            )
        return super().check(name, value)


@dataclass(frozen=True)
class DrawnMask(Picture):
    """A mask of any shape, for a picture of the same size: white is redrawn, grey in between."""

    max_side_px: int = 1024

    @property
    def accepts(self) -> str:
        return super().accepts.replace("empty is off", "white is redrawn; empty is all")
