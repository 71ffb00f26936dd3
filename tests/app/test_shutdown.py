"""SIGINT and SIGTERM end the real app in a few seconds, whatever it does, and tell its clients."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from safetensors.torch import save_file

from benchmarks.soak import calls
from benchmarks.soak.server import App, free_port, running_app, start_app
from pipelines.models.table import HUB
from tests.app.test_hub_in_the_app import FLAT, write_configs
from tests.fakes.hub_server import serve_hub

pytestmark = pytest.mark.alone  # they measure seconds

LONG: dict[str, Any] = {"num_inference_steps": 250, "model": "emoji"}
MOST_SECONDS = 5.0
STOPPING = {"en": "The app is stopping.", "zh": "应用正在停止。"}


@pytest.fixture
def running(tmp_path: Path) -> Iterator[App]:
    with running_app(tmp_path, STUDIO_WARM_UP="0") as app:
        yield app


def call(app: App, endpoint: str, **values: Any) -> str:
    """Posts a run; returns the address of its stream."""
    with app.client() as client:
        answer = client.post(f"/gradio_api/call/v2/{endpoint}", json=values)
    return f"/gradio_api/call/{endpoint}/{answer.json()['event_id']}"


class Stream(threading.Thread):
    """Reads a stream to its end."""

    def __init__(self, app: App, path: str):
        super().__init__(daemon=True)
        self.app, self.path, self.text = app, path, ""
        self.start()

    def run(self) -> None:
        try:
            with self.app.client() as client, client.stream("GET", self.path) as response:
                for chunk in response.iter_text():
                    self.text += chunk
        except httpx.TransportError:
            self.text += "\nbroken off"

    def wait_for(self, sign: str, seconds: float = 240.0) -> None:
        ends = time.monotonic() + seconds
        while sign not in self.text:
            assert time.monotonic() < ends, self.text[-500:]
            time.sleep(0.02)

    def last_error(self) -> dict[str, Any]:
        self.join(timeout=5)
        assert "event: error\n" in self.text, self.text[-500:]
        return json.loads(self.text.rpartition("event: error\ndata: ")[2])


def assert_ends_well(app: App, number: int) -> None:
    code, seconds = app.end(number)
    assert code == 0, app.printed()[-2000:]
    assert seconds < MOST_SECONDS
    assert "Traceback" not in app.printed()
    assert not any(path.name.startswith("studio-") for path in app.temp.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.thorough
def test_a_signal_ends_a_run_and_a_waiting_one_and_tells_both(running: App, number: int):
    first = Stream(running, call(running, "color", **LONG))
    first.wait_for("event: generating")
    second = Stream(running, call(running, "digits"))
    pages = [Stream(running, f"/gradio_api/heartbeat/page{i}") for i in range(4)]
    for page in pages:
        page.wait_for("ALIVE")
    assert_ends_well(running, number)
    for stream in (first, second):
        assert stream.last_error()["error"] == STOPPING["en"]
    for page in pages:
        page.join(timeout=5)
        assert not page.is_alive()


@pytest.mark.thorough
def test_a_page_is_told_in_its_language(running: App):
    with running.client() as client:
        config = client.get("/config").json()
        ids = [c["id"] for c in config["components"] if c["props"].get("elem_id") == "language"]
        dependency = next(
            d for d in config["dependencies"] if ids[0] in d["inputs"] and d["queue"] is not False
        )
        values = {c["id"]: c["props"].get("value") for c in config["components"]}
        data = ["zh" if i == ids[0] else values[i] for i in dependency["inputs"]]
        blocker = Stream(running, call(running, "color", **LONG))
        blocker.wait_for("event: generating")
        body = {"data": data, "fn_index": dependency["id"], "session_hash": "page"}
        assert client.post("/gradio_api/queue/join", json=body).status_code == httpx.codes.OK
    stream = Stream(running, "/gradio_api/queue/data?session_hash=page")
    stream.wait_for("estimation")
    assert_ends_well(running, signal.SIGINT)
    stream.join(timeout=5)
    (told,) = [line for line in stream.text.splitlines() if "process_completed" in line]
    assert json.loads(told.removeprefix("data: "))["output"]["error"] == STOPPING["zh"]
    assert "close_stream" in stream.text


@pytest.mark.thorough
def test_repeated_signals_end_an_app_that_warms_up(tmp_path: Path):
    with running_app(tmp_path, STUDIO_WARM_UP="1") as app:
        with app.client() as client:
            calls.open_page(client)
        time.sleep(3)  # it loads and computes
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            app.process.send_signal(number)
            time.sleep(0.02)
        assert_ends_well(app, signal.SIGINT)


def test_a_signal_while_the_app_starts_ends_it():
    process = start_app({"GRADIO_SERVER_PORT": str(free_port())})
    time.sleep(1.5)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=MOST_SECONDS)
    assert process.returncode == 0, output
    assert b"Traceback" not in output


@pytest.mark.thorough
def test_a_signal_ends_a_download(tmp_path: Path):
    large = tmp_path / "models" / "unet"
    large.mkdir(parents=True)
    write_configs(tmp_path / "models", tmp_path / "models")
    save_file({"weights": torch.zeros(2**24)}, tmp_path / "models" / "diffusion_pytorch_model.bin")
    with tempfile.TemporaryDirectory() as cache, serve_hub(Path(cache)) as hub:
        hub.repositories[f"models/{HUB[FLAT].repo_id}"] = tmp_path / "models"
        hub.pause = 1.0
        environment = {
            "HF_ENDPOINT": hub.address,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_CACHE": cache,
            "STUDIO_WARM_UP": "0",
        }
        with running_app(tmp_path / "app", **environment) as app:
            stream = Stream(app, call(app, "color", model=FLAT))
            ends = time.monotonic() + 60
            while not list(Path(cache).rglob("*.incomplete")):
                assert time.monotonic() < ends, app.printed() + stream.text
                time.sleep(0.05)
            assert_ends_well(app, signal.SIGTERM)
            assert stream.last_error()["error"] == STOPPING["en"]


@pytest.mark.parametrize("value", ["abc", "70000", "0", "-1", "", "７８６０"])
def test_a_wrong_port_is_refused_in_one_sentence(value: str):
    told = refused_port(value)
    sentence = f"GRADIO_SERVER_PORT must be a whole number from 1 to 65535, got {value!r}\n"
    assert told == sentence


@pytest.mark.thorough
def test_a_warm_up_that_is_neither_wanted_nor_unwanted_is_refused():
    told = refused_start(STUDIO_WARM_UP="maybe", GRADIO_SERVER_PORT=str(free_port()))
    assert told == "STUDIO_WARM_UP must be 0 or 1, got 'maybe'\n"


def test_a_named_port_that_is_taken_is_refused_in_one_sentence():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert refused_port(str(port)) == (
            f"GRADIO_SERVER_PORT must be a port that is free, got {port}: another program uses it\n"
        )


def refused_port(value: str) -> str:
    return refused_start(GRADIO_SERVER_PORT=value)


def refused_start(**environment: str) -> str:
    """The only thing that the app prints before it exits with 2."""
    process = start_app(environment, subprocess.PIPE)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2, output
    return output.decode()


@pytest.mark.thorough
def test_without_a_named_port_a_free_one_is_found(tmp_path: Path):
    environment = {k: v for k, v in os.environ.items() if k != "GRADIO_SERVER_PORT"}
    log = tmp_path / "log"
    with socket.socket() as other, log.open("wb") as output:
        with suppress(OSError):  # another program may have it already
            other.bind(("127.0.0.1", 7860))
            other.listen()
        process = subprocess.Popen(
            [sys.executable, "app.py"],
            env=environment | {"STUDIO_WARM_UP": "0", "PYTHONUNBUFFERED": "1"},
            cwd=Path(__file__).resolve().parents[2],
            stdout=output,
        )
        ends = time.monotonic() + 90
        while b"Running on local URL" not in log.read_bytes():
            assert time.monotonic() < ends
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=MOST_SECONDS) == 0
    assert b"127.0.0.1:7860" not in log.read_bytes()
