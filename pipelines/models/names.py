"""Names of models: those of the project, and the user's own, which the environment gives."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

from pipelines.core.rules import Choice, SettingsError, show

MODELS = ("paintings", "scenes", "emoji")
HUB_MODELS = ("wikiart-256", "bedrooms-256", "celebahq-256", "churches-256", "cats-256")
"""Names of the models that are fetched when they are first used."""

CLIPS = ("clip-small", "ViT-B-32", "ViT-B-32-laion")
CONDITIONINGS = ("embedding", "cross-attention", "channels")
_OWN = "STUDIO_CHECKPOINTS"
_OWN_ENTRY = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,40})\s*=\s*(?P<where>\S.*)")


def own_checkpoints() -> dict[str, str]:
    """The user's own models, names and the folder or Hub id of each, as `STUDIO_CHECKPOINTS` says.

    Raises:
        SettingsError: one sentence on the first entry that is wrong.
    """
    found: dict[str, str] = {}
    for entry in filter(None, map(str.strip, os.environ.get(_OWN, "").split(","))):
        parts = _OWN_ENTRY.fullmatch(entry)
        if parts is None or parts["name"] in found or parts["name"] in bundled_names():
            raise SettingsError("own_checkpoints", got=show(entry))
        found[parts["name"]] = parts["where"]
    return found


def usable_own_checkpoints() -> dict[str, str]:
    """As `own_checkpoints`, but none where they are malformed; the app does not start with that."""
    try:
        return own_checkpoints()
    except SettingsError:
        return {}


def bundled_names() -> set[str]:
    """Names of all models that are not the user's own."""
    return {
        *MODELS,
        *HUB_MODELS,
        *CLIPS,
        *(f"digits-{conditioning}" for conditioning in CONDITIONINGS),
    }


@dataclass(frozen=True)
class ModelName:
    """The name of an unconditional model: bundled, of the Hub, or one of the user's own."""

    @property
    def options(self) -> tuple[str, ...]:
        """All such names, as they are now."""
        return (*MODELS, *HUB_MODELS, *usable_own_checkpoints())

    def check(self, name: str, value: Any) -> str:
        return Choice(self.options).check(name, value)
