"""The served app through a real `gradio_client` and real HTTP: contract, lane, bad input."""

from __future__ import annotations

import json
import logging
import re
import shutil
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

import app
from pipelines import checkpoints, digits, images
from pipelines.settings import DigitsSettings
from tabs import common
from tests.conftest import Meter, serve

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def client(served: str) -> Client:
    return Client(served, verbose=False)


def assert_works(client: Client) -> None:
    """The lane is free: a short run goes through."""
    files, info = client.predict("1", num_inference_steps=1, api_name="/digits")
    assert len(files) == info["step"] == 1


def test_the_endpoints_and_their_parameters_are_the_published_ones(client: Client):
    api: Any = client.view_api(return_format="dict", print_info=False)
    found = {
        name: {p["parameter_name"]: p["parameter_default"] for p in endpoint["parameters"]}
        for name, endpoint in api["named_endpoints"].items()
    }
    assert found == {
        "/digits": {
            "digits": "0123456789",
            "cfg_scale": DigitsSettings.cfg_scale,
            "num_inference_steps": DigitsSettings.num_inference_steps,
            "seed": 0,
            "conditioning": "embedding",
            "blend_with": "",
            "blend": 0.5,
            "solver": "dpm++",
            "eta": 0.0,
        },
        "/checkpoints": {},
    }
    assert api["unnamed_endpoints"] == {}


def test_every_generating_event_waits_in_the_one_lane():
    demo = app.build_demo()
    generating = [f for f in demo.fns.values() if f.types_generator]
    assert len(generating) >= 2
    assert {(f.concurrency_id, f.concurrency_limit) for f in generating} == {("gpu", 1)}


def test_nothing_passes_the_queue_by(served: str):
    answer = httpx.post(f"{served}gradio_api/run/digits", json={"data": ["1"]})
    assert answer.status_code == 404


def test_the_bundled_model_draws_a_row_of_digits_with_its_settings_inside(client: Client):
    files, info = client.predict(api_name="/digits")
    assert len(files) == 10
    assert info["step"] == info["total_steps"] == DigitsSettings.num_inference_steps
    assert info["model"] == "digits-embedding"
    assert info["revision"] == checkpoints.load("digits-embedding").revision
    assert info["settings"]["digits"] == "0123456789"
    assert info["seconds"] > 0
    for path in files:
        picture = Image.open(path)
        assert (picture.format, picture.mode, picture.size) == ("PNG", "L", (28, 28))
        inside = json.loads(picture.info[images.METADATA_KEY])
        assert inside == {key: info[key] for key in ("model", "revision", "settings")}


def test_api_and_python_give_the_same_pixels(client: Client):
    options: dict[str, Any] = {"digits": "25", "seed": 9, "conditioning": "channels"}
    files, _ = client.predict(**options, api_name="/digits")
    *_, last = digits.generate(DigitsSettings(**options))
    assert [Image.open(f).tobytes() for f in files] == [p.tobytes() for p in last.pictures]


def test_a_random_seed_is_reported_and_draws_the_same_again(client: Client):
    files, info = client.predict("4", seed=-1, api_name="/digits")
    again, _ = client.predict("4", seed=info["seed"], api_name="/digits")
    assert info["seed"] >= 0
    assert Image.open(files[0]).tobytes() == Image.open(again[0]).tobytes()


def test_every_yield_streams_images_and_the_step_it_is_at(client: Client, meter: Meter):
    job = client.submit("12", num_inference_steps=8, api_name="/digits")
    job.result()
    steps = [info["step"] for _, info in job.outputs()]
    assert len(steps) >= 3
    assert steps == sorted(set(steps))
    assert steps[-1] == 8
    assert all(len(files) == 2 for files, _ in job.outputs())


def test_previews_are_throttled(client: Client, meter: Meter):
    meter.seconds = 0.001
    job = client.submit("1", num_inference_steps=200, api_name="/digits")
    *_, (_, info) = (job.result(), job.outputs()[-1])
    assert len(job.outputs()) <= info["seconds"] / common.PREVIEW_SECONDS + 2


@pytest.mark.parametrize(
    "bad",
    [
        {"digits": "abc"},
        {"digits": ""},
        {"digits": "1" * 65},
        {"num_inference_steps": 0},
        {"num_inference_steps": "9"},
        {"num_inference_steps": True},
        {"seed": 2**70},
        {"cfg_scale": 1e6},
        {"conditioning": "<img src=x onerror=alert(1)>"},
        {"eta": 1.0},
    ],
    ids=str,
)
def test_bad_input_gives_one_sentence_and_leaves_the_lane_free(client: Client, bad: dict):
    with pytest.raises(AppError) as caught:
        client.predict(**bad, api_name="/digits")
    sentence = str(caught.value)
    assert re.match(rf"^{next(iter(bad))} must be [^\n]+$", sentence)
    assert "<" not in sentence
    assert_works(client)


