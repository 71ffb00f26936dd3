"""Lets only one process train in a folder."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

LOCK_FILE = "run.lock"
HOLDER_FILE = "run.lock.json"


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Holds the lock of a run's folder; the operating system frees it when the process dies.

    Of several processes of one run, only the first takes the lock.

    Raises:
        ValueError: if another process trains in the folder.
        OSError: if the folder cannot be written.
    """
    if os.environ.get("RANK", "0") != "0":  # `accelerate launch` sets it
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK_FILE, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(
            f"{folder} must be the folder of one process at a time, got a second one; "
            f"{_holder(folder)} trains there"
        ) from None
    try:
        _write_holder(folder)
        yield
    finally:
        _clean_up(folder)
        lock.release()


def _write_holder(folder: Path) -> None:
    """Writes who holds the lock, beside it: opening the lock itself empties it."""
    since = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    temporary = folder / f"{HOLDER_FILE}.tmp"
    temporary.write_text(json.dumps(holder), encoding="utf-8")
    os.replace(temporary, folder / HOLDER_FILE)


def _holder(folder: Path) -> str:
    try:
        holder = json.loads((folder / HOLDER_FILE).read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']}, since {holder['since']},"
    except (OSError, ValueError, KeyError, TypeError):  # it has only just taken the lock
        return "another process"


def _clean_up(folder: Path) -> None:
    """Removes the files of the lock, and the folder if a run left nothing in it."""
    (folder / HOLDER_FILE).unlink(missing_ok=True)
    with suppress(OSError):  # Windows keeps an open file; a folder may hold a run
        (folder / LOCK_FILE).unlink()
        folder.rmdir()
