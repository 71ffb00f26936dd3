"""Draws what `benchmarks.speed` asks for, in the tree that it is started in, and tells the seconds.

It reads one name a line and answers with one line of JSON each. It uses only what version 0.2 has
too, so that both versions are asked the same.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

STEPS = 20


def _module(*names: str) -> Any:
    """Returns the first module that there is."""
    for name in names:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise ModuleNotFoundError(names[-1])


checkpoints = _module("pipelines.models.checkpoints", "pipelines.checkpoints")
settings = _module("pipelines.settings")


def _draw(name: str, compare: bool = False, **values: Any) -> Callable[[], None]:
    product = _module(f"pipelines.products.{name}", f"pipelines.{name}")
    kind = getattr(settings, f"{name.capitalize()}Settings")

    def draw() -> None:
        *_, last = product.generate(kind(**values), compare=compare)
        _ = [*last.pictures]

    return draw


def _passes(*, in_pytorch: bool) -> Callable[[], None]:
    """Passes of a network, as many as a picture takes.

    Args:
        in_pytorch: whether PyTorch computes them; else as a run has them, in 0.2 by PyTorch too.
    """
    loaded = checkpoints.load("paintings")
    network = loaded.unet if in_pytorch else getattr(loaded, "denoise", loaded.unet)
    x_t, t = torch.randn(1, 3, 64, 64), torch.tensor(500)

    def compute() -> None:
        with torch.no_grad():
            for _ in range(STEPS):
                network(x_t, t)

    return compute


def _course_color(variant: str, scale: float) -> Callable[[], None]:
    """A loop of the course's guidance notebook, at the scale that `benchmarks.color` found best."""
    from benchmarks.color import Lab, course

    lab, setting = Lab("paintings", 0, 1), course(variant, scale)

    def draw() -> None:
        lab.draw(setting, (68, 204, 170), 1)

    return draw


def _course_digits() -> Callable[[], None]:
    """The loop of the course's class-conditional notebook, for one row of digits."""
    from benchmarks import course

    loaded = checkpoints.load("digits-embedding")
    scheduler = course.scheduler_of(loaded)

    def draw() -> None:
        x_t = torch.randn(10, 1, 28, 28)
        timesteps = scheduler.timesteps
        course.denoise(loaded, x_t, torch.arange(10), timesteps, scheduler=scheduler)

    return draw


COURSE: dict[str, Callable[[], Callable[[], None]]] = {
    "course's shortcut, 40 steps": lambda: _course_color("shortcut", 80),
    "course through the network, 40 steps": lambda: _course_color("through the network", 640),
    "course's digits, one row, 1000 steps": _course_digits,
}
"""The loops of the course's notebooks, in PyTorch, which this version alone is asked for."""

WORK: dict[str, Callable[[], Callable[[], None]]] = {
    "passes in PyTorch": lambda: _passes(in_pytorch=True),
    "passes": lambda: _passes(in_pytorch=False),
    "unguided": lambda: _draw("color", guidance_scale=0.0),
    "color": lambda: _draw("color"),
    "color, 8 pictures": lambda: _draw("color", num_images=8),
    "color, fast, 6 steps": lambda: _draw("color", method="fast", num_inference_steps=6),
    "color, through the network": lambda: _draw("color", method="thorough"),
    "text": lambda: _draw("text"),
    "text, 4 pictures": lambda: _draw("text", num_images=4),
    "digits, one row": lambda: _draw("digits", digits="0123456789"),
}


def main() -> None:
    """Answers until the input ends."""
    made: dict[str, Callable[[], None]] = {}
    for line in sys.stdin:
        name = line.strip()
        if name not in made:
            made[name] = (WORK | COURSE)[name]()
            made[name]()  # loads and warms up
        began = time.perf_counter()
        made[name]()
        seconds = time.perf_counter() - began
        kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps({"seconds": seconds, "megabytes": kilobytes / 1024}), flush=True)


if __name__ == "__main__":
    main()
