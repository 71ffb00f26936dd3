"""A Hub on this machine, for the real client: it knows some tokens, hands out folders as
repositories, makes new ones, takes commits and large files, and fails when it is told to."""

from __future__ import annotations

import base64
import errno
import fnmatch
import hashlib
import json
import os
import re
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import datasets.config
import huggingface_hub
import pytest
import yaml

COMMIT = "1" * 40
"""Of what is handed out; what was uploaded has commits of its own."""

LARGEST_REGULAR_FILE = 10_000_000
_CHUNK = 2**20
# What the Hub writes into the `.gitattributes` of a new repository, shortened.
LFS_NAMES = ("*.safetensors", "*.bin", "*.ckpt", "*.gz", "*.parquet", "*.pt", "*.zip")
GITATTRIBUTES = "".join(f"{name} filter=lfs diff=lfs merge=lfs -text\n" for name in LFS_NAMES)

_CLUB = [{"name": "club", "roleInOrg": "write"}, {"name": "library", "roleInOrg": "read"}]
# What each token may do: "fine" may create nothing and write nothing, which only trying tells.
TOKENS = {"hf_good": "write", "hf_read": "read", "hf_fine": "fineGrained"}
_PREFIX = {"models": "", "spaces": "spaces/", "datasets": "datasets/"}


@dataclass
class Fault:
    """An answer that the Hub gives instead of its own, or its own, late or broken off.

    Attributes:
        status: of the answer; 0 is its own answer.
        path: a regular expression that is looked for in method and path: `PUT /lfs/`.
        times: how often it is given.
        skip: how many such requests are let through before.
        headers: of the answer.
        seconds: that pass before it.
        most: bytes of a file after which it breaks off, though all were promised; None is whole.
    """

    status: int
    path: str
    times: int = 1
    skip: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    most: int | None = None

    def strikes(self, request: str) -> bool:
        """Whether it is this request's turn."""
        if not re.search(self.path, request) or not self.times:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return True


@dataclass
class Commit:
    """What one commit changed."""

    repository: str
    oid: str
    summary: str
    written: tuple[str, ...]
    deleted: tuple[str, ...]


