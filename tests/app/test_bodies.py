"""What requests may carry, tried on a real server: bytes, JSON, files of other hosts, uploads."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from gradio.utils import get_upload_folder
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import app
from pipelines.core import images
from tabs import temp_files
from tabs.server import bodies
from tabs.server.bodies import Limits, RefusedError
from tabs.server.upload_quota import UploadQuota
from tests.conftest import serve

QUICK: Any = {"num_inference_steps": 2, "method": "fast"}
FILE = {"_type": "gradio.FileData"}


def spotted(width: int = 16) -> Image.Image:
    picture = Image.new("L", (width, width))
    picture.paste(255, (0, 0, width // 2, width))
    return picture


def png() -> bytes:
    buffer = io.BytesIO()
    spotted().save(buffer, format="PNG")
    return buffer.getvalue()


def sentence_of(answer: httpx.Response) -> str:
    """The sentence of a refusal: one, in JSON."""
    assert answer.headers["content-type"] == "application/json"
    sentence = answer.json()["detail"]
    assert sentence == answer.json()["error"]
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def posted(url: str, value: Any, path: str = "gradio_api/call/color") -> httpx.Response:
    return httpx.post(f"{url}{path}", json={"data": [value]}, timeout=20)


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    """The address of another host, and the requests that it got."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(png())

        def log_message(self, format: str, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/a.png", seen
    server.shutdown()


# --- JSON ----------------------------------------------------------------------------------------

ROUTES = ("call/color", "call/v2/color", "run/color", "api/color", "queue/join", "component_server")


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.thorough
def test_a_body_that_is_too_large_is_refused_in_one_sentence(served: str, route: str):
    answer = posted(served, "x" * (13 * 2**20), f"gradio_api/{route}")
    assert answer.status_code == 413
    assert sentence_of(answer) == "A request must be at most 12 MB."


def test_a_body_without_a_length_is_counted_too(served: str):
    def chunks() -> Iterator[bytes]:
        yield b'{"data": ["'
        for _ in range(14):
            yield b"x" * 2**20
        yield b'"]}'

    answer = httpx.post(f"{served}gradio_api/call/color", content=chunks(), timeout=20)
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("body", "status", "part"),
    [
        (b"[" * 5_000 + b"]" * 5_000, 400, "nested"),
        (b'{"data": ' + b"[" * 60 + b"]" * 60 + b"}", 400, "nested"),
        (b'{"data": [' + b"1," * 30_000 + b"1]}", 413, "values"),
        (b'{"data": ["\\ud800"]}', 400, "Unicode"),
        (b'{"data": [{"\\udfff": 1}]}', 400, "Unicode"),
        (b'{"data": ["\xff\xfe"]}', 400, "UTF-8"),
        (b'{"data": [', 400, "JSON"),
        (b"data=1", 400, "JSON"),
        (b'{"data": [' + b"9" * 10_000 + b"]}", 400, "JSON"),
    ],
    ids=lambda value: repr(value)[:20],
)
@pytest.mark.parametrize("route", ["call/color", "queue/join"])
def test_json_that_cannot_be_read_is_refused_in_one_sentence(
    served: str, route: str, body: bytes, status: int, part: str
):
    headers = {"content-type": "application/json"}
    answer = httpx.post(f"{served}gradio_api/{route}", content=body, headers=headers)
    assert answer.status_code == status
    assert part in sentence_of(answer)


def test_escaped_pairs_of_surrogates_are_valid_unicode():
    bodies.check_json(b'{"data": ["\\ud83d\\ude00", "\\u0000"]}')


@pytest.mark.parametrize("route", ROUTES)
def test_no_file_of_another_host_is_fetched(
    served: str, elsewhere: tuple[str, list[str]], route: str
):
    url, seen = elsewhere
    file = {"path": url, "meta": FILE}
    for value in (file, [[file]], {"inner": file}, {"url": url}, {"path": url, "url": url}):
        answer = posted(served, value, f"gradio_api/{route}")
        assert answer.status_code == 400
        assert "uploaded here" in sentence_of(answer)
    assert seen == []


@pytest.mark.parametrize(
    "file",
    [
        {"path": "/etc/passwd", "meta": FILE},
        {"path": "/etc/passwd"},
        {"path": "app.py", "meta": FILE},
        {"path": f"{get_upload_folder()}/../../etc/passwd", "meta": FILE},
        {"path": "a\0b", "meta": FILE},
        {"path": "HTTPS://example.org/a.png", "meta": FILE},
        {"path": 7, "meta": FILE},
        {"path": "x", "meta": "text"},
        {"path": None, "url": "ftp://example.org/a.png", "meta": FILE},
    ],
    ids=lambda file: str(file).replace(get_upload_folder(), "UPLOADS"),  # workers have their own
)
def test_no_file_is_taken_that_was_not_uploaded(served: str, file: dict[str, Any]):
    answer = posted(served, file)
    assert answer.status_code == 400
    assert "uploaded here" in sentence_of(answer)


