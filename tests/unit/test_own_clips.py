"""The user's own models that are told words: which are taken, which are refused, how they draw."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from pipelines.diffusion.denoisers import Cfg, denoiser, unconditional
from pipelines.models import checkpoints, own_clips
from pipelines.models.memory import _bytes_of
from pipelines.models.names import MODELS
from pipelines.models.table import words_sibling
from pipelines.models.ways import Way
from pipelines.products import color
from pipelines.products.settings import ColorSettings
from pipelines.runs import comparison
from pipelines.runs.run import Plan, Run
from tests.fakes.hub_server import COMMIT, Hub, serve_hub
from tests.fakes.tiny_told import save_clip, save_told, told_unet
from tests.unit.test_own_checkpoints import (
    REPOSITORY,
    change,
    described,
    refusal,
    refusal_of_config,
    use,
)

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    checkpoints.unload_all()
    yield
    checkpoints.unload_all()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that is told words, which the user calls `mine`."""
    use(monkeypatch, tmp_path / "told")
    return save_told(tmp_path / "told")


def reader() -> Any:
    found = checkpoints.load("mine").reader
    assert found is not None
    return found


# --- what is taken -------------------------------------------------------------------------------


@torch.no_grad()
def test_a_model_that_is_told_words_is_loaded_with_what_reads_them(folder: Path):
    row = described()
    assert (row["available"], row["problem"], row["size_px"]) == (True, "", 32)
    loaded = checkpoints.load("mine")
    assert loaded.checkpoint.conditions == ("words", "picture")
    assert loaded.revision == row["revision"]
    assert reader().features == "embeddings"
    assert len(list((folder / "clip").glob("*.safetensors"))) > 2
    x_t, t = torch.randn(1, 3, 32, 32), torch.tensor(500)
    inputs = reader().condition(["ships on the sea"]).inputs
    expected = told_unet()(x_t, t, **inputs).sample
    torch.testing.assert_close(loaded.unet(x_t, t, **inputs).sample, expected)


@pytest.mark.parametrize("name", ["model.safetensors", "open_clip_model.safetensors"])
def test_a_clip_in_one_file_is_taken(name: str, folder: Path):
    in_parts = reader().clip.model.state_dict()
    for path in (folder / "clip").iterdir():
        path.unlink()
    save_clip(folder / "clip", in_parts=False)
    (folder / "clip" / "open_clip_model.safetensors").rename(folder / "clip" / name)
    checkpoints.unload_all()
    torch.testing.assert_close(reader().clip.model.state_dict(), in_parts)


def test_the_folder_of_a_training_is_as_good_as_the_model_in_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    run = folder.parent / "run"
    run.mkdir()
    folder.rename(run / "checkpoint")
    use(monkeypatch, run)
    assert reader().clip.words


def test_what_a_network_learned_to_read_and_was_told_is_in_its_config(folder: Path):
    change(folder / "unet" / "config.json", features="last", conditions=["words"])
    assert reader().features == "last"
    assert checkpoints.load("mine").checkpoint.conditions == ("words",)


def test_an_older_config_says_neither(folder: Path):
    change(folder / "unet" / "config.json", features=None, conditions=None)
    assert reader().features == "embeddings"
    assert checkpoints.load("mine").checkpoint.conditions == ("words", "picture")


def test_another_clip_is_another_revision(folder: Path):
    before = described()["revision"]
    (folder / "clip" / "words.txt").write_text("sea")
    checkpoints.unload_all()
    assert described()["revision"] not in ("", before)


