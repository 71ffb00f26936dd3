"""A quota on uploaded files: the oldest give way, first those of whoever uploads."""

from __future__ import annotations

import json
import logging
import threading
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from starlette.types import Message, Send

from tabs.temp_files import files

logger = logging.getLogger("studio")

MAX_FILES = 2000
_SHARE = 4  # one address may fill this part of the quota


@dataclass(frozen=True)
class _Upload:
    path: Path
    address: str
    size: int


class UploadQuota:
    """The uploads of this process. Those of earlier ones are removed when Gradio cleans its folder.

    Args:
        max_bytes: size of all uploads; one address may fill a quarter of it.
        max_files: number of all uploads, likewise.
    """

    def __init__(self, max_bytes: int, max_files: int = MAX_FILES) -> None:
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._uploads: dict[Path, _Upload] = {}  # the oldest first
        self._lock = threading.Lock()

    def noting(self, send: Send, address: str) -> Send:
        """Returns a `send` that also notes the files which a response names as uploaded.

        Args:
            send: of the request.
            address: that the request comes from.
        """
        body: list[bytes] = []
        is_success = False

        async def note_and_send(message: Message) -> None:
            nonlocal is_success
            if message["type"] == "http.response.start":
                is_success = message["status"] == 200
            elif is_success:
                body.append(message.get("body", b""))
                if not message.get("more_body", False):
                    self.note(_paths(b"".join(body)), address)
            await send(message)

        return note_and_send

    def note(self, paths: list[Path], address: str) -> None:
        """Notes uploaded files, and removes the oldest beyond the quota.

        Args:
            paths: of the files.
            address: that they come from.
        """
        with self._lock:
            for path in paths:
                self._uploads.pop(path, None)
                # An upload of what the app has drawn has the path of that picture.
                if path.is_file() and str(path) not in files:
                    self._uploads[path] = _Upload(path, address, path.stat().st_size)
            while self._is_over(own := self._of(address), _SHARE):
                self._remove(own[0])
            while self._is_over(list(self._uploads.values()), 1):
                self._remove(self._oldest_of_the_largest())

    def _of(self, address: str) -> list[_Upload]:
        return [upload for upload in self._uploads.values() if upload.address == address]

    def _is_over(self, uploads: list[_Upload], share: int) -> bool:
        size = sum(upload.size for upload in uploads)
        is_over = size > self._max_bytes / share or len(uploads) > self._max_files / share
        return is_over and len(uploads) > 1  # the newest stays

    def _oldest_of_the_largest(self) -> _Upload:
        """Returns the oldest upload of the address that takes most of the quota."""
        sizes: defaultdict[str, int] = defaultdict(int)
        for upload in self._uploads.values():
            sizes[upload.address] += upload.size
        return self._of(max(sizes, key=lambda address: sizes[address]))[0]

    def _remove(self, upload: _Upload) -> None:
        del self._uploads[upload.path]
        try:
            upload.path.unlink(missing_ok=True)
            upload.path.parent.rmdir()  # Gradio makes a folder for each
        except OSError:
            logger.debug("%s is not removed", upload.path)


def _paths(body: bytes) -> list[Path]:
    try:
        names = json.loads(body)
    except ValueError:
        return []
    return (
        [Path(name) for name in names if isinstance(name, str)] if isinstance(names, list) else []
    )
