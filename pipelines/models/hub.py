"""Fetching from the Hugging Face Hub: into its cache, with progress, and with reasons when not.

Files lie in the cache of `huggingface_hub`: what was fetched once needs no network, a file whose
transfer breaks is gone on with, and nothing half-fetched has a name under which it could be used.
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
from huggingface_hub import HfApi, constants, get_session, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tqdm.auto import tqdm

from pipelines.core.errors import CheckpointError, Message
from pipelines.core.rules import show

_REFUSED, _BUSY, _FIRST_SERVER_ERROR = (401, 403), 429, 500
_UNKNOWN_TOKEN = "Invalid credentials in Authorization header"
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_DISK_CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_TORN = ("Consistency check failed", "without sending complete message body")
_PASSING = {
    "no_answer",
    "hub_slow",
    "hub_busy",
    "hub_broken",
    "hub_truncated",
    "hub_disk_full",
    "hub_disk_closed",
}


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
        return _fetch(key, repo_id, patterns, revision)
    except CheckpointError:
        raise
    except Exception as error:  # the client, HTTP and the disk each have errors of their own
        if kept is not None and _passes(error):
            return kept
        raise CheckpointError("hub_failed", key=key, reason=reason_of(error)) from error
    finally:
        with _guard:
            _downloads.pop(key, None)


def _fetch(key: str, repo_id: str, patterns: Sequence[str], revision: str) -> Path:
    _limit_waiting()
    info = HfApi().model_info(repo_id, revision=revision)
    wanted = wanted_files([entry.rfilename for entry in info.siblings or []], patterns)
    _check_complete(key, wanted, patterns)
    folder = ""
    # The branch comes last, so that until then it means what was whole before.
    for version in (info.sha, revision):
        folder = snapshot_download(
            repo_id, revision=version, allow_patterns=wanted, tqdm_class=_bar_of(key)
        )
    return Path(folder)


def _limit_waiting() -> None:
    """Makes the client wait for no answer without end, as it does for lists of files."""
    hooks = get_session().event_hooks
    if _with_limit not in hooks["request"]:
        get_session().event_hooks = hooks | {"request": [*hooks["request"], _with_limit]}


def _with_limit(request: httpx.Request) -> None:
    limits = request.extensions.get("timeout", {})
    if request.method == "GET" and not any(limits.values()):
        limit = httpx.Timeout(constants.HF_HUB_ETAG_TIMEOUT)
        request.extensions = request.extensions | {"timeout": limit.as_dict()}


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
        raise CheckpointError("hub_failed", key=key, reason=Message("hub_no_file", file=missing))


def cached(repo_id: str, patterns: Sequence[str], *, revision: str = "main") -> Path | None:
    """The folder of a repository as it was fetched before; None if it was not, or not wholly."""
    # Where there are safetensors, pickles were not fetched.
    folder = _cached(repo_id, patterns, revision, but="*.bin")
    if folder is None or any(folder.rglob("*.safetensors")):
        return folder
    return _cached(repo_id, patterns, revision)


def _cached(
    repo_id: str, patterns: Sequence[str], revision: str, but: str | None = None
) -> Path | None:
    try:
        folder = snapshot_download(
            repo_id,
            revision=revision,
            allow_patterns=list(patterns),
            ignore_patterns=but,
            local_files_only=True,
        )
    except (LocalEntryNotFoundError, HFValidationError, OSError, ValueError):
        return None
    return Path(folder)


def reason_of(error: BaseException) -> str:
    """Why something could not be fetched, in words for people."""
    found = (_reason(cause) for cause in chain_of(error))
    said = next((reason for reason in found if reason), None)
    return said or show((str(error) or type(error).__name__).splitlines()[0])


def chain_of(error: BaseException) -> list[BaseException]:
    """An error and those that it came from: what is told last is often not what happened."""
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in found:
        found.append(cause)
        cause = cause.__cause__ or cause.__context__
    return found


def _reason(error: BaseException) -> Message | None:
    """What an error means for people; nothing for those that say too little."""
    if isinstance(error, GatedRepoError):
        return Message("hub_gated")
    if isinstance(error, RepositoryNotFoundError):
        return Message("no_repository")
    if isinstance(error, RevisionNotFoundError):
        return Message("hub_no_revision")
    if isinstance(error, HfHubHTTPError):
        return _reason_of_answer(error.response)
    return _reason_of_disk(error) or _reason_of_network(error)


def _reason_of_answer(answer: httpx.Response) -> Message | None:
    status = answer.status_code
    if answer.headers.get("X-Error-Message") == _UNKNOWN_TOKEN:
        return Message("hub_token")
    if status in _REFUSED:
        return Message("no_repository")
    if status == _BUSY:
        return Message("hub_busy")
    return Message("hub_broken") if status >= _FIRST_SERVER_ERROR else None


def _reason_of_disk(error: BaseException) -> Message | None:
    number = error.errno if isinstance(error, OSError) else None
    if number in _DISK_FULL:
        return Message("hub_disk_full")
    return Message("hub_disk_closed") if number in _DISK_CLOSED else None


def _reason_of_network(error: BaseException) -> Message | None:
    if isinstance(error, httpx.TimeoutException):
        return Message("hub_slow")
    if any(sign in str(error) for sign in _TORN):
        return Message("hub_truncated")
    if isinstance(error, (httpx.TransportError, ConnectionError)):  # offline mode is one
        return Message("no_answer")
    return None


def _passes(error: BaseException) -> bool:
    """Whether it might work another time, so that what is in the cache does until then."""
    reasons = [_reason(cause) for cause in chain_of(error)]
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
