"""Hostile calls of every function of the app: each must end in a sentence or a result."""

from __future__ import annotations

import base64
import importlib
import io
import itertools
import random
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from benchmarks.soak import calls
from benchmarks.soak.calls import PREFIX, Endpoint
from benchmarks.soak.report import Row, at_most
from benchmarks.soak.server import ROOT, App, running_app

CALLS = 5000
_WORKERS = 4
_READ_SECONDS = 20.0
_CHEAP: dict[str, Any] = {
    "num_inference_steps": 1,
    "steps": 1,
    "num_images": 1,
    "model": "emoji",
    "clip_model": "clip-small",
    "method": "fast",
    "digits": "1",
}
_FILE = {"_type": "gradio.FileData"}
_TRACEBACK = "Traceback (most recent call last):"
_FRAME = re.compile(r'File "([^"]+)"')
_INCIDENT = re.compile(r"incident [0-9a-f]{8}")


@dataclass
class Tally:
    """What came of the calls."""

    answers: Counter[str] = field(default_factory=Counter)
    nulls: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, call: str, *, null: bool = False) -> None:
        """Counts an answer; keeps the calls whose error was null."""
        with self.lock:
            self.answers[kind] += 1
            if null:
                self.nulls.append(call)


def hostile_value(chance: random.Random, pictures: list[bytes]) -> Any:
    """Returns a value that no honest page sends; the same for the same random state."""
    makers: list[Callable[[], Any]] = [
        lambda: chance.choice([None, True, False, [], {}, "", " ", "\x00", "\ud800", "\u202e"]),
        lambda: chance.choice([-1, 0, 2**70, -(2**70), 1e308, 0.5, float("nan"), float("inf")]),
        lambda: chance.choice(["9", "NaN", "1e999", "<script>alert(1)</script>", "../../x"]),
        lambda: "x" * chance.choice([1000, 100_000]),
        lambda: [[chance.random()] * 10] * chance.randint(1, 100),
        lambda: _nested(chance.randint(2, 60)),
        lambda: {"path": chance.choice(_paths()), "meta": _FILE},
        lambda: {"url": chance.choice(_paths()), "path": "", "meta": _FILE},
        lambda: f"{chance.choice(['', 'abc', 'x' * 999])}:{chance.choice([0, 1, 10**30])}",
        lambda: _data_uri(chance.choice(pictures)),
        lambda: "data:image/png;base64," + chance.choice(["", "AAAA", "!!!!", "A" * 100_000]),
        lambda: " | ".join(f"a:{chance.choice(['nan', '1e9', '-', ''])}" for _ in range(4)),
    ]
    return chance.choice(makers)()


def _paths() -> list[str]:
    return [
        "/etc/passwd",
        str(ROOT / "app.py"),
        "../../../etc/hostname",
        "http://127.0.0.1:9/x.png",
        "file:///etc/passwd",
        "\x00",
        "x" * 5000,
    ]


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def _data_uri(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


def damaged_pictures(count: int, seed: int) -> list[bytes]:
    """Returns damaged picture files."""
    try:
        mutations = importlib.import_module("benchmarks.soak.mutations")
    except ModuleNotFoundError:
        return [_flipped(random.Random(f"{seed} {i}")) for i in range(count)]
    return list(itertools.islice(mutations.mutated_pictures(count, seed), count))


def _flipped(chance: random.Random) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), "teal").save(buffer, format="PNG")
    content = bytearray(buffer.getvalue())
    for _ in range(chance.randint(1, 8)):
        content[chance.randrange(len(content))] = chance.randrange(256)
    return bytes(content)


def hostile_call(
    number: int, offered: list[Endpoint], pictures: list[bytes], seed: int
) -> tuple[str, Endpoint, list[Any]]:
    """Returns way, endpoint and values of one call, which follow from its number."""
    chance = random.Random(f"{seed} {number}")
    endpoint = offered[number % len(offered)]
    data = endpoint.values(**_CHEAP)
    for _ in range(chance.choice([1, 1, 2, 5])):
        if data:
            data[chance.randrange(len(data))] = hostile_value(chance, pictures)
    cut = chance.random()
    if cut < 0.1:
        data = data[: chance.randrange(len(data) + 1)]
    elif cut < 0.15:
        data = [*data, hostile_value(chance, pictures)]
    ways = ["join", "join", "run", "call", "v2"] if endpoint.name else ["join", "join", "run"]
    return chance.choice(ways), endpoint, data


