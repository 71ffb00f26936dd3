"""How few steps are enough? Quality over the number of steps, for every bundled model of pictures.

    python -m benchmarks.steps --figure assets/steps.png

Unguided with every solver, and guided towards four colours with the studio's `balanced`. Quality is
the Fréchet distance to real pictures in the features of `benchmarks.genre_judge`, of the same seeds
for every number of steps. What was measured is kept in a file and not drawn again with the same
weights.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor
from tqdm import tqdm

from benchmarks import frechet
from benchmarks.color import Lab, Setting, differences
from benchmarks.figures import record
from benchmarks.recipes import looks
from benchmarks.scoring import markdown
from pipelines import checkpoints, images
from pipelines.guidance import METHODS
from training.data import load_pictures
from training.grounds import draw_grounds, laid_on

RESULTS = Path(__file__).resolve().parent / "results" / "steps.json"
DATA = Path("../shared/data")
REPORT_SEED = 0
STEPS = (5, 8, 10, 15, 20, 30, 50, 100)
MOST = STEPS[-1]
TOLERANCE = 0.05
COLORS = ("#C8452F", "#E0B040", "#3F7F4F", "#2A3F8F")
SCALE = 0.2
REAL = {"paintings": "wikiart", "scenes": "scenes", "emoji": "emoji"}
GUIDED = "balanced, guided"
CARD_ARM = "DPM-Solver++"
_BATCH = 64
_REAL_COUNT = 2048
_PLAIN = METHODS["balanced"]
ARMS = {
    "DDIM": replace(_PLAIN, solver="ddim", eta=0.0),
    "DDIM, eta 1": replace(_PLAIN, solver="ddim", eta=1.0),
    "DDIM, leading": replace(_PLAIN, solver="ddim-leading", eta=0.0),
    "DPM-Solver++": replace(_PLAIN, solver="dpm++", eta=0.0),
    GUIDED: _PLAIN,
}
"""How pictures are drawn. All but the last are unguided."""


@dataclass(frozen=True)
class Point:
    """What one way to draw reaches in one number of steps.

    Attributes:
        model: key of the checkpoint.
        arm: key of `ARMS`.
        steps: of the run.
        distance: Fréchet distance to real pictures.
        difference: CIEDE2000 to the wanted colours; 0 if unguided.
        revision: of the checkpoint's weights.
        count: pictures it was measured with.
    """

    model: str
    arm: str
    steps: int
    distance: float
    difference: float = 0.0
    revision: str = ""
    count: int = 0


def real(data_folder: Path, model: str, seed: int = 0) -> frechet.Gaussian:
    """What the pictures that a model learned from look like."""
    channels = 4 if model == "emoji" else 3
    data = load_pictures(str(data_folder / REAL[model]), image_size=64, channels=channels)
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(data), generator=generator)[:_REAL_COUNT]
    pixels = data.take(chosen)
    if channels == 3:
        return looks(images.from_uint8(pixels))
    return looks(laid_on(pixels, draw_grounds(len(chosen), generator)))


def draw(model: str, arm: str, steps: int, count: int) -> tuple[Tensor, float]:
    """Pictures `(count, 3, h, w)` in [-1, 1] and how far they are from the wanted colours."""
    wanted = [images.parse_color(text) for text in COLORS] if arm == GUIDED else [None]
    setting = Setting(arm, ARMS[arm], SCALE, steps)
    pictures, off = [], []
    for number, rgb in enumerate(wanted):
        left = count // len(wanted)
        seed = REPORT_SEED + number * left
        while left:
            part = min(left, _BATCH)
            drawn = Lab(model, seed, part).draw(setting, rgb)
            off += differences(drawn, rgb) if rgb else []
            pictures.append(drawn)
            left, seed = left - part, seed + part
    return torch.cat(pictures), statistics.mean(off) if off else 0.0


def fewest(points: Sequence[Point]) -> int:
    """The fewest steps from which on no more of them come nearer by over 5 % than the most do."""
    by_steps = sorted(points, key=lambda point: point.steps)
    enough = by_steps[-1].distance * (1 + TOLERANCE)
    needed = by_steps[-1].steps
    for point in reversed(by_steps):
        if point.distance > enough:
            break
        needed = point.steps
    return needed


def rows(points: Sequence[Point]) -> list[list[str]]:
    """One per model and way to draw: the distance of each number of steps, and what is enough."""
    lines = []
    for model in REAL:
        for arm in ARMS:
            of = [p for p in points if (p.model, p.arm) == (model, arm)]
            if len(of) < len(STEPS):
                continue
            found = {point.steps: point for point in of}
            cells = [f"{found[steps].distance:.2f}" for steps in STEPS]
            lines.append([model, arm, *cells, f"{fewest(of)}"])
    return lines


def card_figures(points: Sequence[Point], model: str) -> dict[str, tuple[str, str]]:
    """What a model card says: how near unguided pictures come, and how many steps that takes."""
    of = [point for point in points if (point.model, point.arm) == (model, CARD_ARM)]
    if len(of) < len(STEPS):
        return {}
    most = max(of, key=lambda point: point.steps)
    drawn = f"{most.count} unguided pictures, {CARD_ARM}"
    distance = f"{drawn}, {most.steps} steps: Fréchet distance to `{REAL[model]}`"
    return {
        "steps_distance": (distance, f"{most.distance:.1f}"),
        "steps_enough": (f"{drawn}: steps from which on it is within 5 %", f"{fewest(of)}"),
    }


def figure(points: Sequence[Point], path: Path) -> None:
    """Distance over steps, one panel a model; opaque and white, to be read on any ground."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(9, 3), layout="constrained", facecolor="white")
    panels = drawing.subplots(1, len(REAL), squeeze=False)[0]
    for panel, model in zip(panels, REAL, strict=True):
        for arm in ARMS:
            of = sorted(
                (p for p in points if (p.model, p.arm) == (model, arm)), key=lambda p: p.steps
            )
            panel.plot([p.steps for p in of], [p.distance for p in of], marker=".", label=arm)
        panel.set_xscale("log")
        panel.set_xticks(STEPS, [str(steps) for steps in STEPS])
        panel.minorticks_off()
        panel.set_title(model)
        panel.set_xlabel("steps")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("Fréchet distance")
    panels[-1].legend(fontsize="small")
    drawing.savefig(path, dpi=120, metadata={"Software": None})


