"""The headers of every response, and the names of hosts that a client may not choose."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import gradio as gr
import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

import app
from benchmarks.soak.server import free_port, start_app
from tabs.server.headers import allowed_hosts, frame_ancestors

POLICY = "frame-ancestors 'self' https://huggingface.co https://*.hf.space"
PATHS = ["/", "/config", "/gradio_api/info", "/theme.css", "/no-such-page"]
FORGED = {"x-forwarded-host": "evil.example", "x-gradio-server": "http://evil.example"}


@contextmanager
def launched() -> Iterator[httpx.Client]:
    demo = app.build_demo()
    _, url, _ = demo.launch(
        server_port=free_port(), prevent_thread_lock=True, quiet=True, **app.launch_options()
    )
    with httpx.Client(base_url=url, trust_env=False) as client:
        yield client
    demo.close()


@contextmanager
def mounted() -> Iterator[httpx.Client]:
    """As `deploy/ray_serve.py` does it."""
    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    options = app.launch_options()
    gr.mount_gradio_app(server, app.build_demo(), "/", show_error=False, **options)
    with TestClient(server) as client:
        yield client


Serve = Callable[[], AbstractContextManager[httpx.Client]]
both = pytest.mark.parametrize("serve", [launched, mounted])


@both
@pytest.mark.thorough
def test_every_response_has_the_headers(serve: Serve):
    with serve() as client:
        for path in PATHS:
            headers = client.get(path).headers
            assert headers["x-content-type-options"] == "nosniff", path
            assert headers["content-security-policy"] == POLICY, path
            assert headers["referrer-policy"] == "same-origin", path


@both
@pytest.mark.thorough
def test_a_forged_host_is_not_in_the_page(serve: Serve):
    with serve() as client:
        for path in ("/", "/config"):
            assert "evil.example" not in client.get(path, headers=FORGED).text


@both
@pytest.mark.parametrize(
    ("variable", "value", "host"),
    [
        ("SPACE_HOST", "someone-studio.hf.space", "someone-studio.hf.space"),
        ("SPACE_HOST", "studio.example.org,someone-studio.hf.space", "someone-studio.hf.space"),
        ("STUDIO_HOSTS", "a.example, studio.example.org:8443", "Studio.example.org:8443"),
    ],
)
@pytest.mark.thorough
def test_the_host_of_the_space_and_allowed_ones_are_in_the_addresses_of_the_page(
    serve: Serve, variable: str, value: str, host: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(variable, value)
    forwarded = {"x-forwarded-host": host, "x-forwarded-proto": "https"}
    with serve() as client:
        root = client.get("/config", headers=forwarded).json()["root"]
        assert root.lower() == f"https://{host}".lower()
        assert "evil.example" not in client.get("/config", headers=FORGED).text


def test_further_pages_may_be_allowed_to_show_the_app(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUDIO_FRAME_ANCESTORS", "https://a.example, http://*.b.example:8080")
    assert frame_ancestors()[-2:] == ["https://a.example", "http://*.b.example:8080"]
    with mounted() as client:
        policy = client.get("/config").headers["content-security-policy"]
    assert policy == f"{POLICY} https://a.example http://*.b.example:8080"


@pytest.mark.parametrize(
    "value", ["*", "a.example", "https://a.example; script-src *", "https://ä"]
)
def test_what_is_no_origin_is_refused(value: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUDIO_FRAME_ANCESTORS", value)
    with pytest.raises(
        ValueError, match=r"STUDIO_FRAME_ANCESTORS must be origins such as .* got '"
    ):
        frame_ancestors()


@pytest.mark.thorough
def test_what_is_no_host_is_refused_and_the_app_does_not_start(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUDIO_HOSTS", "https://a.example")
    sentence = "STUDIO_HOSTS must be hosts such as studio.example.org with commas between, got "
    with pytest.raises(ValueError, match=sentence):
        allowed_hosts()
    process = start_app({}, subprocess.PIPE)
    output, _ = process.communicate(timeout=60)
    assert (process.returncode, output.decode()) == (2, f"{sentence}'https://a.example'\n")
