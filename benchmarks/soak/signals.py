"""Signals to the app in every state: it must exit with 0 in a few seconds."""

from __future__ import annotations

import json
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from benchmarks.soak import calls
from benchmarks.soak.report import Row
from benchmarks.soak.server import App, free_port, running_app, start_app

MOST_SECONDS = 5.0
_BROWSERS = 4
_MODEL = "wikiart-256"  # of the Hub
_FILE_BYTES = 2**30
_COMMIT = "1" * 40

State = Callable[[App], None]


def _idle(_: App) -> None:
    time.sleep(1)


def _warms_up(app: App) -> None:
    with app.client() as client:
        calls.open_page(client)
    time.sleep(3)


def _browsers(app: App) -> None:
    for i in range(_BROWSERS):
        _read(app, f"{calls.PREFIX}/heartbeat/page{i}")
    time.sleep(1)


def _runs(app: App) -> None:
    """One run computes and one waits, and both are read."""
    _browsers(app)
    for _ in range(2):
        _begin(app, "color", model="paintings", num_inference_steps=250)
    time.sleep(4)


def _loads(app: App) -> None:
    _begin(app, "text", num_inference_steps=100)
    time.sleep(0.3)


def _downloads(app: App) -> None:
    _begin(app, "color", model=_MODEL)
    time.sleep(4)


def _begin(app: App, name: str, **changes: object) -> None:
    session = calls.new_session()
    with app.client() as client:
        endpoint = calls.named(client, name)
        calls.join(client, endpoint, endpoint.values(**changes), session)
    _read(app, f"{calls.PREFIX}/queue/data?session_hash={session}")


def _read(app: App, path: str) -> None:
    def read() -> None:
        try:
            with app.client() as client, client.stream("GET", path) as response:
                for _ in response.iter_bytes():
                    pass
        except httpx.HTTPError:
            return

    threading.Thread(target=read, daemon=True).start()


STATES: dict[str, tuple[State, dict[str, str]]] = {
    "idle": (_idle, {}),
    "warm-up": (_warms_up, {"STUDIO_WARM_UP": "1"}),
    "several browsers": (_browsers, {}),
    "a run and one that waits": (_runs, {}),
    "loading a model": (_loads, {}),
    "a download": (_downloads, {}),
}


class _SlowHub(BaseHTTPRequestHandler):
    """A Hub whose only repository has one file that never ends."""

    def do_GET(self) -> None:
        if "/api/models/" in self.path:
            files = ["unet/config.json", "scheduler/scheduler_config.json"]
            files.append("unet/diffusion_pytorch_model.safetensors")
            siblings = [{"rfilename": name} for name in files]
            repo_id = "/".join(self.path.split("/")[3:5])
            about = {"id": repo_id, "sha": _COMMIT, "siblings": siblings}
            self._answer(json.dumps(about).encode())
        else:
            self._pour()

    def do_HEAD(self) -> None:
        self._begin(_FILE_BYTES if self.path.endswith("safetensors") else 2)

    def _pour(self) -> None:
        if not self.path.endswith("safetensors"):
            return self._answer(b"{}")
        self._begin(_FILE_BYTES)
        try:
            while True:
                self.wfile.write(bytes(2**16))
                time.sleep(0.1)
        except OSError:
            return None

    def _answer(self, body: bytes) -> None:
        self._begin(len(body))
        self.wfile.write(body)

    def _begin(self, length: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.send_header("X-Repo-Commit", _COMMIT)
        self.send_header("ETag", f'"{length}"')
        self.end_headers()

    def log_message(self, format: str, *_: object) -> None:
        """Stays silent."""


def run(scale: float) -> list[Row]:
    """Sends both signals in each state; returns the rows of the table."""
    rows = [_while_it_starts(number) for number in _numbers(scale)]
    with ThreadingHTTPServer(("127.0.0.1", 0), _SlowHub) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        for name, (reach, variables) in STATES.items():
            for number in _numbers(scale):
                environment = {
                    "STUDIO_WARM_UP": "0",
                    "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
                    "HF_HUB_OFFLINE": "0",
                    "HF_HUB_DISABLE_XET": "1",
                    **variables,
                }
                rows.append(_ended(name, reach, number, environment))
        hub.shutdown()
    return rows


def _numbers(scale: float) -> list[signal.Signals]:
    return [signal.SIGINT, signal.SIGTERM] if scale >= 1 else [signal.SIGINT]


def _ended(name: str, reach: State, number: signal.Signals, environment: dict[str, str]) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        environment["HF_HUB_CACHE"] = f"{folder}/cache"
        with running_app(Path(folder), **environment) as app:
            reach(app)
            code, seconds = app.end(number)
    return _row(name, number, code, seconds)


def _while_it_starts(number: signal.Signals) -> Row:
    process = start_app({"GRADIO_SERVER_PORT": str(free_port())})
    time.sleep(1.5)
    began = time.monotonic()
    process.send_signal(number)
    process.communicate(timeout=30)
    return _row("starting", number, process.returncode, time.monotonic() - began)


def _row(name: str, number: signal.Signals, code: int, seconds: float) -> Row:
    is_good = code == 0 and seconds <= MOST_SECONDS
    figure = f"exit {code} after {seconds:.1f} s"
    return Row("signals", f"{number.name}, {name}", figure, f"exit 0, {MOST_SECONDS:g} s", is_good)
