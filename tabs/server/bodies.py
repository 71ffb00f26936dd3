"""Limits on what a request may carry: its bytes, its JSON, its files, and files of other hosts.

Gradio fetches every file that a JSON body names with an `http` address, and takes uploads without
number. This middleware reads a body first, and refuses it with one sentence.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio.to_thread
from gradio.utils import get_upload_folder, is_in_or_equal
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from pipelines.core.pictures import is_address
from tabs.server import limits
from tabs.server.admission import address_of, replayed
from tabs.server.upload_quota import UploadQuota

MAX_FILES = 8  # in one upload
MAX_VALUES = 20_000  # in one JSON body
MAX_DEPTH = 50

_API = "/gradio_api/"
_UPLOAD_MB = 12  # a file of the 10 MB that Gradio takes, and what surrounds it
_READ_SECONDS, _SILENT_SECONDS = 120.0, 10.0
_BUFFERED_BYTES = 256 * 2**20  # of all requests that are being read; of one address a quarter
_SMALL_BYTES = 65_536  # are checked without a thread
_WITH_BODY = ("POST", "PUT", "PATCH")


@dataclass(frozen=True)
class Limits:
    """Limits that a site sets by environment variables.

    Attributes:
        body_bytes: largest body of a request that is no upload; `STUDIO_MAX_BODY_MB`, 12 MB.
        upload_bytes: size of all uploads that are kept; `STUDIO_UPLOAD_QUOTA_MB`, 200 MB.
    """

    body_bytes: int = 12 * 2**20
    upload_bytes: int = 200 * 2**20

    @classmethod
    def from_environment(cls) -> Limits:
        """Returns the limits.

        Raises:
            ValueError: one sentence about a variable that is wrong.
        """
        return cls(
            body_bytes=_megabytes("STUDIO_MAX_BODY_MB", 12),
            upload_bytes=_megabytes("STUDIO_UPLOAD_QUOTA_MB", 200),
        )


def _megabytes(variable: str, default: int) -> int:
    text = os.environ.get(variable, "") or str(default)
    try:
        megabytes = float(text)
    except ValueError:
        megabytes = 0.0
    if not 0.1 <= megabytes <= 1_000_000:
        raise ValueError(f"{variable} must be a number of megabytes of 0.1 or more, got {text!r}")
    return int(megabytes * 2**20)


class RefusedError(Exception):
    """A request is refused.

    Args:
        status: of the HTTP response.
        sentence: for the caller.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


@dataclass
class Bodies:
    """The middleware.

    Attributes:
        app: what it stands before.
        limits: of bodies and uploads.
    """

    app: ASGIApp
    limits: Limits = field(default_factory=Limits.from_environment)

    def __post_init__(self) -> None:
        self._quota = UploadQuota(self.limits.upload_bytes)
        self._reading = _AllReading()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in _WITH_BODY:
            await self.app(scope, receive, send)
            return
        uploads, address = is_upload(scope["path"]), _address(scope)
        most = _UPLOAD_MB * 2**20 if uploads else self.limits.body_bytes
        try:
            with self._reading.of(address) as reading:
                body = await _read(scope, receive, most, reading)
            if body is None:
                return  # the caller has left
            await self._check(scope, body, uploads)
        except RefusedError as refusal:
            content = {"detail": refusal.sentence, "error": refusal.sentence}
            await JSONResponse(content, refusal.status)(scope, receive, send)
            return
        if uploads:
            send = self._quota.noting(send, address)
        await self.app(scope, replayed(body, receive), send)

    async def _check(self, scope: Scope, body: bytes, uploads: bool) -> None:
        if uploads:
            check_upload(body, _header(scope, b"content-type"))
        elif _API in scope["path"] and body:
            if len(body) <= _SMALL_BYTES:
                check_json(body)
            else:
                await anyio.to_thread.run_sync(check_json, body)


def is_upload(path: str) -> bool:
    """Returns whether a path, below any prefix, is that of Gradio's uploads."""
    return path.rstrip("/").endswith(f"{_API}upload")


def _address(scope: Scope) -> str:
    """Returns the address of the visitor who sent a request."""
    return address_of(scope, limits.trusted_proxies())


def _header(scope: Scope, name: bytes) -> str:
    return dict(scope["headers"]).get(name, b"").decode("latin-1")