@dataclass
class Hub:
    """What the server has, and what it was asked for.

    Attributes:
        root: folder for repositories that are made.
        address: of the server.
        repositories: folder per id: `models/someone/cats`, `datasets/someone/kites`.
        created: names of the repositories that were made.
        uploaded: paths of the files that were sent.
        full: whether it takes no more files.
        commits: all that were made, oldest first.
        older: folder per earlier commit, per id, of those that are handed out too.
        large: content of large files that were sent, by SHA-256; kept also if no commit came of it.
        stored: large files that are handed out, by SHA-256.
        private: ids that only members may see.
        gated: ids whose files nobody may fetch who did not accept the terms.
        moved: new id per old id.
        faults: answers to give instead of its own.
        requests: method and path of every request.
        ranges: of the requests that wanted a part of a file only: `bytes=10-`.
        pause: seconds after each MiB of a file.
        ended: whether it is over, which ends all waiting.
        strangers: other hosts that somebody tried to reach; none can be.
    """

    root: Path
    address: str = ""
    repositories: dict[str, Path] = field(default_factory=dict)
    created: list[str] = field(default_factory=list)
    uploaded: set[str] = field(default_factory=set)
    full: bool = False
    commits: list[Commit] = field(default_factory=list)
    older: dict[str, dict[str, Path]] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    stored: dict[str, Path] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    gated: set[str] = field(default_factory=set)
    moved: dict[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    pause: float = 0.0
    ended: threading.Event = field(default_factory=threading.Event)
    strangers: list[str] = field(default_factory=list)
    guard: threading.Lock = field(default_factory=threading.Lock)
    hashed: dict[tuple[Path, int], dict[str, Any]] = field(default_factory=dict)

    def fail(self, status: int, path: str, **options: Any) -> None:
        """Answers requests whose method and path match with a status."""
        self.faults.append(Fault(status, path, **options))

    def delay(self, seconds: float, path: str, **options: Any) -> None:
        """Answers such requests late."""
        self.faults.append(Fault(0, path, seconds=seconds, **options))

    def tear(self, most: int, path: str, **options: Any) -> None:
        """Breaks off such files after so many bytes."""
        self.faults.append(Fault(0, path, most=most, **options))

    def writes(self) -> list[str]:
        """The requests so far that might have changed something."""
        return [request for request in self.requests if not request.startswith(("GET ", "HEAD "))]

    def head(self, repository: str) -> str:
        """The latest commit of a repository."""
        own = [commit.oid for commit in self.commits if commit.repository == repository]
        return own[-1] if own else COMMIT

    def make(self, repository: str) -> None:
        """A new repository, empty but for what the Hub puts there."""
        folder = self.root / repository
        folder.mkdir(parents=True)
        (folder / ".gitattributes").write_text(GITATTRIBUTES)
        self.repositories[repository] = folder

    def folder(self, repository: str, revision: str = "main") -> Path:
        """Where the files of a revision lie."""
        return self.older.get(repository, {}).get(revision, self.repositories[repository])

    def commit(self, repository: str, revision: str) -> str:
        """The commit that a revision means."""
        return revision if revision in self.older.get(repository, {}) else self.head(repository)

    def files(self, repository: str, revision: str = "main") -> dict[str, dict[str, Any]]:
        """What the tree of a repository says of each of its files."""
        folder = self.folder(repository, revision)
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        return {
            name: self.entry(name, path)
            for path in paths
            for name in [path.relative_to(folder).as_posix()]
        }

    def entry(self, name: str, path: Path) -> dict[str, Any]:
        """What the tree says of a file; huge ones are read once."""
        status = path.stat()
        if status.st_size <= LARGEST_REGULAR_FILE:
            return _described(name, path.read_bytes())
        key = (path, status.st_mtime_ns)
        if key not in self.hashed:
            self.hashed[key] = _described(name, path.read_bytes())
        return self.hashed[key]


def is_large(path: str, size: int) -> bool:
    """Whether a file belongs to LFS."""
    name = path.rpartition("/")[2]
    named = any(fnmatch.fnmatchcase(name, pattern) for pattern in LFS_NAMES)
    return size > 0 and (named or size > LARGEST_REGULAR_FILE)


def _described(path: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content)}
    if not is_large(path, len(content)):
        return entry | {"oid": _git_hash(content)}
    sha256 = hashlib.sha256(content).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\n"
    pointer += f"size {len(content)}\n"
    lfs = {"oid": sha256, "size": len(content), "pointerSize": len(pointer)}
    return entry | {"oid": _git_hash(pointer.encode()), "lfs": lfs}


