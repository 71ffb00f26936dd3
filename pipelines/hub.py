"""Fetching from the Hugging Face Hub: into its cache, with progress, and with reasons when not.

Files lie in the cache of `huggingface_hub`: what was fetched once needs no network, what was broken
off is gone on with, and nothing half-fetched has a name under which it could be used.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import httpx
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tqdm.auto import tqdm

from pipelines.sentences import CheckpointError, Said
from pipelines.settings import show

_BUSY, _FIRST_SERVER_ERROR = 429, 500
_PASSING = {"no_answer", "hub_slow", "hub_busy", "hub_broken"}


@dataclass(frozen=True)
class Download:
    """How far a download is, in bytes; the total grows while the list of files is being read."""

    done: int
    total: int


_downloads: dict[str, Download] = {}
_guard = threading.Lock()


def download_of(key: str) -> Download | None:
    """How far the download of a checkpoint is; None if there is none."""
    with _guard:
        return _downloads.get(key)


def fetch(key: str, repo_id: str, patterns: Sequence[str], *, revision: str = "main") -> Path:
    """The folder of a repository in the cache, complete.

    Args:
        key: what errors and `download_of` call it.
        repo_id: on the Hub.
        patterns: of the files that are wanted.
        revision: a branch, a tag or a commit.

    Raises:
        CheckpointError: one sentence on why it cannot be had.
    """
    kept = cached(repo_id, patterns, revision=revision)
    try:
        info = HfApi().model_info(repo_id, revision=revision)
        wanted = wanted_files([entry.rfilename for entry in info.siblings or []], patterns)
        _check_complete(key, wanted, patterns)
        return Path(
            snapshot_download(
                repo_id, revision=revision, allow_patterns=wanted, tqdm_class=_bar_of(key)
            )
        )
    except CheckpointError:
        raise
    except Exception as error:  # the client, HTTP and the disk each have errors of their own
        if kept is not None and _is_outage(error):
            return kept
        raise CheckpointError("hub_failed", key=key, reason=reason_of(error)) from error
    finally:
        with _guard:
            _downloads.pop(key, None)


def wanted_files(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The files of a repository that fit; no pickles where there are safetensors."""
    fitting = [name for name in names if any(fnmatch(name, pattern) for pattern in patterns)]
    safe = any(name.endswith(".safetensors") for name in fitting)
    return [name for name in fitting if not (safe and name.endswith(".bin"))]


def _check_complete(key: str, wanted: Sequence[str], patterns: Sequence[str]) -> None:
    """Refuses a repository without a file that is asked for by its very name."""
    named = [pattern for pattern in patterns if "*" not in pattern]
    missing = next((name for name in named if name not in wanted), None)
    if missing is not None:
        raise CheckpointError("hub_failed", key=key, reason=Said("hub_no_file", file=missing))


def cached(repo_id: str, patterns: Sequence[str], *, revision: str = "main") -> Path | None:
    """The folder of a repository as it was fetched before; None if it was not, or not wholly."""
    try:
        return Path(
            snapshot_download(
                repo_id, revision=revision, allow_patterns=list(patterns), local_files_only=True
            )
        )
    except (LocalEntryNotFoundError, HFValidationError, OSError, ValueError):
        return None


def reason_of(error: BaseException) -> str:
    """Why something could not be fetched, in words for people."""
    found = (_reason(cause) for cause in _chain(error))
    said = next((reason for reason in found if reason), None)
    return said or show((str(error) or type(error).__name__).splitlines()[0])


def _chain(error: BaseException) -> list[BaseException]:
    """An error and those that it came from: what is told last is often not what happened."""
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in found:
        found.append(cause)
        cause = cause.__cause__ or cause.__context__
    return found


def _reason(error: BaseException) -> Said | None:
    """What an error means for people; nothing for those that say too little."""
    if isinstance(error, GatedRepoError):
        return Said("hub_gated")
    if isinstance(error, RepositoryNotFoundError):
        return Said("no_repository")
    if isinstance(error, RevisionNotFoundError):
        return Said("hub_no_revision")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Said("hub_disk_full")
    if isinstance(error, httpx.TimeoutException):
        return Said("hub_slow")
    if isinstance(error, HfHubHTTPError):
        return _reason_of_status(error.response.status_code)
    if isinstance(error, (httpx.TransportError, ConnectionError)):  # offline mode is one
        return Said("no_answer")
    if "Consistency check failed" in str(error):
        return Said("hub_truncated")
    return None


def _reason_of_status(status: int) -> Said | None:
    if status == _BUSY:
        return Said("hub_busy")
    return Said("hub_broken") if status >= _FIRST_SERVER_ERROR else None


def _is_outage(error: BaseException) -> bool:
    """Whether the Hub might answer another time, so that what is in the cache does until then."""
    reasons = [_reason(cause) for cause in _chain(error)]
    return any(reason is not None and reason.kind in _PASSING for reason in reasons)


def _bar_of(key: str) -> type[Any]:
    """A progress bar that draws nothing and keeps `download_of` up to date."""

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # Of two bars of bytes one counts what came over the network, the other what is there.
            network = str(kwargs.get("desc", "")).startswith("Downloading")
            self._counts_bytes = kwargs.get("unit") == "B" and not network
            super().__init__(*args, **kwargs | {"disable": True})
            # A disabled bar counts nothing; this one counts, and only draws nothing.
            self.n, self.total = kwargs.get("initial", 0) or 0, kwargs.get("total") or 0

        def update(self, n: float | None = 1) -> bool | None:
            self.n += n or 0
            if self._counts_bytes:
                with _guard:
                    _downloads[key] = Download(int(self.n), int(self.total or 0))
            return None

    return Bar
