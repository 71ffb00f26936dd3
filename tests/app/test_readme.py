"""What README and docs/api.md tell callers: every block of code is run, on a real served app."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from gradio_client import Client
from PIL import Image, ImageChops, ImageOps, ImageStat
from playwright.sync_api import Browser, expect

import app
from pipelines.core import images
from pipelines.diffusion import losses, sampling
from pipelines.diffusion.guidance import Guide
from pipelines.diffusion.methods import METHODS
from pipelines.diffusion.noise import draw_noise, seeded
from pipelines.diffusion.solvers import make_schedule
from pipelines.products.edit import EditSettings
from pipelines.products.settings import ColorSettings, DigitsSettings, TextSettings
from tabs import temp_files
from tabs.server import limits
from tests.browser.visits import facts_in
from tests.conftest import Meter, serve

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
DOCUMENTS = sorted(path.relative_to(ROOT) for path in (ROOT / "docs").glob("*.md"))
CACHE = ROOT / ".cache" / "js"
NODE = Path(sys.executable).parent  # Node comes as a wheel
ADDRESS = "http://127.0.0.1:7860"
HERE = "/path/to/guided-diffusion-studio"
REFUSED = "digits must be 1 to 64 characters 0-9, got 'twelve'"


@dataclass(frozen=True)
class Block:
    """A block of code, the headings that it stands under, and what it is written in."""

    under: str
    language: str
    code: str


def blocks_of(document: str) -> Iterator[Block]:
    """The blocks of a document, in order; commands for a shell count only in docs/api.md."""
    for section in re.split(r"^## ", document, flags=re.MULTILINE)[1:]:
        under = section.partition("\n")[0]
        for language, code in re.findall(r"(?sm)^```(\w+)\n(.*?)^```", section):
            if document == PAGE or language != "sh":
                yield Block(under, language, code)


@dataclass(frozen=True)
class Outcome:
    """What a block printed, and the folder that it ran in."""

    printed: str
    folder: Path

    def pictures(self) -> list[Path]:
        return sorted(self.folder.glob("*.png"))

    def numbers(self) -> list[float]:
        return [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", self.printed)]


def saved(outcome: Outcome, count: int, size: tuple[int, int], **settings: Any) -> None:
    """So many pictures lie there, as PNGs that know these settings."""
    paths = outcome.pictures()
    assert len(paths) == count
    for path in paths:
        with Image.open(path) as picture:
            assert (picture.format, picture.size) == ("PNG", size)
        inside = facts_in(path)["settings"]
        assert inside | settings == inside


def counted(outcome: Outcome, total: int) -> None:
    """A line for each preview, the last of which is the last step."""
    steps = re.findall(rf"^step (\d+) of {total}: \S+digit-0\.png$", outcome.printed, re.MULTILINE)
    assert len(steps) > 2
    assert [int(step) for step in steps] == sorted(int(step) for step in steps)
    assert int(steps[0]) < int(steps[-1]) == total


def events(outcome: Outcome) -> list[tuple[str, Any]]:
    """What `curl` was told, by the kind of event."""
    found = re.findall(r"^event: (\w+)\ndata: (.*)$", outcome.printed, re.MULTILINE)
    return [(kind, json.loads(data)) for kind, data in found if kind != "heartbeat"]


def completed(outcome: Outcome) -> None:
    *previews, (last, (images, info)) = events(outcome)
    assert last == "complete"
    assert {kind for kind, _ in previews} == {"generating"}
    assert len(images) == 2
    assert (info["seed"], info["step"], info["total_steps"]) == (7, 10, 10)


def paints(outcome: Outcome) -> None:
    saved(outcome, 2, (64, 64), color="#008080", seed=7)
    before, after = outcome.numbers()[:2], outcome.numbers()[2:]
    assert sum(after) < sum(before)


def follows_words(outcome: Outcome) -> None:
    before, after = outcome.numbers()
    assert after > before
    assert outcome.printed.endswith("[]\n")


def draws(outcome: Outcome) -> None:
    saved(outcome, 4, (28, 28), digits="2024", seed=7)
    seed, seconds, cfg_scale = outcome.numbers()
    assert (seed, cfg_scale) == (7, DigitsSettings.cfg_scale)
    assert 0 < seconds < 60


def edits(outcome: Outcome) -> None:
    """Only what is white in the mask has changed, and it is golden."""
    (change,) = outcome.numbers()
    assert outcome.printed.endswith("fill\n")
    assert change > 0
    with Image.open(outcome.folder / "edited.png") as found:
        edited = found.convert("RGB")
    came = images.from_data_uri(facts_in(outcome.folder / "edited.png")["settings"]["image"])
    assert edited.size == came.size == (64, 64)
    changed = ImageChops.difference(edited, came.convert("RGB")).getbbox()
    assert changed is not None
    assert min(changed[:2]) >= 16
    assert max(changed[2:]) <= 48
    red, _, blue = ImageStat.Stat(edited.crop((16, 16, 48, 48))).mean
    assert red > blue + 40


def streams(outcome: Outcome) -> None:
    counted(outcome, 50)


def is_refused(outcome: Outcome) -> None:
    assert outcome.printed == f"{REFUSED}\n"


def streams_and_is_refused(outcome: Outcome) -> None:
    counted(outcome, 50)
    assert outcome.printed.endswith(f"png\n{REFUSED}\n")


def completes_and_saves(outcome: Outcome) -> None:
    completed(outcome)
    saved(outcome, 2, (28, 28), digits="42", seed=7)


def is_an_error_event(outcome: Outcome) -> None:
    ((kind, data),) = events(outcome)
    assert (kind, data["error"]) == ("error", REFUSED)


def draws_in_a_notebook(outcome: Outcome) -> None:
    assert outcome.printed.splitlines() == [f"{step} 10" for step in range(1, 11)]
    with Image.open(outcome.folder / "four.png") as picture:
        assert (picture.format, picture.size) == ("PNG", (28, 28))


def is_symmetric(outcome: Outcome) -> None:
    steps = re.findall(r"^(\d+) 20 tensor", outcome.printed, re.MULTILINE)
    assert [int(step) for step in steps] == list(range(1, 21))
    with Image.open(outcome.folder / "symmetric.png") as picture:
        assert (picture.format, picture.size) == ("PNG", (64, 64))
        mirrored, upside_down = ImageOps.mirror(picture), ImageOps.flip(picture)
        assert difference(picture, mirrored) < difference(picture, upside_down) / 2


def difference(one: Image.Image, other: Image.Image) -> float:
    """Mean of how much bytes differ."""
    pairs = list(zip(one.tobytes(), other.tobytes(), strict=True))
    return sum(abs(a - b) for a, b in pairs) / len(pairs)


Check = Callable[[Outcome], None]
CHECKS: list[tuple[str, str, Check]] = [
    ("From a program", "python", paints),
    ("Python", "python", paints),
    ("Python", "python", follows_words),
    ("Python", "python", draws),
    ("Python", "python", edits),
    ("Python", "python", streams),
    ("Python", "python", is_refused),
    ("JavaScript", "js", draws),
    ("JavaScript", "js", streams_and_is_refused),
    ("curl", "sh", completes_and_saves),
    ("curl", "sh", completed),
    ("curl", "sh", is_an_error_event),
    ("In a notebook", "python", draws_in_a_notebook),
    ("In a notebook", "python", is_symmetric),
]
"""What comes out of each block, in their order; the page has a test of its own."""

BLOCKS = [*blocks_of(README), *blocks_of(PAGE)]
PAGES = [block for block in BLOCKS if block.language == "html"]
PROGRAMS = [block for block in BLOCKS if block.language != "html"]


def test_every_block_has_a_check():
    assert [(b.under, b.language) for b in PROGRAMS] == [(u, lang) for u, lang, _ in CHECKS]
    assert len(PAGES) == 1


@pytest.mark.parametrize(
    ("block", "check"),
    [
        pytest.param(block, check, id=f"{block.under}: {check.__name__}")
        for block, (_, _, check) in zip(PROGRAMS, CHECKS, strict=False)  # the test above is strict
    ],
)
@pytest.mark.thorough
def test_a_block_does_what_it_says(served: str, tmp_path: Path, block: Block, check: Check):
    check(Outcome(run(block, served, tmp_path), tmp_path))


@pytest.mark.thorough
def test_the_page_shows_a_digit_form(browser: Browser, served: str, tmp_path: Path):
    library = node_modules() / "@gradio" / "client"
    (page_code,) = PAGES
    (tmp_path / "index.html").write_text(at(page_code.code, served))
    network = f"https://cdn.jsdelivr.net/npm/@gradio/client@{pinned()}/"
    page = browser.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.route(
        f"{network}**",
        lambda route: route.fulfill(
            path=library / route.request.url.removeprefix(network),
            headers={"Access-Control-Allow-Origin": "*", "Content-Type": "text/javascript"},
        ),
    )
    with file_server(tmp_path) as address:
        page.goto(address)
        expect(page.locator("#said")).to_have_text("step 50 of 50", timeout=60_000)
        page.wait_for_function("document.querySelector('#digit').naturalWidth === 28")
    page.close()
    assert problems == []


@pytest.mark.thorough
def test_the_page_of_the_api_names_the_endpoints(browser: Browser, served: str):
    page = browser.new_page()
    page.goto(served)
    page.get_by_role("button", name="Use via API").click()
    for name in ("/color", "/text", "/digits", "/edit", "/checkpoints"):
        expect(page.locator(".api-docs").get_by_text(name).first).to_be_visible(timeout=60_000)
    assert page.url == f"{served}?view=api"
    page.close()
    described = httpx.get(f"{served}gradio_api/openapi.json").json()["paths"]
    assert "/gradio_api/call/v2/digits" in described


@pytest.mark.parametrize("settings", [ColorSettings, TextSettings, DigitsSettings, EditSettings])
def test_the_tables_are_in_the_order_of_the_parameters(served: str, settings: type):
    name = "/" + settings.__name__.removesuffix("Settings").lower()
    table = PAGE.partition(f"| `{name}` takes |")[2].partition("\n\n")[0]
    rows = [row.split("|")[1] for row in table.splitlines()[2:]]
    listed = [found for row in rows for found in re.findall(r"`(\w+)`", row)]
    api: Any = Client(served, verbose=False).view_api(return_format="dict", print_info=False)
    parameters = api["named_endpoints"][name]["parameters"]
    assert listed == [parameter["parameter_name"] for parameter in parameters]


COMMAND = re.compile(
    r"(?<!\w)(?:\.venv/bin/)?python (?:app\.py|-m (?:benchmarks|pipelines|training)\b)"
)


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md", *map(str, DOCUMENTS)])
def test_commands_name_the_python_that_make_run_installs_into(name: str):
    """Only `.venv` has the packages; without `make` they are wherever pip puts them."""
    text = (ROOT / name).read_text(encoding="utf-8")
    bare = [c for c in COMMAND.findall(text) if not c.startswith(".venv/bin/")]
    assert bare == (["python app.py"] if name.startswith("README") else [])


def test_a_plain_function_is_a_loss_for_every_method_as_the_page_on_design_says():
    section = (
        (ROOT / "docs" / "design.md").read_text(encoding="utf-8").partition("## Adding a loss")
    )
    found: dict[str, Any] = {}
    exec(re.findall(r"(?s)```python\n(.*?)```", section[2])[0], found)
    x0 = torch.zeros(2, 3, 8, 8)
    schedule = make_schedule(
        {"beta_schedule": "linear"}, solver="ddim", num_inference_steps=3, device="cpu"
    )
    for name, method in METHODS.items():
        guide = Guide(method, [losses.Term(found["warmth"])], scale=method.default_scale)
        generators = seeded([0, 1])
        noise = draw_noise(generators, (3, 8, 8))
        *_, last = sampling.sample(
            lambda x_t, t: x_t * 0.9,
            noise,
            schedule,
            prediction_type="epsilon",
            eta=0.0,
            generators=generators,
            guide=guide,
        )
        assert last.loss is not None, name
        assert last.loss.shape == x0.shape[:1]
        assert bool(last.loss.isfinite().all())


def test_the_table_of_limits_has_those_of_the_app():
    table = PAGE.partition("| limit | | past it |")[2].partition("\n\n")[0]
    rows = {row.split(" | ")[0].strip("| "): row.split(" | ")[1] for row in table.splitlines()[2:]}
    assert rows["waiting"] == str(app.MAX_QUEUE)
    assert rows["of one session"].startswith(f"{limits.RUNS_PER_SESSION} runs ")
    assert rows["of one session"].endswith(f"of one address {limits.RUNS_PER_ADDRESS}")
    assert rows["one run"] == f"{limits.DEADLINE_SECONDS:g} s"
    assert rows["pictures"] == "results up to an hour, previews twenty seconds"
    assert (temp_files.MAX_SECONDS, temp_files.GRACE_SECONDS) == (3600, 20)
    assert app.build_demo().delete_cache == (3600, 3600)


def test_mistakes_over_http_are_answered_as_the_page_says(served: str):
    calls = f"{served}gradio_api/call"
    assert httpx.post(f"{calls}/v2/digits", json={"digitz": "1"}).status_code == 422
    begun = httpx.post(f"{calls}/digits", json={"data": ["1", 2.2, 3]}).json()["event_id"]
    answer = httpx.get(f"{calls}/digits/{begun}", timeout=60).text
    assert "event: complete" in answer
    assert '"total_steps": 3' in answer
    assert '"solver": "dpm++"' in answer
    drawn = httpx.post(f"{calls}/v2/digits", json={"digits": "1"}).json()["event_id"]
    (path,) = set(re.findall(r'"path": "([^"]*)"', httpx.get(f"{calls}/digits/{drawn}").text)[-1:])
    assert httpx.get(f"{served}gradio_api/file={path}").headers["content-type"] == "image/png"
    Path(path).unlink()
    assert httpx.get(f"{served}gradio_api/file={path}").status_code == 403


@pytest.mark.thorough
def test_a_full_queue_is_said_over_http_and_in_javascript(meter: Meter, tmp_path: Path):
    with serve(max_queue=1) as url:
        calls = f"{url}gradio_api/call"
        long, short = ({"digits": "1", "num_inference_steps": n} for n in (250, 1))
        running = httpx.post(f"{calls}/v2/digits", json=long).json()["event_id"]
        assert meter.started.wait(20)
        waiting = httpx.post(f"{calls}/v2/digits", json=short)
        refused = httpx.post(f"{calls}/v2/digits", json=short)
        assert (waiting.status_code, refused.status_code) == (200, 503)
        assert refused.json()["detail"].startswith("Queue is full")
        (_, streamed) = (block for block in PROGRAMS if block.language == "js")
        assert "currently busy" in run(streamed, url, tmp_path)
        with httpx.stream("GET", f"{calls}/digits/{running}", timeout=60) as told:
            next(told.iter_lines())
        assert meter.settled()  # the caller has left
        assert meter.calls < 2 * 250


def run(block: Block, served: str, folder: Path) -> str:
    """What a block prints, in an interpreter of its own.

    Raises:
        AssertionError: when it fails.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    assert (HERE if block.under == "In a notebook" else ADDRESS) in block.code
    suffix = {"python": "py", "js": "mjs", "sh": "sh"}[block.language]
    file = folder / f"block.{suffix}"
    file.write_text(at(block.code, served), encoding="utf-8")
    command = [*interpreter(block.language, folder), file.name]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return re.sub(r"(?m)^Loaded as API.*\n", "", done.stdout)


