"""Draws the cases of `benchmarks.same_pictures` with one tree of the project, into one file.

    PYTHONPATH=TREE python -P benchmarks/same_pictures_draw.py OUT.npz --examples FOLDER

It is run by its path, so that a tree that lacks this file can be drawn with. Hence it uses only
what version 0.2 has and later versions keep: the names that `pipelines` exports, the endpoints of
the app, and `python app.py`. The file gets one array per name, `case/array`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
import time
import traceback
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from gradio_client import Client
from numpy.typing import NDArray
from PIL import Image

import pipelines
from pipelines import checkpoints, color, digits, guidance, images, losses, record, sampling, text
from pipelines.settings import ColorSettings, DigitsSettings, TextSettings

Arrays = dict[str, NDArray[Any]]

OWN_MODELS = ("tiny-stock", "tiny-folded")
"""Names of the user's own models; `STUDIO_CHECKPOINTS` must say where they lie."""

MODELS = ("paintings", "scenes", "emoji")
METHODS = ("fast", "balanced", "thorough", "course")
STEPS_MODEL = "emoji"
SOLVERS = ("dpm++", "dpm++-guided", "dpm++-logsnr", "dpm++-3m", "ddim", "ddim-leading")
ETAS = (0.0, 0.4, 1.0)

_GENERATE = {
    ColorSettings: color.generate,
    TextSettings: text.generate,
    DigitsSettings: digits.generate,
}
# Numbers of a finished run, with the names that versions have for them.
_NUMBERS = {
    "losses": ("losses",),
    "unguided_losses": ("unguided_losses",),
    "similarities": ("similarities",),
    "unguided_similarities": ("unguided_similarities",),
    "confidence": ("confidence", "sureness"),
    "unguided_confidence": ("unguided_confidence", "unguided_sureness"),
    "score_before": ("score_before",),
    "score_after": ("score_after",),
    "seeds": ("seeds",),
    "failed_steps": ("failed_steps",),
}
_SCALES = {"course": 40.0}  # of the methods that take another one than 0.2
_START_SECONDS = 180.0


@dataclass(frozen=True)
class Case:
    """One thing to draw.

    Attributes:
        name: `kind: what`, where the kind is "color", "text", "digits" or "steps".
        draw: makes its arrays.
        quick: whether the small subset has it.
    """

    name: str
    draw: Callable[[], Arrays]
    quick: bool = False


def pixels(pictures: Sequence[Image.Image]) -> NDArray[Any]:
    """8 bits, `(b, h, w)` or `(b, h, w, 3)`; `(0,)` for no pictures."""
    return np.stack([np.asarray(p) for p in pictures]) if pictures else np.zeros(0, np.uint8)


def drawn(settings: Any, *, compare: bool = True) -> Arrays:
    """The pictures of a finished run, and those numbers that it has."""
    *_, last = _GENERATE[type(settings)](settings, compare=compare)
    arrays = {"pictures": pixels(last.pictures), "unguided": pixels(last.unguided)}
    for name, attributes in _NUMBERS.items():
        values = next((getattr(last, a) for a in attributes if hasattr(last, a)), [])
        if len(values):
            arrays[name] = np.array(values, dtype=np.float64)
    return arrays


def case_of(what: str, settings: Any, *, quick: bool = False, compare: bool = True) -> Case:
    """A run of one tab."""
    kind = {ColorSettings: "color", TextSettings: "text", DigitsSettings: "digits"}[type(settings)]
    if any(field.name == "timesteps" for field in dataclasses.fields(settings)):
        settings = dataclasses.replace(settings, timesteps="spaced")  # 0.2 had no others
    return Case(f"{kind}: {what}", lambda: drawn(settings, compare=compare), quick)


# --- the examples of the app ---------------------------------------------------------------------


def examples(folder: Path) -> Iterator[Case]:
    """Every example, drawn as its file says."""
    for path in sorted(folder.glob("*.png")):
        settings = record.read(path).settings
        yield case_of(f"example {path.stem}", settings)


# --- colours -------------------------------------------------------------------------------------


def mask() -> str:
    """A mask of 16 px that grows from black to white, with a black frame."""
    ramp = np.linspace(0, 255, 16).round().astype(np.uint8)
    picture = np.tile(ramp, (16, 1))
    picture[[0, -1]] = 0
    return images.to_data_uri(Image.fromarray(picture))


