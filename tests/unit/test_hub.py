"""Fetching from the Hub: what comes is whole, what fails says why, and what is here is kept."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from torch import nn

from pipelines.core.errors import CheckpointError
from pipelines.models import checkpoints, hub
from pipelines.models.own_checkpoints import WANTED_FILES
from tests.fakes.hub_server import (
    COMMIT,
    Commit,
    Hub,
    full_disk,
    serve_hub,
    without_network,
    without_patience,
)
from tests.fakes.tiny_pictures import save_stock, stock_unet

pytestmark = pytest.mark.slow

ID = "someone/cats"
REPOSITORY = f"models/{ID}"
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
NEWER = "2" * 40
FOREVER = 1000
CLIENT_CHUNK = constants.DOWNLOAD_CHUNK_SIZE

Fault = Callable[[Hub], AbstractContextManager[None]]


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub that has a tiny model, which the user calls `mine`."""
    monkeypatch.setenv("STUDIO_CHECKPOINTS", f"mine={ID}")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    checkpoints.unload_all()
    with serve_hub(tmp_path / "cache") as served:
        save_stock(tmp_path / "cats")
        served.repositories[REPOSITORY] = tmp_path / "cats"
        yield served
    checkpoints.unload_all()


@pytest.fixture
def heavy(remote: Hub) -> Path:
    """The weights of the model, now of two and a half chunks of the client and of no network."""
    path = remote.repositories[REPOSITORY] / WEIGHTS
    values = torch.randint(256, (CLIENT_CHUNK * 5 // 2,), dtype=torch.uint8)
    save_file({"values": values}, path)
    return path


def fetch(**options: Any) -> Path:
    return hub.fetch("mine", ID, WANTED_FILES, **options)


def files_in(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def move_on(remote: Hub, unet: nn.Module, folder: Path) -> None:
    """A commit that changes all files; the one before stays to be had."""
    save_stock(folder)
    save_file(unet.state_dict(), folder / WEIGHTS)
    for config in folder.rglob("*config.json"):
        config.write_text(config.read_text() + "\n")
    remote.older[REPOSITORY] = {COMMIT: remote.repositories[REPOSITORY]}
    remote.repositories[REPOSITORY] = folder
    remote.commits.append(Commit(REPOSITORY, NEWER, "all of it", (WEIGHTS,), ()))


def other_unet() -> nn.Module:
    unet = stock_unet()
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.add_(1)
    return unet


def assert_loads(unet: nn.Module, commit: str = COMMIT) -> None:
    """What is loaded is what was made."""
    checkpoints.unload_all()
    loaded = checkpoints.load("mine")
    torch.testing.assert_close(loaded.unet.state_dict(), unet.state_dict(), rtol=0, atol=0)
    assert loaded.revision == commit


def refusal() -> str:
    """The sentence that `mine` cannot be had with."""
    checkpoints.unload_all()
    with pytest.raises(CheckpointError) as told:
        checkpoints.load("mine")
    return str(told.value)


# --- what is fetched -----------------------------------------------------------------------------


def test_what_was_fetched_lies_whole_in_the_cache_and_then_needs_no_network(remote: Hub):
    assert hub.cached(ID, WANTED_FILES) is None
    folder = fetch()
    assert folder.is_relative_to(constants.HF_HUB_CACHE)
    assert files_in(folder) == files_in(remote.repositories[REPOSITORY])
    assert hub.cached(ID, WANTED_FILES) == folder
    before = len(remote.requests)
    with without_network():
        assert fetch() == folder
    assert len(remote.requests) == before
    assert_loads(stock_unet())


def test_nothing_is_fetched_twice(remote: Hub):
    fetch()
    before = len(remote.requests)
    fetch()
    later = remote.requests[before:]
    assert later
    assert not [request for request in later if "/resolve/" in request or "/cdn/" in request]


def test_a_pinned_commit_is_honoured_and_reported_beside_a_newer_one(remote: Hub, tmp_path: Path):
    move_on(remote, other_unet(), tmp_path / "newer")
    older, newer = fetch(revision=COMMIT), fetch()
    assert [older.name, newer.name] == [COMMIT, NEWER]
    expected = [stock_unet().state_dict(), other_unet().state_dict()]
    found = [load_file(folder / WEIGHTS) for folder in (older, newer)]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    with without_network():
        assert [fetch(revision=COMMIT), fetch()] == [older, newer]


@pytest.mark.parametrize("folder", ["", "unet/"], ids=["flat", "pipeline"])
def test_no_pickle_is_fetched_where_there_are_safetensors_and_none_is_missed(
    folder: str, remote: Hub
):
    pickle = folder + "diffusion_pytorch_model.bin"
    (remote.repositories[REPOSITORY] / pickle).write_bytes(b"a pickle")
    fetched = fetch()
    assert not list(fetched.rglob("*.bin"))
    assert not [request for request in remote.requests if request.endswith(pickle)]
    assert hub.cached(ID, WANTED_FILES) == fetched
    (row,) = [row for row in checkpoints.describe() if row["key"] == "mine"]
    assert row["available"]
    with without_network():
        assert_loads(stock_unet())


def test_a_pickle_is_fetched_where_the_safetensors_are_those_of_another_part(remote: Hub):
    repository = remote.repositories[REPOSITORY]
    (repository / WEIGHTS).unlink()
    pickle = (repository / WEIGHTS).with_suffix(".bin")
    torch.save(stock_unet().state_dict(), pickle)
    (repository / "vae").mkdir()
    (repository / "vae" / "other.safetensors").write_bytes(b"of another part")
    assert (fetch() / "unet" / pickle.name).read_bytes() == pickle.read_bytes()
    assert_loads(stock_unet())


def test_a_pickle_is_fetched_where_there_is_nothing_else_and_missed_where_it_did_not_come(
    remote: Hub,
):
    repository = remote.repositories[REPOSITORY]
    (repository / WEIGHTS).unlink()
    pickle = (repository / WEIGHTS).with_suffix(".bin")
    torch.save(stock_unet().state_dict(), pickle)
    with broken_off(f"GET /cdn/|{pickle.name}")(remote), pytest.raises(CheckpointError):
        fetch()
    assert hub.cached(ID, WANTED_FILES) is None
    assert (fetch() / "unet" / pickle.name).read_bytes() == pickle.read_bytes()
    assert_loads(stock_unet())


# --- on the way ----------------------------------------------------------------------------------


def test_a_transfer_that_breaks_is_gone_on_with_and_its_result_is_whole(remote: Hub, heavy: Path):
    remote.tear(CLIENT_CHUNK * 3 // 2, "GET /cdn/")
    folder = fetch()
    assert (folder / WEIGHTS).read_bytes() == heavy.read_bytes()
    assert len([request for request in remote.requests if "GET /cdn/" in request]) == 2
    assert remote.ranges == [f"bytes={CLIENT_CHUNK}-"]


def test_files_that_came_whole_before_a_failure_are_not_fetched_again(remote: Hub):
    with broken_off("GET /cdn/")(remote), pytest.raises(CheckpointError):
        fetch()
    whole = [name for name in remote.files(REPOSITORY) if name != WEIGHTS]
    assert files_in(fetch()) == files_in(remote.repositories[REPOSITORY])
    for name in whole:
        assert len([r for r in remote.requests if r.startswith("GET ") and r.endswith(name)]) == 1


def test_progress_grows_in_bytes_and_is_gone_afterwards(remote: Hub, heavy: Path):
    remote.pause = 0.01
    remote.tear(CLIENT_CHUNK * 3 // 2, "GET /cdn/")
    total = sum(entry["size"] for entry in remote.files(REPOSITORY).values())
    assert total > heavy.stat().st_size
    seen = watched(fetch)
    done = [download.done for download in seen]
    assert done == sorted(done)
    assert len({count for count in done if count > CLIENT_CHUNK}) >= 2
    assert max(done) <= total
    assert seen[-1].total == total
    assert hub.download_of("mine") is None


def watched(work: Callable[[], object]) -> list[hub.Download]:
    """How far a download was, as one who looks all the time sees it."""
    thread = threading.Thread(target=work)
    thread.start()
    seen = []
    while thread.is_alive():
        seen.append(hub.download_of("mine"))
        time.sleep(0.002)
    return [download for download in seen if download is not None]


def test_progress_is_gone_after_a_failure_too(remote: Hub):
    with broken_off("GET /cdn/")(remote):
        seen = watched(refusal)
    assert seen
    assert hub.download_of("mine") is None


# --- what fails ----------------------------------------------------------------------------------


def answers(status: int, path: str, **headers: str) -> Fault:
    """The Hub answers such requests with a status."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return faulty(lambda remote: remote.fail(status, path, times=FOREVER, headers=headers))


def broken_off(path: str, most: int = 100) -> Fault:
    """Such files break off early, however often they are asked for."""
    return faulty(lambda remote: remote.tear(most, path, times=FOREVER))


def silent(path: str) -> Fault:
    """The Hub does not answer such requests, and the client does not wait long."""
    return faulty(lambda remote: remote.delay(30, path, times=FOREVER), without_patience)


def faulty(
    begin: Callable[[Hub], object],
    *around: Callable[[], AbstractContextManager[None]],
) -> Fault:
    """A fault that begins somehow, and ends when it is left."""

    @contextmanager
    def fault(remote: Hub) -> Iterator[None]:
        with ExitStack() as stack:
            for surrounding in around:
                stack.enter_context(surrounding())
            begin(remote)
            yield
        remote.faults.clear()

    return fault


@contextmanager
def gone(remote: Hub) -> Iterator[None]:
    folder = remote.repositories.pop(REPOSITORY)
    yield
    remote.repositories[REPOSITORY] = folder


@contextmanager
def gated(remote: Hub) -> Iterator[None]:
    remote.gated.add(REPOSITORY)
    yield
    remote.gated.clear()


@contextmanager
def private(remote: Hub) -> Iterator[None]:
    remote.private.add(REPOSITORY)
    yield
    remote.private.clear()


def unwritable(number: int) -> Fault:
    """The disk takes no file, for that reason."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), "/a/folder/of/the/users")

    @contextmanager
    def fault(_: Hub) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(huggingface_hub.file_download, "http_get", refuse)
            yield

    return fault


SLOW = "it answers too slowly"
BUSY = "it was asked too often; try again in a few minutes"
BROKEN = "it has a fault; try again later"
TORN = "what came was not whole; try again"
FULL = "the disk is full"
SHUT = "the app may not write into the folder for what is fetched"

OUTAGES: dict[str, tuple[Fault, str]] = {
    "no network": (lambda _: without_network(), "it does not answer"),
    "silence at first": (silent("GET /api/"), SLOW),
    "silence at the list": (silent("GET .*/tree/"), SLOW),
    "silence before a file": (silent("HEAD "), SLOW),
    "silence in a file": (silent("GET /cdn/"), SLOW),
    "429": (answers(429, ""), BUSY),
    "429 at the list": (answers(429, "/tree/"), BUSY),
    "429 before a file": (answers(429, "HEAD "), BUSY),
    "429 at a file": (answers(429, "GET /cdn/"), BUSY),
    "500": (answers(500, ""), BROKEN),
    "500 at the list": (answers(500, "/tree/"), BROKEN),
    "503 before a file": (answers(503, "HEAD "), BROKEN),
    "500 at a file": (answers(500, "GET /cdn/"), BROKEN),
    "torn": (broken_off("GET /cdn/"), TORN),
    "torn at once": (broken_off("GET /cdn/", 0), TORN),
    "a small file torn": (broken_off("GET .*config"), TORN),
    "disk full": (lambda _: full_disk(5000), FULL),
    "disk full at once": (lambda _: full_disk(0), FULL),
    "quota": (unwritable(errno.EDQUOT), FULL),
    "no right": (unwritable(errno.EACCES), SHUT),
    "a disk that is only read": (unwritable(errno.EROFS), SHUT),
}
"""What passes, and the reason that is told."""

CLOSED = "no such repository, or one that is not open to you"
REFUSALS: dict[str, tuple[Fault, str]] = {
    "404": (gone, CLOSED),
    "private": (private, CLOSED),
    "401": (answers(401, "", X_Error_Message="Invalid username or password."), CLOSED),
    "403": (answers(403, "/resolve/", X_Error_Message="Not in your country"), CLOSED),
    "unknown token": (
        answers(401, "", X_Error_Message="Invalid credentials in Authorization header"),
        "it does not know the app's token",
    ),
    "gated": (
        gated,
        "the repository is gated: ask for access on its page, and give the app a token",
    ),
}
"""What does not pass by itself."""


@pytest.mark.parametrize("name", [*OUTAGES, *REFUSALS])
def test_a_failure_is_told_in_one_sentence_and_the_next_try_brings_all_of_it(
    name: str, remote: Hub
):
    fault, reason = (OUTAGES | REFUSALS)[name]
    with fault(remote):
        sentence = refusal()
        assert hub.cached(ID, WANTED_FILES) is None
    assert sentence == f"Checkpoint mine cannot be fetched from the Hub ({reason})."
    assert not list(Path(constants.HF_HUB_CACHE).rglob("*.incomplete"))
    assert hub.download_of("mine") is None
    assert_loads(stock_unet())
    folder = hub.cached(ID, WANTED_FILES)
    assert folder is not None
    assert files_in(folder) == files_in(remote.repositories[REPOSITORY])


@pytest.mark.parametrize("name", OUTAGES)
def test_in_an_outage_what_was_fetched_before_is_used(name: str, remote: Hub):
    fetch()
    with OUTAGES[name][0](remote):
        assert_loads(stock_unet())


@pytest.mark.parametrize("name", OUTAGES)
def test_a_newer_commit_that_cannot_be_had_leaves_the_older_one_whole(
    name: str, remote: Hub, tmp_path: Path
):
    fetch()
    move_on(remote, other_unet(), tmp_path / "newer")
    with OUTAGES[name][0](remote):
        assert_loads(stock_unet())
    with without_network():  # what came of the newer one is not taken for it
        assert_loads(stock_unet())
    assert_loads(other_unet(), NEWER)


def test_a_revision_that_is_not_there_is_refused_saying_so(remote: Hub):
    sentence = r"^Checkpoint mine cannot be fetched from the Hub \(the repository has no such rev"
    for missing in ("v9", "f" * 40):
        with pytest.raises(CheckpointError, match=sentence + r"ision\)\.$"):
            fetch(revision=missing)
    assert fetch().name == COMMIT
    assert remote.head(REPOSITORY) == COMMIT


def test_a_file_that_is_not_there_is_refused_by_name_before_anything_is_fetched(remote: Hub):
    patterns = ["unet/config.json", "words.txt"]
    sentence = r"^Checkpoint mine cannot be fetched from the Hub \(the repository has no words\.txt"
    with pytest.raises(CheckpointError, match=sentence + r"\)\.$"):
        hub.fetch("mine", ID, patterns)
    assert not [request for request in remote.requests if "/resolve/" in request]
    (remote.repositories[REPOSITORY] / "words.txt").write_text("cats")
    assert set(files_in(hub.fetch("mine", ID, patterns))) == set(patterns)


def test_what_nobody_thought_of_is_quoted_in_one_line(remote: Hub, monkeypatch: pytest.MonkeyPatch):
    assert remote.repositories

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a <b>thing</b>\nof many lines")

    monkeypatch.setattr(huggingface_hub.file_download, "http_get", fail)
    reason = "'a [?]b[?]thing[?]/b[?]'"
    assert refusal().replace("?", "[?]").endswith(f"({reason}).")
