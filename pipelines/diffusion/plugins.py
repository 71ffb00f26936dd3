"""Losses and methods of the user's own, from the Python files that `STUDIO_PLUGINS` names.

Such a file runs with all rights of the app. So only the environment names it: never a link, a
record, an upload or a request.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import keyword
import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pipelines.core.rules import Real, setting
from pipelines.diffusion import losses
from pipelines.diffusion.guidance import switched_off_by
from pipelines.diffusion.methods import METHODS, TEXT_METHODS, Method
from pipelines.diffusion.own import OwnLoss, one_line, own_loss, own_method

logger = logging.getLogger("studio")

VARIABLE = "STUDIO_PLUGINS"
ENTRIES_OF_A_LINK = ("tab", "rev", "plugins", "lang")
"""What a link has besides settings; no loss may be called so."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_MAX_NAME = 40

S = TypeVar("S")


@dataclass(frozen=True)
class Plugin:
    """A file of the user's own.

    Attributes:
        path: as the environment names it.
        sha256: of the file; empty if it cannot be read.
        losses: by the name of their setting.
        methods: by name.
        problem: one sentence why nothing of it is used; empty if it is.
    """

    path: str
    sha256: str = ""
    losses: Mapping[str, OwnLoss] = dataclasses.field(default_factory=dict)
    methods: Mapping[str, Method] = dataclasses.field(default_factory=dict)
    problem: str = ""


def _loaded() -> tuple[Plugin, ...]:
    """Loads all files that the environment names; a broken one is left out, and logged."""
    found: list[Plugin] = []
    for path in filter(None, (part.strip() for part in os.environ.get(VARIABLE, "").split(","))):
        plugin = _load(path, found)
        if plugin.problem:
            logger.error("%s: %s", path, plugin.problem)
        found.append(plugin)
    return tuple(found)


def _load(path: str, others: list[Plugin]) -> Plugin:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        return Plugin(path, problem=f"the file cannot be read: {error.strerror}")
    digest = hashlib.sha256(content).hexdigest()
    try:
        module = _imported(Path(path), digest)
        functions, methods = _table(module, "LOSSES"), _table(module, "METHODS")
        _check_names([*functions, *methods], others)
        found = {name: own_loss(name, path, loss) for name, loss in functions.items()}
        own = {name: own_method(name, path, method) for name, method in methods.items()}
    except (Exception, SystemExit) as error:  # whatever there may be in a file
        return Plugin(path, digest, problem=_sentence(error))
    return Plugin(path, digest, found, own)


def _sentence(error: BaseException) -> str:
    """Returns kind and message of an error on one line."""
    kind, message = type(error).__name__, one_line(error)
    return kind if message == kind else f"{kind}: {message}"


def _table(module: Any, name: str) -> dict[str, Any]:
    """Returns what a file defines under a name; the studio's own tables do not count.

    Raises:
        ValueError: if it is no dictionary.
    """
    found = getattr(module, name, {})
    if found is METHODS or found is TEXT_METHODS:  # imported to build on
        return {}
    if not isinstance(found, Mapping):
        raise ValueError(f"{name} must be a dictionary by name, got {type(found).__name__}")
    return dict(found)


def _imported(path: Path, digest: str) -> Any:
    """Imports a file under a name by which other processes find it again."""
    name = f"studio_plugin_{digest[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError("the file must be a Python file, NAME.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    tables = (METHODS, TEXT_METHODS)
    before = [dict(table) for table in tables]
    try:
        spec.loader.exec_module(module)
    finally:
        changed = [table for table, old in zip(tables, before, strict=True) if table != old]
        for table, old in zip(tables, before, strict=True):
            table.clear()
            table.update(old)
    if changed:
        raise ValueError(
            "the file must name its methods in METHODS of its own, not in the studio's"
        )
    return module


