"""Loads checkpoints lazily, once, from any thread, and reports missing files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from torch import nn

from pipelines.core import devices
from pipelines.core.errors import CheckpointError, Several
from pipelines.diffusion.schedules import alphas_cumprod
from pipelines.models import integrity, own_checkpoints, own_clips, own_weights
from pipelines.models.clip_folder import VocabularyError
from pipelines.models.integrity import revision_of
from pipelines.models.memory import Models
from pipelines.models.names import usable_own_checkpoints
from pipelines.models.own_checkpoints import Own
from pipelines.models.passes import Denoising
from pipelines.models.table import CLIPS, HUB, TABLE, Checkpoint, look_up, table
from pipelines.models.word_features import Reader, load_reader

NOT_OF_FILES = (ImportError, MemoryError, torch.OutOfMemoryError)
"""Errors while a checkpoint is loaded that say nothing of its files."""


@dataclass(frozen=True)
class Loaded:
    """A checkpoint in memory; its weights are shared and must not be changed.

    Attributes:
        unet: on the device, frozen, in evaluation mode.
        scheduler_config: configuration for `solvers.make_schedule`.
        revision: identifies the weights: commit or hash.
        reader: makes the inputs of a network that is told words or a picture; None if it is not.
    """

    checkpoint: Checkpoint
    unet: nn.Module
    scheduler_config: dict[str, Any]
    revision: str
    reader: Reader | None = None

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """The networks, whose weights take nearly all the memory."""
        return (self.unet, self.reader.clip.model) if self.reader else (self.unet,)

    @cached_property
    def denoise(self) -> Denoising:
        """The network as the sampler calls it; without a condition it draws anything."""
        null = self.reader.condition([""]).inputs if self.reader else None
        return Denoising(self.checkpoint.key, self.unet, null=null)

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.unet.parameters()).device


_loaded = Models("checkpoint")


def load(key: str) -> Loaded:
    """Returns a checkpoint; loads it on first use.

    Raises:
        ValueError: for an unknown key.
        CheckpointError: if its files are missing or damaged.
    """
    row = TABLE.get(key) or HUB.get(key) or table().get(key)
    if row is None:
        raise ValueError(f"checkpoint must be one of {', '.join(table())}, got {key!r}")
    return _loaded.get_or_load(_cache_key(key), lambda: _load_own(row) if row.own else _load(row))


def _cache_key(key: str) -> str:
    """Returns the cache key, with the path: a name that points elsewhere is loaded again."""
    return key + usable_own_checkpoints().get(key, "")


def loaded_revision(key: str) -> str:
    """Returns the revision of a checkpoint if it is loaded, else an empty string."""
    loaded = _loaded.get(_cache_key(key))
    return loaded.revision if loaded else ""


def unload_all() -> None:
    """Drops all loaded checkpoints, to free memory or to read changed files."""
    _loaded.clear()
    revision_of.cache_clear()


def _load(row: Checkpoint) -> Loaded:
    problem = problem_of(row)
    if problem:
        raise problem
    revision = check_files(row)
    try:
        config = json.loads((row.folder / "unet" / "config.json").read_text())
        scheduler = json.loads((row.folder / "scheduler" / "scheduler_config.json").read_text())
        unet, _ = _read(config["_class_name"], row.folder / "unet", safetensors=True)
        reader = load_reader(row, row.folder, config) if row.conditions else None
    except NOT_OF_FILES:
        raise
    except Exception as error:  # safetensors, JSON and diffusers each have errors of their own
        raise CheckpointError("files_damaged", key=row.key) from error
    unet = unet.eval().requires_grad_(False).to(devices.device())
    return Loaded(row, unet, scheduler, revision, reader)


def _load_own(row: Checkpoint) -> Loaded:
    own = own_checkpoints.find(row.key, row.own, fetch=True)
    if own.commit:
        integrity.check_fetched(row.key, own.files)
    try:
        unet, missing = _read(
            own.class_name,
            own.unet_folder,
            safetensors=own.weights.safetensors,
            variant=own.weights.variant,
        )
        revision = own_revision(own)
    except NOT_OF_FILES:
        raise
    except Exception as error:  # safetensors, pickle and diffusers each have errors of their own
        raise own_weights.error_of(row.key, own, network_class(own.class_name)) from error
    if missing:  # diffusers initialises them randomly and only warns
        raise own_weights.error_of(row.key, own, network_class(own.class_name))
    _check_scheduler(row.key, own.scheduler_config)
    unet = unet.float().eval().requires_grad_(False).to(devices.device())
    row = replace(row, size_px=own.size_px, conditions=own.conditions)
    reader = _own_reader(row, own, unet.config) if own.conditions else None
    return Loaded(row, unet, own.scheduler_config, revision, reader)


def _own_reader(row: Checkpoint, own: Own, config: Mapping[str, Any]) -> Reader:
    """Returns what reads words and pictures for a user's own model."""
    try:
        return load_reader(row, own.folder, config)
    except NOT_OF_FILES:
        raise
    except VocabularyError as error:
        raise CheckpointError("own_clip_vocabulary", key=row.key) from error
    except Exception as error:  # open_clip, safetensors and torch each have errors of their own
        raise own_clips.error_of(row.key, own.folder / own_clips.FOLDER) from error


