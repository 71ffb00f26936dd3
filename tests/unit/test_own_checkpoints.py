"""The user's own models: which are taken, which are refused, and that they draw like any other."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDPMPipeline,
    DDPMScheduler,
    EDMEulerScheduler,
    UNet2DConditionModel,
    UNet2DModel,
)
from huggingface_hub import constants

from pipelines.core.errors import CheckpointError
from pipelines.core.rules import SettingsError, rule, validate
from pipelines.diffusion.schedules import alphas_cumprod
from pipelines.models import checkpoints, names, own_checkpoints
from pipelines.models.names import HUB_MODELS, MODELS, bundled_names
from pipelines.models.table import CLIPS, HUB, TABLE, table
from pipelines.products import color
from pipelines.products.settings import ColorSettings, TextSettings
from pipelines.runs import comparison
from tests.fakes.hub_server import COMMIT, Hub, serve_hub
from tests.fakes.tiny_pictures import OLD_NAMES, folded_unet, stock_unet

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = "diffusion_pytorch_model"
REPOSITORY = "someone/cats"


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    checkpoints.unload_all()
    yield
    checkpoints.unload_all()


def use(monkeypatch: pytest.MonkeyPatch, where: Path | str) -> None:
    monkeypatch.setenv("STUDIO_CHECKPOINTS", f"mine={where}")


def save(
    folder: Path,
    unet: Any = None,
    scheduler: Any = None,
    *,
    flat: bool = False,
    safetensors: bool = True,
) -> Path:
    """A model in one of the two layouts."""
    parts = (folder, folder) if flat else (folder / "unet", folder / "scheduler")
    unet = stock_unet(sample_size=32) if unet is None else unet
    unet.save_pretrained(parts[0], safe_serialization=safetensors)
    (DDPMScheduler() if scheduler is None else scheduler).save_pretrained(parts[1])
    return folder


def change(path: Path, **changes: Any) -> None:
    """Sets entries of a config; None takes one away."""
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: v for name, v in config.items() if v is not None}))


def described(key: str = "mine") -> dict[str, Any]:
    (row,) = [row for row in checkpoints.describe() if row["key"] == key]
    return row


# --- the variable --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("", {}),
        (" , ", {}),
        ("a=b", {"a": "b"}),
        (" cats = someone/cats , b=/a b/c=d,", {"cats": "someone/cats", "b": "/a b/c=d"}),
        ("A.b_c-9=~/x", {"A.b_c-9": "~/x"}),
        ("x" * 40 + "=y", {"x" * 40: "y"}),
    ],
)
def test_the_variable_is_read_when_it_is_asked_for(
    said: str, found: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("STUDIO_CHECKPOINTS", raising=False)
    assert names.own_checkpoints() == {}
    monkeypatch.setenv("STUDIO_CHECKPOINTS", said)
    assert names.own_checkpoints() == found


@pytest.mark.parametrize(
    ("said", "came"),
    [
        ("cats", "'cats'"),
        ("cats=", "'cats='"),
        ("=cats", "'=cats'"),
        ("a b=c", "'a b=c'"),
        ("кот=c", "'кот=c'"),
        ("<b>=c", "'[?]b[?]=c'"),
        ("x" * 41 + "=y", "'xxx.*"),
        ("a=b,a=c", "'a=c'"),
        ("a=b,c", "'c'"),
        ("paintings=x", "'paintings=x'"),
        ("digits-channels=x", "'digits-channels=x'"),
        ("ViT-B-32=x", "'ViT-B-32=x'"),
    ],
)
def test_a_malformed_variable_is_refused_in_one_sentence_and_else_is_no_model(
    said: str, came: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("STUDIO_CHECKPOINTS", said)
    sentence = rf"^STUDIO_CHECKPOINTS must be name=folder or name=Hub id, .+, got {came}$"
    with pytest.raises(ValueError, match=sentence):
        names.own_checkpoints()
    with pytest.raises(ValueError, match=sentence):  # not that no model is called so
        validate(ColorSettings(model="another"))
    assert validate(ColorSettings()).model == "paintings"


def test_a_wrong_entry_takes_no_other_model_away(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUDIO_CHECKPOINTS", "cats=x,dogs,paintings=y,cats=z,birds=w")
    assert names.usable_own_checkpoints() == {"cats": "x", "birds": "w"}
    assert rule(ColorSettings, "model").options == (*MODELS, *HUB_MODELS, "cats", "birds")
    assert table().keys() == TABLE.keys() | HUB.keys() | {"cats", "birds"}
    assert validate(ColorSettings(model="birds")).model == "birds"


def test_a_training_that_has_not_ended_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "state.pt").write_bytes(b"")
    use(monkeypatch, tmp_path)
    assert "its training has not ended; go on with it with --resume" in refusal_of_config()


def test_a_folder_that_is_misspelt_may_look_like_a_name_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    use(monkeypatch, "runs/nope")
    assert refusal().endswith("), and there is no such folder.")
    use(monkeypatch, "someone/nope")
    assert refusal().endswith(").")


def test_the_folder_of_a_training_is_as_good_as_the_model_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    save(tmp_path / "run" / "checkpoint")
    use(monkeypatch, tmp_path / "run")
    assert described()["available"]
    assert described()["size_px"] == 32


def test_the_names_that_no_model_of_the_users_may_have_are_all_of_ours():
    assert bundled_names() == {
        *TABLE,
        *HUB,
        *CLIPS,
    }


@pytest.mark.parametrize(
    ("variable", "value"),
    [("STUDIO_CHECKPOINTS", "cats"), ("STUDIO_PRECISION", "half"), ("STUDIO_DEVICE", "gpu")],
)
@pytest.mark.thorough
def test_the_app_does_not_start_with_a_malformed_variable_and_says_why(variable: str, value: str):
    told = subprocess.run(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env=os.environ | {variable: value},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert told.returncode == 2
    assert told.stderr.startswith(f"{variable} must be ")
    assert told.stderr.strip().endswith(f"got '{value}'")
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize("kind", [ColorSettings, TextSettings])
def test_own_names_are_accepted_as_model_and_offered(kind: Any, monkeypatch: pytest.MonkeyPatch):
    ours = ("paintings", "scenes", "emoji", *HUB_MODELS)
    sentence = rf"^model must be one of {', '.join(ours)}, got 'mine'$"
    with pytest.raises(SettingsError, match=sentence):
        validate(kind(model="mine"))
    monkeypatch.setenv("STUDIO_CHECKPOINTS", "mine=x,other=y")
    assert rule(kind, "model").options == (*ours, "mine", "other")
    assert validate(kind(model="mine")).model == "mine"
    sentence = rf"^model must be one of {', '.join(ours)}, mine, other, got 'cats'$"
    with pytest.raises(SettingsError, match=sentence):
        validate(kind(model="cats"))


def test_an_unknown_key_is_refused_naming_own_ones_too(monkeypatch: pytest.MonkeyPatch):
    use(monkeypatch, "nowhere/at/all")
    with pytest.raises(ValueError, match=r"checkpoint must be one of paintings, .*mine, got 'x'"):
        checkpoints.load("x")


# --- what is taken -------------------------------------------------------------------------------


@pytest.mark.parametrize("size_px", [16, 32, 64])
@pytest.mark.parametrize("flat", [False, True], ids=["pipeline", "flat"])
@pytest.mark.parametrize("safetensors", [True, False], ids=["safetensors", "bin"])
@torch.no_grad()
def test_a_model_in_either_layout_is_loaded_with_its_weights_size_and_schedule(
    size_px: int, flat: bool, safetensors: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    unet = stock_unet(sample_size=size_px).eval()
    scheduler = DDPMScheduler(num_train_timesteps=500, prediction_type="sample")
    use(monkeypatch, save(tmp_path, unet, scheduler, flat=flat, safetensors=safetensors))
    row = described()
    assert (row["available"], row["problem"], row["size_px"]) == (True, "", size_px)
    assert (row["summary"], row["source"]) == ("your own model", "folder")
    assert (row["licence"], row["data"]) == ("your own", "unknown")
    loaded = checkpoints.load("mine")
    assert loaded.checkpoint.size_px == size_px
    assert loaded.checkpoint.key == "mine"
    assert not loaded.unet.training
    assert not any(parameter.requires_grad for parameter in loaded.unet.parameters())
    x_t = torch.randn(1, 3, size_px, size_px)
    torch.testing.assert_close(loaded.unet(x_t, 7).sample, unet(x_t, 7).sample)
    schedule = loaded.scheduler_config
    assert (schedule["num_train_timesteps"], schedule["prediction_type"]) == (500, "sample")
    assert loaded.revision == row["revision"] == checkpoints.loaded_revision("mine")
    assert len(loaded.revision) == 12


def test_a_pipeline_that_diffusers_saved_and_the_projects_own_network_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    DDPMPipeline(stock_unet(), DDPMScheduler()).save_pretrained(tmp_path / "stock")
    save(tmp_path / "own", folded_unet(sample_size=32))
    monkeypatch.setenv("STUDIO_CHECKPOINTS", f"a={tmp_path / 'stock'},b={tmp_path / 'own'}")
    assert type(checkpoints.load("a").unet) is UNet2DModel
    assert type(checkpoints.load("b").unet).__name__ == "SpaceToDepthUNet2DModel"
    assert [checkpoints.load(key).checkpoint.size_px for key in "ab"] == [16, 32]


@torch.no_grad()
def test_old_names_of_attention_and_old_configs_are_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = save(tmp_path, flat=True, safetensors=False)
    weights = torch.load(folder / f"{WEIGHTS}.bin", weights_only=True)
    for new, old in OLD_NAMES.items():
        weights = {name.replace(new, old): value for name, value in weights.items()}
    torch.save(weights, folder / f"{WEIGHTS}.bin")
    change(folder / "scheduler_config.json", prediction_type=None)
    use(monkeypatch, folder)
    loaded = checkpoints.load("mine")
    torch.testing.assert_close(loaded.unet.state_dict(), stock_unet().state_dict())
    assert loaded.scheduler_config["prediction_type"] == "epsilon"


def test_a_size_given_twice_and_weights_in_half_precision_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    save(tmp_path, stock_unet(sample_size=(32, 32)).half())
    use(monkeypatch, tmp_path)
    loaded = checkpoints.load("mine")
    assert loaded.checkpoint.size_px == 32
    assert {parameter.dtype for parameter in loaded.unet.parameters()} == {torch.float32}


def test_weights_in_parts_are_taken_and_not_without_one_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    unet = stock_unet(sample_size=32)
    save(tmp_path, unet)
    (tmp_path / "unet" / f"{WEIGHTS}.safetensors").unlink()
    unet.save_pretrained(tmp_path / "unet", max_shard_size="100KB")
    use(monkeypatch, tmp_path)
    torch.testing.assert_close(checkpoints.load("mine").unet.state_dict(), unet.state_dict())
    checkpoints.unload_all()
    first, *_ = sorted((tmp_path / "unet").glob("*-of-*.safetensors"))
    first.unlink()
    assert refusal_of_config().endswith(f"files are missing: {first.name}.")


def test_safetensors_are_taken_where_there_are_pickles_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    save(tmp_path)
    (tmp_path / "unet" / f"{WEIGHTS}.bin").write_bytes(b"torn")
    use(monkeypatch, tmp_path)
    checkpoints.load("mine")
    (tmp_path / "unet" / f"{WEIGHTS}.safetensors").write_bytes(b"torn")
    checkpoints.unload_all()
    assert "weights are damaged" in refusal()


def test_another_folder_of_the_same_name_is_not_taken_for_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for size in (16, 32):
        use(monkeypatch, save(tmp_path / str(size), stock_unet(sample_size=size)))
        assert checkpoints.load("mine").checkpoint.size_px == size


def test_a_folder_may_be_given_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save(tmp_path / "cats")
    monkeypatch.setenv("HOME", str(tmp_path))
    use(monkeypatch, "~/cats")
    assert checkpoints.load("mine").checkpoint.size_px == 32


def test_an_own_model_draws_in_its_size_towards_a_colour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    comparison.unguided_runs.clear()
    use(monkeypatch, save(tmp_path))
    *_, last = color.generate(ColorSettings(model="mine", num_inference_steps=2))
    assert last.finished
    assert last.model == "mine"
    assert [picture.size for picture in (*last.pictures, *last.unguided)] == [(32, 32)] * 2


# --- what is refused -----------------------------------------------------------------------------


def refusal() -> str:
    """The sentence, which is the same in the table and when it is loaded."""
    with pytest.raises(CheckpointError, match=r"^Checkpoint mine ") as told:
        checkpoints.load("mine")
    sentence = str(told.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


def refusal_of_config() -> str:
    """As `refusal`, where configs alone tell it, so that the table knows."""
    row = described()
    assert not row["available"]
    assert row["revision"] == ""
    assert row["size_px"] == 0
    assert row["problem"] == refusal()
    return row["problem"]


@pytest.mark.parametrize(
    "where", ["./nowhere", "~nobody/x", "a/b/c", "x" * 300 + "/y", "/dev/null"]
)
def test_a_folder_that_is_not_there_is_refused(where: str, monkeypatch: pytest.MonkeyPatch):
    use(monkeypatch, where)
    assert "there is no folder where STUDIO_CHECKPOINTS says" in refusal_of_config()


def test_a_folder_is_not_told_to_visitors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    use(monkeypatch, tmp_path)
    assert str(tmp_path) not in refusal_of_config()
    assert str(tmp_path) not in str(described())


@pytest.mark.parametrize("flat", [False, True], ids=["pipeline", "flat"])
@pytest.mark.parametrize("name", ["config.json", "scheduler_config.json"])
@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"{}", b"\xff", b"[" * 100_000])
def test_a_model_without_a_readable_config_is_refused_naming_the_file(
    flat: bool,
    name: str,
    content: bytes | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    use(monkeypatch, save(tmp_path, flat=flat))
    (path,) = tmp_path.rglob(name)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert f"but has no {name} that can be read" in refusal_of_config()


def conditional_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        block_out_channels=(32, 32),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )


@pytest.mark.parametrize(
    ("unet", "reason"),
    [
        (conditional_unet, "its network is of the class 'UNet2DConditionModel'"),
        (lambda: stock_unet(num_class_embeds=11), "its network is class-conditional"),
        (lambda: stock_unet(class_embed_type="timestep"), "its network is class-conditional"),
        (lambda: stock_unet(in_channels=1, out_channels=1), "network takes 1 and gives 1"),
        (lambda: stock_unet(in_channels=4, out_channels=4), "network takes 4 and gives 4"),
        (lambda: stock_unet(out_channels=6), "network takes 3 and gives 6"),
    ],
)
def test_other_kinds_of_network_are_refused(
    unet: Any, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    use(monkeypatch, save(tmp_path, unet()))
    assert reason in refusal_of_config()


@pytest.mark.parametrize(
    ("size", "came"),
    [
        (8, "8 x 8"),
        (0, "0 x 0"),
        (-32, "-32 x -32"),
        (1024, "1024 x 1024"),
        (514, "514 x 514"),
        (33, "33 x 33"),
        ([32, 64], "32 x 64"),
        (32.0, "32[.]0 x 32[.]0"),
        (True, "True x True"),
    ],
)
def test_an_unusual_size_is_refused_saying_what_came_and_what_is_accepted(
    size: Any, came: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    use(monkeypatch, save(tmp_path))
    change(tmp_path / "unet" / "config.json", sample_size=size)
    wanted = rf"unusual size: .+ from 16 to 512 px and a multiple of 2 px, got {came} px\.$"
    with pytest.raises(CheckpointError, match=wanted):
        checkpoints.load("mine")
    refusal_of_config()


def test_the_folding_of_a_network_counts_in_what_its_size_must_be_a_multiple_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    use(monkeypatch, save(tmp_path, folded_unet(sample_size=18)))
    assert "a multiple of 4 px, got 18 x 18 px" in refusal_of_config()


@pytest.mark.parametrize(
    "changes",
    [
        {"sample_size": None},
        {"sample_size": []},
        {"sample_size": [32]},
        {"sample_size": {"a": 1}},
        {"block_out_channels": None},
        {"block_out_channels": 7},
        {"patch_size": 0},
        {"patch_size": "x"},
    ],
    ids=str,
)
def test_a_config_that_does_not_tell_a_size_is_refused(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    use(monkeypatch, save(tmp_path))
    change(tmp_path / "unet" / "config.json", **changes)
    assert "size" in refusal_of_config()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"prediction_type": "flow"}, "one of epsilon, v_prediction, sample, got 'flow'"),
        ({"prediction_type": ["epsilon"]}, "one of epsilon, v_prediction, sample, got "),
        ({"num_train_timesteps": 100}, "of 250 timesteps or more, as many .+, got 100"),
        ({"num_train_timesteps": "many"}, "of 250 timesteps or more, as many .+, got 'many'"),
        ({"beta_schedule": None}, "must have a scheduler of betas, .+, got 'DDPMScheduler'"),
    ],
)
def test_a_scheduler_that_cannot_be_drawn_with_is_refused(
    changes: dict[str, Any], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    use(monkeypatch, save(tmp_path))
    change(tmp_path / "scheduler" / "scheduler_config.json", **changes)
    with pytest.raises(CheckpointError, match=reason):
        checkpoints.load("mine")
    refusal_of_config()


def test_a_scheduler_without_betas_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    use(monkeypatch, save(tmp_path, scheduler=EDMEulerScheduler()))
    assert "got 'EDMEulerScheduler'" in refusal_of_config()


def test_a_scheduler_that_cannot_be_made_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    use(monkeypatch, save(tmp_path))
    change(tmp_path / "scheduler" / "scheduler_config.json", beta_schedule="steep")
    assert "its scheduler cannot be made" in refusal()


def test_a_model_without_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    use(monkeypatch, save(tmp_path))
    (tmp_path / "unet" / f"{WEIGHTS}.safetensors").unlink()
    assert "there is no diffusion_pytorch_model.safetensors or .bin" in refusal_of_config()


@pytest.mark.parametrize("safetensors", [True, False], ids=["safetensors", "bin"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_damaged_weights_are_refused_and_work_again_once_restored(
    safetensors: bool, share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    use(monkeypatch, save(tmp_path, safetensors=safetensors))
    (path,) = tmp_path.rglob(f"{WEIGHTS}.*")
    kept = path.read_bytes()
    path.write_bytes(kept[: int(len(kept) * share)])
    told = refusal()
    assert path.name in told
    assert "weights are damaged" in told or "is damaged; save the weights as" in told
    assert described()["available"]  # as far as its configs tell
    path.write_bytes(kept)
    assert checkpoints.load("mine").checkpoint.size_px == 32


def test_weights_of_another_network_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    use(monkeypatch, save(tmp_path))
    change(tmp_path / "unet" / "config.json", layers_per_block=2)  # else random ones made up
    assert re.search(r"not those of its config, '\S+' is missing\.$", refusal())
    change(tmp_path / "unet" / "config.json", layers_per_block=1, block_out_channels=[32, 16])
    assert re.search(
        r"not those of its config, '\S+' is [\dx ]+, and must be [\dx ]+\.$", refusal()
    )


def test_a_shard_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    use(monkeypatch, save(tmp_path))
    unet = stock_unet(sample_size=32)
    (tmp_path / "unet" / f"{WEIGHTS}.safetensors").unlink()
    unet.save_pretrained(tmp_path / "unet", max_shard_size="20KB")
    shards = sorted((tmp_path / "unet").glob(f"{WEIGHTS}-*"))
    assert len(shards) > 2
    assert checkpoints.load("mine").checkpoint.size_px == 32
    checkpoints.unload_all()
    shards[1].unlink()
    assert refusal_of_config().endswith(f"cannot be used: files are missing: {shards[1].name}.")


@pytest.mark.parametrize("variant", ["fp16", "bf16", "ema"])
@pytest.mark.parametrize("safetensors", [True, False], ids=["safetensors", "bin"])
@pytest.mark.parametrize("sharded", [False, True])
def test_weights_of_a_variant_alone_are_taken(
    variant: str,
    safetensors: bool,
    sharded: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    use(monkeypatch, save(tmp_path))
    (tmp_path / "unet" / f"{WEIGHTS}.safetensors").unlink()
    unet: Any = stock_unet(sample_size=32).half()
    unet.save_pretrained(
        tmp_path / "unet",
        variant=variant,
        safe_serialization=safetensors,
        max_shard_size="20KB" if sharded else "1GB",
    )
    loaded = checkpoints.load("mine")
    assert loaded.revision
    for name, value in loaded.unet.state_dict().items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, unet.state_dict()[name].float(), rtol=0, atol=0)


def test_the_usual_weights_are_preferred_to_a_variant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    use(monkeypatch, save(tmp_path))
    stock_unet(sample_size=32).half().save_pretrained(tmp_path / "unet", variant="fp16")
    assert own_checkpoints.find("mine", str(tmp_path), fetch=False).weights.variant is None


@pytest.mark.parametrize(
    "changes",
    [
        {"beta_schedule": "linear"},
        {"beta_schedule": "scaled_linear"},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"beta_schedule": "sigmoid"},
        {"beta_schedule": "laplace"},
        {"trained_betas": [0.02] * 1000},
        {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
        {"rescale_betas_zero_snr": True},
    ],
    ids=str,
)
def test_every_schedule_that_ddpm_makes_is_taken_and_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
):
    scheduler = DDPMScheduler(**changes)
    use(monkeypatch, save(tmp_path, scheduler=scheduler))
    loaded = checkpoints.load("mine")
    found = alphas_cumprod(loaded.scheduler_config)
    torch.testing.assert_close(found, scheduler.alphas_cumprod, rtol=0, atol=2**-24)
    assert 0 < found[-1] < found[-2]
    for method in ("fast", "balanced"):
        settings = ColorSettings(model="mine", num_inference_steps=3, method=method)
        *_, last = color.generate(settings)
        assert last.finished


@pytest.mark.parametrize("name", ["a,b", "a b", "a, b=c", "one,two,three", "x=y", "ü,猫"])
def test_a_folder_may_have_commas_and_spaces_in_its_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = save(tmp_path / name)
    monkeypatch.setenv("STUDIO_CHECKPOINTS", f"first=./nowhere, mine = {folder} ,last=some/one")
    assert names.own_checkpoints() == {
        "first": "./nowhere",
        "mine": str(folder),
        "last": "some/one",
    }
    assert checkpoints.load("mine").checkpoint.size_px == 32


class Malicious:
    """Would create a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_pickled_code_in_weights_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = save(tmp_path / "model", safetensors=False)
    torch.save({"x": Malicious(tmp_path / "ran")}, folder / "unet" / f"{WEIGHTS}.bin")
    use(monkeypatch, folder)
    assert "a pickle that holds more than weights" in refusal()
    assert described()["available"]
    assert not (tmp_path / "ran").exists()


