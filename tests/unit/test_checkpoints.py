"""Checkpoints: loaded once, by one thread, and refused with a sentence when damaged."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants

from pipelines.core.cache import Cache
from pipelines.core.errors import CheckpointError
from pipelines.models import checkpoints, names
from pipelines.models.names import HUB_MODELS
from pipelines.models.table import CLIPS, TABLE, Checkpoint, told_words, words_sibling
from tests.fakes import tiny_clip
from tests.fakes.tiny_told import save_told

KEY = "digits-embedding"
WEIGHTS = "diffusion_pytorch_model.safetensors"
WEIGHTS_PATTERN = TABLE[KEY].weights
LIMIT_BYTES = 9_000_000
SIZES_PX = {
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


@pytest.fixture
def own_copy(tiny_checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the tiny checkpoints that a test may damage."""
    folder = tmp_path / "checkpoints"
    shutil.copytree(tiny_checkpoints, folder)
    monkeypatch.setattr("pipelines.models.table.BUNDLED", folder)
    return folder


@pytest.mark.usefixtures("tiny_checkpoints")
def test_a_checkpoint_is_loaded_once_however_many_ask_at_the_same_time(
    monkeypatch: pytest.MonkeyPatch,
):
    loads: list[str] = []
    really_load = checkpoints._load

    def slow_load(row: Checkpoint) -> checkpoints.Loaded:
        loads.append(threading.current_thread().name)
        time.sleep(0.2)
        return really_load(row)

    monkeypatch.setattr(checkpoints, "_load", slow_load)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(checkpoints.load, [KEY] * 8))
    assert len(loads) == 1
    assert all(loaded is found[0] for loaded in found)


@pytest.mark.usefixtures("tiny_checkpoints")
def test_loaded_weights_are_frozen_and_in_evaluation_mode():
    unet = checkpoints.load(KEY).unet
    assert not unet.training
    assert not any(parameter.requires_grad for parameter in unet.parameters())


def test_an_unknown_key_is_refused_naming_the_known_ones():
    with pytest.raises(ValueError, match=r"checkpoint must be one of paintings, .*'cats'"):
        checkpoints.load("cats")


@pytest.mark.parametrize(
    "name", [f"unet/{WEIGHTS}", "unet/config.json", "scheduler/scheduler_config.json"]
)
def test_a_deleted_file_gives_one_sentence_and_works_again_once_restored(own_copy: Path, name: str):
    path = own_copy / KEY / name
    kept = path.read_bytes()
    path.unlink()
    with pytest.raises(CheckpointError, match=rf"^Checkpoint {KEY} cannot be loaded"):
        checkpoints.load(KEY)
    row = next(row for row in checkpoints.describe() if row["key"] == KEY)
    assert not row["available"]
    assert "missing" in row["problem"]
    path.write_bytes(kept)
    assert checkpoints.load(KEY).checkpoint.key == KEY


