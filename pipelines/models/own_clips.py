"""The CLIP that a model told words brings with it, in `clip/`: its files, and whether it fits.

This module reads no weights, except to say why they do not load.
"""

from __future__ import annotations

import gzip
import json
import os.path
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from safetensors import safe_open

from pipelines.core.errors import CheckpointError, Several
from pipelines.core.rules import show

Features = Literal["embeddings", "last"]
"""Word embeddings of a CLIP that a network reads: before its transformer, or its outputs."""

FOLDER = "clip"
CONFIG_FILE = "open_clip_config.json"
MERGES_FILE, WORDS_FILE = "bpe_simple_vocab.txt.gz", "words.txt"
INDEX_FILE = "model.safetensors.index.json"
WEIGHTS_FILE = "open_clip_model.safetensors"
SINGLE_FILES = ("model.safetensors", WEIGHTS_FILE)
"""Names that the weights may have where they are one file; else `INDEX_FILE` lists them."""

NEEDED = tuple(f"{FOLDER}/{name}" for name in (CONFIG_FILE, MERGES_FILE, WORDS_FILE))
INDEX = f"{FOLDER}/{INDEX_FILE}"
COUNTED = (f"{FOLDER}/*.safetensors", *NEEDED)
"""Glob patterns of the files that decide the revision of a model."""


def find(key: str, folder: Path, network: Mapping[str, Any]) -> tuple[Path, ...]:
    """Returns the files of the CLIP of a user's own model.

    Args:
        key: name of the model in errors.
        folder: of the model.
        network: configuration of the network.

    Raises:
        CheckpointError: if one is missing, or the CLIP does not fit the network.
    """
    if not os.path.isdir(folder / FOLDER):
        raise CheckpointError("own_no_clip", key=key)
    try:
        weights = weights_in(folder / FOLDER)
    except (OSError, ValueError) as error:
        raise _damaged(key, INDEX_FILE) from error
    names = [*NEEDED, *(f"{FOLDER}/{name}" for name in weights)]
    missing = [name for name in names if not os.path.isfile(folder / name)]
    if missing:
        raise CheckpointError("own_files_missing", key=key, files=Several(missing))
    if network.get("features", "embeddings") not in get_args(Features):
        raise CheckpointError("own_config", key=key)
    _check_sizes(key, _sizes(key, folder / FOLDER / CONFIG_FILE), network)
    others = (folder / FOLDER).glob("*.json")
    return tuple(dict.fromkeys((*(folder / name for name in names), *others)))


def shards(index: Path) -> list[str]:
    """Returns the names that an index of weights lists, in order.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is no index.
    """
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        return sorted({str(name) for name in names})
    except (KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f"{index.name} is no index") from error


def weights_in(folder: Path) -> list[str]:
    """Returns the files that the weights of a CLIP lie in, of which some may be missing.

    Raises:
        OSError: if the index of several files cannot be read.
        ValueError: if it is no index.
    """
    if os.path.isfile(folder / INDEX_FILE):
        return shards(folder / INDEX_FILE)
    return [name for name in SINGLE_FILES if os.path.isfile(folder / name)][:1] or [INDEX_FILE]


def _sizes(key: str, path: Path) -> dict[str, int]:
    """Returns what the network must fit: length of a word's numbers, and of an embedding."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))["model_cfg"]
        text = config["text_cfg"]
        if any(name.startswith("hf_") for name in text):  # would be fetched from elsewhere
            raise ValueError("text_cfg names a model of the Hub")
        return {"width": int(text["width"]), "dim": int(config["embed_dim"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(key, CONFIG_FILE) from error


def _check_sizes(key: str, sizes: Mapping[str, int], network: Mapping[str, Any]) -> None:
    taken = (network.get("word_dim", 256), network.get("vector_dim", 513))
    given = (sizes["width"], 2 * sizes["dim"] + 1)
    if taken != given:
        word, vector = map(show, taken)
        raise CheckpointError(
            "own_clip_size", key=key, word=word, vector=vector, width=given[0], given=given[1]
        )


def error_of(key: str, folder: Path) -> CheckpointError:
    """Returns the error that says why a complete CLIP does not load.

    Args:
        key: name of the model.
        folder: of the CLIP.
    """
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt"):
                pass
        except Exception:  # safetensors and the disk each have errors of their own
            return _damaged(key, path.name)
    try:
        with gzip.open(folder / MERGES_FILE) as file:
            file.read()
    except (OSError, EOFError, ValueError):
        return _damaged(key, MERGES_FILE)
    return CheckpointError("own_clip_weights", key=key)


def _damaged(key: str, file: str) -> CheckpointError:
    return CheckpointError("own_clip_damaged", key=key, file=f"{FOLDER}/{file}")
