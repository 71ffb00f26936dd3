"""ZeroGPU: a served app whose runs are lent a graphics card, each in a process of its own.

There is no such card here, and no `spaces` package. A stand-in does what the real one (0.51) does
to what it decorates: it forks, pickles, tells of an error the name alone, and has PyTorch seem to
have CUDA in the server, where nothing may touch it.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import runpy
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import Browser, expect
from torch import Tensor

from pipelines.core import devices, images
from pipelines.core.errors import CheckpointError
from pipelines.core.rules import SettingsError
from pipelines.diffusion import denoisers
from pipelines.diffusion.denoisers import CfgOutput, Predictor
from pipelines.products import color, digits, text
from pipelines.products.color import PRODUCT as COLOR
from pipelines.products.digits import PRODUCT as DIGITS
from pipelines.products.settings import ColorSettings, DigitsSettings, TextSettings
from pipelines.products.text import PRODUCT as TEXT
from pipelines.runs import timing, zero_gpu
from pipelines.runs.product import Product
from tabs import i18n
from tests.browser.visits import hasten, visit

ROOT = Path(__file__).resolve().parents[2]
OUT_OF_MEMORY = i18n.translate(i18n.DEFAULT, "status.out_of_memory")
CARD = "NVIDIA H200 MIG 3g.71gb"
FULL, BROKEN, SLOW = 8, 7, 6
"""Numbers of images at which the network of the served app fails, or takes its time."""

STAND_IN = """
import functools, inspect, json, multiprocessing, os, sys, threading, traceback
from queue import SimpleQueue

if "gradio" in sys.modules and not hasattr(sys.modules["gradio"], "Blocks"):
    raise ImportError("Gradio tries to import it itself")

import gradio as gr
import torch

fork = multiprocessing.get_context("fork")
available, begin = torch.cuda.is_available, torch._C.__dict__.get("_cuda_init")


def note(**facts):
    with open(os.environ["STAND_IN_LOG"], "a") as file:
        file.write(json.dumps(facts | {"pid": os.getpid()}) + "\\n")


def refuse():
    raise RuntimeError("CUDA was reached where there is no card")


note(event="imported", cuda=torch.cuda.is_initialized())
torch.cuda.is_available = lambda: True
torch.cuda.get_device_name = lambda *_: "NVIDIA H200 MIG 3g.71gb"
torch._C._cuda_init = refuse


def gradio_auto_wrap(task):
    return task


def GPU(task=None, *, duration=60):
    if task is None:
        return functools.partial(GPU, duration=duration)
    assert inspect.isgeneratorfunction(task)
    note(event="decorated", name=task.__name__)

    @functools.wraps(task)
    def handler(*args, **kwargs):
        asked = duration(*args, **kwargs) if callable(duration) else duration
        note(event="asked", seconds=asked, kind=type(asked).__name__)
        yield from lent(task, args, kwargs)

    return handler


def lent(task, args, kwargs):
    reader, writer = fork.Pipe(duplex=False)
    stop, arguments = fork.Event(), multiprocessing.reduction.ForkingPickler.dumps((args, kwargs))
    worker = fork.Process(target=work, args=(task, bytes(arguments), writer, stop), daemon=True)
    worker.start()
    writer.close()
    came = SimpleQueue()
    filler = threading.Thread(target=fill, args=(reader, came), daemon=True)
    filler.start()
    try:
        while True:
            kind, value = came.get()
            if kind == "end":
                return
            if kind != "ok":
                raise gr.Error(value, title="ZeroGPU worker error", print_exception=False)
            yield value
    except GeneratorExit:
        stop.set()
        raise
    finally:
        filler.join()


def fill(reader, came):
    while True:
        try:
            kind, value = reader.recv()
        except EOFError:
            kind, value = "aborted", "GPU task aborted"
        came.put((kind, value))
        if kind != "ok":
            return


def work(task, arguments, writer, stop):
    torch.cuda.is_available = available
    if begin:
        torch._C._cuda_init = begin
    note(event="worker")
    thread = threading.Thread(target=iterate, args=(task, arguments, writer, stop))
    thread.start()
    thread.join()


def iterate(task, arguments, writer, stop):
    args, kwargs = multiprocessing.reduction.ForkingPickler.loads(arguments)
    run = task(*args, **kwargs)
    try:
        for value in run:
            if stop.is_set():
                run.close()
                break
            writer.send(("ok", value))
        writer.send(("end", None))
    except Exception as error:
        traceback.print_exc()
        writer.send(("error", type(error).__name__))
    note(event="ended")
