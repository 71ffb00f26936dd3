"""The table of checkpoints, and their loading: lazily, once, and safe from several threads."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from huggingface_hub import try_to_load_from_cache
from torch import nn

from pipelines.core import devices
from pipelines.core.assets import ASSETS
from pipelines.core.errors import CheckpointError
from pipelines.core.rules import usable_own_checkpoints
from pipelines.models import own_checkpoints
from pipelines.models.own_checkpoints import Own

BUNDLED = ASSETS / "checkpoints"

T = TypeVar("T")


@dataclass(frozen=True)
class Checkpoint:
    """One row of the table.

    Attributes:
        key: the name that settings use.
        summary: what it draws and how it is steered, in a few words.
        size_px: side of its pictures; 0 for a model of the user's that cannot be read yet.
        licence: terms of the weights.
        data: what it was trained on.
        source: where it comes from.
        repo_id: of the repository on the Hub; empty if bundled.
        needed: the files without which it is nothing.
        weights: the files of its weights.
        own: the folder or Hub id of a model that is read as it comes: one that the user gave, or
            of `HUB`; empty for all others.
    """

    key: str
    summary: str
    size_px: int
    licence: str
    data: str
    source: str = "bundled"
    repo_id: str = ""
    needed: tuple[str, ...] = ("unet/config.json", "scheduler/scheduler_config.json")
    weights: str = "unet/diffusion_pytorch_model*.safetensors"
    own: str = ""

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
        Checkpoint(
            key="emoji",
            summary="emoji in their own and other colours, on grounds of any",
            size_px=64,
            licence="Apache 2.0",
            data="Noto and Blob emoji",
        ),
        _digits("embedding", "embedded and added to the time embedding"),
        _digits("cross-attention", "as tokens that the picture attends to"),
        _digits("channels", "as extra input channels"),
    )
}


def _hub_clip(key: str, repo_id: str, licence: str, data: str) -> Checkpoint:
    return Checkpoint(
        key=key,
        summary="CLIP: how well words fit a picture, knows nearly every word",
        size_px=224,
        licence=licence,
        data=data,
        source=f"Hub: {repo_id}",
        repo_id=repo_id,
        needed=("open_clip_config.json", "open_clip_model.safetensors"),
        weights="open_clip_model.safetensors",
    )


CLIPS: dict[str, Checkpoint] = {
    row.key: row
    for row in (
        Checkpoint(
            key="clip-small",
            summary="CLIP: how well words fit a picture, knows some ten thousand words",
            size_px=64,
            licence="non-commercial research",
            data="WikiArt, Flickr8k, scenes, flowers, emoji",
            needed=(
                "open_clip_config.json",
                "open_clip_model.safetensors",
                "bpe_simple_vocab.txt.gz",
                "words.txt",
            ),
            weights="open_clip_model.safetensors",
        ),
        _hub_clip(
            "ViT-B-32",
            "timm/vit_base_patch32_clip_224.openai",
            "MIT",
            "400 million pairs of the internet, gathered by OpenAI",
        ),
        _hub_clip(
            "ViT-B-32-laion",
            "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
            "MIT",
            "2 billion pairs of the internet, LAION-2B",
        ),
    )
}


def _hub_model(key: str, repo_id: str, summary: str, data: str, licence: str) -> Checkpoint:
    return Checkpoint(
        key=key,
        summary=summary,
        size_px=256,
        licence=licence,
        data=data,
        source=f"Hub: {repo_id}",
        repo_id=repo_id,
        own=repo_id,
    )


HUB: dict[str, Checkpoint] = {
    row.key: row
    for row in (
        _hub_model(
            "wikiart-256",
            "johnowhitaker/sd-class-wikiart-from-bedrooms",
            "paintings of 256 px, the course's, fine-tuned from bedrooms-256",
            "WikiArt",
            "see the Hub",
        ),
        _hub_model(
            "bedrooms-256", "google/ddpm-bedroom-256", "bedrooms", "LSUN bedrooms", "Apache 2.0"
        ),
        _hub_model("celebahq-256", "google/ddpm-celebahq-256", "faces", "CelebA-HQ", "Apache 2.0"),
        _hub_model(
            "churches-256", "google/ddpm-church-256", "churches", "LSUN churches", "Apache 2.0"
        ),
        _hub_model("cats-256", "google/ddpm-cat-256", "cats", "LSUN cats", "Apache 2.0"),
    )
}
"""Stock models, which are read as the user's own are; fetched when they are first used."""


def table() -> dict[str, Checkpoint]:
    """The bundled checkpoints of `TABLE`, those of `HUB`, and the user's own models."""
    own = {key: _own_row(key, name) for key, name in usable_own_checkpoints().items()}
    return TABLE | HUB | own


def _own_row(key: str, name: str) -> Checkpoint:
    found, on_hub = _look(key, name), own_checkpoints.is_on_hub(name)
    return Checkpoint(
        key=key,
        summary="your own model",
        size_px=0 if isinstance(found, CheckpointError) else found.size_px,
        licence="see the Hub" if on_hub else "your own",
        data="unknown",
        source=f"Hub: {name}" if on_hub else "folder",
        repo_id=name if on_hub else "",
        own=name,
    )


def _look(key: str, name: str) -> Own | CheckpointError:
    """A model of the user's as far as it is on this machine, or what is wrong with it."""
    try:
        return own_checkpoints.find(key, name, fetch=False)
    except CheckpointError as error:
        return error


class Shelf(Generic[T]):
    """Things that are made once, when first asked for, however many threads ask at once.

    A failure is not kept, so that a repaired file works at the next try.
    """

    def __init__(self) -> None:
        self._made: dict[str, T] = {}
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._guard = threading.Lock()

    def get(self, key: str, make: Callable[[], T]) -> T:
        """What was made for the key; one thread makes it, the others wait."""
        with self._guard:
            lock = self._locks[key]
        with lock:
            if key not in self._made:
                self._made[key] = make()
            return self._made[key]

    def peek(self, key: str) -> T | None:
        """What was made for the key, if it was."""
        with self._guard:
            return self._made.get(key)

    def clear(self) -> None:
        """Forgets everything."""
        with self._guard:
            self._made.clear()


_shelf: Shelf[Loaded] = Shelf()


def load(key: str) -> Loaded:
    """The checkpoint, from memory if it was loaded before.

    Raises:
        ValueError: for an unknown key.
        CheckpointError: if its files are missing or damaged.
    """
    row = TABLE.get(key) or HUB.get(key) or table().get(key)
    if row is None:
        raise ValueError(f"checkpoint must be one of {', '.join(table())}, got {key!r}")
    return _shelf.get(_place(key), lambda: _load_own(row) if row.own else _load(row))


def _place(key: str) -> str:
    """Where a checkpoint is kept: with where it lies, lest another of that name be taken for it."""
    return key + usable_own_checkpoints().get(key, "")


def loaded_revision(key: str) -> str:
    """Of a checkpoint that is in memory, else empty."""
    loaded = _shelf.peek(_place(key))
    return loaded.revision if loaded else ""


def unload_all() -> None:
    """Forgets every loaded checkpoint, to free memory or to read changed files."""
    _shelf.clear()
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
        found = _look(row.key, row.own)
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
    found = _look(row.key, row.own)
    try:
        return "" if isinstance(found, CheckpointError) else own_revision(found)
    except OSError:  # weights that may not be read
        return ""