def test_a_model_that_is_told_words_is_its_own_sibling(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    assert words_sibling("mine") == "mine"
    change(folder / "unet" / "config.json", conditions=["picture"])
    assert words_sibling("mine") == ""
    use(monkeypatch, folder / "nowhere")
    assert words_sibling("mine") == ""
    assert [words_sibling(key) for key in MODELS] == [""] * len(MODELS)


def test_its_clip_counts_in_the_memory(folder: Path):
    loaded = checkpoints.load("mine")
    weights = sum(p.nbytes for p in loaded.unet.parameters())
    weights += sum(p.nbytes for p in reader().clip.model.parameters())
    assert _bytes_of(loaded) >= weights


# --- how it draws --------------------------------------------------------------------------------


@torch.no_grad()
def test_without_a_condition_it_draws_as_with_the_empty_text(folder: Path):
    loaded = checkpoints.load("mine")
    x_t, t = torch.randn(2, 3, 32, 32), torch.tensor(500)
    nothing = reader().inputs(["", ""])
    assert not nothing["class_labels"].any()
    expected = loaded.unet(x_t, t, **nothing).sample
    for network in (loaded.denoise, loaded.denoise.by(Way("PyTorch", "fp32"))):
        torch.testing.assert_close(network(x_t, t).sample, expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(unconditional(network)(x_t, t), expected, rtol=0, atol=1e-4)
    told = loaded.denoise(x_t, t, **reader().condition(["a red rose", "ships"]).inputs).sample
    assert (told - expected).abs().max() > 1e-3


def test_a_gradient_goes_through_it_without_a_condition(folder: Path):
    x_t = torch.randn(1, 3, 32, 32, requires_grad=True)
    checkpoints.load("mine").denoise(x_t, torch.tensor(500)).sample.sum().backward()
    assert x_t.grad is not None
    assert x_t.grad.abs().sum() > 0


@torch.no_grad()
def test_padding_changes_nothing_and_condition_and_null_have_one_shape(folder: Path):
    unet = checkpoints.load("mine").unet
    x_t, t = torch.randn(2, 3, 32, 32), torch.tensor(300)
    picture = torch.randn(2, reader().dim)
    texts, distrust = ["a red rose", ""], torch.tensor([0.5, 0.0])
    condition = reader().condition(texts, picture, distrust)
    plain = reader().inputs(texts, picture, distrust)
    length = reader().clip.context_length
    assert plain["encoder_hidden_states"].shape[1] < length
    assert {k: v.shape for k, v in condition.inputs.items()} == {
        k: v.shape for k, v in condition.null.items()
    }
    assert condition.inputs["encoder_hidden_states"].shape == (2, length, 16)
    expected = unet(x_t, t, **plain).sample
    torch.testing.assert_close(unet(x_t, t, **condition.inputs).sample, expected)
    assert not condition.null["class_labels"].any()


@torch.no_grad()
def test_a_graph_computes_what_pytorch_does_for_all_texts(
    folder: Path, caplog: pytest.LogCaptureFixture
):
    loaded = checkpoints.load("mine")
    network, t = loaded.denoise.by(Way("OpenVINO", "fp32")), torch.tensor(500)
    for texts in (["a red rose"], ["sea", "a portrait of a woman", "", "ships", "trees"]):
        x_t = torch.randn(len(texts), 3, 32, 32)
        inputs = reader().condition(texts).inputs
        expected = loaded.unet(x_t, t, **inputs).sample
        torch.testing.assert_close(network(x_t, t, **inputs).sample, expected, rtol=0, atol=1e-4)
    assert "has no graph here" not in caplog.text


def test_a_run_draws_what_it_is_told_with_cfg(folder: Path):
    loaded = checkpoints.load("mine")
    drawn = []
    for text in ("ships on the sea", "a red rose", ""):
        condition = reader().condition([text])
        run = Run(Plan("mine", (0,), 2, "ddim", 0.0, condition), loaded, cfg_scale=3.0)
        *_, last = run.steps()
        drawn.append(last.x_prev)
    assert (drawn[0] - drawn[1]).abs().max() > 1e-3
    plan = Plan("mine", (0,), 2, "ddim", 0.0)
    *_, untold = Run(plan, loaded).steps()
    torch.testing.assert_close(untold.x_prev, drawn[2], rtol=0, atol=1e-3)


@torch.no_grad()
def test_cfg_of_one_condition_is_the_formula(folder: Path):
    loaded, t = checkpoints.load("mine"), torch.tensor(500)
    condition, x_t = reader().condition(["sea"]), torch.randn(1, 3, 32, 32)
    both: Any = denoiser(loaded.denoise, condition, Cfg(2.0))(x_t, t)
    torch.testing.assert_close(both.output, 2 * both.conditional - both.unconditional)


@pytest.mark.usefixtures("folder")
def test_it_draws_towards_a_colour_like_any_other():
    comparison.unguided_runs.clear()
    *_, last = color.generate(ColorSettings(model="mine", num_inference_steps=2))
    assert last.finished
    assert [picture.size for picture in (*last.pictures, *last.unguided)] == [(32, 32)] * 2


# --- what is refused -----------------------------------------------------------------------------


def test_without_a_clip_it_is_refused(folder: Path):
    (folder / "clip").rename(folder / "elsewhere")
    assert "there is no folder clip beside it" in refusal_of_config()


@pytest.mark.parametrize("name", ["open_clip_config.json", "bpe_simple_vocab.txt.gz", "words.txt"])
def test_a_file_of_the_clip_that_is_missing_is_named(name: str, folder: Path):
    (folder / "clip" / name).unlink()
    assert refusal_of_config().endswith(f"files are missing: clip/{name}.")


def test_a_shard_of_the_clip_that_is_missing_is_named(folder: Path):
    _, second, *_ = sorted((folder / "clip").glob("*.safetensors"))
    second.unlink()
    assert refusal_of_config().endswith(f"files are missing: clip/{second.name}.")


def test_a_clip_without_weights_is_refused(folder: Path):
    for path in (folder / "clip").glob("model*"):
        path.unlink()
    assert refusal_of_config().endswith("are missing: clip/model.safetensors.index.json.")


@pytest.mark.parametrize("name", ["open_clip_config.json", "model.safetensors.index.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", b"[" * 100_000])
def test_a_config_of_the_clip_that_cannot_be_read_is_named(name: str, content: bytes, folder: Path):
    (folder / "clip" / name).write_bytes(content)
    assert refusal_of_config().endswith(f"its CLIP is damaged, clip/{name} cannot be read.")


def test_a_clip_whose_text_would_come_from_elsewhere_is_refused(folder: Path):
    path = folder / "clip" / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "someone/tokens"
    path.write_text(json.dumps(config))
    assert "clip/open_clip_config.json cannot be read" in refusal_of_config()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_shard_that_was_cut_off_is_named_and_works_again_once_restored(
    share: float, folder: Path
):
    _, path, *_ = sorted((folder / "clip").glob("*.safetensors"))
    kept = path.read_bytes()
    path.write_bytes(kept[: int(len(kept) * share)])
    assert refusal().endswith(f"its CLIP is damaged, clip/{path.name} cannot be read.")
    path.write_bytes(kept)
    assert reader().clip.words


def test_a_vocabulary_that_cannot_be_read_is_named(folder: Path):
    (folder / "clip" / "bpe_simple_vocab.txt.gz").write_bytes(b"torn")
    assert "clip/bpe_simple_vocab.txt.gz cannot be read" in refusal()


def test_another_vocabulary_is_refused(folder: Path):
    path = folder / "clip" / "open_clip_config.json"
    path.write_text(path.read_text().replace('"vocab_size": ', '"vocab_size": 1'))
    assert "vocabulary in its folder clip is not that of its CLIP" in _refused_with_weights(folder)


def _refused_with_weights(folder: Path) -> str:
    """The sentence for a config whose vocabulary is larger, and weights that fit it."""
    config = json.loads((folder / "clip" / "open_clip_config.json").read_text())
    size = config["model_cfg"]["text_cfg"]["vocab_size"]
    for path in (folder / "clip").glob("*.safetensors"):
        weights = load_file(path)
        if "token_embedding.weight" in weights:
            weights["token_embedding.weight"] = torch.zeros(size, 16)
        save_file(weights, path)
    return refusal()


def test_a_clip_that_does_not_fit_the_network_is_refused(folder: Path):
    told_unet(word_dim=32).save_pretrained(folder / "unet")
    assert refusal_of_config().endswith(
        "takes 32 numbers for a word and 33 for a text and a picture, but the CLIP in its folder "
        "clip gives 16 and 33."
    )


def test_weights_of_another_clip_are_refused(folder: Path):
    path = folder / "clip" / "open_clip_config.json"
    path.write_text(path.read_text().replace('"layers": 1', '"layers": 2'))
    assert "weights of its CLIP are not those of the config in its folder clip" in refusal()


@pytest.mark.parametrize(
    "changes", [{"conditions": ["sound"]}, {"conditions": []}, {"conditions": 1}, {"features": "x"}]
)
def test_a_condition_that_there_is_not_is_refused(changes: dict[str, Any], folder: Path):
    change(folder / "unet" / "config.json", **changes)
    assert "no network can be made from the config" in refusal_of_config()


# --- the Hub -------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub that has the model."""
    use(monkeypatch, REPOSITORY)
    with serve_hub(tmp_path / "cache") as served:
        served.repositories[f"models/{REPOSITORY}"] = folder
        yield served


def test_its_clip_is_fetched_with_it_and_then_needs_no_network(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
):
    assert not described()["available"]
    assert reader().clip.words
    assert checkpoints.load("mine").revision == COMMIT
    hub.repositories.clear()
    checkpoints.unload_all()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert reader().clip.words


def test_a_file_of_the_clip_that_changed_in_the_cache_is_refused(hub: Hub, tmp_path: Path):
    assert hub.repositories
    checkpoints.load("mine")
    checkpoints.unload_all()
    (path,) = (tmp_path / "cache").rglob(f"snapshots/*/clip/{own_clips.MERGES_FILE}")
    blob = path.resolve()
    blob.write_bytes(blob.read_bytes() + b"x")
    assert f"its file {own_clips.MERGES_FILE} is not what the Hub sent" in refusal()
