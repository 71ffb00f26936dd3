"""The worst legal request of each endpoint: it may not hold the lane, fill memory or the disk."""

from __future__ import annotations

import base64
import io
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from benchmarks.soak import calls
from benchmarks.soak.calls import Endpoint
from benchmarks.soak.report import Row, at_most
from benchmarks.soak.server import App, running_app

DEADLINE_SECONDS = 300.0
_LEAST_DEADLINE = 10.0
_PATIENCE_SECONDS = 15.0  # after the deadline, before the stream is closed
_MOST_MEMORY_MIB, _MOST_DISK_MIB, _MOST_ANSWER_MIB = 1024.0, 64.0, 16.0
_MIB = 2**20
_PICTURE_PX = 2048
_ADVICE = re.compile(r"(?P<steps>\d+) steps would end in time")
_PADDING = 3 * _MIB  # zeros after the end of a picture
_WORST: dict[str, Any] = {
    "num_inference_steps": 250,
    "num_images": 8,
    "method": "thorough",
    "repeats": 4,
}


def requests(offered: list[Endpoint]) -> Iterator[tuple[str, Endpoint, list[Any]]]:
    """Yields name, endpoint and values of each request, sweeps through private events too."""
    named = {e.name: e for e in offered if e.name}
    padded, large = _data_uri(_picture(8) + bytes(_PADDING)), _data_uri(_picture(_PICTURE_PX))
    text = {**_WORST, "cutouts": 16, "tries": 16}
    for picture, kind in ((padded, "a padded picture"), (large, "a large picture")):
        few = {"num_images": 8, "num_inference_steps": 12}
        data = named["color"].values(**few, mask=picture)
        yield f"/color, mask is {kind}", named["color"], data
        data = named["text"].values(**few, image_prompt=picture)
        yield f"/text, image_prompt is {kind}", named["text"], data
    yield "/color", named["color"], named["color"].values(**_WORST)
    yield "/text", named["text"], named["text"].values(**text)
    digits = {**_WORST, "digits": "0123456789" * 2, "symmetry": "left-right"}
    for conditioning in ("cross-attention", "channels"):
        data = named["digits"].values(**digits, guidance_scale=0.5, conditioning=conditioning)
        yield f"/digits, {conditioning}", named["digits"], data
    for endpoint in offered:
        if not endpoint.name and any("sweep-grid" in name for name in endpoint.outputs):
            yield _sweep(endpoint)


def _sweep(endpoint: Endpoint) -> tuple[str, Endpoint, list[Any]]:
    changes: dict[str, Any] = {
        **_WORST,
        "sweep-rows": "seed",
        "sweep-rows-values": "1, 2, 3, 4, 5, 6",
        "sweep-columns": "num_inference_steps",
        "sweep-columns-values": "245, 246, 247, 248, 249, 250",
    }
    name = next(name for name in endpoint.outputs if "sweep-grid" in name)
    return f"the sweep {name}", endpoint, endpoint.values(**changes)


def _picture(size_px: int) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((size_px, size_px), 90).convert("RGB").save(buffer, format="JPEG")
    if size_px <= 8:
        buffer = io.BytesIO()
        Image.new("RGB", (size_px, size_px), "white").save(buffer, format="PNG")
    return buffer.getvalue()


def _data_uri(content: bytes) -> str:
    kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def run(scale: float) -> list[Row]:
    """Sends each request to an app of its own deadline; returns the rows of the table."""
    deadline = max(DEADLINE_SECONDS * scale, _LEAST_DEADLINE)
    environment = {
        "STUDIO_WARM_UP": "0",
        "STUDIO_DEADLINE_SECONDS": f"{deadline:g}",
        "STUDIO_MAX_RUNS_PER_ADDRESS": "100",
    }
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        running_app(Path(folder), **environment) as app,
        app.client(timeout=deadline + 60) as client,
    ):
        offered = calls.endpoints(client)
        for name in ("color", "text", "digits"):  # so that idle means with models loaded
            endpoint = next(e for e in offered if e.name == name)
            calls.result(client, endpoint, endpoint.values(num_inference_steps=1))
        for name, endpoint, data in requests(offered):
            measured, end = _measure(app, client, name, endpoint, data, deadline)
            rows += measured
            advice = _ADVICE.search(end)
            if advice:  # the longest run that is not refused
                steps = int(advice["steps"])
                fitting = list(data)
                fitting[endpoint.names.index("num_inference_steps")] = steps
                name = f"{name}, {steps} steps"
                rows += _measure(app, client, name, endpoint, fitting, deadline)[0]
    return rows


def _measure(
    app: App,
    client: httpx.Client,
    name: str,
    endpoint: Endpoint,
    data: list[Any],
    deadline: float,
) -> tuple[list[Row], str]:
    """Sends a request; returns the rows of the table, and how the answer ended."""
    idle, disk = app.rss_bytes(), app.temp_bytes()
    app.reset_peak()
    with _largest(app) as most_disk:
        seconds, size, end = _send(client, endpoint, data, deadline + _PATIENCE_SECONDS)
    memory = (app.peak_rss_bytes() - idle) / _MIB
    print(f"worst: {name}: {seconds:.1f} s, {memory:.0f} MiB, {end}", flush=True)
    rows = [
        at_most("worst", f"{name}: holds the lane", seconds, deadline, "s"),
        at_most("worst", f"{name}: memory beyond idle", memory, _MOST_MEMORY_MIB, "MiB"),
        at_most("worst", f"{name}: disk", (most_disk[0] - disk) / _MIB, _MOST_DISK_MIB, "MiB"),
        at_most("worst", f"{name}: answer", size / _MIB, _MOST_ANSWER_MIB, "MiB"),
    ]
    return rows, end


@contextmanager
def _largest(app: App) -> Iterator[list[int]]:
    """Yields a list with the largest size of the temporary folder during the context."""
    most, done = [app.temp_bytes()], threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            most[0] = max(most[0], app.temp_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        done.set()
        watcher.join()
        most[0] = max(most[0], app.temp_bytes())


def _send(
    client: httpx.Client, endpoint: Endpoint, data: list[Any], most_seconds: float
) -> tuple[float, int, str]:
    """Sends a request and closes its stream when it takes too long.

    Returns:
        The seconds from its start, the bytes of the answer, and how it ended.
    """
    session, began, size = calls.new_session(), time.monotonic(), 0
    answer = calls.join(client, endpoint, data, session)
    if answer.status_code != httpx.codes.OK:
        return 0.0, 0, f"refused: {answer.text[:100]}"
    path = f"{calls.PREFIX}/queue/data?session_hash={session}"
    with client.stream("GET", path) as response:
        for line in response.iter_lines():
            size = max(size, len(line))
            if '"process_completed"' in line[:200]:
                return time.monotonic() - began, size, line[:400]
            if time.monotonic() - began > most_seconds:
                break
    return time.monotonic() - began, size, "not ended"