def _git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _RefusalError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, code: str = ""):
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    fault: Fault | None = None

    def do_GET(self) -> None:
        self._handle(self._get)

    def do_HEAD(self) -> None:
        self._handle(self._get)

    def do_POST(self) -> None:
        self._handle(self._post)

    def do_PUT(self) -> None:
        self._handle(self._put)

    def _handle(self, act: Any) -> None:
        body = self._body()
        request = f"{self.command} {self.path}"
        with self.hub.guard:
            self.hub.requests.append(request)
            fault = next((fault for fault in self.hub.faults if fault.strikes(request)), None)
        self.fault = fault
        if fault and fault.seconds:
            self.hub.ended.wait(fault.seconds)
        try:
            if fault and fault.status:
                message = {"error": f"a fault of status {fault.status}"}
                self._answer(fault.status, message, fault.headers)
            else:
                act(body)
        except _RefusalError as refusal:
            code = {"X-Error-Code": refusal.code} if refusal.code else {}
            said = {"X-Error-Message": refusal.message}
            self._answer(refusal.status, {"error": refusal.message}, code | said)
        except ConnectionError:  # the client has waited long enough
            pass

    # --- who is asking ---------------------------------------------------------------------------

    def _role(self) -> str:
        """What the token may do; empty without one."""
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if given and given not in TOKENS:
            raise _RefusalError(401, "Invalid credentials in Authorization header")
        return TOKENS.get(given, "")

    def _member_of(self) -> set[str]:
        return {"someone", "club"} if self._role() else set()

    def _must_write(self, owner: str) -> None:
        role = self._role()
        if not role:
            raise _RefusalError(401, "Invalid username or password.")
        if role != "write" or owner not in self._member_of():
            raise _RefusalError(403, f"You don't have the rights to write to the namespace {owner}")

    def _find(self, repository: str) -> str:
        """A repository that the asker may see."""
        owner = repository.split("/")[1]
        hidden = repository in self.hub.private and owner not in self._member_of()
        if repository not in self.hub.repositories or hidden:
            raise _RefusalError(404, "Repository not found", "RepoNotFound")
        return repository

    # --- reading ---------------------------------------------------------------------------------

    def _get(self, _: bytes) -> None:
        path = urlsplit(self.path).path
        if path == "/api/whoami-v2":
            self._who_am_i()
        elif path.startswith("/api/"):
            kind, owner, name, *action = path.removeprefix("/api/").split("/", 3) + [""] * 3
            self._describe(f"{kind}/{owner}/{unquote(name)}", action[0])
        elif path.startswith("/cdn/"):
            if "Authorization" in self.headers:
                raise _RefusalError(400, "a token was shown to another host")
            self._send(self.hub.stored[path.removeprefix("/cdn/")], {})
        else:
            self._resolve(unquote(path).removeprefix("/"))

    def _who_am_i(self) -> None:
        role = self._role()
        if not role:
            raise _RefusalError(401, "Invalid username or password.")
        token = {"type": "access_token", "accessToken": {"displayName": "t", "role": role}}
        me = {"type": "user", "name": "someone", "orgs": _CLUB, "auth": token}
        self._answer(200, me)

    def _describe(self, repository: str, action: str) -> None:
        if repository in self.hub.moved:
            there = self.path.replace(repository, self.hub.moved[repository])
            self._answer(307, {}, {"Location": there})
            return
        what, _, rest = action.partition("/")
        if what == "auth-check":
            owner = self._find(repository).split("/")[1]
            self._must_write(owner) if rest == "write" else None
            self._answer(200, {})
            return
        self._find(repository)
        if what == "tree":
            revision, _, inside = rest.partition("/")
            self._check_revision(repository, unquote(revision))
            self._tree(repository, unquote(revision), unquote(inside))
        else:
            revision = unquote(rest) if what == "revision" else "main"
            self._check_revision(repository, revision)
            self._answer(200, self._about(repository, revision))

    def _check_revision(self, repository: str, revision: str) -> None:
        known = {"main", COMMIT, *self.hub.older.get(repository, {})}
        known |= {commit.oid for commit in self.hub.commits if commit.repository == repository}
        if revision not in known:
            raise _RefusalError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def _about(self, repository: str, revision: str) -> dict[str, Any]:
        return {
            "id": repository.partition("/")[2],
            "sha": self.hub.commit(repository, revision),
            "siblings": [{"rfilename": path} for path in self.hub.files(repository, revision)],
            "private": repository in self.hub.private,
            "gated": "auto" if repository in self.hub.gated else False,
            "tags": [],
            "downloads": 0,
        }

    def _tree(self, repository: str, revision: str, inside: str) -> None:
        files = list(self.hub.files(repository, revision).values())
        prefix = f"{inside}/" if inside else ""
        found = [file for file in files if file["path"].startswith(prefix)]
        if not found and inside:
            raise _RefusalError(404, f"no {inside} here", "EntryNotFound")
        rests = {file["path"]: file["path"].removeprefix(prefix) for file in found}
        folders = {
            "/".join(parts[:depth])
            for rest in rests.values()
            for parts in [rest.split("/")]
            for depth in range(1, len(parts))
        }
        if "true" not in str(parse_qs(urlsplit(self.path).query).get("recursive")).lower():
            found = [file for file in found if "/" not in rests[file["path"]]]
            folders = {folder for folder in folders if "/" not in folder}
        listed = [
            {"type": "directory", "path": prefix + folder, "size": 0, "oid": "0" * 40}
            for folder in sorted(folders)
        ]
        self._answer(200, listed + found)

    def _resolve(self, path: str) -> None:
        place, _, rest = path.partition("/resolve/")
        repository = place if place.startswith(("datasets/", "spaces/")) else f"models/{place}"
        if repository in self.hub.moved:
            kind, _, name = self.hub.moved[repository].partition("/")
            there = f"/{_PREFIX[kind]}{name}/resolve/{rest}"
            self._answer(307, {}, {"Location": there})
            return
        self._find(repository)
        if repository in self.hub.gated:
            raise _RefusalError(403, "Access to this repository is restricted", "GatedRepo")
        revision, _, name = rest.partition("/")
        self._check_revision(repository, revision)
        file = self.hub.folder(repository, revision) / name
        if not file.is_file():
            raise _RefusalError(404, "Entry not found", "EntryNotFound")
        commit = {"X-Repo-Commit": self.hub.commit(repository, revision)}
        entry = self.hub.entry(name, file)
        if "lfs" not in entry:
            self._send(file, commit | {"ETag": f'"{entry["oid"]}"'})
            return
        sha256 = entry["lfs"]["oid"]
        self.hub.stored[sha256] = file
        linked = {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(entry["size"])}
        store = self.hub.address.replace("127.0.0.1", "localhost")  # another host to the client
        there = {"Location": f"{store}/cdn/{sha256}", "ETag": f'"{sha256}"'}
        self._answer(302, {}, commit | linked | there)

    def _send(self, file: Path, headers: dict[str, str]) -> None:
        """A file, or the part of it that was asked for."""
        size, headers = file.stat().st_size, headers | {"Accept-Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not wanted:
            self._pour(200, file, range(size), headers)
            return
        self.hub.ranges.append(wanted[0])
        first, last = int(wanted[1]), min(int(wanted[2] or size), size - 1)
        if first >= size:
            self._answer(416, {}, {"Content-Range": f"bytes */{size}"})
            return
        said = {"Content-Range": f"bytes {first}-{last}/{size}"}
        self._pour(206, file, range(first, last + 1), headers | said)

    def _pour(self, status: int, file: Path, part: range, headers: dict[str, str]) -> None:
        """The bytes of a part of a file, as many of them as a fault lets through."""
        self._begin(status, len(part), headers)
        left = len(part)
        if self.fault and self.fault.most is not None:
            left = min(left, self.fault.most)
        with file.open("rb") as source:
            source.seek(part.start)
            while left and self.command != "HEAD":
                chunk = source.read(min(left, _CHUNK))
                self.wfile.write(chunk)
                left -= len(chunk)
                self.hub.ended.wait(self.hub.pause)

    # --- writing ---------------------------------------------------------------------------------

    def _post(self, body: bytes) -> None:
        path = urlsplit(self.path).path
        if path == "/api/repos/create":
            self._create(json.loads(body))
        elif path == "/api/validate-yaml":
            self._validate(json.loads(body))
        elif path.endswith(".git/info/lfs/objects/batch"):
            self._offer(path.removeprefix("/"), json.loads(body))
        elif path.startswith("/verify/"):
            known = json.loads(body)["oid"] in self.hub.large
            self._answer(200 if known else 404, {})
        else:
            kind, owner, name, *action = path.removeprefix("/api/").split("/", 3) + [""] * 3
            self._change(f"{kind}/{owner}/{name}", action[0], body)

    def _change(self, repository: str, action: str, body: bytes) -> None:
        self._find(repository)
        if action.startswith("paths-info"):
            wanted = parse_qs(body.decode()).get("paths", [])
            files = self.hub.files(repository)
            self._answer(200, [files[path] for path in wanted if path in files])
            return
        self._must_write(repository.split("/")[1])
        if action == "preupload/main":
            self._sort(repository, json.loads(body))
        elif action == "commit/main":
            self._commit(repository, [json.loads(line) for line in body.splitlines()])
        else:
            raise _RefusalError(404, f"no {self.path} here")

    def _create(self, wanted: dict[str, Any]) -> None:
        owner = wanted.get("organization") or "someone"
        self._must_write(owner)
        kind = f"{wanted.get('type', 'model')}s"
        repository = f"{kind}/{owner}/{wanted['name']}"
        address = f"https://huggingface.co/{_PREFIX[kind]}{owner}/{wanted['name']}"
        if repository in self.hub.repositories:
            error = "You already created this repository"
            self._answer(409, {"error": error, "url": address})
            return
        if kind == "spaces" and wanted.get("sdk") != "gradio":
            raise _RefusalError(400, "sdk must be gradio")
        self.hub.make(repository)
        self.hub.created.append(wanted["name"])
        if wanted.get("visibility") == "private" or wanted.get("private"):
            self.hub.private.add(repository)
        self._answer(200, {"url": address, "name": f"{owner}/{wanted['name']}"})

    def _validate(self, wanted: dict[str, Any]) -> None:
        """As the Hub does it, of the little that matters here."""
        errors = []
        head = re.match(r"---\n(.*?)\n---", wanted["content"], re.S)
        try:
            data = yaml.safe_load(head[1]) if head else {}
        except yaml.YAMLError as error:
            data, errors = {}, [str(error)]
        if not isinstance(data.get("license", ""), str):
            errors.append('"license" must be a string')
        if wanted["repoType"] == "space":
            missing = {"title", "sdk", "emoji", "colorFrom", "colorTo"} - set(data)
            errors += [f'"{key}" is required' for key in sorted(missing)]
            if len(data.get("short_description", "")) > 60:
                errors.append('"short_description" length must be less than or equal to 60')
        said = {"errors": [{"message": error} for error in errors], "warnings": []}
        self._answer(400 if errors else 200, said)

    def _sort(self, repository: str, wanted: dict[str, Any]) -> None:
        """Tells which files go which way, and what is there already."""
        if self.hub.full:
            raise _RefusalError(403, "Storage limit reached")
        there = self.hub.files(repository)
        answer = []
        for file in wanted["files"]:
            base64.b64decode(file["sample"])
            entry = there.get(file["path"], {})
            oid = entry["lfs"]["oid"] if "lfs" in entry else entry.get("oid")
            mode = "lfs" if is_large(file["path"], file["size"]) else "regular"
            told = {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid}
            answer.append(told)
        self._answer(200, {"files": answer})

    def _offer(self, path: str, wanted: dict[str, Any]) -> None:
        """Says where to put large files, of those that are not here."""
        place = path.removesuffix(".git/info/lfs/objects/batch")
        repository = place if place.startswith(("datasets/", "spaces/")) else f"models/{place}"
        self._must_write(self._find(repository).split("/")[1])
        objects = []
        for item in wanted["objects"]:
            told = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in self.hub.large:
                address = f"{self.hub.address}/lfs/{item['oid']}"
                verify = {"href": f"{self.hub.address}/verify/{item['oid']}"}
                told["actions"] = {"upload": {"href": address}, "verify": verify}
            objects.append(told)
        self._answer(200, {"transfer": "basic", "objects": objects})

    def _put(self, body: bytes) -> None:
        oid = urlsplit(self.path).path.removeprefix("/lfs/")
        if hashlib.sha256(body).hexdigest() != oid:
            raise _RefusalError(400, "the content has another hash")
        self.hub.large[oid] = body
        self._answer(200, {})

    def _commit(self, repository: str, lines: list[dict[str, Any]]) -> None:
        """All or nothing."""
        (header,) = (line["value"] for line in lines if line["key"] == "header")
        if header.get("parentCommit", self.hub.head(repository)) != self.hub.head(repository):
            raise _RefusalError(412, "A commit has happened since. Please refresh and try again.")
        written: dict[str, bytes] = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                content = base64.b64decode(value["content"])
                if len(content) > LARGEST_REGULAR_FILE:
                    raise _RefusalError(413, "too large a file outside LFS")
                written[value["path"]] = content
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.large:
                    raise _RefusalError(400, f"{value['path']} was not uploaded")
                written[value["path"]] = self.hub.large[value["oid"]]
        deleted = tuple(line["value"]["path"] for line in lines if line["key"] == "deletedFile")
        folder = self.hub.repositories[repository]
        for path, content in written.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        for path in deleted:
            (folder / path).unlink()
        number = len(self.hub.commits) + 1
        made = Commit(repository, f"{number:040x}", header["summary"], tuple(written), deleted)
        self.hub.commits.append(made)
        self.hub.uploaded.update(written)
        kind, _, name = repository.partition("/")
        address = f"https://huggingface.co/{_PREFIX[kind]}{name}/commit/{number}"
        self._answer(200, {"commitUrl": address, "commitOid": made.oid})

    # --- HTTP ------------------------------------------------------------------------------------

    def _body(self) -> bytes:
        if self.headers["Transfer-Encoding"] != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"] or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(body).encode()
        self._begin(status, len(content), headers or {})
        if self.command != "HEAD":
            self.wfile.write(content)

    def _begin(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        defaults = {"Content-Type": "application/json", "X-Repo-Commit": COMMIT}
        for name, value in (defaults | headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, format: str, *_: Any) -> None:
        pass


@contextmanager
def serve_hub(cache: Path) -> Iterator[Hub]:
    """The Hub of everything in this process, as long as it lasts; what it hands out goes there.

    Large files take the way of LFS, for there is no Xet here, and the client waits for nothing
    before it tries again.
    """
    with (
        tempfile.TemporaryDirectory() as root,
        pytest.MonkeyPatch.context() as patch,
    ):
        hub = Hub(Path(root))
        handler = type("Handler", (_Handler,), {"hub": hub})
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            hub.address = address = f"http://127.0.0.1:{server.server_port}"
            constants = huggingface_hub.constants
            _point_to(address, patch)
            patch.setattr(constants, "HF_HUB_OFFLINE", False)
            patch.setattr(constants, "HF_HUB_CACHE", str(cache))
            patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
            patch.setattr(datasets.config, "HF_ENDPOINT", address)
            patch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
            patch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)
            patch.setattr(huggingface_hub.utils._http, "time", _impatient_time())
            patch.setattr(huggingface_hub.file_download, "time", _impatient_time())
            patch.setattr(socket, "getaddrinfo", _only_here(hub.strangers))
            yield hub
            hub.ended.set()
            server.shutdown()
        assert not hub.strangers, hub.strangers


def _point_to(address: str, patch: pytest.MonkeyPatch) -> None:
    constants = huggingface_hub.constants
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    patch.setattr(constants, "ENDPOINT", address)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    patch.setattr(huggingface_hub.hf_api.api, "endpoint", address)


@contextmanager
def without_network() -> Iterator[None]:
    """Nobody listens where the Hub was: every connection is refused."""
    with socket.socket() as deaf, pytest.MonkeyPatch.context() as patch:
        deaf.bind(("127.0.0.1", 0))
        _point_to(f"http://127.0.0.1:{deaf.getsockname()[1]}", patch)
        yield


@contextmanager
def without_patience(seconds: float = 0.3) -> Iterator[None]:
    """The client waits no longer than that for an answer."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
            patch.setattr(huggingface_hub.constants, name, seconds)
        patch.setattr(huggingface_hub.file_download, "_ETAG_RETRY_TIMEOUT", seconds)
        yield


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file that is fetched may grow beyond that many bytes, for the disk is full then."""
    fetch = huggingface_hub.file_download.http_get

    def fetch_little(url: str, temp_file: Any, **options: Any) -> None:
        narrow: Any = _Narrow(temp_file, room)
        fetch(url, narrow, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface_hub.file_download, "http_get", fetch_little)
        yield


class _Narrow:
    """A file on a disk with little room."""

    def __init__(self, file: Any, room: int):
        self._file, self._room = file, room

    def write(self, chunk: bytes) -> int:
        written = self._file.write(chunk[: self._room])
        self._room -= written
        if written < len(chunk):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _only_here(strangers: list[str]) -> Callable[..., Any]:
    """Finds no host but this one."""
    find = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        if name == "datasets-server.127.0.0.1":  # the viewer of this very Hub, which it lacks
            raise socket.gaierror(f"{name} is not there")
        if name not in ("127.0.0.1", "localhost"):
            strangers.append(name)
            raise socket.gaierror(f"{name} is not to be reached")
        return find(host, *args, **options)

    return getaddrinfo


def _impatient_time() -> SimpleNamespace:
    import time

    return SimpleNamespace(**vars(time) | {"sleep": lambda _: None})
