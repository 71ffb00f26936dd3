"""The loaded models, and how much memory they may take together.

Any visitor can choose any model, and several large ones do not fit into a small machine. When the
budget is used up, the models that were used longest ago are dropped, and loaded again when they are
chosen again. A run holds its models, so a dropped one stays in memory until the run ends.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from pipelines.core import devices
from pipelines.core.cache import Cache
from pipelines.core.limits import MEGABYTE, limit
from pipelines.models import ways

T = TypeVar("T")

_MOST_MB, _LEAST_MB = 4096, 1024
_SHARE = 4  # models get one part of so many of the memory


def budget_mb() -> int:
    """Returns the memory for loaded models in MiB: `STUDIO_MODEL_MB` if set, else by the machine.

    The default is a quarter of the memory of the machine or of the graphics card, from 1024 MiB,
    which all bundled models need less than, to 4 GiB.

    Raises:
        ValueError: if the variable is not a whole number of 1 or more.
    """
    quarter = _memory_bytes(devices.device()) // _SHARE // MEGABYTE
    return limit("STUDIO_MODEL_MB", min(max(quarter, _LEAST_MB), _MOST_MB))


def _memory_bytes(where: torch.device) -> int:
    """Returns the memory of a graphics card, or of the machine for all other devices."""
    if where.type == "cuda":
        return torch.cuda.get_device_properties(where).total_memory
    try:
        return min(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), _container_bytes())
    except (AttributeError, OSError, ValueError):  # no such question on this system
        return _SHARE * _LEAST_MB * MEGABYTE


def _container_bytes() -> int:
    """Returns the memory that a container allows; as good as infinite without a limit."""
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 2**63


class Model(Protocol):
    """What a loaded checkpoint and a loaded CLIP have in common."""

    @property
    def networks(self) -> tuple[nn.Module, ...]: ...


def _bytes_of(model: Model) -> int:
    """Returns the memory of a model: of its weights, and of its graphs."""
    return sum(map(_bytes_of_network, model.networks))


def _bytes_of_network(network: nn.Module) -> int:
    tensors = [*network.parameters(), *network.buffers()]
    return ways.memory_of(sum(tensor.nbytes for tensor in tensors), tensors[0].device)


class Models:
    """The loaded models of one kind; all kinds share one budget.

    Args:
        kind: of the models; keys of different kinds do not clash.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def get(self, key: str) -> Any:
        """Returns a loaded model, or None."""
        return _models.get((self._kind, key))

    def get_or_load(self, key: str, load: Callable[[], T]) -> T:
        """Returns a model; the first thread that needs it loads it, the others wait."""
        return _models.get_or_make((self._kind, key), load)

    def clear(self) -> None:
        """Drops all models of this kind."""
        _models.clear(lambda key: isinstance(key, tuple) and key[0] == self._kind)


_models: Cache[Any] = Cache(lambda: budget_mb() * MEGABYTE, _bytes_of)
