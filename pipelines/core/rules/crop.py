"""The rule for a square part of a picture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pipelines.core.errors import SettingsError, show
from pipelines.core.rules.base import Rule
from pipelines.core.typed import plain_number

_NUMBERS = re.compile(r"\s*(\d{1,5})(?:\s*[,;]\s*|\s+)(\d{1,5})(?:\s*[,;]\s*|\s+)(\d{1,5})\s*")


@dataclass(frozen=True)
class Crop(Rule):
    """Left edge, top edge and side of a square, in pixels, as `x, y, side`; empty is off."""

    least_side_px: int = 16

    may_be_empty: ClassVar[bool] = True
    contains_commas: ClassVar[bool] = True

    @property
    def accepts(self) -> str:
        return f'"x, y, side" in pixels, side {self.least_side_px} or more; empty is off'

    def check(self, name: str, value: Any) -> str:
        if value == "":
            return ""
        found = _NUMBERS.fullmatch(plain_number(value)) if isinstance(value, str) else None
        if found is None or int(found[3]) < self.least_side_px:
            raise SettingsError("crop", name=name, least=self.least_side_px, got=show(value))
        return ", ".join(str(int(number)) for number in found.groups())

    def suggestions(self, current: Any) -> Sequence[str]:
        return []


def crop_numbers(crop: str) -> tuple[int, int, int]:
    """Returns left edge, top edge and side of a checked crop, in pixels."""
    left, top, side = (int(number) for number in crop.split(","))
    return left, top, side
