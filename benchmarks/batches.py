"""Measures whether picture i of a batch is the picture of `seed + i` alone.

    python -m benchmarks.batches

Noise and crops of each picture come from generators of its own, so only rounding differs: networks
add up in another order for other sizes of batch and other numbers of threads. Colour guidance and
digits keep such differences small; guidance by a CLIP makes them large. The second table measures
what it would take to compute each picture of a batch by itself, which makes them equal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image
from torch import Tensor

from benchmarks.scoring import markdown
from pipelines.core.rules import validate
from pipelines.diffusion.noise import draw_noise, seeded
from pipelines.models import checkpoints, clip
from pipelines.products import color, digits, text
from pipelines.products.settings import ColorSettings, DigitsSettings, TextSettings

COUNT = 8
SEEDS = (4000, 5000, 6000)
VISIBLE = 20  # of 255
_REPEATS = 15

Draw = Callable[[int, int], Sequence[Image.Image]]
"""Draws so many pictures, from a seed on."""


def draw_color(seed: int, count: int) -> Sequence[Image.Image]:
    """Draws pictures steered by colour."""
    settings = validate(ColorSettings(seed=seed, num_images=count))
    *_, last = color.generate(settings, compare=False)
    return last.pictures


def draw_digits(seed: int, count: int) -> Sequence[Image.Image]:
    """Draws fives."""
    *_, last = digits.generate(validate(DigitsSettings(seed=seed, digits="5" * count)))
    return last.pictures


def draw_words(seed: int, count: int, prompt: str, model: str) -> Sequence[Image.Image]:
    """Draws pictures steered by words."""
    settings = TextSettings(prompt=prompt, model=model, seed=seed, num_images=count)
    *_, last = text.generate(validate(settings), compare=False)
    return last.pictures


PRODUCTS: dict[str, Draw] = {
    "colour, `paintings`": draw_color,
    "digits": draw_digits,
    "words, `paintings`": lambda s, n: draw_words(s, n, "a city street", "paintings"),
    "words, `emoji`": lambda s, n: draw_words(s, n, "a red heart", "emoji"),
}


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Computes with so many CPU threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def differences(one: Sequence[Image.Image], other: Sequence[Image.Image]) -> list[int]:
    """Returns the largest difference of each pair of pictures, 0 to 255."""
    pairs = zip(one, other, strict=True)
    return [int(np.abs(np.asarray(a, int) - np.asarray(b, int)).max()) for a, b in pairs]


def alone(draw: Draw, seed: int) -> Sequence[Image.Image]:
    """Draws each picture of a batch by itself."""
    return [draw(seed + i, 1)[0] for i in range(COUNT)]


def row(name: str, draw: Draw, seeds: Sequence[int]) -> list[str]:
    """Compares batches with single pictures, and one thread with two."""
    of_batch, of_threads = [], []
    for seed in seeds:
        with threads(1):
            single = alone(draw, seed)
            of_batch += differences(single, draw(seed, COUNT))
        with threads(2):
            of_threads += differences(single, alone(draw, seed))
    return [name, *_told(of_batch), *_told(of_threads)]


def _told(found: Sequence[int]) -> list[str]:
    return [str(max(found)), f"{sum(d > VISIBLE for d in found)} of {len(found)}"]


def seconds(compute: Callable[[], object]) -> float:
    """Returns the median seconds of processor time that a computation takes."""
    found = []
    for _ in range(_REPEATS):
        began = time.process_time()
        compute()
        found.append(time.process_time() - began)
    return median(found)


def gradient(model: clip.Clip, pictures: Tensor) -> Tensor:
    """Returns how pixels change the sum of the embeddings, as a step of guidance needs it."""
    pictures = pictures.detach().requires_grad_()
    return torch.autograd.grad(clip.encode_images(model, pictures).sum(), pictures)[0]


def costs() -> list[list[str]]:
    """Compares the time of a batch with that of its pictures one by one, for each network."""
    loaded, model = checkpoints.load("emoji"), clip.load("clip-small")
    pictures = draw_noise(seeded(range(COUNT)), (3, 64, 64)).to(loaded.device)
    t = torch.tensor(500)

    def predict(part: Tensor) -> Tensor:
        with torch.no_grad():
            return loaded.unet(part, t).sample

    networks = {
        "network that paints": predict,
        "CLIP, forward and backward": lambda part: gradient(model, part),
    }
    rows = []
    with threads(1):
        for name, run in networks.items():
            together = seconds(lambda run=run: run(pictures))
            apart = seconds(lambda run=run: [run(part) for part in pictures.split(1)])
            rows.append([name, f"{apart / together:.2f}"])
    return rows


def main(
    quick: Annotated[bool, typer.Option("--quick", help="one batch of each kind")] = False,
) -> None:
    """Prints both tables."""
    seeds = SEEDS[:1] if quick else SEEDS
    rows = [row(name, draw, seeds) for name, draw in PRODUCTS.items()]
    over = f"over {VISIBLE}"
    header = ("drawn alone", "in a batch of 8: most", over, "with 2 threads: most", over)
    print(markdown(header, rows))
    print(markdown(("8 pictures one by one", "times as long as together"), costs()))


if __name__ == "__main__":
    typer.run(main)
