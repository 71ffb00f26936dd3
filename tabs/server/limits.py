"""The limits of the lane, which all runs share, from environment variables."""

from __future__ import annotations

import ipaddress
import math
import os
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from pipelines.core.limits import limit

DEADLINE_SECONDS = 300.0
RUNS_PER_SESSION, RUNS_PER_ADDRESS = 3, 8
UNHEARD_WAITING_SECONDS, UNHEARD_RUNNING_SECONDS = 30.0, 5.0

EVERYBODY = "*"
_SPACE_PROXIES = (
    "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,::1/128,fc00::/7"
)
"""Addresses inside a network; the proxies of Hugging Face Spaces have such addresses."""


@dataclass(frozen=True)
class TrustedProxies:
    """The proxies whose `X-Forwarded-For` header is believed.

    Attributes:
        networks: of their addresses.
        is_everybody: whether every direct peer is a proxy.
    """

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    is_everybody: bool = False


def deadline_seconds() -> float:
    """Returns the longest time that a run may take: `STUDIO_DEADLINE_SECONDS`.

    Raises:
        ValueError: if it is no number above 0.
    """
    return _seconds("STUDIO_DEADLINE_SECONDS", DEADLINE_SECONDS)


def unheard_waiting_seconds() -> float:
    """Returns how long a run may wait while nobody reads it: `STUDIO_UNHEARD_WAITING_SECONDS`.

    Raises:
        ValueError: if it is no number above 0.
    """
    return _seconds("STUDIO_UNHEARD_WAITING_SECONDS", UNHEARD_WAITING_SECONDS)


def unheard_running_seconds() -> float:
    """Returns how long a run may go on while nobody reads it: `STUDIO_UNHEARD_RUNNING_SECONDS`.

    Raises:
        ValueError: if it is no number above 0.
    """
    return _seconds("STUDIO_UNHEARD_RUNNING_SECONDS", UNHEARD_RUNNING_SECONDS)


def runs_per_session() -> int:
    """Returns how many runs of a session may wait and run: `STUDIO_MAX_RUNS_PER_SESSION`.

    Raises:
        ValueError: if it is no whole number above 0.
    """
    return limit("STUDIO_MAX_RUNS_PER_SESSION", RUNS_PER_SESSION)


def runs_per_address() -> int:
    """Returns how many runs of an address may wait and run: `STUDIO_MAX_RUNS_PER_ADDRESS`.

    Raises:
        ValueError: if it is no whole number above 0.
    """
    return limit("STUDIO_MAX_RUNS_PER_ADDRESS", RUNS_PER_ADDRESS)


def trusted_proxies() -> TrustedProxies:
    """Returns the trusted proxies: `STUDIO_TRUSTED_PROXIES`, addresses and networks, or `*`.

    On Hugging Face Spaces the default is every address inside a network, elsewhere none.

    Raises:
        ValueError: if an entry is neither an address nor a network.
    """
    default = _SPACE_PROXIES if os.environ.get("SPACE_ID") else ""
    text = os.environ.get("STUDIO_TRUSTED_PROXIES", "").strip() or default
    if text == EVERYBODY:
        return TrustedProxies(is_everybody=True)
    try:
        entries = [entry.strip() for entry in text.split(",") if entry.strip()]
        return TrustedProxies(tuple(ipaddress.ip_network(e, strict=False) for e in entries))
    except ValueError:
        raise ValueError(
            "STUDIO_TRUSTED_PROXIES must be addresses or networks such as 10.0.0.0/8 with commas "
            f"between them, or *, got {text!r}"
        ) from None


def check_environment() -> None:
    """Checks all variables of this module.

    Raises:
        ValueError: if one is wrong; one sentence that names it.
    """
    deadline_seconds()
    unheard_waiting_seconds()
    unheard_running_seconds()
    runs_per_session()
    runs_per_address()
    trusted_proxies()


def _seconds(name: str, default: float) -> float:
    text = os.environ.get(name, "")
    try:
        seconds = float(text) if text else default
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ValueError(f"{name} must be a number of seconds above 0, got {text!r}")
    return seconds