def _send(client: httpx.Client, number: int, call: tuple[str, Endpoint, list[Any]], tally: Tally):
    way, endpoint, data = call
    label = f"{number}: {way} {endpoint.name or endpoint.number} {data!r:.300}"
    session = calls.new_session()
    try:
        answer = _post(client, way, endpoint, data, session)
        kind = f"{way} {answer.status_code}"
        if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            kind += f" {_kind_of(answer.text)}"
        null = way == "run" and answer.is_server_error and answer.json().get("error") is None
        tally.add(kind, label, null=null)
        if answer.status_code == httpx.codes.OK and way != "run":
            event = answer.json()["event_id"]
            if way == "join":
                _read_session(client, session, label, tally)
            else:
                _read_call(client, f"{PREFIX}/call/{endpoint.name}/{event}", label, tally)
    except (httpx.HTTPError, ValueError) as error:
        tally.add(f"{way} {type(error).__name__}", label)


def _kind_of(text: str) -> str:
    """Returns the beginning of an error without the value that it quotes."""
    text = re.sub(r"Value: .*?( \(type|$)", r"Value: …\1", text[:100_000], flags=re.DOTALL)
    return re.sub(r"-?\d[\d.e+]*", "N", text)[:80].replace("\n", " ")


def _post(
    client: httpx.Client, way: str, endpoint: Endpoint, data: list[Any], session: str
) -> httpx.Response:
    if way == "join":
        return calls.join(client, endpoint, data, session)
    if way == "run":
        body = {"data": data, "fn_index": endpoint.number, "session_hash": session}
        return calls.post(client, f"{PREFIX}/run/{endpoint.name or 'predict'}", body)
    if way == "call":
        return calls.post(client, f"{PREFIX}/call/{endpoint.name}", {"data": data})
    values = dict(zip(endpoint.names, data, strict=False))
    return calls.post(client, f"{PREFIX}/call/v2/{endpoint.name}", values)


def _read_session(client: httpx.Client, session: str, label: str, tally: Tally) -> None:
    ends = time.monotonic() + _READ_SECONDS
    with calls.stream(client, session) as received:
        for message in received:
            if message["msg"] == "process_completed" and not message["success"]:
                null = message["output"].get("error") is None
                tally.add("null" if null else "a sentence", label, null=null)
            elif message["msg"] == "process_completed":
                tally.add("a result", label)
            if time.monotonic() > ends:
                return


def _read_call(client: httpx.Client, path: str, label: str, tally: Tally) -> None:
    ends, event = time.monotonic() + _READ_SECONDS, ""
    with client.stream("GET", path) as response:
        for line in response.iter_lines():
            event = line.removeprefix("event: ") if line.startswith("event: ") else event
            if line.startswith("data: ") and event == "error":
                null = '"error": null' in line or line == "data: null"
                tally.add("null" if null else "a sentence", label, null=null)
            elif line.startswith("data: ") and event == "complete":
                tally.add("a result", label)
            if time.monotonic() > ends:
                return


def own_tracebacks(log: str) -> list[str]:
    """Returns the tracebacks in a log that went through our code."""
    blocks = log.split(_TRACEBACK)[1:]
    return [block for block in blocks if any(map(_is_own, _FRAME.findall(block)))]


def _is_own(path: str) -> bool:
    return path.startswith(f"{ROOT}/") and "/.venv/" not in path


def run(scale: float, seed: int = 0) -> list[Row]:
    """Sends hostile calls; returns the rows of the table."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {"STUDIO_MAX_RUNS_PER_ADDRESS": "100", "STUDIO_WARM_UP": "0"}
        with running_app(Path(folder), **environment) as app:
            return _attack(app, max(round(CALLS * scale), 1), seed)


def _attack(app: App, count: int, seed: int) -> list[Row]:
    tally, pictures = Tally(), damaged_pictures(64, seed)
    with app.client(timeout=60) as client, ThreadPoolExecutor(_WORKERS) as pool:
        offered = calls.endpoints(client)
        for number in range(count):
            call = hostile_call(number, offered, pictures, seed)
            pool.submit(_send, client, number, call, tally)
        pool.shutdown()
        is_alive = client.get("/config").status_code == httpx.codes.OK
    log = app.printed()
    tried = f"{count:,} hostile calls of {len(offered)} functions"
    failures = {k: n for k, n in tally.answers.items() if re.search(r" 5\d\d", k)}
    others = ", ".join(f"{kind}: {n}" for kind, n in sorted(tally.answers.items()))
    listed = "; ".join(f"{kind}: {n}" for kind, n in sorted(failures.items()))
    for call in tally.nulls[:10]:
        print("null:", call)
    for block in own_tracebacks(log)[:5]:
        print("traceback:", block[:1500])
    return [
        at_most("hostile", f"{tried}: incidents", len(_INCIDENT.findall(log)), 0),
        at_most("hostile", "errors that are null", len(tally.nulls), 0),
        at_most("hostile", "tracebacks from our code", len(own_tracebacks(log)), 0),
        Row("hostile", "the app serves afterwards", str(is_alive), "True", is_alive),
        Row("hostile", "Gradio's own 500s", listed or "none", "listed", True),
        Row("hostile", "answers", others, "listed", True),
    ]
