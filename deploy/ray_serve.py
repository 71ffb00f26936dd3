"""Serves several replicas of the app with Ray Serve; each visitor always gets the same replica.

A page starts a run with one request and reads its pictures with another, and both must reach the
process that has its session. So every visitor gets a cookie, and the cookie chooses the replica.

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

# Ray's processes inherit these variables. `ray start` needs the first one too.
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
# Every run holds a request open while it waits and computes; Ray's default is 5 per replica.
MAX_ONGOING_REQUESTS = 1000


def visitor_of(cookies: str) -> str:
    """Returns the visitor's id in a `Cookie` header; empty if there is none."""
    try:
        cookie = SimpleCookie(cookies).get(COOKIE)
    except CookieError:
        return ""
    return cookie.value if cookie else ""


class VisitorRouter(ConsistentHashRouter):
    """Routes all requests of a visitor to one replica, and requests without a cookie to any."""

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
    """Middleware that sets the cookie in responses to requests without it."""

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
    """Builds one replica: the app as `app.main` serves it, with the cookie."""
    warm_up.prepare()
    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    server.add_middleware(VisitorCookie)
    options = studio.launch_options()
    return gr.mount_gradio_app(server, studio.build_demo(), "/", show_error=False, **options)


@serve.ingress(page)
class Studio:
    """The deployment that Ray replicates."""


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description="Serves replicas of the app with Ray Serve.")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument(
        "--cpus", type=float, default=1, help="CPUs, and so threads, of each replica"
    )
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of each replica")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7860)
    parser.add_argument(
        "--address", help='address of a cluster; "auto" for the one that `ray start` started here'
    )
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