def at(code: str, served: str) -> str:
    return code.replace(ADDRESS, served.rstrip("/")).replace(HERE, str(ROOT))


def interpreter(language: str, folder: Path) -> list[str]:
    """What runs a file of a language, in a folder in which that finds its packages."""
    if language == "python":
        return [sys.executable]
    if language == "js":
        (folder / "node_modules").symlink_to(node_modules())
        return [str(NODE / "node")]
    if shutil.which("curl") is None:
        pytest.fail("The curl examples are run, and there is no curl: install it.")
    return ["sh", "-eu"]


def pinned() -> str:
    """The version of `@gradio/client` that the examples are run with."""
    package = json.loads((ROOT / "tests" / "js" / "package.json").read_text())
    return package["dependencies"]["@gradio/client"]


def node_modules() -> Path:
    """Folder of the pinned packages, which npm fetches when they are not there yet."""
    CACHE.mkdir(parents=True, exist_ok=True)
    lock, there = ROOT / "tests" / "js" / "package-lock.json", CACHE / "package-lock.json"
    fresh = there.exists() and there.read_bytes() == lock.read_bytes()
    if not (fresh and (CACHE / "node_modules").is_dir()):
        shutil.copy(lock.with_name("package.json"), CACHE)
        fetching = [str(NODE / "npm"), "ci", "--no-audit", "--no-fund"]
        shutil.copy(lock, CACHE)
        done = subprocess.run(fetching, cwd=CACHE, capture_output=True, text=True, timeout=240)
        if done.returncode:
            there.unlink()
            pytest.fail(f"npm could not fetch @gradio/client: {done.stderr}")
    return CACHE / "node_modules"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@contextmanager
def file_server(folder: Path) -> Iterator[str]:
    """Serves a folder, as `python -m http.server` does."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
