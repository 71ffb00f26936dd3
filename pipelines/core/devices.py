"""The device that models run on, one lock per device, precision and memory.

A step of a diffusion model uses the whole device. Two runs at once take turns step by step, so that
neither fails and memory does not double.
"""

from __future__ import annotations

import ctypes
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
"""Whether this is a Hugging Face Space on ZeroGPU, which lends a graphics card for each run."""

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}

_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
_locks_guard = threading.Lock()
_libc = ctypes.CDLL(None) if os.name == "posix" else None
_lent = threading.Event()  # set in the processes that were lent a card

# Out-of-memory errors without an exception class: on a CPU, and on a card that is already full.
_OUT_OF_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "_STATUS_ALLOC_FAILED")


def device() -> torch.device:
    """Returns the device that models run on: `STUDIO_DEVICE` if set, else CUDA, else the CPU.

    On ZeroGPU it is the CPU outside the processes that were lent a card, although PyTorch reports
    CUDA there.

    Raises:
        ValueError: if `STUDIO_DEVICE` names no device that PyTorch can use here.
    """
    name = os.environ.get("STUDIO_DEVICE", "")
    try:
        chosen = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        if name and not (ZERO_GPU and chosen.type == "cuda"):
            torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError):  # AssertionError: PyTorch was built without CUDA
        raise ValueError(
            f"STUDIO_DEVICE must be a device such as cpu or cuda:0, got {name!r}"
        ) from None
    return torch.device("cpu") if ZERO_GPU and not _lent.is_set() else chosen


def describe_device(where: torch.device | None = None) -> str:
    """Returns the name of a device (None: `device()`): `CPU, 2 threads`, or that of the card."""
    # PyTorch knows the card's name even before a card is lent.
    name_known = where is None and ZERO_GPU and torch.cuda.is_available()
    where = torch.device("cuda") if name_known else where or device()
    if where.type == "cuda":
        return torch.cuda.get_device_name(where)
    threads = torch.get_num_threads()
    return f"{where.type.upper()}, {threads} thread{'s' if threads > 1 else ''}"


def device_lock(where: torch.device) -> threading.Lock:
    """Returns the lock of a device; every caller gets the same one."""
    with _locks_guard:
        return _locks[str(where)]


def named_precision(where: torch.device) -> str:
    """Returns the precision that `STUDIO_PRECISION` names; empty if it names none.

    Raises:
        ValueError: if it is not fp32, bf16 or fp16, or is fp16 without a graphics card.
    """
    name = os.environ.get("STUDIO_PRECISION", "")
    if name and (name not in PRECISIONS or (name == "fp16" and where.type == "cpu")):
        accepted = "fp32, bf16 or, on a graphics card, fp16"
        raise ValueError(f"STUDIO_PRECISION must be {accepted}, got {name!r}")
    return name


def precision(where: torch.device) -> torch.dtype | None:
    """Returns the dtype that PyTorch's networks compute in, from `STUDIO_PRECISION`; None is fp32.

    Raises:
        ValueError: as `named_precision`.
    """
    return PRECISIONS[named_precision(where) or "fp32"]


def autocast(where: torch.device, named: str = "") -> AbstractContextManager[Any]:
    """Returns a context in which networks compute in a precision; their weights do not change.

    Args:
        where: the device.
        named: key of `PRECISIONS`; empty is `precision`.
    """
    dtype = PRECISIONS[named] if named else precision(where)
    return nullcontext() if dtype is None else torch.autocast(where.type, dtype=dtype)


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether a run failed because the device or the machine has too little memory.

    Also follows `__cause__`: a loader may report out-of-memory as a damaged file.
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, RuntimeError) and any(sign in str(error) for sign in _OUT_OF_MEMORY):
        return True
    return error.__cause__ is not None and is_out_of_memory(error.__cause__)


def free_memory(error: BaseException) -> None:
    """Frees the memory of a failed run: clears the frames that its error still refers to."""
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def return_freed_memory() -> None:
    """Gives freed memory back to the system; glibc else keeps more of it after each run."""
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        trim(0)


def on_lent_gpu(
    seconds: Callable[..., int], prepare: Callable[[], None]
) -> Callable[[Callable[..., Iterator[Any]]], Callable[..., Iterator[Any]]]:
    """Returns a decorator for generators: on ZeroGPU each run is lent a graphics card.

    There the generator runs in a forked process. Its arguments and values must be picklable, and
    its caller learns only the name of an error. Elsewhere the decorator changes nothing.

    Args:
        seconds: maps the generator's arguments to the time it may take.
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
