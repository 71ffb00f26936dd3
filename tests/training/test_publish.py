"""Publishing: what is loaded from the Hub is what was here; nothing is sent twice or unasked."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import open_clip
import pytest
import torch
from diffusers import DDPMPipeline
from huggingface_hub import ModelCard, hf_hub_download, snapshot_download
from typer.testing import CliRunner

from pipelines.diffusion import unets
from pipelines.models.own_clips import MERGES_FILE
from pipelines.models.table import BUNDLED, TABLE
from tests.fakes import hub_server, tiny_clip
from tests.fakes.hub_server import Hub, serve_hub
from tests.fakes.tiny_pictures import folded_unet, invoke, save_folded, save_stock
from training import finetune_model, train_clip, train_digits
from training.core.reporting import Reporter
from training.publish import commands, models
from training.publish.uploads import LARGEST_REGULAR_FILE, File, check_sizes

KEYS = [*TABLE, "clip-small"]
ID = "someone/kites"
SHARD = "unet/diffusion_pytorch_model.safetensors"
CREATION = "POST /api/repos/create"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The Hub for this test, to which one may write."""
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    with serve_hub(tmp_path / "cache") as served:
        yield served


def with_facts(folder: Path, network: str, **changes: Any) -> Path:
    """Adds what an export writes besides the weights, with another model's words."""
    bundled = BUNDLED / "paintings"
    facts = json.loads((bundled / "recipe.json").read_text()) | {"network": network, **changes}
    (folder / "recipe.json").write_text(json.dumps(facts))
    shutil.copy(bundled / "samples.png", folder)
    return folder


@pytest.fixture
def stock(tmp_path: Path) -> Path:
    """A checkpoint folder that diffusers knows."""
    save_stock(tmp_path / "runs" / "kites" / "checkpoint")
    return with_facts(tmp_path / "runs" / "kites" / "checkpoint", "UNet2DModel")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A checkpoint folder with the project's own network."""
    save_folded(tmp_path / "own")
    return with_facts(tmp_path / "own", "SpaceToDepthUNet2DModel")


def run(*arguments: object):
    command = [str(argument) for argument in arguments]
    return CliRunner().invoke(commands.app, command, env={"COLUMNS": "400", "NO_COLOR": "1"})


def published(*arguments: object) -> str:
    """The output of a command that must succeed."""
    result = run("model", *arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: object) -> str:
    """The output of a command line that must be refused as such."""
    result = run("model", *arguments)
    assert result.exit_code == 2, result.output
    return " ".join(result.output.split())


def to(repo_id: str = ID) -> tuple[str, str]:
    return "--repo-id", repo_id


def stored(hub: Hub, repository: str = f"models/{ID}") -> dict[str, bytes]:
    """What the Hub has, but for what it made itself."""
    folder = hub.repositories[repository]
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".gitattributes"
    }


# --- what lies on the Hub ------------------------------------------------------------------------


def test_a_pipeline_of_the_hub_has_the_weights_that_were_here(hub: Hub, stock: Path):
    assert "uploaded: https://huggingface.co/someone/kites/commit/1" in published(stock, *to())
    pipeline = DDPMPipeline.from_pretrained(ID)
    local = DDPMPipeline.from_pretrained(stock)
    torch.testing.assert_close(pipeline.unet.state_dict(), local.unet.state_dict(), rtol=0, atol=0)
    assert pipeline.scheduler.config == local.scheduler.config
    assert hub.created == ["kites"]


def test_every_file_arrives_byte_for_byte_and_large_ones_by_lfs(hub: Hub, own: Path):
    (own / "optimizer.pt").write_bytes(b"left here")
    (own / "unet" / ".cache").write_bytes(b"left here")
    published(own, *to())
    there = stored(hub)
    for name, content in there.items():
        if name not in ("README.md", "unets.py"):
            assert content == (own / name).read_bytes(), name
    assert there["unets.py"] == Path(unets.__file__).read_bytes()
    assert "samples.png" in there
    assert set(there) == hub.uploaded
    assert not {"optimizer.pt", "unet/.cache"} & set(there)
    assert list(hub.large.values()) == [(own / SHARD).read_bytes()]
    fetched = Path(snapshot_download(ID))
    assert all((fetched / name).read_bytes() == content for name, content in there.items())


