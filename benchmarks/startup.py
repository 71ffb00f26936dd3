"""Measures the app's start-up time and memory, beside those of an empty app.

    python -m benchmarks.startup

Starts `python app.py` several times and waits for its page, each time after a script that imports
Gradio and torch and serves an empty page: no app with both can be faster. Then it draws one row of
digits with every conditioning, a picture with every bundled model and one with text guidance, and
reads the memory of the process. Linux only: memory is read from `/proc`.
"""

from __future__ import annotations

import os
import re
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from gradio_client import Client

from pipelines.core import devices
from pipelines.core.rules import rule
from pipelines.models.table import TABLE
from pipelines.products.settings import ColorSettings, DigitsSettings

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT_SECONDS = 120.0

APP = ("app.py",)
EMPTY = (
    "-c",
    """
import gradio, torch
with gradio.Blocks(analytics_enabled=False) as demo:
    pass
demo.launch(ssr_mode=False)
""",
)


@dataclass(frozen=True)
class Start:
    """One start of an app; memory is resident memory in MiB.

    Attributes:
        seconds: from the start of Python until the page is served.
        idle_mib: memory at that moment.
    """

    seconds: float
    idle_mib: float


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running_app(port: int, command: tuple[str, ...] = APP) -> Iterator[subprocess.Popen[bytes]]:
    """Runs Python with a command line on a port; ends it afterwards."""
    environment = os.environ | {"GRADIO_SERVER_PORT": str(port)}
    process = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def wait_for_page(url: str) -> None:
    """Returns once the page is served.

    Raises:
        TimeoutError: if it is not served within `TIMEOUT_SECONDS`.
    """
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                response.read()
                return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(f"no page at {url} after {TIMEOUT_SECONDS:g} seconds")


def resident_mib(pid: int) -> float:
    """Returns the resident memory of a process, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    if match is None:
        raise ValueError(f"pid must be a running process, got {pid}")
    return int(match.group(1)) / 1024


def measure(command: tuple[str, ...]) -> Start:
    """Measures one start, in its own process."""
    port = free_port()
    began = time.monotonic()
    with running_app(port, command) as process:
        wait_for_page(f"http://127.0.0.1:{port}/")
        return Start(time.monotonic() - began, resident_mib(process.pid))


def used_mib() -> float:
    """Returns the memory of the app after one run with every bundled model, in MiB."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    with running_app(port) as process:
        wait_for_page(url)
        client = Client(url, verbose=False)
        for conditioning in rule(DigitsSettings, "conditioning").options:
            client.predict(conditioning=conditioning, api_name="/digits")
        for model in filter(TABLE.get, rule(ColorSettings, "model").options):
            client.predict(model=model, api_name="/color")
        client.predict(api_name="/text")  # with the bundled CLIP
        return resident_mib(process.pid)


def table(empty: list[Start], app: list[Start], used: float) -> str:
    """Returns the medians of both, and how many times the empty app's the app's is, as Markdown."""

    def row(label: str, of: Callable[[Start], float], unit: str) -> str:
        base, ours = statistics.median(map(of, empty)), statistics.median(map(of, app))
        return f"| {label} | {base:{unit}} | {ours:{unit}} | {ours / base:.2f} |"

    return "\n".join(
        [
            "| start | empty app | this app | times |",
            "| --- | --- | --- | --- |",
            row("page served after, s", lambda start: start.seconds, ".1f"),
            row("memory then, MiB", lambda start: start.idle_mib, ".0f"),
            f"| memory, every bundled model used, MiB | | {used:.0f} | |",
        ]
    )


def main(repeats: Annotated[int, typer.Option(min=1, help="starts of each app")] = 5) -> None:
    """Prints the medians of several starts of both; the first of each reads files from disk."""
    for command in (EMPTY, APP):
        measure(command)
    starts = [(measure(EMPTY), measure(APP)) for _ in range(repeats)]
    empty, app = ([pair[i] for pair in starts] for i in range(2))
    print(table(empty, app, used_mib()))
    print(f"\nMedians of {repeats} starts, in turn, on {devices.describe_device()}.")


if __name__ == "__main__":
    typer.run(main)
