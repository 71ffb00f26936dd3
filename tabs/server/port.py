"""The port of the app, as `GRADIO_SERVER_PORT` names it; without a name Gradio searches one."""

from __future__ import annotations

import errno
import os
import socket

VARIABLE = "GRADIO_SERVER_PORT"
_MAX_PORT = 65535
_TAKEN = {
    errno.EADDRINUSE: "another program uses it",
    errno.EACCES: "the app may not use it",
}


def named_port() -> int | None:
    """Returns the port that the environment names; None if it names none.

    Call it before Gradio is imported, which reads the same variable.

    Raises:
        ValueError: if the value is no port, or if the port is taken.
    """
    value = os.environ.get(VARIABLE)
    if value is None:
        return None
    is_number = value.isascii() and value.isdecimal() and len(value) <= len(str(_MAX_PORT))
    if not is_number or not 1 <= int(value) <= _MAX_PORT:
        raise ValueError(f"{VARIABLE} must be a whole number from 1 to {_MAX_PORT}, got {value!r}")
    reason = _taken(int(value))
    if reason:
        raise ValueError(f"{VARIABLE} must be a port that is free, got {value}: {reason}")
    return int(value)


def _taken(port: int) -> str:
    """Returns the reason why a port cannot be used; empty if it can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"), port))
        except OSError as error:  # Gradio tells what is wrong with the name of the host
            return _TAKEN.get(error.errno or 0, "")
    return ""
