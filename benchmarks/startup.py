"""Measures the app's start-up time and memory.

    python -m benchmarks.startup

Starts `python app.py` several times and waits for its page; then draws one row of digits with every
conditioning, a picture with every bundled model and one with text guidance, and reads the memory of
the process. Linux only: memory is read from `/proc`.
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
from collections.abc import Iterator
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


@dataclass(frozen=True)
class Start:
    """One start of the app; memory is resident memory in MiB.

    Attributes:
        seconds: from the start of Python until the page is served.
        idle_mib: memory at that moment.
        used_mib: memory after one run with every bundled model.
    """

    seconds: float
    idle_mib: float
    used_mib: float


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running_app(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Runs `python app.py` on a port; ends it afterwards."""
    environment = os.environ | {"GRADIO_SERVER_PORT": str(port)}
    process = subprocess.Popen(
        [sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
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


def measure() -> Start:
    """Measures one start, in its own process."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    began = time.monotonic()
    with running_app(port) as process:
        wait_for_page(url)
        seconds = time.monotonic() - began
        idle = resident_mib(process.pid)
        client = Client(url, verbose=False)
        for conditioning in rule(DigitsSettings, "conditioning").options:
            client.predict(conditioning=conditioning, api_name="/digits")
        for model in filter(TABLE.get, rule(ColorSettings, "model").options):
            client.predict(model=model, api_name="/color")
        client.predict(api_name="/text")  # with the bundled CLIP
        return Start(seconds, idle, resident_mib(process.pid))


def main(repeats: Annotated[int, typer.Option(min=1, help="starts")] = 3) -> None:
    """Prints the median of several starts; the first may read files from disk."""
    starts = [measure() for _ in range(repeats)]
    seconds = ", ".join(f"{start.seconds:.1f}" for start in starts)
    print("| start of the app | |\n| --- | --- |")
    print(f"| page served after, median | {statistics.median(s.seconds for s in starts):.1f} s |")
    print(f"| each start | {seconds} s |")
    print(f"| memory, page served | {statistics.median(s.idle_mib for s in starts):.0f} MiB |")
    used = statistics.median(s.used_mib for s in starts)
    print(f"| memory, every bundled model used | {used:.0f} MiB |")
    print(f"\nMeasured on {devices.describe_device()}.")


if __name__ == "__main__":
    typer.run(main)