def test_what_is_wrong_with_one_model_leaves_the_others_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    good = save(tmp_path / "good")
    monkeypatch.setenv("STUDIO_CHECKPOINTS", f"bad=./nowhere,good={good}")
    assert not described("bad")["available"]
    assert described("good")["available"]
    assert checkpoints.load("good").checkpoint.key == "good"


# --- the Hub -------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub that has a tiny model, which the user calls `mine`."""
    use(monkeypatch, REPOSITORY)
    with serve_hub(tmp_path / "cache") as hub:
        hub.repositories[f"models/{REPOSITORY}"] = save(tmp_path / "repository")
        yield hub


def test_a_model_of_the_hub_is_fetched_when_first_used_and_then_needs_no_network(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
):
    row = described()
    assert not row["available"]
    assert row["problem"] == "Checkpoint mine is fetched from the Hub when it is first used."
    assert (row["source"], row["licence"]) == (f"Hub: {REPOSITORY}", "see the Hub")
    assert (row["size_px"], row["revision"]) == (0, "")
    fetched = checkpoints.load("mine")
    assert fetched.checkpoint.size_px == 32
    assert fetched.revision == COMMIT
    row = described()
    assert (row["available"], row["size_px"], row["revision"]) == (True, 32, COMMIT)
    hub.repositories.clear()
    checkpoints.unload_all()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    again = checkpoints.load("mine")
    assert again is not fetched
    torch.testing.assert_close(again.unet.state_dict(), fetched.unet.state_dict())