def _check_names(names: Sequence[Any], others: list[Plugin]) -> None:
    """Checks the names of all losses and methods of a file.

    Raises:
        ValueError: one sentence about the first that is wrong.
    """
    if not names:
        raise ValueError("the file must have LOSSES or METHODS, by name, got neither")
    taken = {*METHODS, *TEXT_METHODS}.union(*(p.losses.keys() | p.methods.keys() for p in others))
    for i, name in enumerate(names):
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"names must be a-z, 0-9 and _, got {name!r}")
        if len(name) > _MAX_NAME:
            raise ValueError(
                f"names must be at most {_MAX_NAME} letters, got {len(name)}: {name!r}"
            )
        if keyword.iskeyword(name) or name in ENTRIES_OF_A_LINK:
            raise ValueError(f"names must not be words of Python or of a link, got {name!r}")
        if name in taken or name in names[:i]:
            raise ValueError(f"names must be new, got {name!r}, which there is already")


PLUGINS: tuple[Plugin, ...] = _loaded()
"""All files that the environment names, the broken ones too."""

LOSSES: dict[str, OwnLoss] = {
    name: plugin.losses[name] for plugin in PLUGINS for name in plugin.losses
}
"""All losses of the user's own, by the name of their setting."""

for _plugin in PLUGINS:
    METHODS.update(_plugin.methods)
    TEXT_METHODS.update(_plugin.methods)


def extended(settings: type[S]) -> type[S]:
    """Returns a settings class with one more setting, a weight, for each loss of the user's own.

    They come last, by name. A loss whose name the class has already is left out of it, and logged.
    Use it as a decorator, so that the class keeps its name in its module.
    """
    taken = {f.name for f in dataclasses.fields(settings)} | set(dir(settings))  # pyright: ignore
    names = tuple(sorted(set(LOSSES) - taken))
    for name in sorted(set(LOSSES) & taken):
        logger.error("%s: the loss is not offered where %s has that name", name, settings.__name__)
        _clashing.setdefault(name, []).append(settings.__name__)
    if not names:
        return settings
    fields = [(name, float, _weight(name)) for name in names]
    facts = {
        "__module__": settings.__module__,
        "__doc__": settings.__doc__,
        "_own_losses": names,
    }
    return dataclasses.make_dataclass(
        settings.__name__, fields, bases=(settings,), namespace=facts, frozen=True
    )


_clashing: dict[str, list[str]] = {}


def clashes(plugin: Plugin) -> list[str]:
    """Returns the names of a file's losses that some product does not offer.

    It has a setting or something else of that name already.
    """
    return [name for name in plugin.losses if name in _clashing]


def losses_of(settings: Any) -> tuple[str, ...]:
    """Returns the names of the losses of the user's own that settings, or their class, have."""
    return getattr(settings, "_own_losses", ())


def _weight(name: str) -> Any:
    label = name.replace("_", " ").capitalize()
    return setting(
        0.0,
        Real(0.0, 1.0, step=0.05),
        label,
        "A loss of your own; 0: off",
        group="more",
        overruled=switched_off_by,
    )


def terms_of(settings: Any) -> list[losses.Term]:
    """Returns the loss terms of the user's own that settings switch on."""
    weights = {name: getattr(settings, name) for name in losses_of(settings)}
    return [losses.Term(LOSSES[name], weight) for name, weight in weights.items() if weight]


def losses_used_by(settings: Any) -> list[str]:
    """Returns the names of the losses of the user's own that settings switch on."""
    return [name for name in losses_of(settings) if getattr(settings, name)]


def used_by(settings: Any) -> list[str]:
    """Returns the names of the losses and methods of the user's own that settings use."""
    used = losses_used_by(settings)
    method = getattr(settings, "method", "")
    return [*used, method] if method in own_methods() else used


def files_of(names: Sequence[str]) -> dict[str, str]:
    """Returns, by name of a loss or method of the user's own, the SHA-256 of its file."""
    own = {name: p.sha256 for p in PLUGINS for name in (*p.losses, *p.methods)}
    return {name: own[name] for name in names}


def changed(recorded: Mapping[str, Any]) -> list[str]:
    """Returns the losses and methods of the user's own whose file is another here.

    Args:
        recorded: what `files_of` returned elsewhere.
    """
    here = files_of([name for name in recorded if name in names()])
    return [name for name, sha256 in here.items() if recorded[name] != sha256]


def own_methods() -> list[str]:
    """Returns the names of the methods of the user's own."""
    return [name for plugin in PLUGINS for name in plugin.methods]


def names() -> set[str]:
    """Returns the names of all losses and methods of the user's own."""
    return {*LOSSES, *own_methods()}
