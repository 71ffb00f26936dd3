"""Sampling, guidance and models without Gradio, usable from a notebook.

Folders in the order in which they import one another: `core`, `diffusion`, `models`, `runs`,
`products`. The modules of version 0.2 lay in this folder itself; their old names still find them:
`from pipelines import losses` imports a module from its new place.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_MOVED = {
    "checkpoints": "models.checkpoints",
    "clip": "models.clip",
    "colorimetry": "core.colorimetry",
    "comparison": "runs.comparison",
    "digit_judge": "models.judges",
    "hub": "models.hub",
    "images": "core.images",
    "lending": "runs.zero_gpu",
    "losses": "diffusion.losses",
    "own_checkpoints": "models.own_checkpoints",
    "pace": "runs.timing",
    "record": "runs.provenance",
    "runtime": "core.devices",
    "search": "runs.seed_search",
    "sentences": "core.errors",
    "sheet": "runs.sheet",
    "sweep": "runs.sweep",
    "trace": "runs.history",
    "zero_shot": "models.zero_shot",
}


def __getattr__(name: str) -> Any:
    if name not in _MOVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_module(f"{__name__}.products")  # registers the products in `runs`
    return import_module(f"{__name__}.{_MOVED[name]}")
