"""The served app through a real `gradio_client` and real HTTP: contract, lane, bad input."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import re
import shutil
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from huggingface_hub import constants
from PIL import Image

import app
from benchmarks import api_tables
from pipelines.core import images
from pipelines.models import checkpoints, clip
from pipelines.models.names import HUB_MODELS
from pipelines.products import PRODUCTS, color, digits, text
from pipelines.products.settings import ColorSettings, DigitsSettings, TextSettings
from pipelines.runs import provenance
from pipelines.runs.product import Product
from tabs import common
from tests.conftest import Meter, serve

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED: dict[str, dict[str, Any]] = {
    "/color": {
        "color": "#44CCAA",
        "guidance_scale": 0.2,
        "num_inference_steps": 20,
        "num_images": 1,
        "seed": 0,
        "model": "paintings",
        "method": "balanced",
        "loss": "mean",
        "region": "all",
        "mask": "",
        "palette": "",
        "brightness": -1.0,
        "contrast": -1.0,
        "symmetry": "none",
        "extras_weight": 1.0,
        "start": 0.0,
        "stop": 1.0,
        "every": 1,
        "repeats": 0,
        "eta": -1.0,
        "timesteps": "learned",
        "computed_by": "measured",
    },
    "/text": {
        "prompt": "a landscape with trees",
        "negative_prompt": "",
        "guidance_scale": 0.2,
        "num_inference_steps": 20,
        "num_images": 1,
        "seed": 0,
        "model": "paintings",
        "method": "balanced",
        "clip_model": "clip-small",
        "image_prompt": "",
        "image_weight": 1.0,
        "color": "",
        "color_weight": 1.0,
        "cutouts": 1,
        "start": 0.0,
        "stop": 0.8,
        "every": 1,
        "repeats": 0,
        "eta": -1.0,
        "tries": 1,
        "computed_by": "measured",
    },
    "/digits": {
        "digits": "0123456789",
        "cfg_scale": 2.2,
        "num_inference_steps": 10,
        "seed": 0,
        "conditioning": "embedding",
        "blend_with": "",
        "blend": 0.5,
        "solver": "dpm++",
        "eta": 0.0,
        "symmetry": "none",
        "brightness": -1.0,
        "contrast": -1.0,
        "guidance_scale": 0.0,
        "method": "balanced",
        "start": 0.0,
        "stop": 1.0,
        "cfg_start": 0.0,
        "cfg_stop": 1.0,
        "computed_by": "measured",
    },
    "/edit": {
        "image": "",
        "task": "fill",
        "mask": "",
        "strength": 0.5,
        "crop": "",
        "factor": 4,
        "prompt": "",
        "negative_prompt": "",
        "color": "",
        "palette": "",
        "symmetry": "none",
        "guidance_scale": 0.2,
        "num_inference_steps": 20,
        "num_images": 1,
        "seed": 0,
        "model": "paintings",
        "method": "balanced",
        "clip_model": "clip-small",
        "start": 0.0,
        "stop": 0.8,
        "repeats": 0,
        "eta": -1.0,
        "computed_by": "measured",
    },
    "/checkpoints": {},
}
FACTS = ("model", "revision", "settings", "versions", "score", "score_before", "score_after")
"""What `info` and every saved picture say alike."""


@pytest.fixture
def client(served: str) -> Client:
    return Client(served, verbose=False)


def facts_inside(picture: Image.Image) -> dict[str, Any]:
    """What a saved picture says of itself."""
    return json.loads(picture.info[images.METADATA_KEY])


def assert_works(client: Client) -> None:
    """The lane is free: a short run goes through."""
    files, info = client.predict("1", num_inference_steps=1, api_name="/digits")
    assert len(files) == info["step"] == 1


def test_the_endpoints_and_their_parameters_are_the_published_ones(client: Client):
    api: Any = client.view_api(return_format="dict", print_info=False)
    found = {
        name: [(p["parameter_name"], p["parameter_default"]) for p in endpoint["parameters"]]
        for name, endpoint in api["named_endpoints"].items()
    }
    assert found == {name: list(defaults.items()) for name, defaults in PUBLISHED.items()}
    assert api["unnamed_endpoints"] == {}


def test_the_page_of_the_api_lists_every_parameter_as_the_settings_declare_it():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert api_tables.written(page) == page
    for product in PRODUCTS.values():
        assert api_tables.table(product) in page


@pytest.mark.parametrize("product", PRODUCTS.values(), ids=PRODUCTS)
def test_openapi_tells_meaning_range_and_choices(served: str, product: Product):
    schema = httpx.get(f"{served}gradio_api/openapi.json").json()
    path = schema["paths"][f"/gradio_api/call/v2/{product.name}"]
    body = path["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert list(body) == [field.name for field in dataclasses.fields(product.settings)]
    for field in dataclasses.fields(product.settings):
        rule, told = field.metadata["rule"], body[field.name]
        assert rule.accepts in told["description"]
        assert len(told["description"]) > len(rule.accepts) + 20
        assert {key: told[key] for key in rule.schema()} == rule.schema()


def test_no_two_elements_have_the_same_id():
    ids = [block.elem_id for block in app.build_demo().blocks.values() if block.elem_id]
    assert len(ids) > 60
    assert [name for name in set(ids) if ids.count(name) > 1] == []


def test_every_generating_event_waits_in_the_one_lane():
    demo = app.build_demo()
    generating = [f for f in demo.fns.values() if f.types_generator]
    assert len(generating) >= 6
    assert {(f.concurrency_id, f.concurrency_limit) for f in generating} == {("gpu", 1)}


@pytest.mark.parametrize("endpoint", ["color", "text", "digits", "edit"])
def test_nothing_passes_the_queue_by(served: str, endpoint: str):
    answer = httpx.post(f"{served}gradio_api/run/{endpoint}", json={"data": ["1"]})
    assert answer.status_code == 404


@pytest.mark.thorough
def test_the_bundled_model_draws_a_row_of_digits_with_its_settings_inside(client: Client):
    files, info = client.predict(api_name="/digits")
    assert len(files) == 10
    assert info["step"] == info["total_steps"] == DigitsSettings.num_inference_steps
    assert info["model"] == "digits-embedding"
    assert info["revision"] == checkpoints.load("digits-embedding").revision
    assert info["settings"] == PUBLISHED["/digits"]
    assert info["seconds"] > 0
    assert info["versions"] == provenance.versions()
    assert info["score"].startswith("probability of the digit")
    assert len(info["score_before"]) == len(info["score_after"]) == 10
    assert all(0 <= score <= 1 for score in info["score_before"] + info["score_after"])
    for i, path in enumerate(files):
        picture = Image.open(path)
        assert (picture.format, picture.mode, picture.size) == ("PNG", "L", (28, 28))
        told = {key: info[key] for key in FACTS}
        revisions = {info["model"]: info["revision"]}
        told |= {"computed": provenance.computed()}
        told |= {"picture": {"index": i, "of": len(files)}}
        assert facts_inside(picture) == {"tab": "digits", "revisions": revisions} | told


def test_the_bundled_model_paints_pictures_of_a_colour_with_what_was_reached_inside(client: Client):
    options: dict[str, Any] = {"color": "teal", "num_images": 2, "num_inference_steps": 5}
    files, info = client.predict(**options, method="fast", api_name="/color")
    assert info["step"] == info["total_steps"] == 5
    assert info["model"] == "paintings"
    assert info["revision"] == checkpoints.load("paintings").revision
    assert info["settings"] == PUBLISHED["/color"] | options | {
        "color": "#008080",
        "method": "fast",
    }
    assert info["seconds"] > 0
    assert info["versions"] == provenance.versions()
    assert info["score"] == "CIEDE2000"
    assert len(info["score_before"]) == len(info["score_after"]) == 2
    assert [len(losses) for losses in info["loss"]] == [2] * 5
    assert info["failed_steps"] == []
    assert len(files) == 2
    for i, path in enumerate(files):
        picture = Image.open(path)
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (64, 64))
        told = {key: info[key] for key in FACTS}
        revisions = {info["model"]: info["revision"]}
        told |= {"computed": provenance.computed()}
        told |= {"picture": {"index": i, "of": len(files)}}
        assert facts_inside(picture) == {"tab": "color", "revisions": revisions} | told


@pytest.mark.thorough
def test_the_bundled_models_paint_pictures_of_words_with_what_was_reached_inside(client: Client):
    options: dict[str, Any] = {"prompt": "ships and a quxling", "num_images": 2}
    options |= {"num_inference_steps": 5, "start": 0.2, "color": "teal"}
    files, info = client.predict(**options, method="fast", api_name="/text")
    assert info["step"] == info["total_steps"] == 5
    assert info["model"] == "paintings"
    assert info["revision"] == checkpoints.load("paintings").revision
    assert info["clip_revision"] == clip.load("clip-small").revision
    assert info["settings"] == PUBLISHED["/text"] | options | {
        "color": "#008080",
        "method": "fast",
    }
    assert info["seconds"] > 0
    assert info["versions"] == provenance.versions()
    assert info["score"] == "cosine similarity"
    assert len(info["score_before"]) == len(info["score_after"]) == 2
    assert [len(losses) for losses in info["loss"]] == [2] * 3  # not the first and the last
    assert [len(values) for values in info["similarity"]] == [2] * 5
    assert info["similarity"][-1] == info["score_after"]
    assert info["failed_steps"] == []
    assert info["unseen_words"] == ["quxling"]
    assert len(files) == 2
    for i, path in enumerate(files):
        picture = Image.open(path)
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (64, 64))
        told = {key: info[key] for key in (*FACTS, "clip_revision")}
        revisions = {"paintings": info["revision"], "clip-small": info["clip_revision"]}
        told |= {"computed": provenance.computed()}
        told |= {"picture": {"index": i, "of": len(files)}}
        assert facts_inside(picture) == {"tab": "text", "revisions": revisions} | told


@pytest.mark.usefixtures("tiny_checkpoints")
def test_what_the_page_of_the_api_says_of_the_answer_is_in_it(client: Client):
    page = (ROOT / "docs" / "api.md").read_text()
    sentence = page.partition("\n`info` has ")[2].partition("Every PNG")[0]
    documented = set(re.findall(r"`(\w+)`", sentence))
    assert len(documented) >= 13
    _, of_color = client.predict(num_inference_steps=1, api_name="/color")
    _, of_text = client.predict(num_inference_steps=1, api_name="/text")
    assert documented <= set(of_text)
    _, of_digits = client.predict(num_inference_steps=1, api_name="/digits")
    of_words = {"unseen_words", "unreadable_words", "clip_revision", "seeds"}
    assert documented - of_words <= set(of_color)
    assert documented - of_words - {"loss"} <= set(of_digits)


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("method", ["fast", "balanced", "thorough", "course"])
def test_no_guidance_gives_the_unguided_picture_bit_for_bit(client: Client, method: str):
    options: dict[str, Any] = {"num_inference_steps": 3, "num_images": 2, "seed": 4}
    files, info = client.predict(**options, method=method, guidance_scale=0, api_name="/color")
    *_, last = color.generate(ColorSettings(**options, method=method, color="navy"))
    assert [Image.open(f).tobytes() for f in files] == [p.tobytes() for p in last.unguided]
    assert info["score_after"] == info["score_before"]


@pytest.mark.usefixtures("tiny_checkpoints")
def test_a_mask_of_another_size_is_taken_and_a_palette_has_a_score_of_its_own(client: Client):
    options: dict[str, Any] = {"mask": mask(7, white=3), "palette": "#102040 60, gold 40"}
    files, info = client.predict(**options, num_inference_steps=2, api_name="/color")
    assert len(files) == 1
    assert info["score"] == "palette distance"
    assert info["settings"]["palette"] == "#102040 60, #FFD700 40"


def mask(width: int, *, white: int, height: int | None = None) -> str:
    """A picture as a data address, its `white` leftmost columns white and the others black."""
    picture = Image.new("L", (width, height or width))
    picture.paste(255, (0, 0, white, picture.height))
    return images.to_data_uri(picture)


@pytest.mark.thorough
def test_api_and_python_give_the_same_pixels(client: Client):
    options: dict[str, Any] = {"digits": "25", "seed": 9, "conditioning": "channels"}
    files, _ = client.predict(**options, api_name="/digits")
    *_, last = digits.generate(DigitsSettings(**options))
    assert [Image.open(f).tobytes() for f in files] == [p.tobytes() for p in last.pictures]


@pytest.mark.usefixtures("tiny_checkpoints")
def test_api_and_python_give_the_same_pictures_of_words(client: Client):
    options: dict[str, Any] = {"prompt": "ships:2 | snow", "negative_prompt": "people", "seed": 9}
    options |= {"num_inference_steps": 3, "num_images": 2, "image_prompt": mask(40, white=9)}
    files, info = client.predict(**options, color="gold", api_name="/text")
    *_, last = text.generate(TextSettings(**options, color="gold"))
    assert [Image.open(f).tobytes() for f in files] == [p.tobytes() for p in last.pictures]
    assert [p.tobytes() for p in last.pictures] != [p.tobytes() for p in last.unguided]
    assert info["score_after"] == [round(value, 4) for value in last.score_after]


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.thorough
def test_the_seeds_that_were_found_draw_the_same_pictures_of_words(client: Client):
    options: dict[str, Any] = {"prompt": "ships", "num_inference_steps": 4, "seed": 5}
    job = client.submit(**options, num_images=2, tries=3, api_name="/text")
    files, info = job.result()
    steps = [shown["step"] for _, shown in job.outputs()]
    assert steps == sorted(steps)
    assert (steps[0], steps[-1]) == (0, 4)
    assert info["seeds"][0] in (5, 6, 7)
    assert info["seeds"][1] in (8, 9, 10)
    for file, seed in zip(files, info["seeds"], strict=True):
        (alone,), _ = client.predict(**options | {"seed": seed}, api_name="/text")
        apart = np.asarray(Image.open(file)).astype(int) - np.asarray(Image.open(alone))
        assert np.abs(apart).mean() < 2  # a batch of another size rounds otherwise
    _, plain = client.predict(**options, num_images=2, api_name="/text")
    assert plain["seeds"] == [5, 6]


@pytest.mark.thorough
def test_a_random_seed_is_reported_and_draws_the_same_again(client: Client):
    files, info = client.predict("4", seed=-1, api_name="/digits")
    again, _ = client.predict("4", seed=info["seed"], api_name="/digits")
    assert info["seed"] >= 0
    assert Image.open(files[0]).tobytes() == Image.open(again[0]).tobytes()


@pytest.mark.thorough
def test_every_yield_streams_images_and_the_step_it_is_at(client: Client, meter: Meter):
    job = client.submit("12", num_inference_steps=8, api_name="/digits")
    job.result()
    steps = [info["step"] for _, info in job.outputs()]
    assert len(steps) >= 3
    assert steps == sorted(set(steps))
    assert steps[-1] == 8
    assert all(len(files) == 2 for files, _ in job.outputs())


@pytest.mark.thorough
def test_previews_are_throttled(client: Client, meter: Meter):
    meter.seconds = 0.001
    job = client.submit("1", num_inference_steps=200, api_name="/digits")
    *_, (_, info) = (job.result(), job.outputs()[-1])
    assert len(job.outputs()) <= info["seconds"] / common.PREVIEW_SECONDS + 2


BAD: dict[str, list[dict[str, Any]]] = {
    "/digits": [
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
    "/color": [
        {"color": "notacolour"},
        {"color": "#12345"},
        {"color": ""},
        {"color": 7},
        {"color": "<script>alert(1)</script>"},
        {"guidance_scale": 1e6},
        {"guidance_scale": 0.7},
        {"guidance_scale": -0.1},
        {"guidance_scale": "strong"},
        {"guidance_scale": None},
        {"num_inference_steps": 251},
        {"num_images": 9},
        {"num_images": 1.5},
        {"seed": -2},
        {"model": "digits-embedding"},
        {"method": "magic"},
        {"loss": "pixels", "region": "left"},
        {"region": "middle"},
        {"region": "left", "mask": mask(64, white=32)},
        {"mask": mask(64, white=0)},
        {"mask": mask(64, white=32, height=32)},
        {"mask": "data:image/png;base64,AAAA"},
        {"mask": "/etc/passwd"},
        {"palette": "#102040 60, gold 50"},
        {"palette": "#102040 60, gold"},
        {"palette": "red, nocolour"},
        {"palette": "red, gold, teal, navy, pink, white"},
        {"brightness": 1.5},
        {"contrast": 0.6},
        {"symmetry": "both"},
        {"extras_weight": -1},
        {"start": 0.8, "stop": 0.2},
        {"every": 0},
        {"repeats": 3, "method": "fast"},
        {"eta": 2},
    ],
    "/text": [
        {"tries": 0},
        {"tries": 33},
        {"prompt": ""},
        {"prompt": "", "image_prompt": mask(8, white=4), "image_weight": 0},
        {"prompt": 7},
        {"prompt": "snow:9"},
        {"prompt": "<b>snow</b>:0"},
        {"prompt": "snow | "},
        {"prompt": "trees " * 31},
        {"prompt": "trees" * 101},
        {"negative_prompt": "people:-6"},
        {"guidance_scale": 0.7},
        {"num_inference_steps": 251},
        {"model": "digits-embedding"},
        {"clip_model": "ViT-L-14"},
        {"image_prompt": "data:image/png;base64,AAAA"},
        {"image_prompt": "/etc/passwd"},
        {"image_weight": 5.5},
        {"color": "notacolour"},
        {"color": "teal", "method": "course"},
        {"color_weight": -1},
        {"cutouts": 0},
        {"cutouts": 17},
        {"eta": 0.5, "method": "fast"},
    ],
}


@pytest.mark.parametrize(
    ("endpoint", "bad"),
    [(endpoint, bad) for endpoint, cases in BAD.items() for bad in cases],
    ids=lambda value: str(value)[:60],
)
def test_bad_input_gives_one_sentence_and_leaves_the_lane_free(
    client: Client, endpoint: str, bad: dict[str, Any]
):
    with pytest.raises(AppError) as caught:
        client.predict(**bad, api_name=endpoint)
    sentence = str(caught.value)
    assert re.match(rf"^{next(iter(bad))} must be [^\n]+$", sentence)
    assert "<" not in sentence
    assert_works(client)


@pytest.mark.parametrize(
    ("endpoint", "bad", "sentence"),
    [
        ("digits", "cfg_scale", "cfg_scale must be a number from 0 to 10, got nan"),
        ("color", "guidance_scale", "guidance_scale must be a number from 0 to 1000, got nan"),
        ("text", "guidance_scale", "guidance_scale must be a number from 0 to 1000, got nan"),
    ],
)
def test_not_a_number_over_plain_http_is_refused_too(
    served: str, client: Client, endpoint: str, bad: str, sentence: str
):
    values = PUBLISHED[f"/{endpoint}"] | {bad: math.nan}
    body = json.dumps({"data": list(values.values())})  # which writes NaN, as no JSON should
    headers = {"Content-Type": "application/json"}
    address = f"{served}gradio_api/call/{endpoint}"
    posted = httpx.post(address, content=body, headers=headers).json()
    answer = httpx.get(f"{address}/{posted['event_id']}", timeout=30).text
    assert "event: error" in answer
    assert sentence in answer
    assert_works(client)


@pytest.mark.usefixtures("tiny_checkpoints")
def test_a_clip_that_cannot_be_fetched_is_told_by_name_and_another_still_paints(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(AppError) as caught:
        client.predict(clip_model="ViT-B-32", api_name="/text")
    sentence = str(caught.value)
    assert sentence.startswith("Checkpoint ViT-B-32 cannot be fetched from the Hub (")
    assert sentence.endswith("clip-small needs no network.")
    assert "\n" not in sentence
    files, info = client.predict(num_inference_steps=1, api_name="/text")
    assert len(files) == info["step"] == 1


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
    monkeypatch.setattr("pipelines.models.table.BUNDLED", folder)
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


@pytest.mark.thorough
def test_requests_of_all_kinds_take_turns_and_finish(client: Client, served: str, meter: Meter):
    other, third = Client(served, verbose=False), Client(served, verbose=False)
    jobs = [
        client.submit("12", num_inference_steps=10, api_name="/digits"),
        other.submit("gold", num_inference_steps=10, method="fast", api_name="/color"),
        third.submit("snow", num_inference_steps=10, method="fast", seed=5, api_name="/text"),
    ]
    (_, drawn), (_, painted), (_, told) = [job.result(timeout=60) for job in jobs]
    assert drawn["settings"]["digits"] == "12"
    assert painted["settings"]["color"] == "#FFD700"
    assert told["settings"]["prompt"] == "snow"
    assert meter.most_at_once == 1
    assert meter.calls == 3 * 2 * 10  # guided and unguided


@pytest.mark.parametrize(
    ("endpoint", "first"), [("/color", "gold"), ("/text", "snow"), ("/digits", "1")]
)
@pytest.mark.thorough
def test_a_cancelled_run_stops_computing_and_frees_the_lane(
    client: Client, meter: Meter, endpoint: str, first: str
):
    job = client.submit(first, num_inference_steps=250, api_name=endpoint)
    assert meter.started.wait(20)
    job.cancel()
    assert meter.settled()
    assert meter.calls < 200
    assert_works(client)


@pytest.mark.thorough
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
    def broken(*_: object):
        raise RuntimeError("secret path /home/someone")

    monkeypatch.setattr("pipelines.products.digits._previews", broken)
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
    monkeypatch.setattr("pipelines.runs.time_limit.check_run", lambda *_, **__: None)
    monkeypatch.setenv("STUDIO_DEADLINE_SECONDS", "0.3")
    with pytest.raises(AppError, match=r"Stopped after 0\.3 seconds at step \d+ of 250"):
        client.predict("1", num_inference_steps=250, api_name="/digits")
    assert meter.settled()


def test_checkpoints_lists_what_is_bundled_with_device_and_limits(client: Client):
    rows = client.predict(api_name="/checkpoints")
    assert {row["key"]: row["size_px"] for row in rows} == {
        "paintings": 64,
        "scenes": 64,
        "emoji": 64,
        "digits-embedding": 28,
        "digits-cross-attention": 28,
        "digits-channels": 28,
        "clip-small": 64,
        "ViT-B-32": 224,
        "ViT-B-32-laion": 224,
        **dict.fromkeys(HUB_MODELS, 256),
    }
    for row in rows:
        bundled = not row["key"].startswith("ViT") and row["key"] not in HUB_MODELS
        assert row["available"] or not bundled  # those of the Hub are here once they were asked for
        assert row["licence"]
        assert (row["source"] == "bundled") is bundled
        assert "CPU" in row["device"] or "NVIDIA" in row["device"]
        limits = {"max_digits": 64, "max_num_images": 8, "max_num_inference_steps": 250}
        assert row["limits"] == limits


def test_no_thread_is_left_behind_by_a_finished_run(client: Client):
    assert_works(client)
    before = threading.active_count()
    for _ in range(5):
        assert_works(client)
    assert threading.active_count() <= before + 2