def test_a_run_folder_is_published_by_its_checkpoint(hub: Hub, stock: Path):
    published(stock.parent, *to())
    assert "model_index.json" in stored(hub)
    assert "unets.py" not in stored(hub)


@pytest.mark.parametrize("key", KEYS)
def test_the_card_of_a_bundled_model_says_what_the_hub_wants_to_know(hub: Hub, key: str):
    published(key, *to(f"someone/{key}"), "--private")
    card = ModelCard.load(f"someone/{key}")
    data = card.data.to_dict()
    is_clip = key == "clip-small"
    assert data["library_name"] == ("open_clip" if is_clip else "diffusers")
    task = "zero-shot-image-classification" if is_clip else "unconditional-image-generation"
    assert data["pipeline_tag"] == task
    kind = key.partition("-")[0]
    assert data["license"] == {"digits": "cc-by-sa-3.0", "emoji": "apache-2.0"}.get(kind, "other")
    assert re.fullmatch("[a-z-]+", data.get("license_name", "")) or data["license"] != "other"
    expected = None if key in ("scenes", "emoji") else ["huggan/wikiart"]
    assert data.get("datasets") == (["ylecun/mnist"] if key.startswith("digits") else expected)
    assert len(data["tags"]) >= 2
    assert "base_model" not in data  # none of them began with a model of the Hub
    assert f"someone/{key}" in card.text
    assert re.search(r"^(python|torchrun --nproc_per_node \d+) -m training\.", card.text, re.M)
    assert "## Measured" in card.text
    assert "assets/checkpoints" not in card.text
    folder = models.find_folder(key)
    figures = re.findall(r"^\| .* [\d.]+ ?%?.*\|$", (folder / "README.md").read_text(), re.M)
    assert figures
    assert set(figures) <= set(card.text.splitlines())
    (weights,) = {name for name in stored(hub, f"models/someone/{key}") if "00001-of" in name} or {
        "none"
    }
    assert weights == "none" or (folder / weights).stat().st_size < LARGEST_REGULAR_FILE
    assert f"models/someone/{key}" in hub.private


def test_a_model_fine_tuned_from_one_of_the_hub_names_it(hub: Hub, tmp_path: Path):
    folder = tmp_path / "tuned"
    save_stock(folder)
    facts = json.loads((BUNDLED / "paintings" / "recipe.json").read_text())
    recipe = facts["recipe"] | {"start_model": "google/ddpm-cat-256", "dataset_name": "my-cats"}
    started = {"name": "google/ddpm-cat-256"}
    published(with_facts(folder, "UNet2DModel", recipe=recipe, started_from=started), *to())
    data = ModelCard.load(ID).data.to_dict()
    assert data["base_model"] == "google/ddpm-cat-256"
    assert (data["license"], data["license_name"]) == ("other", "that-of-the-data-set")
    assert "datasets" not in data


def code_of_card(repo_id: str) -> str:
    return "\n".join(re.findall(r"```python\n(.*?)```", ModelCard.load(repo_id).text, re.S))


