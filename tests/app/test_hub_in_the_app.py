"""Models of the Hub through the whole app: at full size from their public layouts, and failing."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel
from gradio_client import Client
from gradio_client.exceptions import AppError
from huggingface_hub import constants
from PIL import Image, ImageChops
from playwright.sync_api import Browser, expect
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from pipelines.models import checkpoints
from pipelines.models.table import HUB
from tests.browser.visits import Visit, facts_in, hasten, visit
from tests.conftest import serve
from tests.fakes.hub_server import COMMIT, Hub, serve_hub, without_network
from tests.fakes.tiny_pictures import OLD_NAMES, stock_unet
from tests.unit.test_hub import CLOSED, OUTAGES, REFUSALS, Fault

SAFETENSORS = "unet/diffusion_pytorch_model.safetensors"
PICKLE = "diffusion_pytorch_model.bin"
IN_FOLDERS, FLAT = "wikiart-256", "bedrooms-256"
# The configs of google/ddpm-bedroom-256, as they were written in 2022.
NETWORK: dict[str, Any] = {
    "_class_name": "UNet2DModel",
    "_diffusers_version": "0.0.4",
    "act_fn": "silu",
    "attention_head_dim": None,
    "block_out_channels": [128, 128, 256, 256, 512, 512],
    "center_input_sample": False,
    "down_block_types": [*["DownBlock2D"] * 4, "AttnDownBlock2D", "DownBlock2D"],
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 3,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-6,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 256,
    "time_embedding_type": "positional",
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D", *["UpBlock2D"] * 4],
}
SCHEDULER: dict[str, Any] = {
    "_class_name": "DDPMScheduler",
    "_diffusers_version": "0.1.1",
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "beta_start": 0.0001,
    "clip_sample": True,
    "num_train_timesteps": 1000,
    "trained_betas": None,
    "variance_type": "fixed_small",
}
FEW_STEPS: dict[str, Any] = {"num_inference_steps": 2, "method": "fast", "seed": 3}


# --- at full size --------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def public() -> Iterator[dict[str, Path]]:
    """Repositories of two rows of the table: one in folders, one flat, old and pickled.

    Both have the same random weights, 230 MB in half precision.
    """
    with tempfile.TemporaryDirectory() as root:  # for pytest would keep it
        folders = {key: Path(root, key) for key in (IN_FOLDERS, FLAT)}
        write_public(folders[IN_FOLDERS], folders[FLAT])
        yield folders


def write_public(newer: Path, older: Path) -> None:
    for folder in (newer / "unet", newer / "scheduler", older):
        folder.mkdir(parents=True)
    write_configs(newer / "unet", newer / "scheduler")
    write_configs(older, older)
    weights = random_weights()
    save_file(weights, newer / SAFETENSORS)
    torch.save({old_name(name): value for name, value in weights.items()}, older / PICKLE)


def random_weights() -> dict[str, Tensor]:
    """Weights of the public network, without the seconds that their usual start takes."""
    with torch.device("meta"):
        shapes = UNet2DModel(**{k: v for k, v in NETWORK.items() if k[0] != "_"}).state_dict()
    generator = torch.Generator().manual_seed(0)
    return {name: _random(name, like.shape, generator) for name, like in shapes.items()}


def _random(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    if "norm" in name and name.endswith("weight"):
        return torch.ones(shape).half()
    return torch.empty(shape).uniform_(-0.04, 0.04, generator=generator).half()


def write_configs(unet: Path, scheduler: Path) -> None:
    (unet / "config.json").write_text(json.dumps(NETWORK))
    (scheduler / "scheduler_config.json").write_text(json.dumps(SCHEDULER))


def old_name(name: str) -> str:
    for new, old in OLD_NAMES.items():
        name = name.replace(new.removeprefix("attentions.0"), old.removeprefix("attentions.0"))
    return name


@pytest.fixture
def remote(
    tiny_checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hub]:
    """A Hub, and an app whose bundled models are tiny and whose cache is empty."""
    assert tiny_checkpoints.is_dir()
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    with tempfile.TemporaryDirectory() as cache, serve_hub(Path(cache)) as served:
        yield served


@pytest.fixture
def client(served: str) -> Client:
    return Client(served, verbose=False)


def offer(remote: Hub, key: str, folder: Path) -> None:
    """Makes a folder the repository of a row of the table."""
    remote.repositories[f"models/{HUB[key].repo_id}"] = folder


def paint(client: Client, model: str, **options: Any) -> tuple[Image.Image, dict[str, Any]]:
    """The picture, and what its file says of it."""
    (path,), info = client.predict(
        color="teal", model=model, **FEW_STEPS | options, api_name="/color"
    )
    facts = facts_in(Path(path))
    assert info["model"] == facts["model"] == model
    assert info["revision"] == facts["revision"]
    return Image.open(path).convert("RGB"), facts


def described(client: Client, key: str) -> dict[str, Any]:
    (row,) = [row for row in client.predict(api_name="/checkpoints") if row["key"] == key]
    return row


@pytest.mark.thorough
def test_a_public_model_paints_at_full_size_and_then_needs_no_network(
    client: Client, remote: Hub, public: dict[str, Path]
):
    key = FLAT
    offer(remote, key, public[key])
    assert not described(client, key)["available"]
    guided, facts = paint(client, key)
    assert guided.size == (256, 256)
    assert facts["revision"] == COMMIT
    assert facts["settings"]["model"] == key
    assert_loaded(key, public[IN_FOLDERS] / SAFETENSORS)

    checkpoints.unload_all()  # as another start of the app does
    asked = len(remote.requests)
    with without_network():
        unguided, facts = paint(client, key, guidance_scale=0)
        row = described(client, key)
    assert len(remote.requests) == asked
    assert (facts["revision"], row["revision"], row["available"]) == (COMMIT, COMMIT, True)
    assert differ(guided, unguided)


def assert_loaded(key: str, made: Path) -> None:
    """What is in memory is what was made; one by one, for together they are large."""
    loaded = checkpoints.load(key)
    assert loaded.scheduler_config["prediction_type"] == "epsilon"
    found = loaded.unet.state_dict()
    with safe_open(made, "pt") as stored:
        assert set(found) == set(stored.keys())
        for name, value in found.items():
            assert torch.equal(value.half(), stored.get_tensor(name)), name


def differ(one: Image.Image, other: Image.Image) -> bool:
    """Whether a person could see it."""
    extrema: Any = ImageChops.difference(one, other).getextrema()
    return max(high for _, high in extrema) > 20


@pytest.mark.thorough
def test_a_page_shows_how_far_the_download_is_and_then_the_picture(
    browser: Browser, served: str, remote: Hub, public: dict[str, Path], tmp_path: Path
):
    offer(remote, IN_FOLDERS, public[IN_FOLDERS])
    remote.pause = 0.015
    found = colour_tab(browser, served, IN_FOLDERS, steps=1)
    found.part("draw").click()
    shown = [megabytes(found), megabytes(found), megabytes(found)]
    done = [int(count) for count, _ in shown]
    assert done == sorted(set(done))
    assert done[0] < done[-1] < int(shown[-1][1])
    assert int(shown[-1][1]) in range(220, 235)
    expect(found.status).to_contain_text(f"seed 0, {IN_FOLDERS}")
    size = "img => [img.naturalWidth, img.naturalHeight]"
    assert found.tiles.first.evaluate(size) == [256, 256]
    assert facts_in(found.save(tmp_path / "saved.png"))["revision"] == COMMIT
    found.leave()


def colour_tab(browser: Browser, served: str, model: str, steps: int = 2) -> Visit:
    """The Colour tab with a model chosen and few steps."""
    found = visit(browser, served, tab="Colour")
    hasten(found, steps)
    found.part("model").get_by_label(model).check()
    return found


def megabytes(found: Visit) -> tuple[str, str]:
    """How many MB of how many a page says to have, when it next says something new."""
    said = found.status.locator("p:not(.seen)", has_text=re.compile("^Fetching .*: [1-9]"))
    expect(said).to_have_count(1)
    text = said.inner_text()
    said.evaluate("line => line.classList.add('seen')")
    expect(found.status.locator("progress")).to_be_visible()
    told = re.fullmatch(rf"Fetching {IN_FOLDERS} from the Hub: (\d+) of (\d+) MB\.", text)
    assert told, text
    return told[1], told[2]


# --- what fails ----------------------------------------------------------------------------------


@pytest.fixture
def tiny(remote: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model behind both names: `wikiart-256`, and `mine`, which is of the user's."""
    folder = tmp_path / "repository"
    stock_unet(sample_size=32).save_pretrained(folder / "unet")
    DDPMScheduler().save_pretrained(folder / "scheduler")
    monkeypatch.setenv("STUDIO_CHECKPOINTS", "mine=someone/cats,wrong=someone/nowhere")
    offer(remote, IN_FOLDERS, folder)
    remote.repositories["models/someone/cats"] = folder
    return folder


