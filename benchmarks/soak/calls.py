"""Calls of the app over plain HTTP: its endpoints, runs and their streams."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

PREFIX = "/gradio_api"


@dataclass(frozen=True)
class Endpoint:
    """A function that the app offers to everybody who can send a request.

    Attributes:
        number: `fn_index`.
        name: public name; "" if it is private, an event of the page.
        names: element ids or parameter names of the inputs.
        defaults: values of the inputs.
        outputs: element ids of the outputs.
        is_queued: whether it waits in a queue.
    """

    number: int
    name: str
    names: tuple[str, ...]
    defaults: tuple[Any, ...]
    outputs: tuple[str, ...]
    is_queued: bool

    def values(self, **changes: Any) -> list[Any]:
        """Returns the default values with some changed, by the names of the settings.

        Parameters of the API have those names; the ids of controls have the tab's name before them.
        """
        wanted = {setting.replace("_", "-"): value for setting, value in changes.items()}
        values = list(self.defaults)
        for i, name in enumerate(self.names):
            own = name.replace("_", "-")
            settings = (own,) if self.name else (own, own.partition("-")[2])
            for setting in settings:
                values[i] = wanted.get(setting, values[i])
        return values


def endpoints(client: httpx.Client) -> list[Endpoint]:
    """Returns all functions of the app that run on the server, private ones too."""
    config = client.get("/config").json()
    public = client.get(f"{PREFIX}/info").json()["named_endpoints"]
    components = {c["id"]: c["props"] for c in config["components"]}
    found = []
    for dependency in config["dependencies"]:
        if not dependency["backend_fn"]:
            continue
        name = dependency["api_name"] or ""
        if f"/{name}" in public:
            parameters = public[f"/{name}"]["parameters"]
            names = tuple(p["parameter_name"] for p in parameters)
            defaults = tuple(p.get("parameter_default") for p in parameters)
        else:
            inputs = [components[i] for i in dependency["inputs"]]
            names = tuple(str(c.get("elem_id") or c.get("name") or "") for c in inputs)
            defaults = tuple(c.get("value") for c in inputs)
            name = ""
        queued = dependency["queue"] is not False
        outputs = tuple(str(components[i].get("elem_id") or "") for i in dependency["outputs"])
        found.append(Endpoint(dependency["id"], name, names, defaults, outputs, queued))
    return found


def open_page(client: httpx.Client) -> None:
    """Tells the app that a page has been opened, as a browser does once it shows it."""
    functions = client.get("/config").json()["dependencies"]
    (load,) = [f for f in functions if any(event == "load" for _, event in f["targets"])]
    body = {"data": [], "fn_index": load["id"], "session_hash": new_session()}
    post(client, f"{PREFIX}/run/predict", body).raise_for_status()


def named(client: httpx.Client, name: str) -> Endpoint:
    """Returns the public endpoint of a name."""
    return next(e for e in endpoints(client) if e.name == name)


def join(client: httpx.Client, endpoint: Endpoint, data: list[Any], session: str) -> httpx.Response:
    """Sends a run to the queue as a page does."""
    body = {"data": data, "fn_index": endpoint.number, "session_hash": session}
    return post(client, f"{PREFIX}/queue/join", body)


def post(client: httpx.Client, path: str, body: Any) -> httpx.Response:
    """Sends any JSON, also what JSON does not know: NaN, infinity, lone surrogates."""
    content = json.dumps(body)  # escapes surrogates, writes NaN
    return client.post(path, content=content, headers={"content-type": "application/json"})


@contextmanager
def stream(client: httpx.Client, session: str) -> Iterator[Iterator[dict[str, Any]]]:
    """Opens the stream of a session; leaving the context closes it."""
    with client.stream("GET", f"{PREFIX}/queue/data?session_hash={session}") as response:
        yield messages(response)


def messages(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """Yields the messages of a stream up to its end."""
    for line in response.iter_lines():
        if line.startswith("data: "):
            message = json.loads(line.removeprefix("data: "))
            yield message
            if message.get("msg") == "close_stream":
                return


def result(client: httpx.Client, endpoint: Endpoint, data: list[Any]) -> dict[str, Any]:
    """Runs an endpoint to its end; returns the last message, or what refused it.

    Returns:
        A message with `success` and `output`; for a refused request they come from its answer.
    """
    session = new_session()
    answer = join(client, endpoint, data, session)
    if answer.status_code != httpx.codes.OK:
        return {"success": False, "output": {"error": answer.text[:300]}}
    last: dict[str, Any] = {"success": False, "output": {"error": "the stream ended"}}
    with stream(client, session) as received:
        for message in received:
            if message["msg"] in ("process_completed", "unexpected_error"):
                last = message
    return last


def new_session() -> str:
    """Returns the name of a session."""
    return f"soak{secrets.token_hex(6)}"