def elsewhere(code: str, hub: Hub, folder: Path) -> None:
    """Runs Python in another process, far from this project."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {
        "HF_ENDPOINT": hub.address,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(folder / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.thorough
def test_the_code_in_the_card_of_our_own_network_needs_the_hub_alone(
    hub: Hub, own: Path, tmp_path: Path
):
    published(own, *to())
    total = sum(p.double().abs().sum().item() for p in folded_unet().parameters())
    code = code_of_card(ID).replace("steps=50", "steps=2")
    check = "assert 'pipelines' not in sys.modules\n"
    check += "found = sum(p.double().abs().sum().item() for p in unet.parameters())\n"
    check += f"assert abs(found - {total}) < 1e-6 * {total}"
    elsewhere(f"{code}\n{check}", hub, tmp_path)


@pytest.mark.parametrize("key", [key for key in KEYS if key.startswith("digits")])
@pytest.mark.thorough
def test_the_code_in_the_card_of_a_digit_model_loads_its_network(
    hub: Hub, tmp_path: Path, key: str
):
    published(key, *to())
    first = re.findall(r"```python\n(.*?)```", ModelCard.load(ID).text, re.S)[0]
    call = "import torch\nx = torch.zeros(1, 1, 28, 28)\n"
    call += "assert unet(x, torch.tensor([5]), torch.tensor([3])).sample.shape == x.shape"
    elsewhere(f"{first}\n{call}", hub, tmp_path)


def test_open_clip_loads_clip_small_from_the_hub_with_its_own_vocabulary(hub: Hub):
    name = "someone/clip-small"
    published("clip-small", *to(name))
    local = BUNDLED / "clip-small"
    there: Any = open_clip.create_model(f"hf-hub:{name}").eval()
    here: Any = open_clip.create_model(f"local-dir:{local}").eval()
    torch.testing.assert_close(there.state_dict(), here.state_dict(), rtol=0, atol=0)
    merges = hf_hub_download(name, MERGES_FILE)
    assert Path(merges).read_bytes() == (local / MERGES_FILE).read_bytes()
    names: dict[str, Any] = {}
    exec(code_of_card(name), names)
    tokens = open_clip.get_tokenizer(f"local-dir:{local}", bpe_path=str(local / MERGES_FILE))(
        ["ships on the sea"]
    )
    torch.testing.assert_close(names["tokenizer"](["ships on the sea"]), tokens)
    torch.testing.assert_close(names["embedding"], here.encode_text(tokens, normalize=True))


# --- again ---------------------------------------------------------------------------------------


def test_a_second_time_there_is_nothing_to_upload(hub: Hub, own: Path):
    published(own, *to())
    hub.requests.clear()
    assert "nothing to upload: someone/kites has all" in published(own, *to())
    assert hub.writes() == []
    assert len(hub.commits) == 1


def test_only_what_changed_is_uploaded_and_what_is_gone_goes(hub: Hub, own: Path):
    (own / "figures.json").write_text("{}")
    published(own, *to())
    folder = hub.repositories[f"models/{ID}"]
    (folder / "notes.md").write_text("somebody else's")
    (own / "figures.json").unlink()
    (own / "samples.png").write_bytes(b"other samples")
    output = published(own, *to())
    assert "  delete" in output
    last = hub.commits[-1]
    assert (last.written, last.deleted) == (("samples.png",), ("figures.json",))
    assert (folder / "notes.md").exists()
    assert (folder / ".gitattributes").exists()


def test_other_weights_of_the_same_size_are_noticed(hub: Hub, own: Path):
    published(own, *to())
    content = bytearray((own / SHARD).read_bytes())
    content[-1] ^= 1
    (own / SHARD).write_bytes(content)
    published(own, *to())
    assert hub.commits[-1].written == (SHARD,)
    assert stored(hub)[SHARD] == bytes(content)


def test_a_repository_that_is_there_is_used(hub: Hub, stock: Path):
    hub.make(f"models/{ID}")
    published(stock, *to())
    assert hub.created == []


def test_two_that_create_the_same_repository_at_once_both_go_on(
    hub: Hub, stock: Path, monkeypatch: pytest.MonkeyPatch
):
    hub.make(f"models/{ID}")
    hub.fail(404, f"GET /api/models/{ID}$", headers={"X-Error-Code": "RepoNotFound"})
    published(stock, *to())
    assert CREATION in hub.requests
    assert len(hub.commits) == 1


def test_what_is_public_is_not_taken_for_private(hub: Hub, stock: Path):
    hub.make(f"models/{ID}")
    assert "private must be off: someone/kites is there, and public" in refused(
        stock, *to(), "--private"
    )
    assert hub.commits == []


# --- interrupted ---------------------------------------------------------------------------------


def shards(tmp_path: Path) -> Path:
    """A checkpoint whose weights are several files."""
    folder = tmp_path / "shards"
    save_folded(folder)
    (folder / SHARD).unlink()
    folded_unet().save_pretrained(folder / "unet", max_shard_size="100KB")
    return with_facts(folder, "SpaceToDepthUNet2DModel")


def test_an_upload_broken_off_between_large_files_goes_on_where_it_stopped(
    hub: Hub, tmp_path: Path
):
    folder = shards(tmp_path)
    count = len(list(folder.glob("unet/*.safetensors")))
    assert count > 3
    hub.fail(500, "PUT /lfs/", skip=2, times=1000)
    result = run("model", folder, *to())
    assert result.exit_code == 1
    assert result.output.splitlines()[-1] == (
        "someone/kites could not be uploaded (the Hub answers 500: a fault of status 500); the "
        "same command goes on where it stopped."
    )
    assert "Traceback" not in result.output
    assert (hub.commits, stored(hub)) == ([], {})
    sent = len(hub.large)
    assert sent == 2
    hub.faults.clear()
    hub.requests.clear()
    published(folder, *to())
    assert sum(request.startswith("PUT") for request in hub.requests) == count - sent
    assert {name for name in stored(hub) if name.endswith(".safetensors")} == {
        f"unet/{path.name}" for path in folder.glob("unet/*.safetensors")
    }


def test_an_upload_whose_commit_failed_sends_no_large_file_again(hub: Hub, own: Path):
    hub.fail(500, "POST .*/commit/")
    assert run("model", own, *to()).exit_code == 1
    assert stored(hub) == {}
    hub.requests.clear()
    published(own, *to())
    assert not [request for request in hub.requests if request.startswith("PUT")]
    assert stored(hub)[SHARD] == (own / SHARD).read_bytes()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_that_stumbles_once_is_asked_again(hub: Hub, own: Path, status: int):
    hub.fail(status, "PUT /lfs/")
    hub.fail(status, "/preupload/")
    hub.fail(status, "/objects/batch")
    published(own, *to())
    assert len(hub.commits) == 1


@pytest.mark.parametrize(
    ("status", "path", "sentence"),
    [
        (500, "GET /api/whoami-v2", "the Hub answers 500"),
        (429, "GET /api/whoami-v2", "too many requests for now"),
        (500, CREATION, "the Hub answers 500"),
        (403, CREATION, "forbidden: a fault of status 403"),
    ],
)
def test_a_hub_that_fails_before_the_upload_is_told_in_one_sentence(
    hub: Hub, own: Path, status: int, path: str, sentence: str
):
    hub.fail(status, path, times=20)
    output = refused(own, *to())
    assert sentence in output
    assert hub.created == []
    assert not hub.uploaded


def test_a_hub_that_fails_while_it_is_read_is_told_in_one_sentence(hub: Hub, own: Path):
    hub.fail(500, "GET .*/tree/", times=20)
    result = run("model", own, *to())
    assert result.exit_code == 1
    assert "someone/kites could not be read (the Hub answers 500" in result.output
    assert not hub.uploaded


# --- refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "repo_id", "sentence"),
    [
        ("", ID, "there is no token"),
        ("hf_bad", ID, "the token is not valid"),
        ("hf_read", ID, "the token of someone may only read"),
        ("hf_fine", ID, "forbidden: You don't have the rights to write"),
        ("hf_good", "other/kites", "someone may not write to what belongs to other"),
        ("hf_good", "library/kites", "someone may not write to what belongs to library"),
        ("hf_good", "a/b/c", "Repo id must be in the form"),
        ("hf_good", "someone/ki tes", "Repo id must use alphanumeric chars"),
    ],
)
def test_who_may_not_write_is_told_so_before_anything_is_sent(
    hub: Hub,
    own: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    token: str,
    repo_id: str,
    sentence: str,
):
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.setenv("HF_TOKEN", token)
    output = refused(own, *to(repo_id))
    assert "repo_id must be the id of a model repository that your token" in output
    assert sentence in output
    assert set(hub.writes()) <= {CREATION}
    assert (hub.created, hub.uploaded) == ([], set())


def test_a_token_that_may_not_write_to_what_is_there_is_refused(
    hub: Hub, own: Path, monkeypatch: pytest.MonkeyPatch
):
    hub.make(f"models/{ID}")
    monkeypatch.setenv("HF_TOKEN", "hf_fine")
    assert "forbidden: You don't have the rights to write" in refused(own, *to())
    assert hub.writes() == []


def test_an_organization_that_one_may_write_to_is_no_obstacle(hub: Hub, own: Path):
    published(own, *to("club/kites"))
    assert "models/club/kites" in hub.repositories


def test_a_name_alone_is_ones_own(hub: Hub, own: Path):
    published(own, *to("kites"))
    assert f"models/{ID}" in hub.repositories


def test_a_hub_out_of_reach_is_told_in_one_sentence(own: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    assert "the Hub does not answer" in refused(own, *to())


def test_what_is_no_checkpoint_or_not_whole_is_refused(hub: Hub, own: Path, tmp_path: Path):
    assert "folder must be paintings, scenes, " in refused(tmp_path / "nowhere", *to())
    weights = (own / SHARD).read_bytes()
    (own / SHARD).write_bytes(weights[:100])
    assert "folder must hold weights in good order" in refused(own, *to())
    (own / SHARD).unlink()
    assert "folder must hold all of its weights as safetensors" in refused(own, *to())
    folder = shards(tmp_path)
    next(iter(folder.glob("unet/*-00002-*"))).unlink()
    assert "folder must hold all of its weights" in refused(folder, *to())
    assert hub.requests == []


def test_a_large_file_that_the_hub_would_not_keep_apart_is_refused():
    check_sizes([File("a.safetensors", bytes(LARGEST_REGULAR_FILE + 1))])
    check_sizes([File("a.json", bytes(LARGEST_REGULAR_FILE))])
    with pytest.raises(ValueError, match=r"^a\.json must have 10 MB or less, got 10,000,001 bytes"):
        check_sizes([File("a.json", bytes(LARGEST_REGULAR_FILE + 1))])


# --- rehearsed -----------------------------------------------------------------------------------


def test_a_dry_run_tells_everything_and_writes_nothing(hub: Hub, own: Path):
    output = published(own, *to(), "--dry-run", "--private")
    lines = output.splitlines()
    assert hub.requests  # it looked
    assert hub.writes() == []
    assert (hub.created, hub.uploaded) == ([], set())
    assert lines[0] == "model someone/kites, private: will be created"
    size = (own / SHARD).stat().st_size
    assert f"  upload {size:>12,} B  LFS  {SHARD}" in lines
    size = (own / "unet" / "config.json").stat().st_size
    assert f"  upload {size:>12,} B       unet/config.json" in lines
    told = {line.split()[-1] for line in lines if line.startswith("  upload")}
    assert "license_name: non-commercial-research" in output
    published(own, *to(), "--private")
    assert told == hub.uploaded
    total = sum(len(content) for content in stored(hub).values()) / 1e6
    amount = f"{total:.1f} MB of {total:.1f} MB, 1 by LFS"
    assert f"{len(told)} of {len(told)} files to upload, {amount}" in lines


def test_a_dry_run_of_what_is_published_tells_what_changed(hub: Hub, own: Path):
    published(own, *to())
    (own / "samples.png").write_bytes(b"x")
    hub.requests.clear()
    output = published(own, *to(), "--dry-run")
    assert "model someone/kites, public: is there" in output
    assert re.search(r"same .* unet/config.json", output)
    assert re.search(r"upload .* samples.png", output)
    assert hub.writes() == []
    published(own, *to())
    assert "\nnothing to upload\n" in published(own, *to(), "--dry-run")


def test_a_dry_run_without_a_token_tells_the_files_and_then_the_obstacle(
    hub: Hub, own: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_TOKEN", "hf_bad")
    output = refused(own, *to(), "--dry-run")
    assert SHARD in output
    assert "the token is not valid" in output
    assert hub.writes() == []


# --- after training ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("main", "options"),
    [
        (finetune_model.main, ()),
        (train_clip.main, ()),
        (train_digits.main, ("--conditioning=channels",)),
    ],
)
@pytest.mark.parametrize(
    ("token", "repo_id"), [("hf_bad", ID), ("hf_read", ID), ("hf_good", "other/kites")]
)
def test_no_training_begins_whose_result_could_not_be_uploaded(
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
    main: Callable[..., None],
    options: tuple[str, ...],
    token: str,
    repo_id: str,
):
    monkeypatch.setenv("HF_TOKEN", token)
    for module in (finetune_model, train_clip, train_digits):
        monkeypatch.setattr(module, "prepare", lambda *_, **__: pytest.fail("data was read"))
    result = invoke(main, *options, f"--push-to-hub={repo_id}")
    assert result.exit_code == 2, result.output
    assert "push_to_hub must be the id of a model repository that your token" in result.output
    assert hub.writes() == []


@pytest.mark.parametrize("name", ["clip", "digits"])
def test_the_other_training_commands_upload_their_result_too(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
):
    source = BUNDLED / ("clip-small" if name == "clip" else "digits-channels")

    def export(_: object, folder: Path, *__: object) -> None:
        shutil.copytree(source, folder)

    module = {"clip": train_clip, "digits": train_digits}[name]
    run = SimpleNamespace(judge=None)
    prepared = (run, {}) if name == "clip" else run
    monkeypatch.setattr(module, "prepare", lambda *_, **__: prepared)
    monkeypatch.setattr(module, "reporter_for", lambda *_: Reporter())
    monkeypatch.setattr(module, "train", lambda *_, **__: None)
    monkeypatch.setattr(module, "export", export)
    folder = tmp_path / "run"
    options = [f"--output={folder}", "--conditioning=channels"]
    if name == "clip":
        monkeypatch.setattr(train_clip, "judge_trainer", lambda *_: {})
        options = [f"--model-save-name={folder}", "--report-to=none"]
    result = invoke(module.main, *options, f"--push-to-hub={ID}")
    assert result.exit_code == 0, result.output
    assert "uploaded: https://huggingface.co/someone/kites/commit/1" in result.output
    assert f"nothing to upload: {ID}" in published(folder, *to())


# --- the server itself, asked by the real client -------------------------------------------------


def test_the_server_tells_revisions_ranges_renames_and_gates(hub: Hub, own: Path):
    published(own, *to())
    api = huggingface_hub.HfApi()
    info = api.model_info(ID)
    assert info.sha == hub.commits[-1].oid
    assert info.sha is not None
    assert Path(hf_hub_download(ID, "unets.py", revision=info.sha)).parent.name == info.sha
    with pytest.raises(huggingface_hub.errors.RevisionNotFoundError):
        api.model_info(ID, revision="nowhere")
    with pytest.raises(huggingface_hub.errors.EntryNotFoundError):
        hf_hub_download(ID, "nothing.txt")
    found = huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(ID, SHARD))
    assert found.size == (own / SHARD).stat().st_size
    assert found.commit_hash == info.sha
    part = huggingface_hub.get_session().get(found.location, headers={"Range": "bytes=8-15"})
    assert (part.status_code, part.content) == (206, (own / SHARD).read_bytes()[8:16])
    hub.moved["models/someone/old"] = f"models/{ID}"
    moved = hf_hub_download("someone/old", SHARD)
    assert Path(moved).read_bytes() == (own / SHARD).read_bytes()
    assert api.model_info("someone/old").id == ID
    hub.gated.add(f"models/{ID}")
    with pytest.raises(huggingface_hub.errors.GatedRepoError):
        huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(ID, SHARD))


def test_a_private_repository_is_not_there_for_strangers(
    hub: Hub, own: Path, monkeypatch: pytest.MonkeyPatch
):
    published(own, *to(), "--private")
    assert huggingface_hub.HfApi().model_info(ID).private
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(huggingface_hub.errors.RepositoryNotFoundError):
        huggingface_hub.HfApi(token=False).model_info(ID)


def test_the_server_gives_to_lfs_what_the_project_says_that_the_hub_does():
    for path in ("a.safetensors", "b/c.gz", "d.json", "e.png", "f.py", "README.md"):
        assert File(path, b"x").lfs == hub_server.is_large(path, 1), path


def test_a_tiny_clip_of_the_tests_can_be_published_too(hub: Hub, tmp_path: Path):
    folder = tiny_clip.save(tmp_path / "clip")
    shutil.copy(BUNDLED / "clip-small" / "recipe.json", folder)
    published(folder, *to())
    model = open_clip.create_model(f"hf-hub:{ID}")
    local = open_clip.create_model(f"local-dir:{folder}")
    torch.testing.assert_close(model.state_dict(), local.state_dict(), rtol=0, atol=0)
