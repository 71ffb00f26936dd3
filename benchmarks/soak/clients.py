"""Eight clients of mixed valid work: no error, fair, and memory and disk that stay as they are."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.soak import calls
from benchmarks.soak.calls import Endpoint
from benchmarks.soak.report import Row, at_most, slope
from benchmarks.soak.server import App, running_app

CLIENTS = 8
MOST_KIB_PER_CALL = 2.0
MOST_RATIO = 1.5
MOST_TEMP_MIB = 512.0
_SEEDS = 12  # few, so that the caches of unguided runs are soon full
_LAST_PART = 0.5  # of the calls; before, sessions and caches fill
_ENVIRONMENT = {
    "STUDIO_MAX_RUNS_PER_ADDRESS": "100",  # all clients have one address
    "STUDIO_MAX_SESSIONS": "50",  # soon full
}
_WORK: tuple[tuple[str, dict[str, Any]], ...] = (
    ("digits", {"num_inference_steps": 4}),
    ("color", {"model": "emoji", "num_inference_steps": 4, "method": "fast"}),
    ("page", {}),
    ("text", {"model": "emoji", "num_inference_steps": 4, "method": "fast"}),
    ("checkpoints", {}),
    ("estimate", {}),
)


@dataclass
class _Record:
    """What the clients saw.

    Attributes:
        seconds: of the runs of each client.
        memory: number of calls done and resident bytes, in pairs.
        errors: one sentence each.
        calls: number of calls done.
        most_temp: largest size of the temporary folder, in bytes.
    """

    seconds: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    memory: list[tuple[int, int]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    calls: int = 0
    most_temp: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, app: App, number: int, name: str, seconds: float, error: str) -> None:
        """Notes a call that is done."""
        with self.lock:
            self.calls += 1
            self.memory.append((self.calls, app.rss_bytes()))
            if name in ("digits", "color", "text"):
                self.seconds[number].append(seconds)
            if error:
                self.errors.append(f"{name}: {error}")


def run(minutes: float) -> list[Row]:
    """Lets the clients work; returns the rows of the table."""
    with tempfile.TemporaryDirectory() as folder, running_app(Path(folder), **_ENVIRONMENT) as app:
        record = _work(app, minutes * 60)
    for error in record.errors[:10]:
        print("error:", error)
    medians = [statistics.median(seconds) for seconds in record.seconds.values() if seconds]
    listed = ", ".join(f"{median:.1f}" for median in medians)
    tried = f"{CLIENTS} clients, {minutes:g} min, {record.calls:,} calls"
    ratio = max(medians, default=1.0) / max(min(medians, default=1.0), 1e-9)
    return [
        at_most("clients", f"{tried}: errors", len(record.errors), 0),
        at_most("clients", f"largest by smallest median of a run ({listed} s)", ratio, MOST_RATIO),
        _growth(record),
        at_most("clients", "temporary files", record.most_temp / 2**20, MOST_TEMP_MIB, "MiB"),
    ]


def _growth(record: _Record) -> Row:
    last = record.memory[int(len(record.memory) * (1 - _LAST_PART)) :]
    limit = f"at most {MOST_KIB_PER_CALL:g} KiB a call"
    try:
        found, half = slope([n for n, _ in last], [memory / 1024 for _, memory in last])
    except ValueError:
        return Row("clients", "growth of memory", "too few calls", limit, False)
    figure = f"{found:.2f} ± {half:.2f} KiB a call over {len(last):,} calls (95 %)"
    return Row("clients", "growth of memory", figure, limit, found + half <= MOST_KIB_PER_CALL)


def _work(app: App, seconds: float) -> _Record:
    record, ends = _Record(), time.monotonic() + seconds
    with app.client() as client:
        offered = {e.name: e for e in calls.endpoints(client) if e.name}
        estimate = next(e for e in calls.endpoints(client) if "estimate" in "".join(e.outputs))
    offered["estimate"] = estimate
    workers = [
        threading.Thread(target=_client, args=(app, number, offered, record, ends))
        for number in range(CLIENTS)
    ]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        record.most_temp = max(record.most_temp, app.temp_bytes())
        time.sleep(1)
    return record


def _client(
    app: App, number: int, offered: dict[str, Endpoint], record: _Record, ends: float
) -> None:
    turn = 0  # all clients do the same in the same order, so that their medians can be compared
    with app.client(timeout=300) as client:
        while time.monotonic() < ends:
            name, changes = _WORK[turn % len(_WORK)]
            turn += 1
            began = time.monotonic()
            try:
                error = _call(client, name, offered, {**changes, "seed": turn % _SEEDS})
            except (httpx.HTTPError, ValueError, KeyError) as problem:
                error = f"{type(problem).__name__}: {problem}"
            record.add(app, number, name, time.monotonic() - began, error)


def _call(
    client: httpx.Client, name: str, offered: dict[str, Endpoint], changes: dict[str, Any]
) -> str:
    """Does one piece of work; returns what went wrong, or nothing."""
    if name == "page":
        answers = [client.get("/"), client.get("/config")]
        return "" if all(a.status_code == httpx.codes.OK for a in answers) else "no page"
    endpoint = offered[name]
    data = endpoint.values(**changes)
    if name == "estimate":
        body = {"data": data, "fn_index": endpoint.number, "session_hash": calls.new_session()}
        answer = calls.post(client, f"{calls.PREFIX}/run/predict", body)
        return "" if answer.status_code == httpx.codes.OK else answer.text[:200]
    last = calls.result(client, endpoint, data)
    return "" if last["success"] else str(last["output"].get("error"))
