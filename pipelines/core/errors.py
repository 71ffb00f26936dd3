"""Errors that people see: one sentence each.

An error carries its kind and parts, so that the app can show it in another language, and a page can
show the labels of its controls in place of the names that callers of the API know.
"""

from __future__ import annotations

from typing import Any

from pipelines.core.messages import MESSAGES
from pipelines.core.sentences import Option, Setting, Several, fill, places_of

__all__ = [
    "MESSAGES",
    "CheckpointError",
    "Message",
    "Option",
    "Setting",
    "SettingsError",
    "Several",
    "UserError",
    "fill",
    "show",
]


_MAX_QUOTED = 40
_JOINER = "\u200d"  # joins emoji to one


class UserError(Exception):
    """An error whose message is one sentence for people, safe to show.

    Args:
        kind: key of `MESSAGES`.
        parts: values of the placeholders; `name` is the name of a setting.
    """

    def __init__(self, kind: str, **parts: Any) -> None:
        super().__init__(kind)
        self.kind = kind
        self.parts = parts | ({"name": Setting(parts["name"])} if "name" in parts else {})

    def __str__(self) -> str:
        return fill(MESSAGES[self.kind], self.parts)

    @property
    def subject(self) -> str:
        """Name of the setting that the sentence is about, its first; empty if it names none."""
        parts = (part for _, part in places_of(MESSAGES[self.kind], self.parts))
        return next((part for part in parts if isinstance(part, Setting)), "")


class SettingsError(UserError, ValueError):
    """A setting is wrong; the message is one sentence that is safe to show to users."""


class CheckpointError(UserError):
    """A checkpoint cannot be used; the message is one sentence for people."""


class Message(str):
    """A translatable part of an error message; carries its own kind and parts."""

    kind: str
    parts: dict[str, Any]

    def __new__(cls, kind: str, **parts: Any) -> Message:
        message = super().__new__(cls, fill(MESSAGES[kind], parts))
        message.kind, message.parts = kind, parts
        return message

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, Any]]:
        return (self.kind,), self.parts


def show(value: Any) -> str:
    """Returns a value as error messages quote it: short, and without special characters of HTML."""
    text = _quoted(value)
    text = "".join(c if (c.isprintable() or c == _JOINER) and c not in "<>&" else "?" for c in text)
    if text == "''":
        return Message("nothing")
    return text if len(text) <= _MAX_QUOTED else text[: _MAX_QUOTED - 3] + "..."


def _quoted(value: Any) -> str:
    if isinstance(value, str):
        return f"'{value[: _MAX_QUOTED + 1]}'"
    try:
        return repr(value)[: _MAX_QUOTED + 1]
    except (ValueError, RecursionError):  # an integer of thousands of digits, or nested lists
        return f"a value of type {type(value).__name__}"