class _AllReading:
    """The bytes that have come of all bodies that are being read, by address."""

    def __init__(self) -> None:
        self._bytes: Counter[str] = Counter()

    @contextmanager
    def of(self, address: str) -> Iterator[Callable[[int], None]]:
        """Yields a function that counts bytes of one body; they are forgotten in the end."""
        own = 0

        def count(size: int) -> None:
            nonlocal own
            own += size
            self._bytes[address] += size
            too_many = self._bytes[address] > _BUFFERED_BYTES // 4
            if too_many or self._bytes.total() > _BUFFERED_BYTES:
                raise RefusedError(503, "The server is reading too much; try again in a minute.")

        try:
            yield count
        finally:
            self._bytes[address] -= own
            if not self._bytes[address]:
                del self._bytes[address]


async def _read(
    scope: Scope, receive: Receive, most: int, count: Callable[[int], None]
) -> bytes | None:
    """Returns the body of a request, or None if the caller leaves.

    Args:
        scope: of the request.
        receive: of the request.
        most: bytes that it may have.
        count: is told the bytes that come; raises `RefusedError` if they are too many.

    Raises:
        RefusedError: if it has more bytes than it may, stops coming, or takes too long.
    """
    length = _header(scope, b"content-length")
    if length.isdigit() and (len(length) > 19 or int(length) > most):
        raise _too_large(most)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_READ_SECONDS):
            while True:
                message = await asyncio.wait_for(receive(), _SILENT_SECONDS)
                if message["type"] == "http.disconnect":
                    return None
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > most:
                    raise _too_large(most)
                count(len(parts[-1]))
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise RefusedError(
            408,
            f"A request must be sent within {_READ_SECONDS:g} seconds, with no pause of more than "
            f"{_SILENT_SECONDS:g}.",
        ) from None


def _too_large(most: int) -> RefusedError:
    return RefusedError(413, f"A request must be at most {most / 2**20:g} MB.")


def check_upload(body: bytes, content_type: str) -> None:
    """Checks the number of files in a form.

    Raises:
        RefusedError: if there are too many.
    """
    _, _, boundary = content_type.partition("boundary=")
    boundary = boundary.partition(";")[0].strip().strip('"')
    count = body.count(b"--" + boundary.encode("latin-1")) - 1 if boundary else 0
    if count > MAX_FILES:
        raise RefusedError(413, f"An upload must be at most {MAX_FILES} files, got {count}.")


def check_json(body: bytes) -> None:
    """Checks a JSON body, as `json.loads` will read it again behind this middleware.

    Raises:
        RefusedError: if it cannot be read, is too much, or names a file that was not uploaded.
    """
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > MAX_VALUES:
        raise RefusedError(413, f"The JSON of a request must be at most {MAX_VALUES} values.")
    try:
        values = list(_nested(json.loads(body)))
    except RecursionError:
        raise _too_deep() from None
    except UnicodeEncodeError:
        raise RefusedError(400, "The text of a request must be valid Unicode.") from None
    except ValueError:
        raise RefusedError(400, "The body of a request must be valid JSON in UTF-8.") from None
    for value in values:
        if isinstance(value, dict):
            _check_file(value)


def _nested(value: Any, depth: int = 0) -> Iterator[Any]:
    """Yields a value and all those in it.

    Raises:
        UnicodeEncodeError: if a text has lone surrogates.
    """
    if depth > MAX_DEPTH:
        raise _too_deep()
    yield value
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, dict):
        for key, inner in value.items():
            key.encode()
            yield from _nested(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _nested(inner, depth + 1)


def _too_deep() -> RefusedError:
    return RefusedError(400, f"The JSON of a request must be nested at most {MAX_DEPTH} deep.")


def _check_file(value: dict[str, Any]) -> None:
    """Checks a value that Gradio takes as a file: only one that was uploaded here is accepted.

    The address that a page adds to an uploaded file is not fetched, and may be any.
    """
    meta, path = value.get("meta", {}), value.get("path")
    is_file = isinstance(meta, dict) and meta.get("_type") == "gradio.FileData"
    if not isinstance(meta, dict) or (is_file and not isinstance(path, (str, type(None)))):
        raise _not_uploaded()
    if isinstance(path, str) and not _is_uploaded(path):
        raise _not_uploaded()
    if path is None and isinstance(url := value.get("url"), str) and not is_address(url):
        raise _not_uploaded()


def _is_uploaded(path: str) -> bool:
    try:
        is_inside = "://" not in path and is_in_or_equal(path, get_upload_folder())
        return is_inside and not Path(path).is_dir()  # Gradio's cleaning fails on folders
    except (OSError, ValueError):  # no path that there can be
        return False


def _not_uploaded() -> RefusedError:
    return RefusedError(
        400,
        "A file must be one that was uploaded here, for instance by gradio_client.handle_file "
        "with a path on your own machine, or a picture as a data:image/png;base64, address.",
    )
