"""Files of checkpoints: the published ones, or a sentence that names the one that is not."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.core.assets import ASSETS
from pipelines.core.errors import CheckpointError
from pipelines.models import checkpoints, clip, integrity, judges
from pipelines.models.table import CLIPS, TABLE, told_words
from pipelines.products import digits
from pipelines.products.settings import DigitsSettings
from pipelines.runs import example_files
from tests.fakes.tiny_told import save_told

KEY = "digits-embedding"
CONFIG, WEIGHTS = "unet/config.json", "unet/diffusion_pytorch_model.safetensors"
SCHEDULER = "scheduler/scheduler_config.json"
Damage = Callable[[bytes], bytes]


@pytest.fixture
def published(tiny_checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tiny checkpoints with digests, in a folder that a test may damage."""
    folder = tmp_path / "assets" / "checkpoints"
    shutil.copytree(tiny_checkpoints, folder)
    monkeypatch.setattr("pipelines.models.table.BUNDLED", folder)
    integrity.write_digests(folder.parent)
    return folder


def flipped(content: bytes) -> bytes:
    return content[:-9] + bytes([content[-9] ^ 4]) + content[-8:]


def zeroed(content: bytes) -> bytes:
    return content[:-8] + bytes(8)


def test_the_digests_in_the_repository_are_those_of_its_files():
    kept = json.loads((ASSETS / integrity.DIGESTS_FILE).read_text(encoding="utf-8"))
    assert kept == integrity.digests_of(), "run python -m pipelines.models.integrity"


def test_every_file_that_a_bundled_checkpoint_needs_has_a_digest():
    kept = integrity.digests_of()
    bundled = [row for row in (*TABLE.values(), *CLIPS.values()) if not row.repo_id]
    for row in bundled:
        needed = [row.folder / name for name in row.needed] + list(row.folder.glob(row.weights))
        assert {path.relative_to(ASSETS).as_posix() for path in needed} <= set(kept)
    assert judges.WEIGHTS.name in kept


def test_digests_are_plain_sha_256(published: Path):
    path = published / KEY / CONFIG
    assert integrity.sha256_of(path) == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("damage", [flipped, zeroed, bytes.upper, lambda content: content[:-1]])
@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, SCHEDULER])
def test_a_damaged_file_of_a_network_is_named_and_works_again_once_restored(
    published: Path, name: str, damage: Damage
):
    path = published / KEY / name
    intact = path.read_bytes()
    path.write_bytes(damage(intact))
    with pytest.raises(CheckpointError) as caught:
        checkpoints.load(KEY)
    assert str(caught.value) == (
        f"Checkpoint {KEY} cannot be loaded: its file {path.name} is damaged; "
        "restore it from the project's repository."
    )
    path.write_bytes(intact)
    assert checkpoints.load(KEY).checkpoint.key == KEY


@pytest.mark.parametrize("name", CLIPS["clip-small"].needed)
def test_a_damaged_file_of_the_clip_is_named(published: Path, name: str):
    path = published / "clip-small" / name
    path.write_bytes(zeroed(path.read_bytes()))
    with pytest.raises(CheckpointError, match=f"its file {name} is damaged"):
        clip.load("clip-small")


def test_damage_after_the_revision_was_shown_is_noticed(published: Path):
    assert any(row["key"] == KEY and row["revision"] for row in checkpoints.describe())
    path = published / KEY / WEIGHTS
    path.write_bytes(flipped(path.read_bytes()))
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoints.load(KEY)


def test_weights_that_do_not_belong_there_are_refused(published: Path):
    shutil.copy(published / "digits-channels" / WEIGHTS, published / KEY / "unet" / "x.safetensors")
    (published / KEY / "unet" / "x.safetensors").rename(
        published / KEY / "unet" / "diffusion_pytorch_model-2.safetensors"
    )
    with pytest.raises(CheckpointError, match=r"its file diffusion_pytorch_model-2\.safetensors"):
        checkpoints.load(KEY)


def test_weights_of_another_checkpoint_of_the_same_shape_are_refused(published: Path):
    shutil.copy(published / "scenes" / CONFIG, published / "paintings" / CONFIG)
    path = published / "paintings" / WEIGHTS
    path.write_bytes(flipped((published / "scenes" / WEIGHTS).read_bytes()))
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoints.load("paintings")


@pytest.mark.parametrize("text", ["", "{", "[1]", "\ufffe"])
def test_digests_that_cannot_be_read_are_damaged_files_too(published: Path, text: str):
    (published.parent / integrity.DIGESTS_FILE).write_text(text, encoding="utf-16")
    with pytest.raises(CheckpointError, match=r"its file sha256\.json is damaged"):
        checkpoints.load(KEY)


