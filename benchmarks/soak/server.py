"""Starts the real app in a process of its own, and measures that process from outside."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 180.0
_TICKS = os.sysconf("SC_CLK_TCK")
_FIELDS_BEFORE_TIMES = 11  # of /proc/PID/stat, after the name of the program


@dataclass(frozen=True)
class App:
    """The app that runs in another process.

    Attributes:
        process: `python app.py`.
        url: its address, without a slash at the end.
        log: file with everything that it printed.
        temp: folder for the files that it serves.
    """

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    temp: Path

    def client(self, timeout: float = 120.0, **options: Any) -> httpx.Client:
        """Returns an HTTP client of the app; close it after use."""
        return httpx.Client(base_url=self.url, timeout=timeout, trust_env=False, **options)

    def printed(self) -> str:
        """Returns everything that the app printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def rss_bytes(self) -> int:
        """Returns the memory that the process occupies now."""
        return _memory(self.process.pid, "VmRSS")

    def peak_rss_bytes(self) -> int:
        """Returns the most memory that the process occupied since `reset_peak`."""
        return _memory(self.process.pid, "VmHWM")

    def reset_peak(self) -> None:
        """Makes `peak_rss_bytes` count anew."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def cpu_seconds(self) -> float:
        """Returns the processor time of all threads since the start."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        user, system = stat[_FIELDS_BEFORE_TIMES : _FIELDS_BEFORE_TIMES + 2]
        return (int(user) + int(system)) / _TICKS

    def cpu_share(self, seconds: float = 2.0) -> float:
        """Measures how many processors the app uses while nobody asks for anything."""
        before = self.cpu_seconds()
        time.sleep(seconds)
        return (self.cpu_seconds() - before) / seconds

    def temp_bytes(self) -> int:
        """Returns the size of all files in the folder for served files."""
        return folder_bytes(self.temp)

    def end(self, number: int = signal.SIGTERM, deadline: float = 15.0) -> tuple[int, float]:
        """Sends a signal; returns exit code and seconds. Kills what outlives the deadline."""
        began = time.monotonic()
        self.process.send_signal(number)
        try:
            code = self.process.wait(timeout=deadline)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        return code, time.monotonic() - began


@contextmanager
def running_app(folder: Path, **environment: str) -> Iterator[App]:
    """Runs the app on a free port, and ends it afterwards.

    Args:
        folder: for its log and its temporary files.
        **environment: variables besides those of this process.

    Raises:
        RuntimeError: if the app does not start.
    """
    temp, log, port = folder / "temp", folder / "app.log", free_port()
    temp.mkdir(parents=True, exist_ok=True)
    variables = {
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(temp),
        "PYTHONUNBUFFERED": "1",
    }
    with log.open("wb") as output:
        process = start_app({**variables, **environment}, output)
        app = App(process, f"http://127.0.0.1:{port}", log, temp)
        try:
            _wait_until_served(app)
            yield app
        finally:
            if process.poll() is None:
                app.end()


def start_app(
    environment: Mapping[str, str], output: IO[bytes] | int = subprocess.PIPE
) -> subprocess.Popen[bytes]:
    """Starts `python app.py`, whatever becomes of it."""
    return subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl+C in the terminal ends the benchmark, which ends the app
    )


def free_port() -> int:
    """Returns a port that nothing uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def folder_bytes(folder: Path) -> int:
    """Returns the size of all files in a folder, which may vanish meanwhile."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(parent, name)).st_size
            except FileNotFoundError:
                continue
    return total


def _wait_until_served(app: App) -> None:
    ends = time.monotonic() + START_SECONDS
    with app.client() as client:
        while time.monotonic() < ends and app.process.poll() is None:
            try:
                if client.get("/config").status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
    raise RuntimeError(f"the app did not start:\n{app.printed()[-2000:]}")


def _memory(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise ValueError(f"/proc/{pid}/status must have a line {field}, got none")
