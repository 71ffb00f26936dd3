"""Downloads from the Hugging Face Hub, with progress and clear reasons for failures.

Files go to the cache of `huggingface_hub`: a cached file needs no network, a broken transfer is
resumed, and an incomplete file is never used.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
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
_TRUNCATED = ("Consistency check failed", "without sending complete message body")
_TEMPORARY = {
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
    """Progress of a download in bytes; the total grows while the list of files is read."""

    done: int
    total: int


_downloads: dict[str, Download] = {}
_guard = threading.Lock()


def download_of(key: str) -> Download | None:
    """Returns the progress of a checkpoint's download; None if it is not being downloaded."""
    with _guard:
        return _downloads.get(key)


def fetch(key: str, repo_id: str, patterns: Sequence[str], *, revision: str = "main") -> Path:
    """Fetches a repository and returns its folder in the cache, complete.

    Args:
        key: its name for errors and `download_of`.
        repo_id: on the Hub.
        patterns: glob patterns of the files to fetch.
        revision: a branch, a tag or a commit.

    Raises:
        CheckpointError: one sentence about the reason for a failure.
    """
    cached_folder = cached(repo_id, patterns, revision=revision)
    try:
        return _fetch(key, repo_id, patterns, revision)
    except CheckpointError:
        raise
    except Exception as error:  # the client, HTTP and the disk each have errors of their own
        if cached_folder is not None and _is_temporary(error):
            return cached_folder
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
    # The branch comes last: until the commit is complete, it points to the last complete version.
    for version in (info.sha, revision):
        folder = snapshot_download(
            repo_id, revision=version, allow_patterns=wanted, tqdm_class=_bar_of(key)
        )
    return Path(folder)


def _limit_waiting() -> None:
    """Gives the client's requests a timeout; those for lists of files have none."""
    hooks = get_session().event_hooks
    if _with_limit not in hooks["request"]:
        get_session().event_hooks = hooks | {"request": [*hooks["request"], _with_limit]}


def _with_limit(request: httpx.Request) -> None:
    limits = request.extensions.get("timeout", {})
    if request.method == "GET" and not any(limits.values()):
        limit = httpx.Timeout(constants.HF_HUB_ETAG_TIMEOUT)
        request.extensions = request.extensions | {"timeout": limit.as_dict()}


def wanted_files(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Returns the files that match the patterns, without pickles beside or above safetensors."""
    matching = [name for name in names if any(fnmatch(name, pattern) for pattern in patterns)]
    safe = [PurePosixPath(name) for name in matching if name.endswith(".safetensors")]

    def is_needless(name: str) -> bool:
        folder = PurePosixPath(name).parent
        return name.endswith(".bin") and any(other.is_relative_to(folder) for other in safe)

    return [name for name in matching if not is_needless(name)]


def _check_complete(key: str, wanted: Sequence[str], patterns: Sequence[str]) -> None:
    """Raises an error if a file that a pattern names exactly is missing."""
    exact_names = [pattern for pattern in patterns if "*" not in pattern]
    missing = next((name for name in exact_names if name not in wanted), None)
    if missing is not None:
        raise CheckpointError("hub_failed", key=key, reason=Message("hub_no_file", file=missing))


def cached(repo_id: str, patterns: Sequence[str], *, revision: str = "main") -> Path | None:
    """Returns the folder of a repository in the cache; None if it is missing or incomplete."""
    # If there are safetensors, `fetch` did not fetch pickles.
    folder = _cached(repo_id, patterns, revision, ignore="*.bin")
    if folder is None or any(folder.rglob("*.safetensors")):
        return folder
    return _cached(repo_id, patterns, revision)


def _cached(
    repo_id: str, patterns: Sequence[str], revision: str, ignore: str | None = None
) -> Path | None:
    try:
        folder = snapshot_download(
            repo_id,
            revision=revision,
            allow_patterns=list(patterns),
            ignore_patterns=ignore,
            local_files_only=True,
        )
    except (LocalEntryNotFoundError, HFValidationError, OSError, ValueError):
        return None
    return Path(folder)


def reason_of(error: BaseException) -> str:
    """Returns the reason why something could not be fetched, as text for users."""
    reasons = (_reason(cause) for cause in chain_of(error))
    first = next((reason for reason in reasons if reason), None)
    return first or show((str(error) or type(error).__name__).splitlines()[0])


def chain_of(error: BaseException) -> list[BaseException]:
    """Returns an error and its causes; the first cause often says more than the last error."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    return chain


def _reason(error: BaseException) -> Message | None:
    """Returns the reason that an error stands for; None if it is not a known one."""
    if isinstance(error, GatedRepoError):
        return Message("hub_gated")
    if isinstance(error, RepositoryNotFoundError):
        return Message("no_repository")
    if isinstance(error, RevisionNotFoundError):
        return Message("hub_no_revision")
    if isinstance(error, HfHubHTTPError):
        return _reason_of_response(error.response)
    return _reason_of_disk(error) or _reason_of_network(error)


def _reason_of_response(response: httpx.Response) -> Message | None:
    status = response.status_code
    if response.headers.get("X-Error-Message") == _UNKNOWN_TOKEN:
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
    if any(sign in str(error) for sign in _TRUNCATED):
        return Message("hub_truncated")
    if isinstance(error, (httpx.TransportError, ConnectionError)):  # also in offline mode
        return Message("no_answer")
    return None


def _is_temporary(error: BaseException) -> bool:
    """Returns whether a later try may succeed, so that the cached version is used until then."""
    reasons = [_reason(cause) for cause in chain_of(error)]
    return any(reason is not None and reason.kind in _TEMPORARY for reason in reasons)


def _bar_of(key: str) -> type[Any]:
    """Returns a progress bar class that draws nothing and updates `download_of`."""

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # Of the two bars in bytes, one counts network traffic, the other the bytes on disk.
            counts_traffic = str(kwargs.get("desc", "")).startswith("Downloading")
            self._counts_bytes = kwargs.get("unit") == "B" and not counts_traffic
            super().__init__(*args, **kwargs | {"disable": True})
            # A disabled bar does not count, so this class counts itself.
            self.n, self.total = kwargs.get("initial", 0) or 0, kwargs.get("total") or 0

        def update(self, n: float | None = 1) -> bool | None:
            self.n += n or 0
            if self._counts_bytes:
                with _guard:
                    _downloads[key] = Download(int(self.n), int(self.total or 0))
            return None

    return Bar
