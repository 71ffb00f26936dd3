"""The way of a setting from the door of its product to the step that it changes."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from PIL import Image

from pipelines.core import images
from pipelines.diffusion.guidance import Guide
from pipelines.models import checkpoints
from pipelines.products import PRODUCTS
from pipelines.runs.run import Plan

ROOT = Path(__file__).resolve().parents[2]
MOST_FUNCTIONS = 5
FOLDERS = ("products", "runs", "models", "diffusion", "core")
GREY = images.to_data_uri(Image.new("L", (64, 64), 128))
DOOR = ("runs/product.py", "run")  # a method of each product, which calls its `generate`
SETTINGS: dict[str, dict[str, Any]] = {
    "color": {"num_inference_steps": 2},
    "text": {"num_inference_steps": 2, "prompt": "the sea", "tries": 2},
    "digits": {"num_inference_steps": 2, "digits": "1", "symmetry": "left-right"},
    "edit": {"num_inference_steps": 2, "task": "colorize", "color": "teal", "image": GREY},
}

Way = list[tuple[str, str]]


def takes(frame: FrameType, settings: type[Any]) -> bool:
    """Whether the function of a frame has settings among its arguments."""
    names, _, _, values = inspect.getargvalues(frame)
    return any(isinstance(values[name], settings) for name in names)


def way_to_here(settings: type[Any]) -> Way:
    """The functions of `pipelines` on the stack that take settings, from outer to inner."""
    way: Way = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT / "pipelines") and takes(frame, settings):
            file = path.relative_to(ROOT / "pipelines").as_posix()
            way.insert(0, (file, frame.f_code.co_name))
        frame = frame.f_back
    return way


@pytest.fixture
def ways(tiny_checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Way]]:
    """Per product, the ways to what loads the model, and to what steers each step."""
    found: dict[str, list[Way]] = {}

    def watched(function: Any, settings: type[Any], ways: list[Way]) -> Any:
        def watch(*args: Any, **kwargs: Any) -> Any:
            ways.append(way_to_here(settings))
            return function(*args, **kwargs)

        return watch

    for name, product in PRODUCTS.items():
        with monkeypatch.context() as patch:
            ways = found[name] = []
            patch.setattr(checkpoints, "load", watched(checkpoints.load, product.settings, ways))
            for kind in (Guide, Plan):
                made = watched(kind.__init__, product.settings, ways)
                patch.setattr(kind, "__init__", made)
            for _ in product.run(product.settings(**SETTINGS[name])):
                pass
    return found


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_crosses_at_most_five_functions_and_never_goes_up(
    name: str, ways: dict[str, list[Way]]
):
    drawing = [way for way in ways[name] if not any("work" in step for step in way)]
    loading, *making = drawing  # the others estimate the time
    assert loading[:1] == [DOOR]
    assert making
    for way in making:
        crossed = list(dict.fromkeys([*loading, *way]))
        assert len(crossed) <= MOST_FUNCTIONS, crossed
        folders = ["products" if step == DOOR else step[0].split("/")[0] for step in crossed]
        ranks = [FOLDERS.index(folder) for folder in folders]
        assert ranks == sorted(ranks), crossed


def test_every_product_is_followed():
    assert set(SETTINGS) == set(PRODUCTS)
    for name, changes in SETTINGS.items():
        assert set(changes) <= {f.name for f in dataclasses.fields(PRODUCTS[name].settings)}