"""


@dataclass(frozen=True)
class Space:
    """The served app.

    Attributes:
        url: its address.
        log: what the stand-in wrote down.
        said: what the server printed.
    """

    url: str
    log: Path
    said: Path

    def events(self, kind: str) -> list[dict[str, Any]]:
        """What happened of one kind, in order."""
        return [event for event in read_log(self.log) if event["event"] == kind]


def read_log(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def main() -> None:
    """Serves the app until standard input ends, as `app.main` does, with a network that fails."""
    import app
    from pipelines.models import table
    from tests.conftest import serve

    assert app
    table.BUNDLED = Path(os.environ["TINY_CHECKPOINTS"])
    plain = denoisers.denoiser
    denoisers.denoiser = lambda *told: troubled(plain(*told))
    with serve() as url:
        print("ADDRESS", url, flush=True)
        os.read(0, 1)  # not by `sys.stdin`, whose lock the forked processes would wait for


def troubled(predict: Predictor) -> Predictor:
    """A network that has trouble with some numbers of images."""

    def predict_or_fail(x_t: Tensor, t: Tensor) -> Tensor | CfgOutput:
        if len(x_t) == FULL:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 PiB.")
        if len(x_t) == BROKEN:
            raise KeyError("secret path /home/someone")
        if len(x_t) == SLOW:
            time.sleep(0.1)
        return predict(x_t, t)

    return predict_or_fail


def surroundings(folder: Path, is_lent: str) -> dict[str, str]:
    """The environment of a process that finds the stand-in."""
    (folder / "spaces").mkdir()
    (folder / "spaces" / "__init__.py").write_text(STAND_IN)
    own = {name: value for name, value in os.environ.items() if name != "STUDIO_DEVICE"}
    return own | {
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
        "SPACES_ZERO_GPU": is_lent,
        "STAND_IN_LOG": str(folder / "log.jsonl"),
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Iterator[Space]:
    """The app with tiny checkpoints, as ZeroGPU serves it."""
    folder = tmp_path_factory.mktemp("zerogpu")
    around = surroundings(folder, "1") | {"TINY_CHECKPOINTS": str(tiny_folder)}
    command = [sys.executable, "-c", "from tests.app.test_zero_gpu import main; main()"]
    pipe = subprocess.PIPE
    with (
        (folder / "said.txt").open("w") as said,
        subprocess.Popen(command, env=around, stdin=pipe, stdout=pipe, stderr=said, text=True) as p,
    ):
        assert p.stdout
        assert p.stdin
        address = next((line for line in p.stdout if line.startswith("ADDRESS")), "")
        assert address, (folder / "said.txt").read_text()
        yield Space(address.split()[1], folder / "log.jsonl", folder / "said.txt")
        p.stdin.close()


@pytest.fixture(scope="module")
def client(space: Space) -> Client:
    return Client(space.url, verbose=False)


def opened(pictures: list[Any]) -> list[Image.Image]:
    return [Image.open(path if isinstance(path, str) else path["path"]) for path in pictures]


@pytest.mark.thorough
def test_a_function_that_needs_a_card_is_there_before_the_app_serves_and_cuda_untouched(
    space: Space, client: Client
):
    assert client.predict(api_name="/checkpoints")[0]["device"] == CARD
    first, second = read_log(space.log)[:2]
    assert (first["event"], first["cuda"]) == ("imported", False)
    assert (second["event"], second["name"]) == ("decorated", "on_lent_gpu")
    assert len(space.events("decorated")) == 1


@pytest.mark.parametrize(
    ("endpoint", "generate", "settings"),
    [
        ("/color", color.generate, ColorSettings(color="gold", num_inference_steps=4)),
        ("/text", text.generate, TextSettings(prompt="ships on the sea", num_inference_steps=4)),
        ("/digits", digits.generate, DigitsSettings(digits="12", num_inference_steps=4)),
    ],
)
@pytest.mark.usefixtures("tiny_checkpoints")
def test_pictures_come_from_a_process_of_their_own_and_are_those_of_any_other_machine(
    space: Space, client: Client, endpoint: str, generate: Callable[..., Any], settings: Any
):
    before = len(space.events("worker"))
    pictures, info = client.predict(**vars(settings), api_name=endpoint)
    server, workers = space.events("imported")[0]["pid"], space.events("worker")[before:]
    assert len(workers) == 1
    assert workers[0]["pid"] != server
    assert info["step"] == info["total_steps"] == 4
    *_, last = generate(settings)
    for found, expected in zip(opened(pictures), last.pictures, strict=True):
        pixels = (images.to_tensor(picture.convert(expected.mode)) for picture in (found, expected))
        torch.testing.assert_close(*pixels, rtol=0, atol=1.01 / 127.5)


@pytest.mark.thorough
def test_the_seconds_asked_for_are_whole_and_follow_from_the_settings(space: Space, client: Client):
    def asked(**given: Any) -> int:
        client.predict(**given, api_name="/color")
        told = space.events("asked")[-1]
        assert told["kind"] == "int"
        return told["seconds"]

    assert 10 <= asked(num_inference_steps=1) <= asked(num_inference_steps=40) <= 120


def test_a_prompt_that_only_the_clip_can_refuse_is_refused_in_its_sentence(client: Client):
    words_too_many = "a portrait of a woman " * 9
    with pytest.raises(AppError, match=r"prompt must be at most 14 tokens for clip-small"):
        client.predict(words_too_many, num_inference_steps=2, api_name="/text")


def test_a_setting_that_is_wrong_asks_for_no_card(space: Space, client: Client):
    before = len(space.events("asked"))
    with pytest.raises(AppError, match="num_images must be a whole number from 1 to 8, got 9"):
        client.predict("gold", num_images=9, api_name="/color")
    assert len(space.events("asked")) == before


@pytest.mark.thorough
def test_a_card_that_is_too_small_is_told_with_advice_and_the_next_run_works(client: Client):
    with pytest.raises(AppError) as caught:
        client.predict("gold", num_images=FULL, num_inference_steps=2, api_name="/color")
    assert str(caught.value) == OUT_OF_MEMORY
    _, info = client.predict("gold", num_inference_steps=2, api_name="/color")
    assert info["step"] == 2


def test_the_unexpected_is_logged_here_under_an_id_with_where_it_happened_there(
    space: Space, client: Client
):
    with pytest.raises(AppError, match=r"Something went wrong here\.") as caught:
        client.predict("gold", num_images=BROKEN, num_inference_steps=2, api_name="/color")
    assert "KeyError" not in str(caught.value)
    (incident,) = re.findall(r"\b[0-9a-f]{8}\b", str(caught.value))
    _, logged = space.said.read_text().split(f"incident {incident}", 1)
    assert "secret path /home/someone" in logged
    assert "in predict_or_fail" in logged


def test_a_cancelled_run_ends_in_its_process_too(space: Space, client: Client):
    begun, ended = len(space.events("worker")), len(space.events("ended"))
    settings: dict[str, Any] = {"num_images": SLOW, "num_inference_steps": 200, "seed": 99}
    job = client.submit("gold", **settings, api_name="/color")
    wait_until(lambda: len(job.outputs()) > 0)
    job.cancel()
    wait_until(lambda: len(space.events("ended")) > ended)
    assert len(space.events("worker")) == begun + 1


def wait_until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.05)


@pytest.mark.thorough
def test_the_page_draws_sweeps_and_tells_what_failed(browser: Browser, space: Space):
    found = visit(browser, space.url, tab="Digits")
    hasten(found)
    found.finish("42")
    expect(found.tiles).to_have_count(4)
    expect(found.part("inside").locator(".of-picture:visible .frame").first).to_be_visible()
    found.unfold("sweep")
    found.part("sweep-columns-values").locator("input, textarea").fill("1-2")
    found.part("sweep-rows-values").locator("input, textarea").fill("1, 2")
    found.part("sweep-draw").click()
    expect(found.part("sweep-status")).to_contain_text("Done")
    expect(found.part("sweep-grid").locator("td img")).to_have_count(4)
    found.open_tab("Colour")
    hasten(found)
    found.number("num-images").fill(str(FULL))
    found.number("num-images").press("Tab")
    with found.drawn_anew(i18n.translate(i18n.DEFAULT, "status.failed")):
        found.part("draw").click()
    expect(found.page.get_by_text(OUT_OF_MEMORY)).to_be_visible()
    found.problems.clear()
    found.leave()


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize(
    ("product", "settings"),
    [
        (COLOR, ColorSettings(num_inference_steps=3)),
        (TEXT, TextSettings(num_inference_steps=3)),
        (DIGITS, DigitsSettings(digits="1", num_inference_steps=3)),
    ],
)
def test_what_crosses_between_processes_is_bytes_light_until_the_last(
    product: Product, settings: Any
):
    packed = list(lend(product, settings))
    assert all(isinstance(data, bytes) for data in packed)
    *early, last = zero_gpu.unpacked(iter(packed))
    assert all(not preview.history.frames and not preview.history.moments for preview in early)
    assert [len(preview.history.gradients) for preview in early] == [1, 2]
    assert len(last.history.frames) == len(last.history.moments) == 3
    *_, plain = product.run(settings)
    for found, expected in zip(last.pictures, plain.pictures, strict=True):
        assert images.to_data_uri(found) == images.to_data_uri(expected)


def lend(product: Product, settings: Any) -> Iterator[Any]:
    """What the process with the card sends, run here."""
    return zero_gpu.on_lent_gpu(product.generate, settings, True, product.work(settings))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (SettingsError("prompt_missing"), SettingsError),
        (CheckpointError("files_damaged", key="mine"), CheckpointError),
        (torch.OutOfMemoryError("too much"), MemoryError),
        (MemoryError(), MemoryError),
    ],
)
def test_expected_errors_cross_between_processes_and_leave_the_process_in_use(
    error: Exception, kind: type[Exception]
):
    def failing(*_: Any, **__: Any) -> Iterator[Any]:
        raise error
        yield

    stream = zero_gpu.on_lent_gpu(failing, None, True, timing.Work(("color",), 1, 1))
    (packed,) = list(stream)
    with pytest.raises(kind) as caught:
        list(zero_gpu.unpacked(iter([packed])))
    assert str(caught.value) == str(error)


def test_after_an_unexpected_error_the_process_is_given_up():
    def failing(*_: Any, **__: Any) -> Iterator[Any]:
        raise KeyError("no such thing")
        yield

    stream = zero_gpu.on_lent_gpu(failing, None, True, timing.Work(("color",), 1, 1))
    with pytest.raises(RuntimeError, match="KeyError: 'no such thing'"):
        list(zero_gpu.unpacked(iter([next(stream)])))
    with pytest.raises(RuntimeError, match="a run failed"):
        next(stream)


@pytest.fixture
def unknown_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "estimator", timing.Estimator())


def seconds_of(product: Product, settings: Any) -> int:
    return zero_gpu.lent_seconds(product.generate, settings, True, product.work(settings))


@pytest.mark.usefixtures("unknown_pace")
@pytest.mark.parametrize(
    ("product", "settings", "more"),
    [
        (COLOR, ColorSettings(), {"num_images": 8}),
        (COLOR, ColorSettings(), {"method": "thorough"}),
        (TEXT, TextSettings(), {"num_images": 8}),
        (DIGITS, DigitsSettings(digits="1"), {"digits": "0123456789"}),
    ],
)
def test_the_seconds_asked_for_grow_with_steps_and_pictures(
    product: Product, settings: Any, more: dict[str, Any]
):
    steps = [seconds_of(product, replace(settings, num_inference_steps=n)) for n in (5, 20, 40)]
    assert all(isinstance(seconds, int) for seconds in steps)
    assert 10 < steps[0] < steps[1] < steps[2] <= 120
    assert seconds_of(product, replace(settings, **more)) > seconds_of(product, settings)


@pytest.mark.parametrize(("measured", "expected"), [(0.0, 10), (5.0, 20), (1e6, 120)])
@pytest.mark.usefixtures("unknown_pace")
def test_the_seconds_asked_for_are_twice_those_that_were_measured_from_10_to_120(
    measured: float, expected: int
):
    work = DIGITS.work(DigitsSettings())
    timing.estimator.note(work, measured)
    assert seconds_of(DIGITS, DigitsSettings()) == expected


@pytest.mark.usefixtures("unknown_pace")
def test_the_most_that_can_be_asked_of_the_app_asks_for_no_more_than_zerogpu_lends():
    most = ColorSettings(num_inference_steps=250, num_images=8, method="thorough", repeats=4)
    assert seconds_of(COLOR, most) == 120


@pytest.mark.parametrize(
    ("said", "meant"),
    [("1", True), ("true", True), ("True", True), ("t", True), ("0", False), ("false", False)],
)
def test_the_variable_is_read_as_the_package_reads_it(
    monkeypatch: pytest.MonkeyPatch, said: str, meant: bool
):
    monkeypatch.setenv("SPACES_ZERO_GPU", said)
    assert runpy.run_path(str(ROOT / "pipelines" / "core" / "devices.py"))["ZERO_GPU"] is meant


def test_elsewhere_nothing_is_decorated():
    assert not devices.ZERO_GPU

    def generator() -> Iterator[int]:
        yield 1

    assert devices.on_lent_gpu(lambda: 1, prepare=lambda: None)(generator) is generator
    assert inspect.isgeneratorfunction(zero_gpu.on_lent_gpu)
    assert not hasattr(zero_gpu.on_lent_gpu, "__wrapped__")


@pytest.mark.thorough
def test_elsewhere_the_package_is_not_imported_even_where_it_is_installed(tmp_path: Path):
    around = surroundings(tmp_path, "0")
    command = [sys.executable, "-c", "import app; app.build_demo()"]
    subprocess.run(command, env=around, check=True, cwd=ROOT, timeout=120)
    assert read_log(tmp_path / "log.jsonl") == []
