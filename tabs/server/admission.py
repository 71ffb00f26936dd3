"""Bounds how many runs one visitor may have waiting and running.

A session is the caller's choice, so the address of the caller is bounded too.
"""

from __future__ import annotations

import inspect
import ipaddress
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from gradio.block_function import BlockFunction
from gradio.blocks import Blocks
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines.core.errors import show
from tabs import i18n
from tabs.lane import LANE
from tabs.server import limits, waiting
from tabs.server.limits import TrustedProxies

_JOIN = re.compile(r"/(?:queue/join|call/(?P<by_name>v2/)?(?P<name>[^/]+))/?$")
_NUMBER = TypeAdapter(int)  # reads a number as Gradio does: 3, "3", 3.0, "3.0"
_RETRY_SECONDS = 10
_UNKNOWN = "There is no such function, or it does not wait in the queue."
_IPV6_PREFIX = 64  # one visitor has a network of this size


@dataclass(frozen=True)
class _Request:
    """A request for a run."""

    session: str
    address: str
    language: str


class Admission:
    """ASGI middleware that refuses further runs of a visitor who has enough; status 429.

    Args:
        app: the app behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._arriving: Counter[str] = Counter()  # requests that have not reached the queue yet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = _JOIN.search(scope["path"]) if scope["type"] == "http" else None
        if found is None or scope["method"] != "POST":
            return await self._app(scope, receive, send)
        body = await _read(receive)
        if body is None:
            return None
        replay = replayed(body, receive)
        values = _values_of(body)
        if values is None:  # Gradio says what is wrong
            return await self._app(scope, replay, send)
        function = _function_of(waiting.blocks_of(scope), found["name"], values)
        if function is None or (found["name"] is None and function.queue is False):
            return await _answer(404, _UNKNOWN)(scope, replay, send)
        if found["by_name"] and (sentence := _misspelt(function, found["name"], values)):
            return await _answer(422, sentence)(scope, replay, send)
        request = _request_of(scope, function, values)
        if request is None:
            return await self._app(scope, replay, send)
        refusal = self._refusal(waiting.blocks_of(scope), request)
        if refusal is not None:
            return await refusal(scope, replay, send)
        with self._counted(request):
            await self._app(scope, replay, send)

    @contextmanager
    def _counted(self, request: _Request) -> Iterator[None]:
        """Counts a request until the queue has its run."""
        keys = [f"session {request.session}"] * bool(request.session)
        keys.append(f"address {request.address}")
        self._arriving.update(keys)
        try:
            yield
        finally:
            self._arriving.subtract(keys)
            for key in keys:
                if not self._arriving[key]:
                    del self._arriving[key]

    def _refusal(self, blocks: Blocks, request: _Request) -> JSONResponse | None:
        """Returns the answer to a visitor who has enough runs; None admits the request."""
        queue, proxies = blocks._queue, limits.trusted_proxies()
        events = waiting.waiting(queue) + waiting.running(queue)
        addresses = [address_of(event.request.scope, proxies) for event in events]
        of_address = addresses.count(request.address)
        of_address += self._arriving[f"address {request.address}"]
        if of_address >= limits.runs_per_address():
            return _too_many(of_address, limits.runs_per_address(), request.language)
        of_session = [event.session_hash for event in events].count(request.session)
        of_session += self._arriving[f"session {request.session}"]
        if request.session and of_session >= limits.runs_per_session():
            return _too_many(of_session, limits.runs_per_session(), request.language)
        return None


def address_of(scope: Mapping[str, Any], proxies: TrustedProxies) -> str:
    """Returns the address of the visitor who sent a request; IPv6 addresses as their network.

    It is the peer's. A trusted proxy is asked for its peer instead: the last entry of
    `X-Forwarded-For` that is no trusted proxy itself. Earlier entries are whatever the visitor
    sent.
    """
    peer = (scope.get("client") or ("",))[0]
    address = _parsed(peer)
    if not (proxies.is_everybody or _is_trusted(address, proxies)):
        return _name(address, peer)
    forwarded = ",".join(Headers(scope=dict(scope)).getlist("x-forwarded-for"))
    for entry in reversed([entry.strip() for entry in forwarded.split(",") if entry.strip()]):
        nearer, address = address, _parsed(entry)
        if address is None:  # what a trusted proxy does not know
            return _name(nearer, peer)
        if not _is_trusted(address, proxies):
            break
    return _name(address, peer)


Address = ipaddress.IPv4Address | ipaddress.IPv6Address | None


def _parsed(text: str) -> Address:
    """Returns an address, also with a port or in brackets; None for anything else."""
    host = text.partition("]")[0].removeprefix("[") if text.startswith("[") else text
    if host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_trusted(address: Address, proxies: TrustedProxies) -> bool:
    return address is not None and any(address in network for network in proxies.networks)


def _name(address: Address, peer: str) -> str:
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
    return peer if address is None else str(address)


async def _read(receive: Receive) -> bytes | None:
    """Returns the body of a request; None if the caller leaves before its end."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def replayed(body: bytes, receive: Receive) -> Receive:
    """Returns `receive` that gives a body that was read before, and then what comes after it."""
    unread = [body]

    async def replay() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        return await receive()

    return replay


def _values_of(body: bytes) -> dict[str, Any] | None:
    """Returns the JSON object of a body; None if it is none."""
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def _request_of(
    scope: Scope, function: BlockFunction, values: Mapping[str, Any]
) -> _Request | None:
    """Returns the request for a run; None if the function uses no lane."""
    if function.concurrency_id != LANE:
        return None
    session = values.get("session_hash")
    return _Request(
        session=session if isinstance(session, str) else "",
        address=address_of(scope, limits.trusted_proxies()),
        language=_language_of(function, values.get("data")),
    )


def _function_of(blocks: Blocks, name: str | None, values: Mapping[str, Any]) -> Any:
    """Returns the function that a request asks for; None if there is none."""
    if name is not None:
        return next((fn for fn in blocks.fns.values() if fn.api_name == name), None)
    try:
        return blocks.fns.get(_NUMBER.validate_python(values.get("fn_index")))
    except ValidationError:
        return None


def _misspelt(function: BlockFunction, name: str, values: Mapping[str, Any]) -> str | None:
    """Returns a sentence about a parameter that an endpoint does not have; None if it has all."""
    known = inspect.signature(function.fn).parameters if function.fn else {}
    other = next((key for key in values if key not in known), None)
    if other is None:
        return None
    return f"{show(other)} is no parameter of /{name}; it takes {', '.join(known) or 'none'}."


def _language_of(function: BlockFunction, data: Any) -> str:
    """Returns the language of the page that sends a request; callers of the API read English."""
    names = [getattr(block, "elem_id", None) for block in function.inputs]
    if "language" not in names or not isinstance(data, list):
        return i18n.DEFAULT
    language = dict(zip(names, data, strict=False)).get("language")
    return language if isinstance(language, str) else i18n.DEFAULT


def _too_many(count: int, maximum: int, language: str) -> JSONResponse:
    """Returns the refusal; the page shows `detail`."""
    sentence = i18n.translate(language, "status.busy", count=count, maximum=maximum)
    return _answer(429, sentence, {"Retry-After": str(_RETRY_SECONDS)})


def _answer(
    status_code: int, sentence: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    return JSONResponse({"detail": sentence, "error": sentence}, status_code, headers)
