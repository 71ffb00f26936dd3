"""The ASGI middleware of the app, the same under `launch` and `mount_gradio_app`."""

from __future__ import annotations

from starlette.middleware import Middleware

from tabs.server.admission import Admission
from tabs.server.bodies import Bodies, Limits
from tabs.server.headers import SafeHeaders
from tabs.server.listeners import Listeners


def middleware() -> list[Middleware]:
    """Returns the middleware of the app, the outermost first.

    Raises:
        ValueError: one sentence about an environment variable that is wrong.
    """
    return [
        Middleware(SafeHeaders),
        Middleware(Bodies, limits=Limits.from_environment()),
        Middleware(Admission),
        Middleware(Listeners),
    ]
