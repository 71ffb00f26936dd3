"""Which settings are in force: set by somebody, and with a part in the run."""

from __future__ import annotations

import dataclasses
from typing import Any

from pipelines.core.rules.base import Overruled, declared


def off_at(name: str, value: Any, otherwise: Overruled = lambda _: "") -> Overruled:
    """Returns a function that names a setting while it has a value at which it overrules another.

    Args:
        name: of the setting.
        value: at which it leaves the other one without effect.
        otherwise: function for all other values.
    """
    return lambda settings: name if getattr(settings, name) == value else otherwise(settings)


def is_set(settings: Any, name: str) -> bool:
    """Returns whether a setting differs from its default."""
    return getattr(settings, name) != declared(settings, name).default


def overruled_by(settings: Any, name: str) -> str:
    """Returns the name of the setting that leaves another one without effect; empty if none does.

    Args:
        settings: checked.
        name: of the other one.
    """
    overruled = declared(settings, name).metadata["overruled"]
    return overruled(settings) if overruled else ""


def has_object(settings: Any, name: str) -> bool:
    """Returns whether there is something that a setting is about, such as a picture for its weight.

    Args:
        settings: checked.
        name: of the setting.
    """
    needs = declared(settings, name).metadata["needs"]
    return not needs or any(is_set(settings, other) for other in needs)


def in_force(settings: Any) -> list[str]:
    """Returns the names of the settings that are set and have a part in the run, in their order.

    Args:
        settings: checked.
    """
    return [name for name in _set(settings) if not overruled_by(settings, name)]


def without_effect(settings: Any) -> dict[str, str]:
    """Returns the names of the settings that are set in vain, each with the one that overrules it.

    Args:
        settings: checked.
    """
    return {name: other for name in _set(settings) if (other := overruled_by(settings, name))}


def _set(settings: Any) -> list[str]:
    names = [f.name for f in dataclasses.fields(settings)]
    return [name for name in names if is_set(settings, name) and has_object(settings, name)]
