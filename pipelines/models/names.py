"""Names of models: the project's, and the user's own from an environment variable."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, ClassVar

from pipelines.core.rules import Choice, Rule, SettingsError, show

MODELS = ("paintings", "scenes", "emoji")
HUB_MODELS = ("wikiart-256", "bedrooms-256", "celebahq-256", "churches-256", "cats-256")
"""Names of the models that are fetched from the Hub on first use."""

WORDS_MODELS: tuple[str, ...] = ()
"""Names of the bundled models that are told words; each is begun from one of `MODELS`."""

CLIPS = ("clip-small", "ViT-B-32", "ViT-B-32-laion")
CONDITIONINGS = ("embedding", "cross-attention", "channels")
_OWN = "STUDIO_CHECKPOINTS"
_OWN_ENTRY = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,40})\s*=\s*(?P<where>\S.*)")


def own_checkpoints() -> dict[str, str]:
    """Returns the user's own models from `STUDIO_CHECKPOINTS`: name to folder or Hub id.

    Raises:
        SettingsError: one sentence about the first entry that is wrong.
    """
    models, wrong = _read()
    if wrong:
        raise SettingsError("own_checkpoints", got=show(wrong[0]))
    return models


def _read() -> tuple[dict[str, str], list[str]]:
    """Returns the models of the variable, and its entries that are wrong."""
    models: dict[str, str] = {}
    wrong: list[str] = []
    for entry in _entries(os.environ.get(_OWN, "")):
        parts = _OWN_ENTRY.fullmatch(entry)
        if parts is None or parts["name"] in models or parts["name"] in bundled_names():
            wrong.append(entry)
        else:
            models[parts["name"]] = parts["where"]
    return models, wrong


def _entries(text: str) -> list[str]:
    """Returns the entries between commas; the name of a folder that is there may hold commas."""
    parts, entries = text.split(","), []
    while parts:
        joined = (",".join(parts[:count]) for count in range(len(parts), 1, -1))
        entry = next(filter(_names_a_folder, joined), parts[0])
        del parts[: entry.count(",") + 1]
        entries.append(entry.strip())
    return [entry for entry in entries if entry]


def _names_a_folder(entry: str) -> bool:
    parts = _OWN_ENTRY.fullmatch(entry.strip())
    return parts is not None and os.path.isdir(os.path.expanduser(parts["where"]))


def usable_own_checkpoints() -> dict[str, str]:
    """Like `own_checkpoints`, but without entries that are wrong, which stop the app's start."""
    return _read()[0]


def bundled_names() -> set[str]:
    """Returns the names of all models that are not the user's own."""
    return {
        *MODELS,
        *HUB_MODELS,
        *WORDS_MODELS,
        *CLIPS,
        *(f"digits-{conditioning}" for conditioning in CONDITIONINGS),
    }


@dataclass(frozen=True)
class ModelName(Rule):
    """The name of an unconditional model: bundled, of the Hub, or one of the user's own."""

    control: ClassVar[str] = "radio"

    @property
    def accepts(self) -> str:
        return Choice(self.options).accepts

    def schema(self) -> dict[str, Any]:
        return Choice(self.options).schema()

    @property
    def options(self) -> tuple[str, ...]:
        """All names; the user's own are read anew each time."""
        return (*MODELS, *HUB_MODELS, *usable_own_checkpoints())

    def check(self, name: str, value: Any) -> str:
        if value not in self.options:
            own_checkpoints()  # says so if it is the variable that is wrong
        return Choice(self.options).check(name, value)

    def suggestions(self, current: Any) -> tuple[str, ...]:
        return self.options
