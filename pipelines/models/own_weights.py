"""Why the weights of a user's own model cannot be used; asked only when loading has failed."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from pipelines.core.errors import CheckpointError, Message
from pipelines.core.rules import show
from pipelines.models.own_checkpoints import Own

Shapes = dict[str, tuple[int, ...]]


def error_of(key: str, own: Own, network: Any) -> CheckpointError:
    """Returns the error that says why weights do not load.

    Args:
        key: name of the checkpoint.
        own: its files.
        network: class of its network.
    """
    found: Shapes = {}
    for path in sorted(own.unet_folder.glob(own.weights.pattern)):
        try:
            found |= _shapes(path, safetensors=own.weights.safetensors)
        except pickle.UnpicklingError:
            return CheckpointError("own_pickle", key=key, file=path.name)
        except Exception:  # safetensors, zip and torch each have errors of their own
            return CheckpointError("own_damaged", key=key, file=path.name)
    try:
        wanted = network.from_config(network.load_config(own.unet_folder)).state_dict()
    except Exception:  # diffusers raises whatever a wrong value leads to
        return CheckpointError("own_config", key=key)
    reason = _difference(found, {name: tuple(value.shape) for name, value in wanted.items()})
    return CheckpointError("own_other_weights", key=key, reason=reason)


def _shapes(path: Path, *, safetensors: bool) -> Shapes:
    """Returns the shape of every weight in a file, by name; runs no code of a pickle."""
    if safetensors:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    weights = torch.load(path, map_location="cpu", weights_only=True)
    return {name: tuple(value.shape) for name, value in weights.items()}


def _difference(found: Shapes, wanted: Shapes) -> Message:
    """Returns the first difference between the weights that are there and those of the config."""
    for name, shape in wanted.items():
        if name not in found:
            return Message("own_weight_missing", weight=show(name))
        if found[name] != shape:
            return Message(
                "own_weight_shape", weight=show(name), got=_sizes(found[name]), wanted=_sizes(shape)
            )
    return Message("own_weight_unknown")


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "1"