def colors() -> Iterator[Case]:
    """Every method on every bundled model, and every setting of the tab."""
    common: dict[str, Any] = {"num_inference_steps": 6, "num_images": 2, "seed": 21}
    for model in MODELS:
        for method in METHODS:
            scale = _SCALES.get(method, 0.2)
            settings = ColorSettings(model=model, method=method, guidance_scale=scale, **common)
            yield case_of(f"{model}, {method}", settings, quick=model == "emoji")
    two_colors = "#102040 60, #E0A030 40"
    features: dict[str, dict[str, Any]] = {
        **{f"region {r}": {"region": r} for r in ("top", "bottom", "left", "right", "centre")},
        "mask": {"mask": mask()},
        "palette": {"palette": two_colors},
        "palette under a mask": {"palette": two_colors, "mask": mask()},
        "palette of a region": {"palette": two_colors, "region": "left"},
        "brightness": {"brightness": 0.8},
        "contrast": {"contrast": 0.3},
        "symmetry left-right": {"symmetry": "left-right"},
        "symmetry top-bottom": {"symmetry": "top-bottom"},
        "extras together": {
            "brightness": 0.3,
            "contrast": 0.2,
            "symmetry": "left-right",
            "extras_weight": 0.4,
        },
        "pixels": {"loss": "pixels"},
        "start and stop": {"start": 0.2, "stop": 0.7},
        "every second step": {"every": 2},
        "repeats": {"repeats": 3},
        "eta 0": {"eta": 0.0},
        "eta 0.5": {"eta": 0.5},
        "eta 1": {"eta": 1.0},
        "no guidance": {"guidance_scale": 0.0},
        "most guidance": {"guidance_scale": 0.5},
        "one step": {"num_inference_steps": 1},
        "one picture": {"num_images": 1},
        "many steps": {"num_inference_steps": 30},
        "last seed": {"seed": 2**32 - 1, "num_images": 1},
        "fast, palette": {"method": "fast", "palette": two_colors},
        "fast, symmetry and mask": {"method": "fast", "symmetry": "left-right", "mask": mask()},
        "thorough, mask": {"method": "thorough", "mask": mask()},
        "thorough, palette and extras": {
            "method": "thorough",
            "palette": two_colors,
            "brightness": 0.3,
            "contrast": 0.2,
            "symmetry": "top-bottom",
        },
        "thorough, pixels": {"method": "thorough", "loss": "pixels"},
        "thorough, repeats and every": {"method": "thorough", "repeats": 4, "every": 2},
        "thorough, eta 0": {"method": "thorough", "eta": 0.0},
        "course, start and stop": {
            "method": "course",
            "guidance_scale": 40.0,
            "start": 0.3,
            "stop": 0.8,
        },
        "course, eta 1": {"method": "course", "guidance_scale": 40.0, "eta": 1.0},
    }
    quick = ("palette under a mask", "extras together", "every second step", "repeats")
    for what, changes in features.items():
        settings = ColorSettings(**{"color": "#C8452F", "model": "emoji", **common, **changes})
        yield case_of(what, settings, quick=what in quick)
    settings = ColorSettings(model="emoji", **common)
    yield case_of("guided alone", settings, compare=False)


# --- words ---------------------------------------------------------------------------------------


def picture_prompt() -> str:
    """A picture of 48x32 px: a bright sky over a dark ground, and a red square."""
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[:18] = (120, 170, 230)
    picture[18:] = (50, 70, 40)
    picture[10:22, 20:32] = (200, 40, 40)
    return images.to_data_uri(Image.fromarray(picture))


def words() -> Iterator[Case]:
    """Every method on every bundled model, and every setting of the tab."""
    common: dict[str, Any] = {"num_inference_steps": 6, "num_images": 2, "seed": 31}
    for model in MODELS:
        for method in METHODS:
            prompt = "a red heart" if model == "emoji" else "ships on the sea"
            scale = 8.0 if method == "course" else 0.2
            settings = TextSettings(
                prompt=prompt, model=model, method=method, guidance_scale=scale, **common
            )
            yield case_of(f"{model}, {method}", settings, quick=model == "emoji")
    features: dict[str, dict[str, Any]] = {
        "negative prompt": {"negative_prompt": "a portrait of a woman"},
        "weights": {"prompt": "snow:1.5 | mountains | people:-0.5", "negative_prompt": "night:2"},
        "picture as prompt": {"image_prompt": picture_prompt(), "image_weight": 0.7},
        "picture alone": {"prompt": "", "image_prompt": picture_prompt()},
        "color": {"color": "#C88A3A", "color_weight": 0.5},
        "cutouts": {"cutouts": 4},
        "tries": {"tries": 3},
        "tries, picture alone": {"tries": 2, "prompt": "", "image_prompt": picture_prompt()},
        "start, stop and every": {"start": 0.2, "stop": 1.0, "every": 2},
        "repeats": {"repeats": 2},
        "eta 0": {"eta": 0.0},
        "eta 0.6": {"eta": 0.6},
        "no guidance": {"guidance_scale": 0.0},
        "thorough, everything": {
            "method": "thorough",
            "negative_prompt": "a portrait of a woman",
            "image_prompt": picture_prompt(),
            "color": "#C88A3A",
            "cutouts": 2,
        },
        "thorough, tries": {"method": "thorough", "tries": 2},
        "course, cutouts": {"method": "course", "guidance_scale": 8.0, "cutouts": 4, "stop": 1.0},
    }
    for what, changes in features.items():
        settings = TextSettings(**{"prompt": "a city street", **common, **changes})
        yield case_of(what, settings, quick=what in ("weights", "tries"))


