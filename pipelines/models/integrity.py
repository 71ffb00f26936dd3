"""Whether the files of a checkpoint are those that were published: SHA-256 of every one.

    python -m pipelines.models.integrity

writes the digests of the bundled files into `assets/sha256.json`, after one of them was replaced on
purpose. Loading compares each file that it reads, because a network with one wrong bit draws
another picture and says nothing. A user's own models have no digests and are not compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from pipelines.core.assets import ASSETS
from pipelines.core.errors import CheckpointError

DIGESTS_FILE = "sha256.json"
PATTERNS = (
    "checkpoints/*/unet/*.safetensors",
    "checkpoints/*/unet/*.json",
    "checkpoints/*/scheduler/*.json",
    "checkpoints/*/clip/*.safetensors",
    "checkpoints/*/clip/*.json",
    "checkpoints/*/clip/*.txt*",
    "checkpoints/*/open_clip_*",
    "checkpoints/*/*.txt*",
    "digit_judge.safetensors",
    "examples/*.png",
)
"""Glob patterns, below `assets`, of the bundled files that are read at run time."""

_BLOCK_BYTES = 2**20
_GIT_DIGITS, _SHA256_DIGITS = 40, 64


def bundled_files(assets: Path = ASSETS) -> list[Path]:
    """Returns the bundled files that are read at run time, of which digests are kept."""
    return sorted(path for pattern in PATTERNS for path in assets.glob(pattern))


def digests_of(assets: Path = ASSETS) -> dict[str, str]:
    """Returns the SHA-256 of all bundled files, by their path below `assets`."""
    return {path.relative_to(assets).as_posix(): sha256_of(path) for path in bundled_files(assets)}


def write_digests(assets: Path = ASSETS) -> Path:
    """Writes the digests of all bundled files; returns the path of the file."""
    path = assets / DIGESTS_FILE
    path.write_text(json.dumps(digests_of(assets), indent=2) + "\n", encoding="utf-8")
    return path


def replaced(path: Path) -> None:
    """Writes the digests again if a file or folder, replaced on purpose, is a bundled one."""
    if path.resolve().is_relative_to(ASSETS):
        write_digests()


def sha256_of(path: Path, also: hashlib._Hash | None = None) -> str:
    """Returns the SHA-256 of a file, as 64 hex digits.

    Args:
        path: of the file.
        also: another digest that gets the same bytes, so that the file is read only once.
    """
    return _digest_of(path, hashlib.sha256(), also)


def _digest_of(path: Path, digest: hashlib._Hash, also: hashlib._Hash | None = None) -> str:
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            if also is not None:
                also.update(block)
    return digest.hexdigest()


@cache
def revision_of(folder: Path, *patterns: str) -> str:
    """Returns the first 12 hex digits of the SHA-256 of the weights of a checkpoint.

    Args:
        folder: of the checkpoint.
        patterns: glob patterns of the files that count, in their order.
    """
    return hashed(folder, *patterns)[0]


def hashed(folder: Path, *patterns: str) -> tuple[str, dict[Path, str]]:
    """Returns the revision of the weights of a checkpoint, and the SHA-256 of each of the files."""
    together = hashlib.sha256()
    paths = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    digests = {path: sha256_of(path, also=together) for path in paths}
    return together.hexdigest()[:12], digests


def check_bundled(key: str, assets: Path, found: Mapping[Path, str]) -> None:
    """Compares files with the digests of the folder that they come with.

    A folder other than the project's own may have no digests; then nothing is compared.

    Args:
        key: name of the checkpoint in errors.
        assets: folder with the digests.
        found: SHA-256 of each file that loading reads.

    Raises:
        CheckpointError: if a file is not the published one, naming it.
    """
    if assets != ASSETS and not (assets / DIGESTS_FILE).is_file():
        return
    published = _published(key, assets)
    for path, digest in found.items():
        if published.get(path.relative_to(assets).as_posix()) != digest:
            raise CheckpointError("file_damaged", key=key, file=path.name)


def _published(key: str, assets: Path) -> Mapping[str, str]:
    try:
        published = json.loads((assets / DIGESTS_FILE).read_text(encoding="utf-8"))
        return dict(published)
    except (OSError, TypeError, ValueError) as error:
        raise CheckpointError("file_damaged", key=key, file=DIGESTS_FILE) from error


def check_fetched(key: str, paths: Iterable[Path]) -> None:
    """Compares files in the cache of the Hub with the Hub's own digests, which are their names.

    The cache stores a large file under its SHA-256 and a small one under git's SHA-1. A system
    without symbolic links has no such names, and nothing is compared there.

    Args:
        key: name of the checkpoint in errors.
        paths: files of a snapshot.

    Raises:
        CheckpointError: if a file is not what the Hub sent, naming it.
    """
    for path in paths:
        blob = path.resolve()
        if blob.parent.name == "blobs" and not _is_named_by_content(blob):
            raise CheckpointError("hub_file_damaged", key=key, file=path.name)


def _is_named_by_content(blob: Path) -> bool:
    if len(blob.name) == _SHA256_DIGITS:
        return sha256_of(blob) == blob.name
    if len(blob.name) == _GIT_DIGITS:
        header = f"blob {blob.stat().st_size}\0".encode()
        return _digest_of(blob, hashlib.sha1(header, usedforsecurity=False)) == blob.name
    return True  # a mirror of the Hub may name its files otherwise


if __name__ == "__main__":
    print(write_digests())
