"""Where training starts: which models are taken, which are refused, and what is known of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel

from pipelines.diffusion.unets import SpaceToDepthUNet2DModel
from pipelines.models import own_checkpoints
from pipelines.models.table import TABLE, Checkpoint
from tests.fakes.tiny_pictures import (
    SIZE,
    folded_unet,
    save_flat,
    save_folded,
    save_stock,
    stock_unet,
)
from training.pictures import start_models


def test_new_weights_come_from_the_seed():
    first, again, other = (
        next(start_models.new_model(16, "v_prediction", seed)[0].parameters()) for seed in (1, 1, 2)
    )
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first, other)


def test_a_pipeline_folder_is_loaded_with_its_prediction_and_schedule(tmp_path: Path):
    name = save_stock(tmp_path, num_train_timesteps=500, beta_end=0.01, prediction_type="epsilon")
    unet, scheduler = start_models.load_model(name, 24)
    torch.testing.assert_close(unet.state_dict(), stock_unet().state_dict(), rtol=0, atol=0)
    assert unet.config["sample_size"] == 24
    config = scheduler.config
    assert (config["num_train_timesteps"], config["beta_end"]) == (500, 0.01)
    assert config["prediction_type"] == "epsilon"


def test_the_projects_own_network_is_loaded(tmp_path: Path):
    unet, scheduler = start_models.load_model(save_folded(tmp_path), SIZE)
    assert isinstance(unet, SpaceToDepthUNet2DModel)
    assert scheduler.config["prediction_type"] == "v_prediction"


def test_a_bundled_model_is_loaded_by_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    row = Checkpoint("own", "", SIZE, "", "")
    monkeypatch.setitem(TABLE, "own", row)
    monkeypatch.setattr("pipelines.models.table.BUNDLED", tmp_path)
    save_folded(tmp_path / "own")
    assert isinstance(start_models.load_model("own", SIZE)[0], SpaceToDepthUNet2DModel)


def test_a_hub_id_is_fetched_with_no_more_than_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[tuple[str, list[str]]] = []

    def fetched(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        return save_stock(tmp_path)

    monkeypatch.setattr(start_models, "snapshot_download", fetched)
    start_models.load_model("google/ddpm-cat-256", SIZE)
    assert asked == [("google/ddpm-cat-256", own_checkpoints.WANTED_FILES)]


def test_the_older_layout_with_pickled_weights_is_loaded(tmp_path: Path):
    unet, scheduler = start_models.load_model(save_flat(tmp_path / "old"), SIZE)
    torch.testing.assert_close(unet.state_dict(), stock_unet().state_dict(), rtol=0, atol=0)
    assert scheduler.config["prediction_type"] == "epsilon"


class Malicious:
    """Would create a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_pickled_code_in_weights_is_refused_and_not_run(tmp_path: Path):
    folder = Path(save_flat(tmp_path / "old"))
    torch.save({"x": Malicious(tmp_path / "ran")}, folder / "diffusion_pytorch_model.bin")
    with pytest.raises(ValueError, match="start_model must be"):
        start_models.load_model(str(folder), SIZE)
    assert not (tmp_path / "ran").exists()


def refusal(name: str | Path, image_size: int = SIZE) -> str:
    with pytest.raises(ValueError, match=r"start_model must be a bundled checkpoint") as error:
        start_models.load_model(str(name), image_size)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("unet", "reason"),
    [
        (lambda: stock_unet(num_class_embeds=11), "a class-conditional network"),
        (lambda: stock_unet(in_channels=4, out_channels=4), "4 channels in and 4 out"),
        (lambda: stock_unet(out_channels=6), "3 channels in and 6 out"),
        (
            lambda: UNet2DConditionModel(
                block_out_channels=(32, 32),
                down_block_types=("DownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "UpBlock2D"),
            ),
            "a network of the class UNet2DConditionModel",
        ),
    ],
)
def test_other_kinds_of_network_are_refused(unet: Any, reason: str, tmp_path: Path):
    unet().save_pretrained(tmp_path / "unet")
    DDPMScheduler().save_pretrained(tmp_path / "scheduler")
    assert reason in refusal(tmp_path)


