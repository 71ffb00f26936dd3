"""What of a link can be used: its settings, those that are wrong, and names that nothing knows."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from pipelines.core.errors import SettingsError
from pipelines.core.rules import as_before, is_picture, validate

OWN_NAMES = frozenset({"tab", "rev", "plugins", "stopped"})
"""Names in a link that are no settings."""

# What Gradio, Spaces, the page itself and trackers add to addresses.
_SILENT = re.compile(r"__theme|__sign|view|lang|run|logs|utm_.*|fbclid|gclid")


def unknown_names(query: Mapping[str, str], settings: type[Any] | None) -> list[str]:
    """Returns the names in a link that stand for nothing, in their order.

    Args:
        query: of the link.
        settings: class of the settings of its tab; None without a tab.
    """
    known = {f.name for f in dataclasses.fields(settings)} if settings else set()
    return [n for n in query if n not in known | OWN_NAMES and not _SILENT.fullmatch(n)]


def usable_settings(settings: type[Any], query: Mapping[str, str]) -> tuple[Any, list[Any]]:
    """Returns checked settings with all values of a link that can be used, and the other's errors.

    Args:
        settings: class of the settings.
        query: of the link.
    """
    values: dict[str, Any] = {}
    problems: list[SettingsError] = []
    for field in dataclasses.fields(settings):
        rule = field.metadata["rule"]
        if field.name in query:
            try:
                values[field.name] = rule.check(field.name, rule.parse(query[field.name]))
            except SettingsError as error:
                problems.append(error)
    checked, contradictions = _consistent(settings, values)
    return as_before(checked, query), [*problems, *contradictions]


def _consistent(settings: type[Any], values: Mapping[str, Any]) -> tuple[Any, list[SettingsError]]:
    """Returns settings with the values that agree with each other, and errors about the others.

    Where a picture is missing, nothing that is left out could help: it is told, and all are kept.
    """
    try:
        return validate(settings(**values)), []
    except SettingsError as error:
        names = {field.name for field in dataclasses.fields(settings)}
        if error.subject in names - {*values} and is_picture(settings, error.subject):
            return settings(**values), [error] if values else []  # else it only opens a tab
        left_out = error.subject if error.subject in values else list(values)[-1]
        rest = {name: value for name, value in values.items() if name != left_out}
        checked, others = _consistent(settings, rest)
        return checked, [error, *others]