# --- digits --------------------------------------------------------------------------------------


def digit_rows() -> Iterator[Case]:
    """Every conditioning with every solver, and every setting of the tab."""
    common: dict[str, Any] = {"digits": "27183", "num_inference_steps": 8, "seed": 3}
    for conditioning in ("embedding", "cross-attention", "channels"):
        variants: dict[str, dict[str, Any]] = {
            "dpm++": {},
            **{f"ddim, eta {eta:g}": {"solver": "ddim", "eta": eta} for eta in (0.0, 0.5, 1.0)},
            "blend": {"blend_with": "8", "blend": 0.4},
            **{f"cfg {scale:g}": {"cfg_scale": scale} for scale in (0.0, 1.0, 8.0)},
            "cfg 8, ddim, eta 1": {"cfg_scale": 8.0, "solver": "ddim", "eta": 1.0},
        }
        for what, changes in variants.items():
            settings = DigitsSettings(conditioning=conditioning, **{**common, **changes})
            quick = what in ("blend", "ddim, eta 0.5")
            yield case_of(f"{conditioning}, {what}", settings, quick=quick)
    yield case_of("in two parts", DigitsSettings(digits="5" * 40, num_inference_steps=3))
    yield Case(
        "digits: guided alone", lambda: drawn(DigitsSettings(digits="42", seed=9), compare=False)
    )


# --- the user's own models -----------------------------------------------------------------------


def own_models() -> Iterator[Case]:
    """Each with a method that needs no gradient of the network and with one that does."""
    common: dict[str, Any] = {"num_inference_steps": 6, "num_images": 2, "seed": 41}
    for model in OWN_MODELS:
        for method in ("balanced", "thorough"):
            settings = ColorSettings(model=model, method=method, **common)
            yield case_of(f"own model {model}, {method}", settings, quick=True)
        settings = TextSettings(model=model, prompt="snow", method="fast", **common)
        yield case_of(f"own model {model}, fast", settings, quick=True)


# --- steps of the sampler ------------------------------------------------------------------------


def guides() -> dict[str, Callable[[], Any]]:
    """Makers of guides of every kind: exact, by gradient, through the network, published."""
    wanted = images.color_to_tensor("#C8452F")  # (3,)
    mean = losses.MeanColor(wanted)
    two_colors = torch.stack([wanted, images.color_to_tensor("#102040")])  # (2, 3)
    palette = losses.Palette(two_colors, torch.tensor([0.6, 0.4]))

    def maker(method: Any, *towards: Any, **options: Any) -> Callable[[], Any]:
        terms = [losses.Term(loss) for loss in towards]
        return lambda: guidance.Guide(method, terms, method.default_scale, **options)

    ours = guidance.METHODS
    return {
        "unguided": lambda: None,
        "mean color": maker(ours["balanced"], mean),
        "palette": maker(ours["balanced"], palette),
        "thorough": maker(ours["thorough"], losses.Symmetry(), palette, repeats=2),
        "course": maker(ours["course"], losses.TargetColor(wanted)),
        **{name: maker(method, mean) for name, method in guidance.PUBLISHED.items()},
    }


def path(solver: str, eta: float, guide: Any) -> Arrays:
    """What the sampler says of every step, each `(steps, b, c, h, w)`."""
    loaded = checkpoints.load(STEPS_MODEL)
    generators = sampling.image_generators(51, 2)
    size_px = loaded.checkpoint.size_px
    steps = sampling.sample(
        sampling.unconditional(loaded.unet),
        sampling.draw_noise(generators, (3, size_px, size_px)),
        sampling.make_scheduler(
            loaded.scheduler_config, solver=solver, num_inference_steps=8, device="cpu"
        ),
        prediction_type=loaded.scheduler_config["prediction_type"],
        eta=eta,
        generators=generators,
        guide=guide,
    )
    arrays = [(step.x_t.numpy(), step.x0.numpy(), step.x_prev.numpy()) for step in steps]
    return {
        name: np.stack(values)
        for name, values in zip(("x_t", "x0", "x_prev"), zip(*arrays, strict=True), strict=True)
    }


def steps() -> Iterator[Case]:
    """Every solver with every share of noise and every kind of guide.

    The small subset has each pair of solver and noise once, and each guide at least once.
    """
    pairs = [(solver, eta) for solver in SOLVERS for eta in ETAS]
    kinds = guides()
    for row, (solver, eta) in enumerate(pairs):
        for column, (what, make) in enumerate(kinds.items()):
            yield Case(
                f"steps: {solver}, eta {eta:g}, {what}",
                lambda solver=solver, eta=eta, make=make: path(solver, eta, make()),
                quick=(row + column) % len(kinds) == 0,
            )


