"""Where computing happens: the device, and one lock for each.

A step of a diffusion model wants the whole device. Two runs at once take turns step by step, so
neither fails nor doubles the memory.
"""

from __future__ import annotations

import functools
import gc
import os
import threading
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

ZERO_GPU = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")
"""Whether this is a Space that is lent a graphics card for every run anew."""

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}

_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
_locks_guard = threading.Lock()
_lent = threading.Event()  # set in the processes that have a card

# Beside what has an exception of its own: on a CPU, and where a card is too full to begin with.
_OUT_OF_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "_STATUS_ALLOC_FAILED")


def device() -> torch.device:
    """The device that models run on: `STUDIO_DEVICE` if set, else CUDA if there is any, else CPU.

    On ZeroGPU it is the CPU outside the processes that were lent a card, though PyTorch seems to
    have CUDA there.

    Raises:
        ValueError: if `STUDIO_DEVICE` names no device that PyTorch knows.
    """
    name = os.environ.get("STUDIO_DEVICE", "")
    try:
        chosen = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError:
        raise ValueError(
            f"STUDIO_DEVICE must be a device such as cpu or cuda:0, got {name!r}"
        ) from None
    return torch.device("cpu") if ZERO_GPU and not _lent.is_set() else chosen


def describe_device(where: torch.device | None = None) -> str:
    """A device (None is `device()`) in words: `CPU, 2 threads` or the graphics card's name."""
    lent = where is None and ZERO_GPU and torch.cuda.is_available()  # its name is known before
    where = torch.device("cuda") if lent else where or device()
    if where.type == "cuda":
        return torch.cuda.get_device_name(where)
    threads = torch.get_num_threads()
    return f"{where.type.upper()}, {threads} thread{'s' if threads > 1 else ''}"


def device_lock(where: torch.device) -> threading.Lock:
    """The lock of one device; every caller gets the same one."""
    with _locks_guard:
        return _locks[str(where)]


def precision(where: torch.device) -> torch.dtype | None:
    """What the networks compute in: `STUDIO_PRECISION`, fp32, bf16 or fp16; None is fp32.

    Raises:
        ValueError: if it is none of these, or fp16 without a graphics card.
    """
    name = os.environ.get("STUDIO_PRECISION", "") or "fp32"
    if name not in PRECISIONS or (name == "fp16" and where.type == "cpu"):
        accepted = "fp32, bf16 or, on a graphics card, fp16"
        raise ValueError(f"STUDIO_PRECISION must be {accepted}, got {name!r}")
    return PRECISIONS[name]


def autocast(where: torch.device) -> AbstractContextManager[Any]:
    """Around a network: it computes in `precision`, and its weights stay as they are."""
    dtype = precision(where)
    return nullcontext() if dtype is None else torch.autocast(where.type, dtype=dtype)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a run failed since the device, or the machine, has too little memory for it.

    So it did if the error was raised from one of these, such as that of a file taken as damaged.
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, RuntimeError) and any(sign in str(error) for sign in _OUT_OF_MEMORY):
        return True
    return error.__cause__ is not None and is_out_of_memory(error.__cause__)


def free_memory(error: BaseException) -> None:
    """Gives back what a failed run held; its error, which still holds it, must let go."""
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def on_lent_gpu(
    seconds: Callable[..., int], prepare: Callable[[], None]
) -> Callable[[Callable[..., Iterator[Any]]], Callable[..., Iterator[Any]]]:
    """A decorator of generators that compute: on ZeroGPU each run is lent a graphics card.

    There the generator runs in a forked process, so that what it takes and yields must be
    picklable, and of an error its caller learns no more than the name. Elsewhere the decorator
    changes nothing.

    Args:
        seconds: the generator's arguments to how long it may take.
        prepare: called in every process that gets a card, before its first run.
    """

    def decorate(generator: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        if not ZERO_GPU:
            return generator
        import spaces  # pyright: ignore[reportMissingImports]

        @functools.wraps(generator)
        def with_card(*args: Any) -> Iterator[Any]:
            if not _lent.is_set():
                _lent.set()
                prepare()
            yield from generator(*args)

        return spaces.GPU(duration=seconds)(with_card)

    return decorate
