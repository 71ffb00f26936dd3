"""A Hub on this machine: it knows one token, hands out folders as repositories, takes uploads."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import datasets.config
import huggingface_hub
import pytest

COMMIT = "1" * 40


@dataclass
class Hub:
    """What the server has, and what it was asked for.

    Attributes:
        repositories: folder per id: `models/someone/cats`, `datasets/someone/kites`.
        created: names of the repositories that were made.
        uploaded: paths of the files that were sent.
        full: whether it takes no more files.
    """

    repositories: dict[str, Path] = field(default_factory=dict)
    created: list[str] = field(default_factory=list)
    uploaded: set[str] = field(default_factory=set)
    full: bool = False


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path == "/api/whoami-v2":
            known = self.headers.get("Authorization") == "Bearer hf_good"
            self._answer(200 if known else 401, {"name": "someone", "type": "user"})
        elif path.startswith("/api/"):
            self._describe(*path.removeprefix("/api/").split("/", 4))
        else:
            self._send_file(path)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        body = self._body()
        kind, owner, name, *action = self.path.removeprefix("/api/").split("/", 3) + [""] * 2
        if self.path == "/api/repos/create":
            self.hub.created.append(name := json.loads(body)["name"])
            self._answer(200, {"url": f"https://huggingface.co/someone/{name}"})
        elif self.path == "/api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        elif action[0].startswith("paths-info"):
            wanted = parse_qs(body.decode()).get("paths", [])
            files = self._files(f"{kind}/{owner}/{name}")
            self._answer(200, [entry for entry in files if entry["path"] in wanted])
        elif action[0] == "preupload/main":
            take = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            files = [take | {"path": file["path"]} for file in json.loads(body)["files"]]
            self._answer(403 if self.hub.full else 200, {"files": files})
        elif action[0] == "commit/main":
            lines = [json.loads(line) for line in body.splitlines()]
            paths = {line["value"]["path"] for line in lines if line["key"] == "file"}
            self.hub.uploaded.update(paths)
            commit = {"commitUrl": f"https://huggingface.co/{owner}/{name}/commit/1"}
            self._answer(200, commit | {"commitOid": "1"})
        else:
            self._answer(404, {"error": f"no {self.path} here"})

    def _describe(self, kind: str = "", owner: str = "", name: str = "", *action: str) -> None:
        repository = f"{kind}/{owner}/{name}"
        if repository not in self.hub.repositories:
            self._answer(404, {"error": f"no {self.path} here"})
        elif action and action[0] == "tree":
            inside = action[1].partition("/")[2]
            files = [file for file in self._files(repository) if file["path"].startswith(inside)]
            self._answer(200, files) if files else self._miss()
        else:
            siblings = [{"rfilename": entry["path"]} for entry in self._files(repository)]
            about = {"id": f"{owner}/{name}", "sha": COMMIT, "siblings": siblings}
            self._answer(200, about | {"private": False, "tags": [], "downloads": 0})

    def _miss(self) -> None:
        self._answer(404, {"error": f"no {self.path} here"}, {"X-Error-Code": "EntryNotFound"})

    def _files(self, repository: str) -> list[dict[str, Any]]:
        folder = self.hub.repositories[repository]
        return [
            {
                "type": "file",
                "path": path.relative_to(folder).as_posix(),
                "size": path.stat().st_size,
                "oid": hashlib.sha1(path.read_bytes()).hexdigest(),
            }
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        ]

    def _send_file(self, path: str) -> None:
        repository, _, rest = path.removeprefix("/").partition("/resolve/")
        repository = repository if repository.startswith("datasets/") else f"models/{repository}"
        folder = self.hub.repositories.get(repository)
        file = folder and folder / rest.partition("/")[2]
        if file is None or not file.is_file():
            self._miss()
            return
        content = file.read_bytes()
        self._answer(200, content, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"'})

    def _body(self) -> bytes:
        if self.headers["Transfer-Encoding"] != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"]))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", COMMIT)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *_: Any) -> None:
        pass


@contextmanager
def serve_hub(cache: Path) -> Iterator[Hub]:
    """The Hub of everything in this process, as long as it lasts; what it hands out goes there."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        constants = huggingface_hub.constants
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(constants, "ENDPOINT", address)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(datasets.config, "HF_ENDPOINT", address)
        patch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        yield hub
        server.shutdown()