def test_no_more_of_a_repository_is_fetched_than_is_needed(hub: Hub, tmp_path: Path):
    (hub.repositories[f"models/{REPOSITORY}"] / "model.ckpt").write_bytes(b"large")
    checkpoints.load("mine")
    fetched = {path.name for path in (tmp_path / "cache").rglob("*")}
    assert "config.json" in fetched
    assert "model.ckpt" not in fetched


def test_a_repository_that_is_not_there_is_refused_and_works_once_it_is(hub: Hub):
    folder = hub.repositories.pop(f"models/{REPOSITORY}")
    assert refusal().startswith("Checkpoint mine cannot be fetched from the Hub (")
    hub.repositories[f"models/{REPOSITORY}"] = folder
    assert checkpoints.load("mine").checkpoint.size_px == 32


@pytest.mark.usefixtures("hub")
def test_without_a_network_a_model_that_was_not_fetched_is_refused(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert refusal() == "Checkpoint mine cannot be fetched from the Hub (it does not answer)."


def test_a_model_of_another_kind_on_the_hub_is_refused_and_then_described_so(hub: Hub):
    folder = hub.repositories[f"models/{REPOSITORY}"]
    shutil.rmtree(folder)
    save(folder, conditional_unet())
    assert "UNet2DConditionModel" in refusal()
    assert "UNet2DConditionModel" in described()["problem"]


def test_the_table_is_told_without_a_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: Any) -> None:
        pytest.fail("asked the network")

    use(monkeypatch, REPOSITORY)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert not described()["available"]


@pytest.mark.parametrize(
    ("name", "on_hub"),
    [
        ("someone/cats", True),
        ("gpt2", True),
        ("./cats", False),
        ("/cats", False),
        ("~/cats", False),
        ("tests", False),
        ("a/b/c", False),
    ],
)
def test_a_name_is_of_the_hub_if_it_is_of_nothing_here(
    name: str, on_hub: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(ROOT)
    assert own_checkpoints.is_on_hub(name) is on_hub


@pytest.mark.parametrize(
    "betas",
    [[float("nan")] * 1000, [0.1] * 999 + [float("nan")], [1.5] * 1000, [-0.1] * 1000],
    ids=["nan", "one nan", "above 1", "below 0"],
)
def test_betas_that_would_make_noise_of_every_picture_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, betas: list[float]
):
    use(monkeypatch, save(tmp_path))
    change(tmp_path / "scheduler" / "scheduler_config.json", trained_betas=betas)
    assert "its scheduler cannot be made" in refusal()
