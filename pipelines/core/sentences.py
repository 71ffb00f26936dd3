"""Sentences with places for parts; names and choices of settings in them are known as such.

So that a page can show the labels of its controls where callers of the API are told names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from string import Formatter
from typing import Any


class Setting(str):
    """Name of a setting in an error; a page shows the label of its control instead."""


class Option(str):
    """Choice of a setting in an error; a page shows its label instead."""

    setting: str

    def __new__(cls, setting: str, option: str) -> Option:
        text = super().__new__(cls, option)
        text.setting = setting
        return text

    def __getnewargs_ex__(self) -> tuple[tuple[str, str], dict[str, Any]]:
        return (self.setting, str(self)), {}


class Several(tuple[Any, ...]):
    """Parts of an error in a list, which every language joins in its own way."""

    def __str__(self) -> str:
        return ", ".join(map(str, self))

    def __format__(self, spec: str) -> str:
        return str(self)


def fill(
    template: str, parts: Mapping[str, Any], shown: Callable[[Any], Any] = lambda part: part
) -> str:
    """Returns a sentence with its parts filled in.

    Args:
        template: of `MESSAGES`, or its translation. `{@eta}` stands for the name of a setting,
            `{@method=course}` for a choice of one; all other places are filled from `parts`.
        parts: values of these places.
        shown: function from a part to what is shown of it.
    """
    return template.format_map({place: shown(part) for place, part in places_of(template, parts)})


def places_of(template: str, parts: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Returns the places of a sentence, from its beginning, each with the part that fills it."""
    places = [name for _, name, _, _ in Formatter().parse(template) if name]
    return [(place, _part(place, parts)) for place in places]


def _part(place: str, parts: Mapping[str, Any]) -> Any:
    if not place.startswith("@"):
        return parts[place]
    setting, _, option = place[1:].partition("=")
    return Option(setting, option) if option else Setting(setting)