# --- what passes ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize(("endpoint", "name"), [("/color", "mask"), ("/text", "image_prompt")])
def test_an_uploaded_file_draws_what_its_address_draws(
    served: str, tmp_path: Path, endpoint: str, name: str
):
    client = Client(served, verbose=False)
    path = tmp_path / "picture.bmp"
    spotted().save(path)
    by_file, info = client.predict(**QUICK | {name: handle_file(path)}, api_name=endpoint)
    address = images.to_data_uri(spotted())
    by_address, same = client.predict(**QUICK | {name: address}, api_name=endpoint)
    assert Image.open(by_file[0]).tobytes() == Image.open(by_address[0]).tobytes()
    assert info["settings"] == same["settings"]
    assert info["settings"][name].startswith("sha256:")
    assert len(info["settings"][name]) == len("sha256:") + 16
    facts = json.loads(Image.open(by_file[0]).info[images.METADATA_KEY])
    assert facts["settings"][name].startswith("data:image/png;base64,")


@pytest.mark.usefixtures("tiny_checkpoints")
def test_an_uploaded_file_that_is_no_picture_gives_one_sentence(served: str, tmp_path: Path):
    client = Client(served, verbose=False)
    path = tmp_path / "picture.png"
    path.write_bytes(png()[:40])
    with pytest.raises(AppError, match=r"image_prompt must be .+ got a damaged picture"):
        client.predict(image_prompt=handle_file(path), api_name="/text")


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.thorough
def test_what_follows_a_picture_is_stored_nowhere_and_previews_carry_no_record(
    served: str, meter: Any
):
    """15 MB of zeros after a picture of 8 pixels once became files of 1.9 GB."""
    stuffed = png() + bytes(6_000_000)
    address = "data:image/png;base64," + base64.b64encode(stuffed).decode("ascii")
    job = Client(served, verbose=False).submit(
        image_prompt=address, num_inference_steps=12, method="fast", api_name="/text"
    )
    files, _ = job.result()
    previews = [path for shown, _ in job.outputs()[:-1] for path in shown]
    assert previews
    assert all(images.METADATA_KEY not in Image.open(path).info for path in previews)
    assert images.METADATA_KEY in Image.open(files[0]).info
    assert all(Path(path).stat().st_size < 30_000 for path in (*previews, *files))
    assert len(json.dumps(job.outputs())) < 100_000