def test_the_projects_own_folder_must_have_digests(
    published: Path, monkeypatch: pytest.MonkeyPatch
):
    (published.parent / integrity.DIGESTS_FILE).unlink()
    assert checkpoints.load(KEY)  # somebody's own folder
    checkpoints.unload_all()
    monkeypatch.setattr(integrity, "ASSETS", published.parent)
    with pytest.raises(CheckpointError, match=r"its file sha256\.json is damaged"):
        checkpoints.load(KEY)


def test_files_that_were_replaced_on_purpose_get_new_digests(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    written: list[str] = []
    monkeypatch.setattr(integrity, "ASSETS", published.parent)
    monkeypatch.setattr(integrity, "write_digests", lambda: written.append("again"))
    integrity.replaced(tmp_path / "elsewhere")
    assert not written
    integrity.replaced(published / KEY)
    assert written


@pytest.mark.parametrize("damage", [flipped, None])
def test_a_run_of_digits_names_a_judge_that_is_damaged_or_missing(
    tmp_path: Path, tiny_checkpoints: Path, monkeypatch: pytest.MonkeyPatch, damage: Damage | None
):
    weights = tmp_path / judges.WEIGHTS.name
    if damage:
        weights.write_bytes(damage(judges.WEIGHTS.read_bytes()))
    shutil.copy(ASSETS / integrity.DIGESTS_FILE, tmp_path)
    monkeypatch.setattr(judges, "WEIGHTS", weights)
    digits._judge.cache_clear()
    with pytest.raises(CheckpointError, match=r"Checkpoint digit_judge .*digit_judge\.safetensors"):
        list(digits.generate(DigitsSettings(digits="1", num_inference_steps=1)))


def test_a_damaged_example_is_refused(tmp_path: Path):
    (tmp_path / "examples").mkdir()
    shutil.copy(ASSETS / integrity.DIGESTS_FILE, tmp_path)
    path = tmp_path / "examples" / "digits-1-pi.png"
    intact = (ASSETS / "examples" / path.name).read_bytes()
    path.write_bytes(intact)
    example_files.load_example(path, digits.Preview)
    path.write_bytes(flipped(intact))
    with pytest.raises(CheckpointError, match=r"its file digits-1-pi\.png is damaged"):
        example_files.load_example(path, digits.Preview)


def git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@pytest.mark.parametrize("name_of", [git_blob, lambda content: hashlib.sha256(content).hexdigest()])
def test_a_fetched_file_is_compared_with_the_hubs_name_for_it(
    tmp_path: Path, name_of: Callable[[bytes], str]
):
    content = b"weights" * 100
    (tmp_path / "blobs").mkdir()
    blob = tmp_path / "blobs" / name_of(content)
    blob.write_bytes(content)
    link = tmp_path / "model.safetensors"
    link.symlink_to(blob)
    integrity.check_fetched("mine", [link])
    blob.write_bytes(flipped(content))
    with pytest.raises(CheckpointError, match=r"its file model\.safetensors is not what the Hub"):
        integrity.check_fetched("mine", [link])


def test_a_file_that_the_cache_names_otherwise_is_not_compared(tmp_path: Path):
    (tmp_path / "blobs").mkdir()
    for path in (tmp_path / "plain.json", tmp_path / "blobs" / "some-etag"):
        path.write_text("{}")
        integrity.check_fetched("mine", [path])


@pytest.mark.parametrize("name", ["config", "merges", "words", "index", "shard"])
def test_every_file_of_the_clip_of_a_network_is_compared(
    published: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    row = told_words("emoji", licence="Apache 2.0", data="emoji")
    monkeypatch.setitem(TABLE, row.key, row)
    folder = save_told(published / row.key) / "clip"
    integrity.write_digests(published.parent)
    assert checkpoints.load(row.key).reader is not None
    checkpoints.unload_all()
    path = {
        "config": folder / "open_clip_config.json",
        "merges": folder / "bpe_simple_vocab.txt.gz",
        "words": folder / "words.txt",
        "index": folder / "model.safetensors.index.json",
        "shard": sorted(folder.glob("*.safetensors"))[1],
    }[name]
    intact = path.read_bytes()
    path.write_bytes(intact + b" " if name == "index" else flipped(intact))
    with pytest.raises(CheckpointError, match=f"its file {path.name} is damaged"):
        checkpoints.load(row.key)
    path.write_bytes(intact)
    assert checkpoints.load(row.key).reader is not None