def test_not_a_number_over_plain_http_is_refused_too(served: str, client: Client):
    body = '{"data": ["1", NaN, 3, 0, "embedding", "", 0.5, "dpm++", 0.0]}'
    headers = {"Content-Type": "application/json"}
    posted = httpx.post(f"{served}gradio_api/call/digits", content=body, headers=headers)
    address = f"{served}gradio_api/call/digits/{posted.json()['event_id']}"
    answer = httpx.get(address, timeout=30).text
    assert "event: error" in answer
    assert "cfg_scale must be a number from 0 to 10, got nan" in answer
    assert_works(client)


@pytest.mark.parametrize("damage", ["deleted", "truncated"])
def test_a_damaged_checkpoint_is_told_and_another_still_draws(
    client: Client,
    tiny_checkpoints: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: str,
):
    folder = tmp_path / "checkpoints"
    shutil.copytree(tiny_checkpoints, folder)
    monkeypatch.setattr(checkpoints, "BUNDLED", folder)
    weights = folder / "digits-channels" / "unet" / "diffusion_pytorch_model.safetensors"
    if damage == "deleted":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(AppError, match="Checkpoint digits-channels cannot be loaded"):
        client.predict("1", conditioning="channels", api_name="/digits")
    rows = {row["key"]: row for row in client.predict(api_name="/checkpoints")}
    assert rows["digits-embedding"]["available"]
    assert rows["digits-channels"]["available"] is (damage == "truncated")
    assert_works(client)


def test_two_requests_take_turns_and_both_finish(client: Client, served: str, meter: Meter):
    jobs = [
        client.submit("12", num_inference_steps=10, api_name="/digits"),
        Client(served, verbose=False).submit("34", num_inference_steps=10, api_name="/digits"),
    ]
    results = [job.result(timeout=60) for job in jobs]
    assert [info["settings"]["digits"] for _, info in results] == ["12", "34"]
    assert meter.most_at_once == 1
    assert meter.calls == 20


def test_a_cancelled_run_stops_computing_and_frees_the_lane(client: Client, meter: Meter):
    job = client.submit("1", num_inference_steps=250, api_name="/digits")
    assert meter.started.wait(20)
    job.cancel()
    assert meter.settled()
    assert meter.calls < 200
    assert_works(client)


def test_a_full_queue_says_so_and_drains(meter: Meter):
    with serve(max_queue=1) as url:
        clients = [Client(url, verbose=False) for _ in range(4)]
        first = clients[0].submit("1", num_inference_steps=60, api_name="/digits")
        assert meter.started.wait(20)
        later = [c.submit("2", num_inference_steps=1, api_name="/digits") for c in clients[1:]]
        refused = [error for job in later if (error := job.exception(timeout=60))]
        assert refused
        assert all("queue" in str(error).lower() for error in refused)
        assert first.result(timeout=60)[1]["step"] == 60
        assert_works(clients[3])


def test_the_unexpected_is_logged_under_an_id_and_shows_nothing_else(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def broken(settings: DigitsSettings):
        raise RuntimeError("secret path /home/someone")

    monkeypatch.setattr("tabs.digits._generate", broken)
    with caplog.at_level(logging.ERROR, "studio"), pytest.raises(AppError) as caught:
        client.predict("1", api_name="/digits")
    sentence = str(caught.value)
    assert "secret" not in sentence
    (incident,) = re.findall(r"\b[0-9a-f]{8}\b", sentence)
    assert incident in caplog.text
    assert "secret path" in caplog.text


def test_a_run_past_its_deadline_ends_with_advice(
    client: Client, meter: Meter, monkeypatch: pytest.MonkeyPatch
):
    plain = common.throttled
    monkeypatch.setattr(common, "throttled", lambda stream: plain(stream, deadline_seconds=0.3))
    with pytest.raises(AppError, match=r"Stopped after 0\.3 seconds at step \d+ of 250"):
        client.predict("1", num_inference_steps=250, api_name="/digits")
    assert meter.settled()


def test_checkpoints_lists_what_is_bundled_with_device_and_limits(client: Client):
    rows = client.predict(api_name="/checkpoints")
    assert [row["key"] for row in rows] == list(checkpoints.TABLE)
    for row in rows:
        assert row["available"]
        assert row["size_px"] == 28
        assert row["licence"]
        assert row["source"] == "bundled"
        assert "CPU" in row["device"] or "NVIDIA" in row["device"]
        assert row["limits"] == {"max_digits": 64, "max_num_inference_steps": 250}


def python_examples(readme: str) -> list[str]:
    """The README's Python code blocks, in order."""
    return re.findall(r"```python\n(.*?)```", readme, re.DOTALL)


def test_the_python_code_of_the_readme_runs(
    served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    blocks = python_examples((ROOT / "README.md").read_text())
    assert sum("Client(" in block for block in blocks) >= 2
    for block in blocks:
        exec(block.replace("http://127.0.0.1:7860", served), {})
    assert list(tmp_path.glob("*.png"))


def test_no_thread_is_left_behind_by_a_finished_run(client: Client):
    assert_works(client)
    before = threading.active_count()
    for _ in range(5):
        assert_works(client)
    assert threading.active_count() <= before + 2
