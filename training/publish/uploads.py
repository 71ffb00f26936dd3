"""Uploading to the Hub: what is to be sent, compared with what is there, and sending it."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.hf_api import RepoFile

from training.publish.access import Kind, reason_of, visibility_of

LARGEST_REGULAR_FILE = 10_000_000
"""Bytes; the Hub takes nothing larger outside LFS."""

# Of the names that the `.gitattributes` of every new repository gives to LFS, those that may occur.
_LFS_NAMES = ("*.safetensors", "*.gz", "*.bin", "*.ckpt", "*.parquet", "*.pt", "*.zip")


@dataclass(frozen=True)
class File:
    """Something to upload.

    Attributes:
        path: in the repository.
        content: the file here that it is a copy of, or the bytes themselves.
    """

    path: str
    content: Path | bytes

    @property
    def size(self) -> int:
        """In bytes."""
        if isinstance(self.content, bytes):
            return len(self.content)
        return self.content.stat().st_size

    @property
    def lfs(self) -> bool:
        """Whether it is one of the large files, which Git knows by their hash alone."""
        return any(fnmatch.fnmatchcase(Path(self.path).name, name) for name in _LFS_NAMES)

    def read(self) -> bytes:
        """Its bytes."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


@dataclass(frozen=True)
class Plan:
    """What an upload would do.

    Attributes:
        repo_id: with its owner.
        kind: "model" or "space".
        exists: whether the repository is there.
        private: whether it is, or will be.
        changed: files to send.
        same: files that the Hub has already.
        gone: paths on the Hub that belong to no file any more.
    """

    repo_id: str
    kind: Kind
    exists: bool
    private: bool
    changed: tuple[File, ...]
    same: tuple[File, ...]
    gone: tuple[str, ...]

    @property
    def nothing_to_do(self) -> bool:
        """Whether the Hub has everything."""
        return self.exists and not self.changed and not self.gone


def check_sizes(files: Iterable[File]) -> None:
    """Makes sure that the Hub takes the files.

    Raises:
        ValueError: if one is too large for what its name says that it is.
    """
    for file in files:
        if file.size > LARGEST_REGULAR_FILE and not file.lfs:
            raise ValueError(
                f"{file.path} must have 10 MB or less, got {file.size:,} bytes: the Hub takes "
                f"larger ones only under names such as {', '.join(_LFS_NAMES[:3])}"
            )


def make_plan(
    repo_id: str,
    kind: Kind,
    files: Iterable[File],
    *,
    private: bool = False,
    ours: Sequence[str] = (),
    reachable: bool = True,
) -> Plan:
    """Compares files with those on the Hub, by their hashes.

    Args:
        repo_id: `owner/name`.
        kind: "model" or "space".
        files: all that the repository should have.
        private: what a new repository would be.
        ours: patterns of paths; what matches on the Hub and is not among the files is to go.
        reachable: whether to ask the Hub; else the repository is taken to be new.

    Raises:
        ConnectionError: if the Hub does not tell.
    """
    files = tuple(files)
    try:
        visibility = visibility_of(repo_id, kind) if reachable else None
        there = _tree(repo_id, kind) if visibility else {}
    except Exception as error:  # network and Hub each have errors of their own
        raise ConnectionError(f"{repo_id} could not be read ({reason_of(error)})") from error
    same = tuple(file for file in files if _is_same(file, there.get(file.path)))
    names = {file.path for file in files}
    return Plan(
        repo_id=repo_id,
        kind=kind,
        exists=visibility is not None,
        private=visibility == "private" if visibility else private,
        changed=tuple(file for file in files if file not in same),
        same=same,
        gone=tuple(
            path
            for path in sorted(there)
            if path not in names and any(fnmatch.fnmatchcase(path, name) for name in ours)
        ),
    )


def _tree(repo_id: str, kind: Kind) -> dict[str, RepoFile]:
    entries = HfApi().list_repo_tree(repo_id, recursive=True, repo_type=kind)
    return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


def _is_same(file: File, there: RepoFile | None) -> bool:
    """Whether the Hub has these bytes: by SHA-256 if they are in LFS, else by Git's hash."""
    if there is None or there.size != file.size:
        return False
    content = file.read()
    if there.lfs:
        return there.lfs.sha256 == hashlib.sha256(content).hexdigest()
    return there.blob_id == hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def send(plan: Plan, message: str) -> str:
    """Uploads what has changed, in one commit; returns the commit's address.

    Large files that an interrupted upload has sent are not sent again.

    Raises:
        ConnectionError: one sentence, if that fails; then the repository is as it was.
    """
    operations = [
        *(CommitOperationAdd(file.path, file.content) for file in plan.changed),
        *(CommitOperationDelete(path) for path in plan.gone),
    ]
    try:
        made = HfApi().create_commit(
            plan.repo_id, operations, commit_message=message, repo_type=plan.kind
        )
    except Exception as error:  # network and Hub each have errors of their own
        raise ConnectionError(
            f"{plan.repo_id} could not be uploaded ({reason_of(error)})"
        ) from error
    return made.commit_url
