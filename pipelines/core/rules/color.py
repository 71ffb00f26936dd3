"""Rules for colours and palettes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pipelines.core import images
from pipelines.core.errors import SettingsError, show
from pipelines.core.rules.base import Rule, with_current
from pipelines.core.typed import plain_number

_MAX_PALETTE_LENGTH = 400
_SHARE_TOLERANCE = 0.5
_ENTRY_END = re.compile(r"[,;\n](?![^(]*\))")  # a comma inside rgb( ) does not end an entry
_SHARE = re.compile(r"(?:\s|(?<=\))|\s*:)\s*(?P<share>\d+(?:\.\d*)?|\.\d+)\s*%?$")
_DECIMAL_COMMA = re.compile(r"(?:\s|\)|:)\s*\d+,\d{1,2}\s*%?\s*(?:[,;\n]|$)")
_COLORS = ("#C8553D", "#2E6F95", "#E0B040", "#3F7D4E")
_PALETTES = ("#102040 60, #FFD700 40", "#2F6B4F 50, #E8E0C8 30, #C8553D 20")


@dataclass(frozen=True)
class Color(Rule):
    """A colour in any notation that `images.parse_color` reads; becomes `#RRGGBB`."""

    @property
    def accepts(self) -> str:
        return "a CSS colour: #44CCAA, rgb(68 204 170), hsl(...), lab(...) or a name"

    def check(self, name: str, value: Any) -> str:
        try:
            return images.to_hex(images.parse_color(value))
        except (ValueError, AttributeError, TypeError):
            raise SettingsError("color", name=name, got=show(value)) from None

    def colors(self, value: Any) -> list[tuple[str, float]]:
        return [(value, 1.0)] if value else []

    def suggestions(self, current: Any) -> Sequence[str]:
        return with_current(current, _COLORS)


@dataclass(frozen=True)
class ColorOrNone(Color):
    """Like `Color`; empty is off."""

    may_be_empty: ClassVar[bool] = True

    @property
    def accepts(self) -> str:
        return f"{super().accepts}; empty is off"

    def check(self, name: str, value: Any) -> str:
        if isinstance(value, str) and not value.strip():
            return ""
        return super().check(name, value)


@dataclass(frozen=True)
class Palette(Rule):
    """Up to `maximum` colours with shares, `#102040 60, gold 40`; empty is off.

    Commas, semicolons or new lines part them. Shares, after a space or a colon, are percentages
    that add up to 100. If none is given, all are equal.
    """

    maximum: int = 5

    may_be_empty: ClassVar[bool] = True
    contains_commas: ClassVar[bool] = True

    @property
    def accepts(self) -> str:
        return f'up to {self.maximum} colours with shares, "#102040 60, gold 40"; empty is off'

    def check(self, name: str, value: Any) -> str:
        if not isinstance(value, str) or len(value) > _MAX_PALETTE_LENGTH:
            raise SettingsError("palette", name=name, maximum=self.maximum, got=show(value))
        written = plain_number(value)
        if comma := _DECIMAL_COMMA.search(written):
            raise SettingsError("palette_comma", name=name, got=show(comma[0].strip(" :,;)\n")))
        typed = _ENTRY_END.split(written)
        entries = [entry.strip() for entry in typed if entry.strip()]
        if not entries:
            return ""
        if len(entries) > self.maximum:
            raise SettingsError("palette_count", name=name, maximum=self.maximum, got=len(entries))
        pairs = [self._pair(name, entry) for entry in entries]
        shares = [share for _, share in pairs if share is not None]
        if shares and len(shares) < len(pairs):
            raise SettingsError(
                "palette_some_shares", name=name, shared=len(shares), count=len(pairs)
            )
        if not shares:
            shares = [100 / len(pairs)] * len(pairs)
        elif abs(sum(shares) - 100) > _SHARE_TOLERANCE:
            raise SettingsError("palette_sum", name=name, got=sum(shares))
        return ", ".join(f"{c} {s:g}" for (c, _), s in zip(pairs, shares, strict=True))

    def colors(self, value: Any) -> list[tuple[str, float]]:
        return palette_entries(value)

    def suggestions(self, current: Any) -> Sequence[str]:
        return _PALETTES

    def _pair(self, name: str, entry: str) -> tuple[str, float | None]:
        """Returns the colour and the share of an entry; None without a share."""
        match = _SHARE.search(entry)
        color = entry[: match.start()] if match else entry
        try:
            checked = Color().check(name, color)
        except SettingsError:
            if match or " " not in entry or "(" in entry:
                raise
            raise SettingsError(
                "palette", name=name, maximum=self.maximum, got=show(entry)
            ) from None
        share = float(match["share"]) if match else None
        if share is not None and not 0 < share <= 100:
            raise SettingsError("palette_share", name=name, got=show(entry))
        return checked, share


def palette_entries(palette: str) -> list[tuple[str, float]]:
    """Returns the colours `#RRGGBB` and shares (sum 1) of a checked palette."""
    pairs = [entry.rsplit(" ", 1) for entry in palette.split(", ") if entry]
    total = sum(float(share) for _, share in pairs)
    return [(color, float(share) / total) for color, share in pairs]