@pytest.mark.parametrize("name", [f"unet/{WEIGHTS}", "unet/config.json"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_gives_one_sentence_and_works_again_once_restored(
    own_copy: Path, name: str, share: float
):
    path = own_copy / KEY / name
    kept = path.read_bytes()
    path.write_bytes(kept[: int(len(kept) * share)])
    with pytest.raises(CheckpointError, match="files are damaged") as caught:
        checkpoints.load(KEY)
    assert str(own_copy) not in str(caught.value)
    path.write_bytes(kept)
    assert checkpoints.load(KEY).checkpoint.key == KEY


@pytest.mark.parametrize("deleted", ["index", "shard"])
def test_a_checkpoint_in_parts_loads_as_the_whole_one_and_not_without_one_of_them(
    own_copy: Path, deleted: str
):
    whole = checkpoints.load("paintings").unet
    folder = own_copy / "paintings" / "unet"
    (folder / WEIGHTS).unlink()
    whole.save_pretrained(folder, max_shard_size="100KB")  # pyright: ignore
    checkpoints.unload_all()
    torch.testing.assert_close(
        checkpoints.load("paintings").unet.state_dict(), whole.state_dict(), rtol=0, atol=0
    )
    checkpoints.unload_all()
    index, *shards = folder / f"{WEIGHTS}.index.json", *sorted(folder.glob("*-of-*.safetensors"))
    assert len(shards) > 1
    (index if deleted == "index" else shards[0]).unlink()
    with pytest.raises(CheckpointError, match=r"^Checkpoint paintings cannot be loaded"):
        checkpoints.load("paintings")
    (row,) = [row for row in checkpoints.describe() if row["key"] == "paintings"]
    if deleted == "shard":
        assert shards[0].name in row["problem"]


def test_a_broken_checkpoint_leaves_the_others_alone(own_copy: Path):
    (own_copy / KEY / "unet" / WEIGHTS).write_bytes(b"")
    assert checkpoints.load("digits-channels").checkpoint.key == "digits-channels"


@pytest.mark.usefixtures("tiny_checkpoints")
def test_the_revision_changes_with_the_weights(tmp_path: Path, tiny_checkpoints: Path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_checkpoints / KEY, copy)
    same = checkpoints.revision_of(copy, WEIGHTS_PATTERN)
    assert same == checkpoints.revision_of(tiny_checkpoints / KEY, WEIGHTS_PATTERN)
    checkpoints.revision_of.cache_clear()
    path = copy / "unet" / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert checkpoints.revision_of(copy, WEIGHTS_PATTERN) != same


def test_the_table_says_how_large_the_pictures_of_every_checkpoint_are():
    assert {row["key"]: row["size_px"] for row in checkpoints.describe()} == SIZES_PX


def described(key: str) -> dict[str, Any]:
    """One row of the table as the interface and the API see it."""
    (row,) = [row for row in checkpoints.describe() if row["key"] == key]
    return row


def no_network(*_: Any) -> None:
    pytest.fail("asked the network")


@pytest.mark.usefixtures("tiny_checkpoints")
def test_rows_of_bundled_checkpoints_and_clips_are_available_and_know_their_revision():
    rows = [row for row in checkpoints.describe() if row["source"] == "bundled"]
    assert {row["key"] for row in rows} == {*TABLE, "clip-small"}
    for row in rows:
        assert row["available"]
        assert row["problem"] == ""
        assert len(row["revision"]) == 12


@pytest.mark.parametrize("key", ["ViT-B-32", "ViT-B-32-laion"])
def test_a_clip_of_the_hub_that_was_not_fetched_says_so_without_a_request(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket.socket, "connect", no_network)
    row = described(key)
    assert not row["available"]
    assert row["problem"] == f"Checkpoint {key} is fetched from the Hub when it is first used."
    assert row["source"] == f"Hub: {CLIPS[key].repo_id}"
    assert row["revision"] == ""


def test_a_clip_of_the_hub_is_available_once_all_its_files_are_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    row = CLIPS["ViT-B-32"]
    repository = tmp_path / f"models--{row.repo_id.replace('/', '--')}"
    snapshot = repository / "snapshots" / ("1" * 40)
    for path in (repository / "refs" / "main", *(snapshot / name for name in row.needed)):
        assert not described(row.key)["available"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1" * 40)
    assert described(row.key)["available"]
    assert described(row.key)["problem"] == ""


@pytest.mark.parametrize("name", CLIPS["clip-small"].needed)
def test_the_row_of_a_bundled_clip_names_the_file_that_is_missing(own_copy: Path, name: str):
    path = own_copy / "clip-small" / name
    kept = path.read_bytes()
    path.unlink()
    row = described("clip-small")
    assert not row["available"]
    assert row["problem"].startswith("Checkpoint clip-small cannot be loaded, files are missing: ")
    assert row["problem"].count(name) == 1
    assert row["revision"] == ""
    path.write_bytes(kept)
    assert described("clip-small")["available"]


def test_the_same_tiny_clip_is_written_every_time(tmp_path: Path):
    one, other = (tiny_clip.save(tmp_path / name) for name in "ab")
    weights = CLIPS["clip-small"].weights
    assert checkpoints.revision_of(one, weights) == checkpoints.revision_of(other, weights)


def test_a_shelf_keeps_what_was_made_and_not_what_failed():
    shelf: Cache[object] = Cache()

    def fail() -> object:
        raise OSError("torn")

    with pytest.raises(OSError, match="torn"):
        shelf.get_or_make("a", fail)
    made = shelf.get_or_make("a", object)
    assert shelf.get_or_make("a", fail) is made
    assert shelf.get_or_make("b", object) is not made
    shelf.clear()
    assert shelf.get_or_make("a", object) is not made


def test_a_shelf_makes_different_things_at_once_and_each_of_them_once():
    shelf: Cache[str] = Cache()
    both = threading.Barrier(2, timeout=20)
    made: list[str] = []

    def make(key: str) -> str:
        made.append(key)
        both.wait()  # never passed if one key waited for the other
        return key

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda key: shelf.get_or_make(key, lambda: make(key)), "ababab"))
    assert found == list("ababab")
    assert sorted(made) == ["a", "b"]


@pytest.fixture(params=TABLE)
def bundled(request: pytest.FixtureRequest) -> Iterator[checkpoints.Loaded]:
    """Every bundled checkpoint, loaded anew and not kept."""
    checkpoints.unload_all()
    yield checkpoints.load(request.param)
    checkpoints.unload_all()


def test_every_bundled_checkpoint_loads_and_is_small_and_has_a_card(bundled: checkpoints.Loaded):
    folder = bundled.checkpoint.folder
    assert sum(p.numel() for p in bundled.unet.parameters()) > 1_000_000
    assert all(p.stat().st_size < LIMIT_BYTES for p in folder.rglob("*") if p.is_file())
    assert (folder / "README.md").read_text().startswith("---\n")


@torch.no_grad()
def test_every_bundled_checkpoint_draws_pictures_of_its_size_and_digits_as_the_class_says(
    bundled: checkpoints.Loaded,
):
    size_px = bundled.checkpoint.size_px
    config = json.loads((bundled.checkpoint.folder / "unet" / "config.json").read_text())
    assert config["sample_size"] == size_px
    if not bundled.checkpoint.key.startswith("digits"):
        x_t = torch.randn(1, 3, size_px, size_px)
        assert config.get("num_class_embeds") is None
        assert bundled.unet(x_t, 10).sample.shape == x_t.shape
    else:
        x_t = torch.randn(1, 1, size_px, size_px)
        three, seven = (bundled.unet(x_t, 900, torch.tensor([label])).sample for label in (3, 7))
        assert three.shape == x_t.shape
        assert not torch.equal(three, seven)


@pytest.mark.parametrize("error", [ImportError("html"), MemoryError()])
@pytest.mark.usefixtures("tiny_checkpoints")
def test_an_error_that_is_not_of_the_files_does_not_blame_them(
    error: Exception, monkeypatch: pytest.MonkeyPatch
):
    def read(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(checkpoints, "_read", read)
    checkpoints.unload_all()
    with pytest.raises(type(error)):
        checkpoints.load("paintings")


@pytest.fixture
def words(tiny_checkpoints: Path, own_copy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a bundled model that is told words, which is in the table."""
    row = told_words("emoji", licence="Apache 2.0", data="Noto and Blob emoji")
    monkeypatch.setattr(names, "WORDS_MODELS", (row.key,))
    monkeypatch.setitem(TABLE, row.key, row)
    return own_copy / row.key


def test_a_bundled_model_that_is_told_words_is_a_row_and_a_name(words: Path):
    assert words_sibling("emoji") == ""  # its folder is not there yet
    save_told(words)
    assert words_sibling("emoji") == words_sibling("emoji-words") == "emoji-words"
    assert words_sibling("paintings") == words_sibling("digits-embedding") == ""
    assert words_sibling("no such model") == ""
    assert "emoji-words" in names.bundled_names()
    loaded = checkpoints.load("emoji-words")
    assert loaded.reader is not None
    assert loaded.checkpoint.conditions == ("words", "picture")
    x_t = torch.randn(1, 3, 32, 32)
    assert loaded.denoise(x_t, torch.tensor(500)).sample.shape == x_t.shape
    assert checkpoints.load("emoji").reader is None
    (row,) = [row for row in checkpoints.describe() if row["key"] == "emoji-words"]
    assert row["available"]
    assert row["revision"] == loaded.revision


@pytest.mark.parametrize(
    "name", ["open_clip_config.json", "words.txt", "model.safetensors.index.json", "shard"]
)
def test_what_is_missing_of_the_clip_of_a_bundled_model_is_named(words: Path, name: str):
    save_told(words)
    path = sorted(words.glob("clip/*.safetensors"))[1] if name == "shard" else words / "clip" / name
    path.unlink()
    with pytest.raises(CheckpointError, match=rf"files are missing: clip/{path.name};"):
        checkpoints.load("emoji-words")


def test_the_clip_of_a_bundled_model_decides_its_revision_too(words: Path):
    before = checkpoints.load(save_told(words).name).revision
    checkpoints.unload_all()
    (words / "clip" / "words.txt").write_text("sea")
    assert checkpoints.load("emoji-words").revision != before
