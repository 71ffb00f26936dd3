"""Serves several replicas of the app with Ray Serve, each visitor always by the same one.

A page sends its runs in one request and reads their pictures from another, and both are of use only
in the process that has its session. So every visitor gets a cookie, and the cookie decides.

python -m deploy.ray_serve --replicas 2
"""

from __future__ import annotations

import argparse
import os
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from uuid import uuid4

# Ray's processes inherit these. Where `ray start` began them, it needs the first too.
os.environ["RAY_SERVE_SESSION_ID_HEADER_KEY"] = "cookie"
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import gradio as gr
import ray
from fastapi import FastAPI
from ray import serve
from ray.serve.experimental.consistent_hash_router import ConsistentHashRouter
from ray.serve.request_router import PendingRequest
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import app as studio
from tabs import warm_up

COOKIE = "studio_visitor"
SESSION_HEADER = "RAY_SERVE_SESSION_ID_HEADER_KEY"
# Whoever draws or waits for it holds a request open, and Ray's own limit is 5 a replica.
MAX_ONGOING_REQUESTS = 1000


def visitor_of(cookies: str) -> str:
    """The visitor that a `Cookie` header names; empty if it names none."""
    try:
        found = SimpleCookie(cookies).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


class VisitorRouter(ConsistentHashRouter):
    """Takes all requests of a visitor to one replica; one without the cookie, to any."""

    def initialize_state(self, **kwargs: Any) -> None:
        super().initialize_state(**kwargs)
        if os.environ.get(SESSION_HEADER) != "cookie":
            raise RuntimeError(f"`ray start` needs {SESSION_HEADER}=cookie, on every machine")

    def _routing_key(self, pending_request: PendingRequest | None) -> str | None:
        if pending_request is None:
            return None
        metadata = pending_request.metadata
        return visitor_of(metadata.session_id) or metadata.internal_request_id


class VisitorCookie:
    """Gives the cookie to whoever comes without it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                value = f"{COOKIE}={uuid4().hex}; Path=/; HttpOnly; SameSite=Lax"
                MutableHeaders(scope=message).append("set-cookie", value)
            await send(message)

        new = scope["type"] == "http" and not visitor_of(Headers(scope=scope).get("cookie", ""))
        await self.app(scope, receive, with_cookie if new else send)


def page() -> FastAPI:
    """One replica: the app as `app.main` serves it, and the cookie."""
    warm_up.start()
    served = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    served.add_middleware(VisitorCookie)
    options = studio.launch_options()
    return gr.mount_gradio_app(served, studio.build_demo(), "/", show_error=False, **options)


@serve.ingress(page)
class Studio:
    """What Ray replicates."""


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Serves replicas of the app with Ray Serve.")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--cpus", type=float, default=1, help="of each replica, and its threads")
    parser.add_argument("--gpus", type=float, default=0, help="of each replica")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7860)
    parser.add_argument("--address", help='"auto" for the cluster that `ray start` began here')
    return parser.parse_args()


def main() -> None:
    """Serves until Ctrl+C."""
    args = parse_args()
    root = str(Path(__file__).resolve().parent.parent)
    ray.init(
        address=args.address,
        include_dashboard=None if args.address else False,
        runtime_env={"env_vars": {"PYTHONPATH": root}},
    )
    serve.start(http_options={"host": args.host, "port": args.port})
    deployment = serve.deployment(
        name="studio",
        num_replicas=args.replicas,
        ray_actor_options={"num_cpus": args.cpus, "num_gpus": args.gpus},
        max_ongoing_requests=MAX_ONGOING_REQUESTS,
        request_router_config={
            "request_router_class": VisitorRouter,
            "request_router_kwargs": {"num_fallback_replicas": 0},
        },
    )
    try:
        with suppress(KeyboardInterrupt):
            serve.run(deployment(Studio).bind(), blocking=True)
    finally:
        serve.shutdown()


if __name__ == "__main__":
    main()
