"""Losses and methods of the user's own, from the Python files that `STUDIO_PLUGINS` names.

Such a file runs with all rights of the app. So only the environment names it: never a link, a
record, an upload or a request.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import logging
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from pipelines.core.rules import Real, setting
from pipelines.diffusion import losses
from pipelines.diffusion.guidance import switched_off_by
from pipelines.diffusion.methods import METHODS, TEXT_METHODS, Method

logger = logging.getLogger("studio")

VARIABLE = "STUDIO_PLUGINS"

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_TRIED_SHAPE = (2, 3, 16, 16)

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
    losses: Mapping[str, losses.Loss] = dataclasses.field(default_factory=dict)
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
        found = {n: losses.of(loss) for n, loss in getattr(module, "LOSSES", {}).items()}
        methods = dict(getattr(module, "METHODS", {}))
        _check(found, methods, others)
    except Exception as error:  # whatever there may be in a file
        return Plugin(path, digest, problem=f"{type(error).__name__}: {error}")
    return Plugin(path, digest, found, methods)


def _imported(path: Path, digest: str) -> Any:
    """Imports a file under a name by which other processes find it again."""
    name = f"studio_plugin_{digest[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError("the file must be a Python file, NAME.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _check(
    found: Mapping[str, losses.Loss], methods: Mapping[str, Any], others: list[Plugin]
) -> None:
    """Checks names and values, and tries each loss once.

    Raises:
        ValueError: one sentence about the first thing that is wrong.
    """
    if not found and not methods:
        raise ValueError("the file must have LOSSES or METHODS, by name, got neither")
    taken = {*METHODS, *TEXT_METHODS}.union(*(p.losses.keys() | p.methods.keys() for p in others))
    for name in (*found, *methods):
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"names must be a-z, 0-9 and _, got {name!r}")
        if name in taken:
            raise ValueError(f"names must be new, got {name!r}, which there is already")
    for name, method in methods.items():
        if not isinstance(method, Method):
            raise ValueError(f"METHODS must be of type Method, got {method!r} for {name!r}")
    for loss in found.values():
        loss(torch.zeros(_TRIED_SHAPE, requires_grad=True))


PLUGINS: tuple[Plugin, ...] = _loaded()
"""All files that the environment names, the broken ones too."""

LOSSES: dict[str, losses.Loss] = {
    name: plugin.losses[name] for plugin in PLUGINS for name in plugin.losses
}
"""All losses of the user's own, by the name of their setting."""

for _plugin in PLUGINS:
    METHODS.update(_plugin.methods)
    TEXT_METHODS.update(_plugin.methods)


def extended(settings: type[S]) -> type[S]:
    """Returns a settings class with one more setting, a weight, for each loss of the user's own.

    They come last, by name. Use it as a decorator, so that the class keeps its name in its module.
    """
    taken = {f.name for f in dataclasses.fields(settings)}  # pyright: ignore
    names = sorted(set(LOSSES) - taken)
    if not names:
        return settings
    fields = [(name, float, _weight(name)) for name in names]
    facts = {"__module__": settings.__module__, "__doc__": settings.__doc__}
    return dataclasses.make_dataclass(
        settings.__name__, fields, bases=(settings,), namespace=facts, frozen=True
    )


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
    weights = {name: getattr(settings, name, 0.0) for name in LOSSES}
    return [losses.Term(LOSSES[name], weight) for name, weight in weights.items() if weight]


def used_by(settings: Any) -> list[str]:
    """Returns the names of the losses and methods of the user's own that settings use."""
    used = [name for name in LOSSES if getattr(settings, name, 0.0)]
    method = getattr(settings, "method", "")
    return [*used, method] if method in own_methods() else used


def own_methods() -> list[str]:
    """Returns the names of the methods of the user's own."""
    return [name for plugin in PLUGINS for name in plugin.methods]


def names() -> set[str]:
    """Returns the names of all losses and methods of the user's own."""
    return {*LOSSES, *own_methods()}