# --- over the API --------------------------------------------------------------------------------


@contextmanager
def served() -> Iterator[str]:
    """Address of `python app.py`, started in the folder that this process runs in."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"GRADIO_SERVER_PORT": str(port), "STUDIO_WARM_UP": "0"}
    process = subprocess.Popen(
        [sys.executable, "app.py"], env=environment, stdout=subprocess.DEVNULL
    )
    try:
        url = f"http://127.0.0.1:{port}/"
        wait_for(url, process)
        yield url
    finally:
        process.kill()
        process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    """Returns once the page is served.

    Raises:
        RuntimeError: if the app ends or takes too long.
    """
    ends = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < ends:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                answer.read()
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("python app.py did not serve its page")


def answered(url: str, endpoint: str, given: dict[str, Any]) -> Arrays:
    """Pictures that an endpoint answers with, and the given settings as read from inside them."""
    files, info = Client(url, verbose=False).predict(**given, api_name=f"/{endpoint}")
    saved = [dataclasses.asdict(record.read(file).settings) for file in files]
    # Only those that were given: later versions may have more.
    told = json.dumps([{name: settings[name] for name in given} for settings in saved])
    opened = []
    for file in files:
        with Image.open(file) as picture:
            opened.append(picture.copy())
    return {
        "pictures": pixels(opened),
        "settings": np.frombuffer(told.encode(), np.uint8),
        "score_before": np.array(info["score_before"], dtype=np.float64),
        "score_after": np.array(info["score_after"], dtype=np.float64),
    }


def over_the_api(address: Callable[[], str]) -> Iterator[Case]:
    """One run of every endpoint; `address` starts the app when it is first called."""
    few: dict[str, Any] = {"num_inference_steps": 5, "seed": 61}
    given: dict[str, dict[str, Any]] = {
        "color": {"color": "teal", "num_images": 2, "mask": mask(), **few},
        "text": {"prompt": "ships on the sea", "image_prompt": picture_prompt(), **few},
        "digits": {"digits": "2718", "conditioning": "channels", **few},
    }
    for endpoint, values in given.items():
        yield Case(
            f"{endpoint}: over the API",
            lambda endpoint=endpoint, values=values: answered(address(), endpoint, values),
            quick=True,
        )


# --- all of it -----------------------------------------------------------------------------------


def cases(examples_folder: Path, address: Callable[[], str]) -> Iterator[Case]:
    """Every case.

    Args:
        examples_folder: where the examples of the app lie.
        address: see `over_the_api`.
    """
    yield from examples(examples_folder)
    yield from colors()
    yield from words()
    yield from digit_rows()
    yield from own_models()
    yield from steps()
    yield from over_the_api(address)


def arrays_of(case: Case) -> Arrays:
    """What a case draws, or the error if it fails, so that the other cases are still drawn."""
    try:
        return case.draw()
    except Exception:
        traceback.print_exc()
        message = traceback.format_exc().strip().splitlines()[-1]
        return {"error": np.frombuffer(message.encode(), np.uint8)}


def write(archive: zipfile.ZipFile, case: Case) -> None:
    """Draws a case and adds its arrays to a file that `numpy.load` reads."""
    began = time.monotonic()
    for name, array in arrays_of(case).items():
        with archive.open(f"{case.name}/{name}.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array(file, np.ascontiguousarray(array))  # pyright: ignore[reportArgumentType]
    seconds = time.monotonic() - began
    print(f"{seconds:6.1f} s  {case.name}  ({Path.cwd()})", file=sys.stderr, flush=True)


def check_tree() -> None:
    """Raises an error unless it is the project of the current folder that draws."""
    found = Path(pipelines.__path__[0]).resolve().parent
    if found != Path.cwd():
        raise RuntimeError(f"pipelines must be that of {Path.cwd()}, got that of {found}")


def main(
    out: Annotated[Path, typer.Argument(help="the file to write")],
    examples: Annotated[Path, typer.Option(help="folder of the examples to draw")],
    quick: Annotated[bool, typer.Option(help="a small subset only")] = False,
    threads: Annotated[int, typer.Option(min=1, help="threads of PyTorch")] = 1,
) -> None:
    """Draws every case with the project in the current folder."""
    check_tree()
    torch.set_num_threads(threads)
    with zipfile.ZipFile(out, "w") as archive, ExitStack() as stack:
        address = cache(lambda: stack.enter_context(served()))
        for case in cases(examples, address):
            if case.quick or not quick:
                write(archive, case)


if __name__ == "__main__":
    typer.run(main)