def _check_scheduler(key: str, config: dict[str, Any]) -> None:
    try:
        alpha_bar = alphas_cumprod(config)
    except Exception as error:  # wrong values may raise any error in its arithmetic
        raise CheckpointError("own_schedule_damaged", key=key) from error
    # Betas that are not numbers, or not between 0 and 1, would make noise of every picture.
    is_falling = bool((alpha_bar[1:] <= alpha_bar[:-1]).all())
    if not (is_falling and alpha_bar[0] <= 1 and alpha_bar[-1] > 0):
        raise CheckpointError("own_schedule_damaged", key=key)


def own_revision(own: Own) -> str:
    """Returns the revision of a user's own model: the commit on the Hub, else the weights' hash."""
    return own.commit or revision_of(own.folder, *own.counted)


def _read(
    class_name: str, folder: Path, *, safetensors: bool, variant: str | None = None
) -> tuple[Any, list[str]]:
    """Returns a network and the names of the weights that are missing in its files.

    torch reads pickles with `weights_only`, which does not run code inside them.
    """
    with _no_progress_bar():
        unet, loading = network_class(class_name).from_pretrained(
            folder,
            use_safetensors=safetensors,
            variant=variant,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    return unet, loading["missing_keys"]


def network_class(class_name: str) -> Any:
    """Returns a network class by its name in a config, from this project or from diffusers."""
    import diffusers  # takes seconds to import

    from pipelines.diffusion import unets

    return getattr(unets, class_name, None) or getattr(diffusers, class_name)


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Hides the progress bar that diffusers would print into the app's log for each loading."""
    from diffusers.utils import logging

    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()


def missing_files(row: Checkpoint) -> str:
    """Returns one sentence about the missing files; empty if the checkpoint is complete."""
    return str(problem_of(row) or "")


def problem_of(row: Checkpoint) -> CheckpointError | None:
    """Returns an error about what is missing or wrong; None if the checkpoint is complete."""
    if row.own:
        result = look_up(row.key, row.own)
        return result if isinstance(result, CheckpointError) else None
    if row.repo_id:
        return _not_fetched(row)
    needed = [Path(name) for name in row.needed]
    missing = [str(path) for path in needed + _shards(row) if not (row.folder / path).is_file()]
    if not list(row.folder.glob(row.weights)) and row.weights not in missing:
        missing.append(row.weights)
    if not missing:
        return None
    return CheckpointError("files_missing", key=row.key, files=Several(missing))


def _not_fetched(row: Checkpoint) -> CheckpointError | None:
    """Returns an error if a checkpoint of the Hub is not in its cache, else None."""
    cached = [try_to_load_from_cache(row.repo_id, name) for name in row.needed]
    if all(isinstance(path, str) for path in cached):
        return None
    return CheckpointError("not_fetched", key=row.key)


def _shards(row: Checkpoint) -> list[Path]:
    """Returns the weight files that an index lists; none for an index that cannot be read."""
    indexes = sorted(row.folder.glob("*/*.safetensors.index.json"))
    listed: list[Path] = []
    for index in indexes:
        with suppress(OSError, ValueError):
            listed += [Path(index.parent.name, name) for name in own_clips.shards(index)]
    return listed


def check_files(row: Checkpoint) -> str:
    """Reads all files of a complete bundled checkpoint; returns the revision of its weights.

    Raises:
        CheckpointError: if a file is not the published one, naming it.
    """
    revision, digests = integrity.hashed(row.folder, *row.counted)
    indexes = (path for part in ("unet", "clip") for path in row.folder.glob(f"{part}/*.json"))
    others = {row.folder / name for name in row.needed} | set(indexes)
    digests |= {path: integrity.sha256_of(path) for path in others - set(digests)}
    integrity.check_bundled(row.key, row.folder.parent.parent, digests)
    return revision


def describe() -> list[dict[str, Any]]:
    """Returns all rows of both tables as plain data, with their availability on this machine.

    For the user's own models, it reads the configs, and the weights only for the revision.
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
    """Returns the revision of a complete checkpoint; empty if it is unknown."""
    if not row.own:
        return "" if row.repo_id else revision_of(row.folder, *row.counted)
    result = look_up(row.key, row.own)
    try:
        return "" if isinstance(result, CheckpointError) else own_revision(result)
    except OSError:  # no permission to read the weights
        return ""