def test_a_folder_that_is_not_there_empty_or_damaged_is_refused(tmp_path: Path):
    assert "no such folder" in refusal(tmp_path / "nowhere")
    assert "No such file" in refusal(tmp_path)
    name = save_stock(tmp_path / "damaged")
    weights = tmp_path / "damaged" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    refusal(name)


def test_a_hub_that_cannot_be_reached_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    refusal("nobody/nothing")


def test_a_size_that_the_network_cannot_halve_is_refused_naming_those_that_fit(tmp_path: Path):
    name = save_stock(tmp_path)
    with pytest.raises(
        ValueError, match="multiple of 2 for this network, such as 16 or 18, got 17"
    ):
        start_models.load_model(name, 17)
    with pytest.raises(
        ValueError, match="multiple of 8 for this network, such as 24 or 32, got 28"
    ):
        start_models.new_model(28, "v_prediction", 0)


@pytest.mark.parametrize("make", [stock_unet, folded_unet])
def test_a_network_is_rebuilt_from_what_a_state_tells_of_it(make: Any):
    unet, scheduler = make(), DDPMScheduler(num_train_timesteps=77, prediction_type="sample")
    saved = json.loads(json.dumps(start_models.configs(unet, scheduler)))
    again, schedule = start_models.rebuilt(saved)
    assert type(again) is type(unet)
    again.load_state_dict(unet.state_dict())
    x_t, t = torch.zeros(1, 3, SIZE, SIZE), torch.tensor([5])
    torch.testing.assert_close(again(x_t, t).sample, unet(x_t, t).sample, rtol=0, atol=0)
    assert schedule.config["num_train_timesteps"] == 77
    assert schedule.config["prediction_type"] == "sample"


def write_facts(folder: Path, **facts: Any) -> str:
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_text(json.dumps(facts))
    return str(folder)


def recipe(start_model: str, dataset_name: str, image_size: int) -> dict[str, Any]:
    return {
        "start_model": start_model,
        "dataset_name": dataset_name,
        "image_size": image_size,
        "batch_size": 8,
        "grad_accumulation_steps": 2,
        "num_processes": 2,
    }


def test_the_ancestors_of_a_start_model_are_found_through_their_folders(tmp_path: Path):
    first = recipe("", "/somewhere/data/scenes", 32)
    small = write_facts(tmp_path / "small" / "checkpoint", recipe=first, steps=10, seconds=5.0)
    large = write_facts(
        tmp_path / "large" / "checkpoint",
        name="scenes",
        recipe=recipe(small, "/somewhere/data/scenes", 64),
        steps=20,
        seconds=9.0,
    )
    assert start_models.lineage(large) == {
        "name": "scenes",
        "dataset_name": "scenes",
        "image_size": 64,
        "steps": 20,
        "pictures_seen": 640,
        "seconds": 9.0,
        "started_from": {
            "name": "small",
            "dataset_name": "scenes",
            "image_size": 32,
            "steps": 10,
            "pictures_seen": 320,
            "seconds": 5.0,
            "started_from": {},
        },
    }


def test_of_a_strangers_model_only_the_name_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert start_models.lineage("google/ddpm-cat-256") == {"name": "google/ddpm-cat-256"}
    assert start_models.lineage(save_stock(tmp_path / "cats")) == {"name": "cats"}
    assert start_models.lineage(write_facts(tmp_path / "cake", recipe={"flour": 1})) == {
        "name": "cake"
    }
    assert start_models.lineage("") == {}


def test_a_model_that_claims_to_stem_from_itself_does_not_hang(tmp_path: Path):
    name = str(tmp_path / "loop")
    write_facts(tmp_path / "loop", recipe=recipe(name, "data/scenes", 32), steps=1, seconds=1.0)
    assert start_models.lineage(name)["started_from"]["name"] == "loop"
