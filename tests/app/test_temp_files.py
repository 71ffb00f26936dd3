"""Files that the app serves: few at a time, the result whole, and bounded on the disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import httpx
import pytest
from gradio.route_utils import delete_files_created_by_app
from gradio_client import Client
from PIL import Image

import app
from benchmarks.soak.server import free_port
from tabs import temp_files
from tabs.temp_files import GRACE_SECONDS, KEPT_SETS, MAX_SECONDS, RunFiles, TempFiles


class Clock:
    def __init__(self) -> None:
        self.seconds = 1.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def files(folder: Path, clock: Clock) -> TempFiles:
    return TempFiles(clock)


def saved(files: TempFiles, shade: int) -> str:
    return files.save_png(Image.new("L", (4, 4), shade), "painting-0")


def left(folder: Path) -> set[str]:
    """All paths in the folder, also those of folders."""
    return {str(path) for path in folder.rglob("*")}


def draw(files: TempFiles, clock: Clock, shades: range, every_seconds: float) -> list[str]:
    """A run of one picture; the paths of its previews."""
    run, paths = RunFiles(files, clock), []
    for shade in shades:
        paths.append(saved(files, shade))
        run.show([paths[-1]])
        clock.seconds += every_seconds
    run.close()
    return paths


def test_a_run_keeps_only_its_latest_previews(files: TempFiles, clock: Clock, folder: Path):
    run, paths = RunFiles(files, clock), [saved(files, shade) for shade in range(20)]
    for path in paths:
        run.show([path])
        clock.seconds += GRACE_SECONDS + 0.1
    assert {path for path in paths if Path(path).exists()} == set(paths[-KEPT_SETS:])
    assert len(left(folder)) == 2 * KEPT_SETS  # no empty folders either


def test_a_fast_run_keeps_what_a_slow_client_may_still_fetch(files: TempFiles, clock: Clock):
    run, paths = RunFiles(files, clock), [saved(files, shade) for shade in range(10)]
    for path in paths:
        run.show([path])
        clock.seconds += 0.1
    assert all(Path(path).exists() for path in paths)


def test_a_fast_run_of_large_pictures_keeps_fewer(
    files: TempFiles, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    first = saved(files, 0)
    monkeypatch.setattr(temp_files, "RUN_BYTES", 6 * Path(first).stat().st_size)
    run = RunFiles(files, clock)
    paths = [first, *(saved(files, shade) for shade in range(1, 20))]
    for path in paths:
        run.show([path])
        clock.seconds += 0.1
    there = [path for path in paths if Path(path).exists()]
    assert KEPT_SETS <= len(there) <= 7
    assert there == paths[-len(there) :]


def test_after_a_run_only_its_result_stays(files: TempFiles, clock: Clock):
    paths = draw(files, clock, range(10), every_seconds=0.1)
    assert Path(paths[-2]).exists()  # somebody may be fetching it
    clock.seconds += GRACE_SECONDS + 0.1
    another = saved(files, 99)
    assert {path for path in paths if Path(path).exists()} == {paths[-1]}
    assert Path(another).exists()


def test_a_picture_of_two_runs_is_not_deleted_by_either_while_the_other_holds_it(
    files: TempFiles, clock: Clock
):
    one, other = RunFiles(files, clock), RunFiles(files, clock)
    shared = saved(files, 7)
    one.show([shared])
    other.show([saved(files, 7)])
    for shade in range(20, 26):
        clock.seconds += GRACE_SECONDS + 0.1
        one.show([saved(files, shade)])
    one.close()
    clock.seconds += GRACE_SECONDS + 0.1
    saved(files, 99)
    assert Path(shared).exists()
    other.close()
    assert Path(shared).exists()  # as the result of the other


def test_a_picture_that_is_drawn_again_after_the_grace_is_there(files: TempFiles, clock: Clock):
    draw(files, clock, range(3), every_seconds=0.1)
    clock.seconds += GRACE_SECONDS + 0.1
    again = [saved(files, shade) for shade in range(3)]  # the first ends the run before
    assert all(Path(path).exists() for path in again)


def test_a_picture_that_is_shown_again_goes_with_its_last_run(files: TempFiles, clock: Clock):
    paths: list[str] = []
    for _ in range(3):
        paths = draw(files, clock, range(3), every_seconds=0.1)
        clock.seconds += GRACE_SECONDS + 0.1
    saved(files, 99)
    assert [Path(path).exists() for path in paths] == [False, False, True]


def test_the_oldest_files_of_finished_runs_go_when_the_budget_is_used_up(
    files: TempFiles, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    running = RunFiles(files, clock)
    held = saved(files, 200)
    running.show([held])
    finished = [draw(files, clock, range(i, i + 1), every_seconds=1)[-1] for i in range(10)]
    size = Path(held).stat().st_size
    monkeypatch.setattr(temp_files, "MEGABYTE", 4 * size)
    monkeypatch.setenv("STUDIO_TEMP_MB", "1")
    newest = saved(files, 100)
    there = {path for path in [held, *finished, newest] if Path(path).exists()}
    assert there == {held, newest, *finished[-2:]}


def test_a_result_that_is_drawn_again_counts_as_new(
    files: TempFiles, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    first, second = (draw(files, clock, range(i, i + 1), every_seconds=1)[-1] for i in (1, 2))
    draw(files, clock, range(1, 2), every_seconds=1)
    size = Path(first).stat().st_size
    monkeypatch.setattr(temp_files, "MEGABYTE", 2 * size)
    monkeypatch.setenv("STUDIO_TEMP_MB", "1")
    saved(files, 3)
    assert (Path(first).exists(), Path(second).exists()) == (True, False)


def test_old_files_go_with_their_folders(files: TempFiles, clock: Clock, folder: Path):
    paths = draw(files, clock, range(3), every_seconds=1)
    clock.seconds += MAX_SECONDS + 1
    newest = saved(files, 99)
    assert not any(Path(path).exists() for path in paths)
    assert left(folder) == {newest, str(Path(newest).parent)}


def test_a_file_that_somebody_else_deleted_is_no_error(files: TempFiles, clock: Clock):
    path = saved(files, 1)
    Path(path).unlink()
    clock.seconds += MAX_SECONDS + 1
    saved(files, 2)


def test_gradio_forgets_the_paths_of_deleted_files(files: TempFiles, clock: Clock):
    with gr.Blocks() as demo:
        image = gr.Image()
    files.watch(demo)
    path = saved(files, 1)
    image.temp_files.add(path)
    assert path in {name for names in demo.temp_file_sets for name in names}
    clock.seconds += MAX_SECONDS + 1
    saved(files, 2)
    assert path not in image.temp_files
    assert not any(path in names for names in demo.temp_file_sets)


def test_gradios_cleaning_survives_files_that_come_meanwhile(
    files: TempFiles, monkeypatch: pytest.MonkeyPatch
):
    """A set that changes while it is read would end the cleaning for good."""
    with gr.Blocks() as demo:
        image = gr.Image()
    files.watch(demo)
    paths = [saved(files, shade) for shade in range(5)]
    image.temp_files.update(paths)
    really_lstat = Path.lstat

    def lstat(path: Path):
        image.temp_files.add(f"{path}-new")
        return really_lstat(path)

    monkeypatch.setattr(Path, "lstat", lstat)
    delete_files_created_by_app(demo, age=None)
    assert not any(Path(path).exists() for path in paths)


@pytest.mark.parametrize("text", ["0", "lots"])
def test_a_budget_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch, text: str):
    monkeypatch.setenv("STUDIO_TEMP_MB", text)
    with pytest.raises(ValueError, match="STUDIO_TEMP_MB must be a whole number from 1 to"):
        temp_files.budget_mb()


@pytest.fixture
def own_app(folder: Path, tiny_checkpoints: Path) -> Iterator[str]:
    """The app with a folder of its own for its files, and no grace for old previews."""
    demo = app.build_demo()
    _, url, _ = demo.launch(
        server_port=free_port(), prevent_thread_lock=True, quiet=True, **app.launch_options()
    )
    yield url
    demo.close()


@pytest.mark.thorough
def test_a_run_over_the_api_leaves_its_result_and_no_previews(
    own_app: str, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(temp_files, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr("tabs.common.PREVIEW_SECONDS", 0.0)
    settings = {"num_images": 2, "num_inference_steps": 30, "method": "fast"}
    client = Client(own_app, verbose=False, download_files=False)
    before = set(folder.rglob("*.png"))
    for seed in (5, 50):
        pictures, info = client.predict("gold", seed=seed, **settings, api_name="/color")
        assert info["step"] == 30
        for picture in pictures:
            answer = httpx.get(f"{own_app}gradio_api/file={picture['path']}")
            assert answer.status_code == 200
            assert answer.content.startswith(b"\x89PNG")
            assert answer.content.rstrip().endswith(b"IEND\xaeB`\x82")
    there = set(folder.rglob("*.png")) - before
    assert len(there) <= 2 * (1 + KEPT_SETS)  # two pictures: the first result, and the last sets
