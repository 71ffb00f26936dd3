"""Where computing happens: the device, and one lock for each.

A step of a diffusion model wants the whole device. Two runs at once take turns step by step, so
neither fails nor doubles the memory.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict

import torch

_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
_locks_guard = threading.Lock()


def device() -> torch.device:
    """The device that models run on: `STUDIO_DEVICE` if set, else CUDA if there is any, else CPU.

    Raises:
        ValueError: if `STUDIO_DEVICE` names no device that PyTorch knows.
    """
    name = os.environ.get("STUDIO_DEVICE", "")
    if not name:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(name)
    except RuntimeError:
        raise ValueError(
            f"STUDIO_DEVICE must be a device such as cpu or cuda:0, got {name!r}"
        ) from None


def describe_device(where: torch.device | None = None) -> str:
    """A device (None is `device()`) in words: `CPU, 2 threads` or the graphics card's name."""
    where = where or device()
    if where.type == "cuda":
        return torch.cuda.get_device_name(where)
    threads = torch.get_num_threads()
    return f"{where.type.upper()}, {threads} thread{'s' if threads > 1 else ''}"


def device_lock(where: torch.device) -> threading.Lock:
    """The lock of one device; every caller gets the same one."""
    with _locks_guard:
        return _locks[str(where)]
