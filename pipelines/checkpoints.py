"""The table of checkpoints, and their loading: lazily, once, and safe from several threads."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn

from pipelines import runtime

BUNDLED = Path(__file__).resolve().parent.parent / "assets" / "checkpoints"
_WEIGHTS = "diffusion_pytorch_model*.safetensors"


class CheckpointError(Exception):
    """A checkpoint cannot be used; the message is one sentence for people."""


@dataclass(frozen=True)
class Checkpoint:
    """One row of the table.

    Attributes:
        key: the name that settings use.
        summary: what it draws and how it is steered, in a few words.
        size_px: side of its pictures.
        licence: terms of the weights.
        data: what it was trained on.
        source: where it comes from.
    """

    key: str
    summary: str
    size_px: int
    licence: str
    data: str
    source: str = "bundled"

    @property
    def folder(self) -> Path:
        """Where a bundled checkpoint lies."""
        return BUNDLED / self.key


@dataclass(frozen=True)
class Loaded:
    """A checkpoint in memory; its weights are shared and must not be changed.

    Attributes:
        unet: on the device, frozen, in evaluation mode.
        scheduler_config: what `sampling.make_scheduler` takes.
        revision: which weights these are.
    """

    checkpoint: Checkpoint
    unet: nn.Module
    scheduler_config: dict[str, Any]
    revision: str


def _digits(conditioning: str, how: str) -> Checkpoint:
    return Checkpoint(
        key=f"digits-{conditioning}",
        summary=f"handwritten digits, the class {how}",
        size_px=28,
        licence="CC BY-SA 3.0",
        data="MNIST",
    )


TABLE: dict[str, Checkpoint] = {
    row.key: row
    for row in (
        Checkpoint(
            key="paintings",
            summary="paintings, fine-tuned from scenes",
            size_px=64,
            licence="non-commercial research",
            data="WikiArt, works made 1929 or before",
        ),
        Checkpoint(
            key="scenes",
            summary="buildings, forests, glaciers, mountains, seas and streets",
            size_px=64,
            licence="research",
            data="Intel scene images",
        ),
        _digits("embedding", "embedded and added to the time embedding"),
        _digits("cross-attention", "as tokens that the picture attends to"),
        _digits("channels", "as extra input channels"),
    )
}

_loaded: dict[str, Loaded] = {}
_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
_guard = threading.Lock()


def load(key: str) -> Loaded:
    """The checkpoint, from memory if it was loaded before.

    Several threads may ask at once: one loads, the others wait for it. A failure is not kept, so
    that a repaired file works at the next try.

    Raises:
        ValueError: for an unknown key.
        CheckpointError: if its files are missing or damaged.
    """
    if key not in TABLE:
        raise ValueError(f"checkpoint must be one of {', '.join(TABLE)}, got {key!r}")
    with _guard:
        lock = _locks[key]
    with lock:
        if key not in _loaded:
            _loaded[key] = _load(TABLE[key])
        return _loaded[key]


def unload_all() -> None:
    """Forgets every loaded checkpoint, to free memory or to read changed files."""
    with _guard:
        _loaded.clear()
    revision_of.cache_clear()


def _load(row: Checkpoint) -> Loaded:
    problem = missing_files(row)
    if problem:
        raise CheckpointError(problem)
    try:
        config = json.loads((row.folder / "unet" / "config.json").read_text())
        scheduler = json.loads((row.folder / "scheduler" / "scheduler_config.json").read_text())
        with _no_progress_bar():
            unet = _network(config["_class_name"]).from_pretrained(
                row.folder / "unet", use_safetensors=True, low_cpu_mem_usage=False
            )
        revision = revision_of(row.folder)
    except Exception as error:  # safetensors, JSON and diffusers each have errors of their own
        raise CheckpointError(
            f"Checkpoint {row.key} cannot be loaded: its files are damaged; "
            "restore them from the project's repository."
        ) from error
    unet = unet.eval().requires_grad_(False).to(runtime.device())
    return Loaded(row, unet, scheduler, revision)


def _network(class_name: str) -> Any:
    import diffusers  # takes seconds, hence not before the first checkpoint is wanted

    from pipelines import unets

    return getattr(unets, class_name, None) or getattr(diffusers, class_name)


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Loading takes a blink, yet diffusers draws a bar for it into the log of the app."""
    from diffusers.utils import logging

    drawn = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            logging.enable_progress_bar()


def missing_files(row: Checkpoint) -> str:
    """One sentence on what is missing, or an empty string if the checkpoint is complete."""
    needed = [Path("unet", "config.json"), Path("scheduler", "scheduler_config.json")]
    missing = [str(path) for path in needed + _shards(row) if not (row.folder / path).is_file()]
    if not list((row.folder / "unet").glob(_WEIGHTS)):
        missing.append(f"unet/{_WEIGHTS}")
    if not missing:
        return ""
    return (
        f"Checkpoint {row.key} cannot be loaded, files are missing: {', '.join(missing)}; "
        "restore them from the project's repository."
    )


def _shards(row: Checkpoint) -> list[Path]:
    """The weight files that an index promises; none without a readable one."""
    try:
        (index,) = (row.folder / "unet").glob("*.safetensors.index.json")
        names = set(json.loads(index.read_text())["weight_map"].values())
        return [Path("unet", name) for name in sorted(names)]
    except (ValueError, KeyError, AttributeError):
        return []


@cache
def revision_of(folder: Path) -> str:
    """The first 12 hex digits of the SHA-256 of a bundled checkpoint's weights."""
    digest = hashlib.sha256()
    for path in sorted((folder / "unet").glob(_WEIGHTS)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def describe() -> list[dict[str, Any]]:
    """Every row of the table as plain data, with availability on this machine."""
    return [_describe(row) for row in TABLE.values()]


def _describe(row: Checkpoint) -> dict[str, Any]:
    problem = missing_files(row)
    return {
        "key": row.key,
        "summary": row.summary,
        "size_px": row.size_px,
        "licence": row.licence,
        "data": row.data,
        "source": row.source,
        "revision": "" if problem else revision_of(row.folder),
        "available": not problem,
        "problem": problem,
    }