def kept(path: Path, revisions: Mapping[str, str], count: int) -> list[Point]:
    """What was measured before with these weights and so many pictures."""
    if not path.is_file():
        return []
    points = [Point(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
    return [p for p in points if (p.revision, p.count) == (revisions.get(p.model), count)]


def keep(path: Path, points: Sequence[Point]) -> None:
    """Stores what was measured so far."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = ",\n".join(json.dumps(vars(point)) for point in points)
    path.write_text(f"[\n{rows}\n]\n", encoding="utf-8")


def main(
    data_folder: Annotated[Path, typer.Option(help="where the data sets lie")] = DATA,
    count: Annotated[int, typer.Option(min=8, help="pictures of each point")] = 256,
    figure_path: Annotated[Path | None, typer.Option("--figure", help="where it goes")] = None,
    cards: Annotated[bool, typer.Option("--cards", help="write the model cards anew")] = False,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 is PyTorch's choice")] = 0,
    output: Annotated[Path, typer.Option(help="where results are kept")] = RESULTS,
) -> None:
    """Draws what was not yet, and prints all."""
    if threads:
        torch.set_num_threads(threads)
    revisions = {model: checkpoints.load(model).revision for model in REAL}
    points = kept(output, revisions, count)
    known = {(point.model, point.arm, point.steps) for point in points}
    for model in REAL:
        wanted = [(arm, n) for arm in ARMS for n in STEPS if (model, arm, n) not in known]
        if not wanted:
            continue
        reference = real(data_folder, model)
        for arm, steps in tqdm(wanted, desc=model, unit="point"):
            pictures, difference = draw(model, arm, steps, count)
            distance = frechet.between(looks(pictures), reference)
            found = Point(model, arm, steps, distance, difference, revisions[model], count)
            points.append(found)
            keep(output, points)
    header = ("model", "drawn with", *(f"{steps}" for steps in STEPS), "enough")
    print(markdown(header, rows(points)))
    told = ", ".join(f"`{model}` {revision}" for model, revision in revisions.items())
    print(f"\n{count} pictures a cell, weights {told}.")
    if figure_path:
        figure(points, figure_path)
    if cards:
        for model in REAL:
            record(model, card_figures(points, model))


if __name__ == "__main__":
    typer.run(main)
