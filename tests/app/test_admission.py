"""How many runs a visitor may have, and whose address counts; real requests to a real server."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fastapi
import gradio as gr
import httpx
import pytest
import uvicorn
from gradio_client import Client
from gradio_client.utils import Status

import app
from tabs import i18n
from tabs.server import limits
from tabs.server.admission import address_of
from tabs.server.limits import trusted_proxies
from tests.conftest import Meter

LONG, SHORT = ["1", 1.0, 250], ["1", 1.0, 1]


@pytest.fixture
def url(served: str, meter: Meter, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The app, whose runs go on although nobody reads them until the test ends."""
    monkeypatch.setenv("STUDIO_UNHEARD_RUNNING_SECONDS", "100")
    monkeypatch.setenv("STUDIO_UNHEARD_WAITING_SECONDS", "100")
    yield served
    end_unheard(monkeypatch)
    assert meter.settled()


def end_unheard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends all runs that nobody reads."""
    monkeypatch.setenv("STUDIO_UNHEARD_RUNNING_SECONDS", "0.1")
    monkeypatch.setenv("STUDIO_UNHEARD_WAITING_SECONDS", "0.1")


def call(url: str, session: str | None = None, data: list[Any] | None = None, **headers: str):
    """Posts a run that nobody reads."""
    body = {"data": data or LONG} | ({"session_hash": session} if session else {})
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(f"{url}gradio_api/call/digits", json=body, headers=names)


def eventually(is_true: Callable[[], bool], seconds: float = 20) -> bool:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if is_true():
            return True
        time.sleep(0.1)
    return False


def test_a_session_has_few_runs_at_once_and_is_told_so(url: str):
    assert [call(url, "one").status_code for _ in range(3)] == [200] * 3
    refused = call(url, "one")
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) > 0
    answer = refused.json()
    assert answer["detail"] == answer["error"]
    assert answer["detail"] == (
        "You have 3 runs waiting or running already, and 3 are allowed at once; try again when "
        "one of them has ended."
    )
    assert call(url, "another").status_code == 200


@pytest.mark.thorough
def test_an_address_has_some_more_whatever_sessions_it_makes_up(url: str):
    answers = [call(url, f"session {i}" if i % 2 else None) for i in range(10)]
    assert [answer.status_code for answer in answers] == [200] * 8 + [429] * 2


@pytest.mark.parametrize("written", ["{}", '"{}"', "{}.0", '"{}.0"', '"0{}"'])
def test_a_number_counts_however_it_is_written(url: str, written: str):
    functions = httpx.get(f"{url}config").json()["dependencies"]
    number = next(f["id"] for f in functions if f["api_name"] == "digits")
    fields = '"data": ["1", 1.0, 250], "session_hash": "one", "fn_index": '
    content = "{" + fields + written.format(number) + "}"
    headers = {"Content-Type": "application/json"}

    def join() -> int:
        address = f"{url}gradio_api/queue/join"
        return httpx.post(address, content=content, headers=headers).status_code

    assert [join() for _ in range(4)] == [200, 200, 200, 429]


@pytest.mark.parametrize("number", [-1, 999, "no number"])
def test_a_function_that_is_not_there_is_told_in_one_sentence(url: str, number: Any):
    body = {"data": [], "session_hash": "one", "fn_index": number}
    answer = httpx.post(f"{url}gradio_api/queue/join", json=body)
    assert (answer.status_code, answer.json()["detail"][:26]) == (404, "There is no such function,")
    assert httpx.post(f"{url}gradio_api/call/nope", json={"data": []}).status_code == 404


def test_what_does_not_wait_in_the_queue_takes_no_place_in_it(url: str):
    functions = httpx.get(f"{url}config").json()["dependencies"]
    instant = next(f["id"] for f in functions if f["queue"] is False)
    body = {"data": [], "session_hash": "one", "fn_index": instant}
    assert httpx.post(f"{url}gradio_api/queue/join", json=body).status_code == 404


def test_requests_at_the_same_moment_are_counted_too(url: str):
    with ThreadPoolExecutor(16) as pool:
        codes = list(pool.map(lambda _: call(url).status_code, range(16)))
    assert codes.count(200) == 8
    assert codes.count(429) == 8


def test_what_has_ended_counts_no_more(url: str, monkeypatch: pytest.MonkeyPatch):
    for _ in range(3):
        call(url, "one")
    assert call(url, "one").status_code == 429
    end_unheard(monkeypatch)
    assert eventually(lambda: call(url, "one", SHORT).status_code == 200)


@pytest.mark.thorough
def test_a_cancelled_run_counts_no_more(url: str):
    client = Client(url, verbose=False)
    jobs = [client.submit("1", num_inference_steps=250, api_name="/digits") for _ in range(3)]
    # Cancelled before the server knows it, a job is only forgotten by the client.
    in_queue = {Status.IN_QUEUE, Status.PROCESSING, Status.ITERATING, Status.PROGRESS}
    assert eventually(lambda: all(job.status().code in in_queue for job in jobs))
    assert call(url, client.session_hash).status_code == 429
    for job in jobs:
        job.cancel()
    assert eventually(lambda: call(url, client.session_hash, SHORT).status_code == 200)


@pytest.mark.thorough
def test_runs_one_after_the_other_are_never_refused(url: str):
    client = Client(url, verbose=False)
    for _ in range(9):
        client.predict("1", num_inference_steps=1, api_name="/digits")


@pytest.mark.thorough
def test_the_client_of_gradio_tells_of_the_refusal(url: str):
    for _ in range(8):
        call(url)
    with pytest.raises(httpx.HTTPStatusError, match="429 Too Many Requests"):
        Client(url, verbose=False).predict("1", api_name="/digits")


@pytest.mark.thorough
def test_what_does_not_use_the_lane_is_not_counted(url: str):
    for _ in range(8):
        call(url)
    assert call(url).status_code == 429
    for _ in range(12):
        answer = httpx.post(f"{url}gradio_api/call/checkpoints", json={"data": []})
        assert answer.status_code == 200
    token = "0123456789abcdef:1"
    answer = httpx.post(f"{url}gradio_api/run/leave", json={"data": [token]})
    assert answer.status_code == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"[" * 100_000, b'{"fn_index": []}'])
def test_what_is_no_request_is_left_to_gradio(url: str, body: bytes):
    headers = {"Content-Type": "application/json"}
    answer = httpx.post(f"{url}gradio_api/queue/join", content=body, headers=headers)
    assert 400 <= answer.status_code < 500


def test_the_number_of_a_function_counts_however_it_is_written(url: str):
    demo_config = httpx.get(f"{url}config").json()
    number = next(d["id"] for d in demo_config["dependencies"] if d["api_name"] == "digits")
    bodies = [{"data": LONG, "fn_index": n, "session_hash": "s"} for n in (number, str(number))]
    codes = [
        httpx.post(f"{url}gradio_api/queue/join", json=bodies[i % 2]).status_code for i in range(5)
    ]
    assert codes == [200] * 3 + [429] * 2


def test_the_page_is_told_in_its_language(url: str):
    dependencies = httpx.get(f"{url}config").json()["dependencies"]
    draw = next(
        d for d in dependencies if d["api_visibility"] == "private" and d["queue"] is not False
    )
    data = ["0123456789abcdef:1", "zh", *[None] * (len(draw["inputs"]) - 2)]
    body = {"data": data, "fn_index": draw["id"], "session_hash": "one"}
    for _ in range(8):
        call(url)
    answer = httpx.post(f"{url}gradio_api/queue/join", json=body)
    assert answer.status_code == 429
    assert answer.json()["detail"] == i18n.translate("zh", "status.busy", count=8, maximum=8)


def test_a_trusted_proxy_tells_whose_address_it_is(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUDIO_TRUSTED_PROXIES", "127.0.0.0/8")
    codes = [call(url, X_Forwarded_For=f"6.6.6.{i}, 5.5.5.5").status_code for i in range(10)]
    assert codes == [200] * 8 + [429] * 2
    assert call(url, X_Forwarded_For="6.6.6.6, 7.7.7.7").status_code == 200


@pytest.mark.thorough
def test_the_limits_hold_where_the_app_is_mounted(meter: Meter, monkeypatch: pytest.MonkeyPatch):
    options = {k: v for k, v in app.launch_options().items() if k == "app_kwargs"}
    outer = gr.mount_gradio_app(fastapi.FastAPI(), app.build_demo(), path="/studio", **options)
    config = uvicorn.Config(outer, port=0, log_level="warning")
    server = uvicorn.Server(config)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(server.run)
        assert eventually(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}/studio/"
        try:
            codes = [call(url).status_code for _ in range(10)]
            assert codes == [200] * 8 + [429] * 2
            end_unheard(monkeypatch)
            assert meter.settled()
            assert call(url, data=SHORT).status_code == 200
        finally:
            server.should_exit = True


def test_a_misspelt_parameter_is_named_beside_those_that_there_are(url: str):
    answer = httpx.post(f"{url}gradio_api/call/v2/digits", json={"digits": "1", "stepz": 3})
    assert answer.status_code == 422
    sentence = answer.json()["error"]
    assert sentence.startswith("'stepz' is no parameter of /digits; it takes digits, cfg_scale,")


def test_nobody_names_an_address_of_their_own_on_this_machine():
    assert os.environ["FORWARDED_ALLOW_IPS"] == ""
    assert not uvicorn.Config("app").forwarded_allow_ips


def scope(peer: str, *forwarded: str) -> dict[str, Any]:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    return {"type": "http", "client": (peer, 1), "headers": headers}


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "address"),
    [
        ("", "9.9.9.9", ["1.1.1.1"], "9.9.9.9"),
        ("10.0.0.0/8", "9.9.9.9", ["1.1.1.1"], "9.9.9.9"),
        ("10.0.0.0/8", "10.1.2.3", ["1.1.1.1"], "1.1.1.1"),
        ("10.0.0.0/8", "10.1.2.3", ["6.6.6.6, 1.1.1.1, 10.9.9.9"], "1.1.1.1"),
        ("10.0.0.0/8", "10.1.2.3", ["6.6.6.6", "1.1.1.1"], "1.1.1.1"),
        ("10.0.0.0/8", "10.1.2.3", ["1.1.1.1:5000"], "1.1.1.1"),
        ("10.0.0.0/8", "10.1.2.3", [], "10.1.2.3"),
        ("10.0.0.0/8", "10.1.2.3", ["10.4.4.4"], "10.4.4.4"),
        ("10.0.0.0/8", "10.1.2.3", ["1.1.1.1, nonsense"], "10.1.2.3"),
        ("10.0.0.0/8", "::ffff:10.1.2.3", ["1.1.1.1"], "1.1.1.1"),
        ("*", "9.9.9.9", ["6.6.6.6, 1.1.1.1"], "1.1.1.1"),
        ("127.0.0.1, ::1", "::1", ["[2001:db8:1:2:3::4]:80"], "2001:db8:1:2::/64"),
        ("", "2001:db8:1:2:3::4", [], "2001:db8:1:2::/64"),
        ("", "testclient", [], "testclient"),
    ],
)
def test_whose_address_counts(
    trusted: str, peer: str, forwarded: list[str], address: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("STUDIO_TRUSTED_PROXIES", trusted)
    assert address_of(scope(peer, *forwarded), trusted_proxies()) == address


def test_on_a_space_the_proxies_inside_are_trusted(monkeypatch: pytest.MonkeyPatch):
    assert address_of(scope("10.1.2.3", "1.1.1.1"), trusted_proxies()) == "10.1.2.3"
    monkeypatch.setenv("SPACE_ID", "someone/studio")
    assert address_of(scope("10.1.2.3", "1.1.1.1"), trusted_proxies()) == "1.1.1.1"
    assert address_of(scope("8.8.8.8", "1.1.1.1"), trusted_proxies()) == "8.8.8.8"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("STUDIO_DEADLINE_SECONDS", "0", "must be a number of seconds above 0, got '0'"),
        ("STUDIO_DEADLINE_SECONDS", "nan", "must be a number of seconds above 0, got 'nan'"),
        ("STUDIO_UNHEARD_WAITING_SECONDS", "soon", "must be a number of seconds above 0"),
        ("STUDIO_UNHEARD_RUNNING_SECONDS", "-1", "must be a number of seconds above 0"),
        ("STUDIO_MAX_RUNS_PER_SESSION", "0", "must be a whole number from 1 to .+, got '0'"),
        (
            "STUDIO_MAX_RUNS_PER_ADDRESS",
            "2.5",
            "must be a whole number from 1 to .+, got '2.5'",
        ),
        ("STUDIO_TRUSTED_PROXIES", "10.0.0.0/8, proxy", "must be addresses or networks such as"),
    ],
)
def test_a_wrong_variable_is_told_by_name(
    name: str, value: str, sentence: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=sentence) as caught:
        limits.check_environment()
    assert str(caught.value).startswith(name)