def told(client: Client, model: str) -> str:
    """The sentence with which a caller is refused."""
    with pytest.raises(AppError) as error:
        paint(client, model)
    return str(error.value)


def sentence_on(key: str, reason: str) -> str:
    return f"Checkpoint {key} cannot be fetched from the Hub ({reason})."


def assert_bundled_ones_paint(client: Client) -> None:
    assert paint(client, "paintings")[0].size == (64, 64)


MET = (
    *("no network", "silence at first", "silence in a file", "429", "500", "torn", "disk full"),
    *("no right", "unknown token", "gated", "404"),
)
# Those that change a repository change that of `mine`.
FAULTS: dict[str, tuple[str, Fault, str]] = {
    name: ("mine" if name in REFUSALS else IN_FOLDERS, *(OUTAGES | REFUSALS)[name]) for name in MET
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.usefixtures("tiny")
@pytest.mark.thorough
def test_a_caller_is_told_why_a_model_cannot_be_had_and_the_app_goes_on(
    name: str, client: Client, remote: Hub
):
    key, fault, reason = FAULTS[name]
    with fault(remote):
        assert told(client, key) == sentence_on(key, reason)
        assert_bundled_ones_paint(client)
    picture, facts = paint(client, key)
    assert picture.size == (32, 32)
    assert facts["revision"] == COMMIT


@pytest.mark.usefixtures("tiny")
def test_a_wrong_id_is_told_and_the_other_models_go_on(client: Client):
    assert told(client, "wrong") == sentence_on("wrong", CLOSED)
    assert paint(client, "mine")[0].size == (32, 32)
    assert_bundled_ones_paint(client)


@pytest.mark.usefixtures("remote")
def test_words_go_on_with_the_bundled_clip_where_one_of_the_hub_cannot_be_had(client: Client):
    def say(clip_model: str) -> Any:
        options = {"clip_model": clip_model, **FEW_STEPS}
        return client.predict("snow", **options, api_name="/text")

    with without_network():
        with pytest.raises(AppError) as error:
            say("ViT-B-32")
        assert str(error.value) == (
            "Checkpoint ViT-B-32 cannot be fetched from the Hub (it does not answer); "
            "clip-small needs no network."
        )
        (picture,), _ = say("clip-small")
    assert Path(picture).is_file()


class Malicious:
    """Would create a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Path]]:
        return Path.touch, (self.path,)


def test_a_pickle_that_would_run_code_is_refused_with_a_sentence_and_not_run(
    client: Client, tiny: Path, tmp_path: Path
):
    (tiny / SAFETENSORS).unlink()
    evil = {**stock_unet().state_dict(), "more": Malicious(tmp_path / "ran")}
    torch.save(evil, tiny / "unet" / PICKLE)
    assert told(client, IN_FOLDERS) == (
        f"Checkpoint {IN_FOLDERS} cannot be used: {PICKLE} is a pickle that holds more than "
        "weights, or is damaged; save the weights as safetensors."
    )
    assert not (tmp_path / "ran").exists()
    assert_bundled_ones_paint(client)


ON_THE_PAGE = ("no network", "silence at first", "429", "torn", "disk full", "gated")


@pytest.mark.usefixtures("tiny")
@pytest.mark.thorough
def test_a_page_shows_the_sentence_and_paints_on(browser: Browser, remote: Hub):
    with serve() as url:  # which offers the user's own models, too
        found = colour_tab(browser, url, IN_FOLDERS)
        for key, fault, reason in map(FAULTS.__getitem__, ON_THE_PAGE):
            with fault(remote):
                choose_and_fail(found, key, sentence_on(key, reason))
                choose_and_paint(found, "paintings")
        choose_and_fail(found, "wrong", sentence_on("wrong", CLOSED))
        choose_and_paint(found, IN_FOLDERS)
        found.leave()


def choose_and_fail(found: Visit, model: str, sentence: str) -> None:
    found.part("model").get_by_label(model).check()
    found.finish(said="Nothing was drawn.")
    expect(found.page.get_by_text(sentence, exact=True).first).to_be_visible()


def choose_and_paint(found: Visit, model: str) -> None:
    found.part("model").get_by_label(model).check()
    found.finish()
    expect(found.status).to_contain_text(f", {model}")


@pytest.mark.usefixtures("tiny")
@pytest.mark.thorough
def test_a_chinese_page_says_it_in_chinese(browser: Browser, served: str, remote: Hub):
    found = visit(browser, served, tab="Colour", locale="zh-CN")
    found.part("model").get_by_label(IN_FOLDERS).check()
    with OUTAGES["disk full"][0](remote):
        found.part("draw").click()
        sentence = f"无法从 Hub 下载模型 {IN_FOLDERS}（磁盘已满）。"
        expect(found.page.get_by_text(sentence, exact=True)).to_be_visible()
    found.leave()