@pytest.mark.usefixtures("tiny_checkpoints")
def test_a_full_disk_is_told_in_one_sentence(served: str, monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any, **__: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(temp_files, "save_pil_to_cache", full)
    with pytest.raises(AppError, match="disk is full"):
        Client(served, verbose=False).predict(**QUICK, api_name="/color")


# --- uploads -------------------------------------------------------------------------------------


def upload(url: str, count: int = 1, content: bytes = b"x") -> httpx.Response:
    files = [("files", (f"{i}.png", content + bytes([i]))) for i in range(count)]
    return httpx.post(f"{url}gradio_api/upload", files=files, timeout=20)


def test_few_files_may_be_uploaded_at_once(served: str):
    assert len(upload(served, bodies.MAX_FILES).json()) == bodies.MAX_FILES
    answer = upload(served, bodies.MAX_FILES + 1)
    assert answer.status_code == 413
    assert sentence_of(answer) == "An upload must be at most 8 files, got 9."


def test_an_upload_that_is_too_large_is_refused(served: str):
    answer = upload(served, 1, bytes(13 * 2**20))
    assert answer.status_code == 413
    assert sentence_of(answer) == "A request must be at most 12 MB."


@pytest.mark.thorough
def test_the_oldest_uploads_give_way(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUDIO_UPLOAD_QUOTA_MB", "4")
    with serve() as url:
        paths = [Path(upload(url, 1, bytes(300_000 + i)).json()[0]) for i in range(6)]
        kept = [path.exists() for path in paths]
        assert kept == [False, False, False, True, True, True], "a quarter of the quota: 1 MB"
        assert not paths[0].parent.exists()


def test_nobody_takes_the_uploads_of_others_away(tmp_path: Path):
    quota = UploadQuota(max_bytes=4000)

    def note(name: str, address: str) -> Path:
        path = tmp_path / name / "file"
        path.parent.mkdir()
        path.write_bytes(bytes(300))
        quota.note([path], address)
        return path

    one = note("of one", "1.1.1.1")
    many = [note(f"of another {i}", "2.2.2.2") for i in range(50)]
    assert one.exists()
    assert sum(path.exists() for path in many) == 3
    crowd = [note(f"of the crowd {i}", f"3.3.3.{i}") for i in range(20)]
    assert crowd[-1].exists()
    assert sum(path.stat().st_size for path in tmp_path.glob("*/file")) <= 4000


def test_the_number_of_uploads_is_bounded_too(tmp_path: Path):
    quota = UploadQuota(max_bytes=10**9, max_files=20)
    for i in range(40):
        path = tmp_path / str(i) / "file"
        path.parent.mkdir()
        path.write_bytes(b"x")
        quota.note([path], "1.1.1.1")
    assert len(list(tmp_path.glob("*/file"))) == 5


# --- settings of the site ------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["many", "-1", "0", "nan", "inf"])
@pytest.mark.parametrize("variable", ["STUDIO_MAX_BODY_MB", "STUDIO_UPLOAD_QUOTA_MB"])
def test_a_limit_that_is_no_number_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, wrong: str
):
    monkeypatch.setenv(variable, wrong)
    with pytest.raises(ValueError, match=f"{variable} must be .+ got '{wrong}'"):
        Limits.from_environment()


def test_limits_can_be_set(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUDIO_MAX_BODY_MB", "1.5")
    assert Limits.from_environment().body_bytes == 1.5 * 2**20
    assert Limits.from_environment().upload_bytes == 200 * 2**20


def test_below_another_path_the_same_holds(elsewhere: tuple[str, list[str]]):
    url, seen = elsewhere
    outer = FastAPI()
    options = {"app_kwargs": app.launch_options()["app_kwargs"]}
    gr.mount_gradio_app(outer, app.build_demo(), path="/studio", **options)
    server = uvicorn.Server(uvicorn.Config(outer, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        threading.Event().wait(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    base = f"http://127.0.0.1:{port}/studio/"
    try:
        assert posted(base, {"path": url, "meta": FILE}).status_code == 400
        assert posted(base, "x" * (13 * 2**20)).status_code == 413
        assert upload(base, 9).status_code == 413
        assert upload(base, 1).status_code == 200
    finally:
        server.should_exit = True
        thread.join(10)
    assert seen == []


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/a/b/gradio_api/upload/"])
def test_uploads_are_known_below_any_prefix(path: str):
    assert bodies.is_upload(path)
    assert not bodies.is_upload(path.replace("upload", "call/upload"))


def test_what_is_read_at_once_is_bounded_in_all_and_for_one_address():
    reading = bodies._AllReading()
    megabyte = 2**20
    with ExitStack() as stack:
        for address in ("1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4"):
            stack.enter_context(reading.of(address))(64 * megabyte)
        with pytest.raises(RefusedError, match="reading too much"), reading.of("5.5.5.5") as count:
            count(megabyte)
    with reading.of("1.1.1.1") as count:
        count(60 * megabyte)
        with pytest.raises(RefusedError, match="reading too much"), reading.of("1.1.1.1") as other:
            other(10 * megabyte)
        with reading.of("2.2.2.2") as other:
            other(10 * megabyte)


@pytest.mark.alone
def test_bodies_that_never_come_keep_nobody_waiting(served: str, monkeypatch: pytest.MonkeyPatch):
    """Sockets that announce 12 MB each and send one byte once closed the app for two minutes."""
    monkeypatch.setattr(bodies, "_SILENT_SECONDS", 1.0)
    host, port = served.removeprefix("http://").strip("/").split(":")
    head = (
        f"POST /gradio_api/queue/join HTTP/1.1\r\nHost: {host}\r\n"
        "Content-Type: application/json\r\nContent-Length: 12582912\r\n\r\n{"
    )
    with ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(40)]
        for connection in idle:
            connection.sendall(head.encode())
        assert posted(served, "teal", "gradio_api/call/checkpoints").status_code == 200
        idle[0].settimeout(20)
        answer = ""
        while "no pause" not in answer and (part := idle[0].recv(4096)):  # may come in parts
            answer += part.decode()
    assert answer.startswith("HTTP/1.1 408 ")
    assert "no pause of more than 1." in answer


def test_a_folder_is_no_file(served: str):
    folder = Path(get_upload_folder())
    folder.mkdir(parents=True, exist_ok=True)
    answer = posted(served, {"path": str(folder), "meta": FILE})
    assert answer.status_code == 400
    assert "uploaded here" in sentence_of(answer)


def test_uploading_a_result_again_does_not_make_it_an_upload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The path of a file follows from its content; the quota once deleted results of others."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    result = Path(temp_files.files.save_png(spotted(), "digit-0"))
    quota = UploadQuota(max_bytes=10**9, max_files=20)
    quota.note([result], "1.1.1.1")
    for i in range(40):
        path = tmp_path / f"upload {i}" / "file"
        path.parent.mkdir()
        path.write_bytes(b"x")
        quota.note([path], "1.1.1.1")
    assert result.exists()
