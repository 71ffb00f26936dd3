"""The headers of every response, and the request headers that a client may not choose."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ANCESTORS_VARIABLE = "STUDIO_FRAME_ANCESTORS"
HOSTS_VARIABLE = "STUDIO_HOSTS"

_ANCESTORS = ("'self'", "https://huggingface.co", "https://*.hf.space")
_ANCESTOR = re.compile(r"https?://(\*\.)?[A-Za-z0-9.-]+(:\d{1,5})?")
_HOST = re.compile(r"[A-Za-z0-9.-]+(:\d{1,5})?")
_FORWARDED_HOST = b"x-forwarded-host"
_NODE_SERVER = b"x-gradio-server"  # from Gradio's own Node server, which the app never starts


class SafeHeaders:
    """Middleware that sets safe response headers and drops forged names of the host.

    Gradio writes the host of `X-Forwarded-Host` into the addresses of the page. A proxy sets it,
    but so can a client, so only known hosts are let through: those of the Space, those that
    `STUDIO_HOSTS` lists, and the `Host` of the request itself. The policy says nothing about
    scripts, because Gradio's pages run inline ones.

    Raises:
        ValueError: if an environment variable has a wrong value.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.hosts = allowed_hosts()
        self.headers = {
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": f"frame-ancestors {' '.join(frame_ancestors())}",
            "Referrer-Policy": "same-origin",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        await self.app(self._without_forged_host(scope), receive, with_headers)

    def _without_forged_host(self, scope: Scope) -> Scope:
        known = self.hosts | {Headers(scope=scope).get("host", "").lower()}

        def is_allowed(name: bytes, value: bytes) -> bool:
            if name == _FORWARDED_HOST:
                host = value.decode("latin-1").split(",")[0].strip().lower()
                return host in known
            return name != _NODE_SERVER

        headers = [(name, value) for name, value in scope["headers"] if is_allowed(name, value)]
        return {**scope, "headers": headers}


def frame_ancestors() -> list[str]:
    """Returns the pages that may show the app in a frame.

    Raises:
        ValueError: if `STUDIO_FRAME_ANCESTORS` holds something that is no origin.
    """
    extra = _listed(
        ANCESTORS_VARIABLE, _ANCESTOR, "origins such as https://example.org with commas between"
    )
    return [*_ANCESTORS, *extra]


def allowed_hosts() -> frozenset[str]:
    """Returns the hosts under which a proxy may offer the app, in lower case.

    Raises:
        ValueError: if `STUDIO_HOSTS` holds something that is no host.
    """
    space = os.environ.get("SPACE_HOST", "").split(",")  # several with a domain of one's own
    extra = _listed(HOSTS_VARIABLE, _HOST, "hosts such as studio.example.org with commas between")
    return frozenset(host.strip().lower() for host in (*space, *extra) if host.strip())


def _listed(variable: str, accepted: re.Pattern[str], description: str) -> Iterable[str]:
    entries = [entry.strip() for entry in os.environ.get(variable, "").split(",")]
    for entry in filter(None, entries):
        if not accepted.fullmatch(entry):
            raise ValueError(f"{variable} must be {description}, got {entry!r}")
    return filter(None, entries)
