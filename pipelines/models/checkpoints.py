"""Checkpoints: loading them lazily, once, and safe from several threads; what is missing of one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from torch import nn

from pipelines.core import devices
from pipelines.core.cache import Cache
from pipelines.core.errors import CheckpointError
from pipelines.models import own_checkpoints
from pipelines.models.names import usable_own_checkpoints
from pipelines.models.own_checkpoints import Own
from pipelines.models.table import CLIPS, HUB, TABLE, Checkpoint, look_up, table


@dataclass(frozen=True)
class Loaded:
    """A checkpoint in memory; its weights are shared and must not be changed.

    Attributes:
        unet: on the device, frozen, in evaluation mode.
        scheduler_config: what `solvers.make_schedule` takes.
        revision: which weights these are.
    """

    checkpoint: Checkpoint
    unet: nn.Module
    scheduler_config: dict[str, Any]
    revision: str

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.unet.parameters()).device


_loaded: Cache[Loaded] = Cache()


def load(key: str) -> Loaded:
    """The checkpoint, from memory if it was loaded before.

    Raises:
        ValueError: for an unknown key.
        CheckpointError: if its files are missing or damaged.
    """
    row = TABLE.get(key) or HUB.get(key) or table().get(key)
    if row is None:
        raise ValueError(f"checkpoint must be one of {', '.join(table())}, got {key!r}")
    return _loaded.get_or_make(_cache_key(key), lambda: _load_own(row) if row.own else _load(row))


def _cache_key(key: str) -> str:
    """Cache key. Includes the path, so that a name that points elsewhere is loaded again."""
    return key + usable_own_checkpoints().get(key, "")


def loaded_revision(key: str) -> str:
    """Of a checkpoint that is in memory, else empty."""
    loaded = _loaded.get(_cache_key(key))
    return loaded.revision if loaded else ""


def unload_all() -> None:
    """Forgets every loaded checkpoint, to free memory or to read changed files."""
    _loaded.clear()
    revision_of.cache_clear()


def _load(row: Checkpoint) -> Loaded:
    problem = problem_of(row)
    if problem:
        raise problem
    try:
        config = json.loads((row.folder / "unet" / "config.json").read_text())
        scheduler = json.loads((row.folder / "scheduler" / "scheduler_config.json").read_text())
        unet, _ = _read(config["_class_name"], row.folder / "unet", safetensors=True)
        revision = revision_of(row.folder, row.weights)
    except Exception as error:  # safetensors, JSON and diffusers each have errors of their own
        raise CheckpointError("files_damaged", key=row.key) from error
    unet = unet.eval().requires_grad_(False).to(devices.device())
    return Loaded(row, unet, scheduler, revision)


def _load_own(row: Checkpoint) -> Loaded:
    found = own_checkpoints.find(row.key, row.own, fetch=True)
    try:
        unet, missing = _read(found.class_name, found.unet_folder, safetensors=found.safetensors)
        revision = own_revision(found)
    except Exception as error:  # safetensors, pickle and diffusers each have errors of their own
        raise CheckpointError("own_damaged", key=row.key) from error
    if missing:  # diffusers makes up random ones and only warns
        raise CheckpointError("own_damaged", key=row.key)
    _check_scheduler(row.key, found.scheduler_config)
    unet = unet.float().eval().requires_grad_(False).to(devices.device())
    return Loaded(replace(row, size_px=found.size_px), unet, found.scheduler_config, revision)


def _check_scheduler(key: str, config: dict[str, Any]) -> None:
    from diffusers import DDIMScheduler

    try:
        DDIMScheduler.from_config(config)
    except Exception as error:  # whatever its arithmetic makes of values that are none
        raise CheckpointError("own_schedule_damaged", key=key) from error


def own_revision(found: Own) -> str:
    """Which weights a model of the user's has: the commit if it is of the Hub, else their hash."""
    return found.commit or revision_of(found.unet_folder, found.weights)


def _read(class_name: str, folder: Path, *, safetensors: bool) -> tuple[Any, list[str]]:
    """A network, and the names of the weights that its files lack.

    Pickles are read by torch with `weights_only`, which runs no code that they hold.
    """
    with _no_progress_bar():
        unet, loading = network_class(class_name).from_pretrained(
            folder,
            use_safetensors=safetensors,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    return unet, loading["missing_keys"]


def network_class(class_name: str) -> Any:
    """The class that a config names, of the project's own or of diffusers."""
    import diffusers  # takes seconds, hence not before the first checkpoint is wanted

    from pipelines.diffusion import unets

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
    return str(problem_of(row) or "")


def problem_of(row: Checkpoint) -> CheckpointError | None:
    """What is missing, as an error to raise or to show; None if the checkpoint is complete."""
    if row.own:
        found = look_up(row.key, row.own)
        return found if isinstance(found, CheckpointError) else None
    if row.repo_id:
        return _not_fetched(row)
    needed = [Path(name) for name in row.needed]
    missing = [str(path) for path in needed + _shards(row) if not (row.folder / path).is_file()]
    if not list(row.folder.glob(row.weights)) and row.weights not in missing:
        missing.append(row.weights)
    if not missing:
        return None
    return CheckpointError("files_missing", key=row.key, files=", ".join(missing))


def _not_fetched(row: Checkpoint) -> CheckpointError | None:
    """The error if a checkpoint of the Hub is not in the cache."""
    kept = [try_to_load_from_cache(row.repo_id, name) for name in row.needed]
    if all(isinstance(path, str) for path in kept):
        return None
    return CheckpointError("not_fetched", key=row.key)


def _shards(row: Checkpoint) -> list[Path]:
    """The weight files that an index promises; none without a readable one."""
    try:
        (index,) = (row.folder / "unet").glob("*.safetensors.index.json")
        names = set(json.loads(index.read_text())["weight_map"].values())
        return [Path("unet", name) for name in sorted(names)]
    except (ValueError, KeyError, AttributeError):
        return []


@cache
def revision_of(folder: Path, weights: str) -> str:
    """The first 12 hex digits of the SHA-256 of the weights of a checkpoint.

    Args:
        folder: of the checkpoint.
        weights: pattern of the files of its weights.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.glob(weights)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def describe() -> list[dict[str, Any]]:
    """Every row of both tables as plain data, with availability on this machine.

    Of the user's own models only configs are read, and no weights but to tell the revision.
    """
    return [_describe(row) for row in (*table().values(), *CLIPS.values())]


def _describe(row: Checkpoint) -> dict[str, Any]:
    problem = missing_files(row)
    return {
        "key": row.key,
        "summary": row.summary,
        "size_px": row.size_px,
        "licence": row.licence,
        "data": row.data,
        "source": row.source,
        "revision": "" if problem else _revision_on_disk(row),
        "available": not problem,
        "problem": problem,
    }


def _revision_on_disk(row: Checkpoint) -> str:
    """The revision of a checkpoint that is complete, empty where it is not known."""
    if not row.own:
        return "" if row.repo_id else revision_of(row.folder, row.weights)
    found = look_up(row.key, row.own)
    try:
        return "" if isinstance(found, CheckpointError) else own_revision(found)
    except OSError:  # weights that may not be read
        return ""
