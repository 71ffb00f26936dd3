"""Measures quality over the number of steps for every bundled model: how few are enough?

    python -m benchmarks.steps --figure assets/steps.png

Pictures are drawn unguided with every solver and with the studio's `balanced`, and guided towards
four colours with `balanced` and `fast`; digits with classifier-free guidance. Fresh noise is one
Brownian path for every number of steps, so that runs differ only by their steps.
Quality is the Fréchet distance to real pictures, with the same seeds for every number of steps, in
the features of `benchmarks.judges.genre_judge`, for digits of `pipelines.models.judges`. Results
are stored in a file and not measured again with the same weights and settings.
"""

from __future__ import annotations

import json
import math
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
from benchmarks.digits import CONDITIONINGS
from benchmarks.digits import draw as draw_digits
from benchmarks.figures import record
from benchmarks.judges import judge
from benchmarks.recipes import looks
from benchmarks.scoring import markdown
from pipelines.core import images
from pipelines.diffusion.methods import METHODS
from pipelines.models import checkpoints
from pipelines.models.judges import load_judge
from pipelines.products.settings import DigitsSettings
from training.core.backgrounds import composited, draw_backgrounds
from training.digits.data import default_mnist, load_digits
from training.pictures.data import load_pictures

RESULTS = Path(__file__).resolve().parent / "results" / "steps.json"
DATA = Path("../shared/data")
REPORT_SEED = 0
STEPS = (5, 10, 20, 100)
TOLERANCE = 0.05
COLORS = ("#C8452F", "#E0B040", "#3F7F4F", "#2A3F8F")
SCALE = 0.2
REAL = {"paintings": "wikiart", "scenes": "scenes", "emoji": "emoji"}
DIGITS = tuple(f"digits-{conditioning}" for conditioning in CONDITIONINGS)
MODELS = (*REAL, *DIGITS)
LOG_SNR = "DPM-Solver++, even in log-SNR"
THIRD_ORDER = "DPM-Solver++, third order"
CARD_ARM = "DDIM"
_BATCH = 64
_REAL_COUNT = 2048
_COLUMNS = 3
_DIGIT_COUNT = 200
_SHARES = (1, 1.5, 2, 3, 5)
_PLAIN = METHODS["balanced"]
GUIDED = {"balanced, guided": _PLAIN, "fast, guided": METHODS["fast"]}
STUDIO = {"balanced": _PLAIN, **GUIDED}
"""The studio's ways to draw: unguided, as for comparison, and guided towards colours."""

ARMS = {
    "DDIM": replace(_PLAIN, solver="ddim", eta=0.0),
    "DDIM, leading": replace(_PLAIN, solver="ddim-leading", eta=0.0),
    "DPM-Solver++": replace(_PLAIN, solver="dpm++", eta=0.0),
    LOG_SNR: replace(_PLAIN, solver="dpm++-logsnr", eta=0.0),
    THIRD_ORDER: replace(_PLAIN, eta=0.0),
    **STUDIO,
}
"""Ways to draw pictures, unguided except those in `GUIDED`."""

DIGIT_ARMS = {
    "DDIM": DigitsSettings(solver="ddim"),
    "DPM-Solver++": DigitsSettings(solver="dpm++"),
}
"""Ways to draw digits, all with classifier-free guidance."""

COMPARED_WITH = {
    "DDIM, leading": "DDIM",
    "DPM-Solver++": "DDIM",
    LOG_SNR: "DDIM",
    THIRD_ORDER: "DDIM",
    "fast, guided": "balanced, guided",
}
"""Ways to draw that are not run with the most steps; each uses the result of the other there."""


@dataclass(frozen=True)
class Point:
    """The result of one way to draw with one number of steps.

    Attributes:
        model: key of the checkpoint.
        arm: key of `ARMS`.
        steps: of the run.
        distance: Fréchet distance to real pictures.
        difference: CIEDE2000 to the wanted colours; 0 if unguided.
        revision: of the checkpoint's weights.
        count: number of pictures.
        settings: solver and fresh noise, as text.
    """

    model: str
    arm: str
    steps: int
    distance: float
    difference: float = 0.0
    revision: str = ""
    count: int = 0
    settings: str = ""


def look(model: str, pictures: Tensor) -> frechet.Gaussian:
    """Returns the moments of a judge's features of pictures."""
    if model in DIGITS:
        return frechet.fit(judge.features(load_judge(), pictures).double().numpy())
    return looks(pictures)


def real(data_folder: Path, model: str, seed: int = 0) -> frechet.Gaussian:
    """Returns the moments of a model's training pictures; for digits, of the test pictures."""
    if model in DIGITS:
        digits = load_digits(default_mnist(), "test")
        return look(model, images.from_uint8(digits.pixels))
    channels = 4 if model == "emoji" else 3
    data = load_pictures(str(data_folder / REAL[model]), image_size=64, channels=channels)
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(data), generator=generator)[:_REAL_COUNT]
    pixels = data.take(chosen)
    if channels == 3:
        return looks(images.from_uint8(pixels))
    return looks(composited(pixels, draw_backgrounds(len(chosen), generator)))


def draw(model: str, arm: str, steps: int, count: int) -> tuple[Tensor, float]:
    """Draws pictures `(count, 3, h, w)` in [-1, 1]; returns them and their colour difference.

    Digits are `(count, 1, h, w)`.
    """
    if model in DIGITS:
        conditioning = model.removeprefix("digits-")
        changes = {"conditioning": conditioning, "num_inference_steps": steps}
        digits = draw_digits(replace(DIGIT_ARMS[arm], **changes), count, REPORT_SEED)
        return images.from_uint8(digits.pixels), 0.0
    wanted = [images.parse_color(text) for text in COLORS] if arm in GUIDED else [None]
    setting = Setting(arm, ARMS[arm], SCALE, steps)
    pictures, color_differences = [], []
    for number, rgb in enumerate(wanted):
        left = count // len(wanted)
        seed = REPORT_SEED + number * left
        while left:
            part = min(left, _BATCH)
            drawn = Lab(model, seed, part, one_path=True).draw(setting, rgb)
            color_differences += differences(drawn, rgb) if rgb else []
            pictures.append(drawn)
            left, seed = left - part, seed + part
    return torch.cat(pictures), statistics.mean(color_differences) if color_differences else 0.0


def arms_of(model: str) -> Sequence[str]:
    """Returns the ways to draw pictures of a model."""
    return tuple(DIGIT_ARMS if model in DIGITS else ARMS)


def settings_of(model: str, arm: str) -> str:
    """Returns solver and fresh noise as text, for the stored results."""
    settings = (DIGIT_ARMS if model in DIGITS else ARMS)[arm]
    return f"{settings.solver}, eta {settings.eta:g}" + (
        ", fresh noise of the SDE, one path" if settings.eta else ""
    )


def count_of(model: str, arm: str, count: int) -> int:
    """Returns the number of pictures: more for `STUDIO`, to resolve differences of 5 %."""
    if model in DIGITS:
        return _DIGIT_COUNT
    return len(COLORS) * count if arm in STUDIO else count


def steps_of(arm: str) -> Sequence[int]:
    """Returns the numbers of steps of one way to draw."""
    return STEPS[:-1] if arm in COMPARED_WITH else STEPS


def curve(points: Sequence[Point], model: str, arm: str) -> list[Point]:
    """Returns the results of one way to draw by rising steps; empty if any is missing."""
    by_steps = {point.steps: point for point in points if (point.model, point.arm) == (model, arm)}
    if arm in COMPARED_WITH:
        limits = curve(points, model, COMPARED_WITH[arm])
        by_steps |= {point.steps: replace(point, arm=arm) for point in limits[-1:]}
    return [by_steps[steps] for steps in STEPS] if by_steps.keys() >= set(STEPS) else []


def fewest(points: Sequence[Point]) -> int:
    """Returns the fewest steps from which on all distances are within 5 % of the last one."""
    enough = points[-1].distance * (1 + TOLERANCE)
    needed = points[-1].steps
    for point in reversed(points):
        if point.distance > enough:
            break
        needed = point.steps
    return needed


def rows(points: Sequence[Point]) -> list[list[str]]:
    """Returns rows per model and way to draw: distances, and the steps that are enough."""
    lines = []
    for model in MODELS:
        for arm in arms_of(model):
            arm_curve = curve(points, model, arm)
            if arm_curve:
                cells = [f"{point.distance:.2f}" for point in arm_curve]
                lines.append([model, arm, *cells, f"{fewest(arm_curve)}"])
    return lines


def card_figures(points: Sequence[Point], model: str) -> dict[str, tuple[str, str]]:
    """Returns the figures of a model card: the distance, and the steps that are enough."""
    arm_curve = curve(points, model, CARD_ARM)
    if not arm_curve:
        return {}
    kind, reference = ("digits", "MNIST's test pictures")
    if model in REAL:
        kind, reference = "unguided pictures", f"`{REAL[model]}`"
    label = f"{arm_curve[-1].count} {kind}, {CARD_ARM}"
    distance = f"{label}, {arm_curve[-1].steps} steps: Fréchet distance to {reference}"
    return {
        "steps_distance": (distance, f"{arm_curve[-1].distance:.1f}"),
        "steps_enough": (f"{label}: steps from which on it is within 5 %", f"{fewest(arm_curve)}"),
    }


def figure(points: Sequence[Point], path: Path) -> None:
    """Draws the distance over steps, as a share of that with the most steps, one panel per model.

    Shares do not depend on the number of pictures, as distances do. Below the dotted line is within
    5 %. The background is opaque white.
    """
    from matplotlib.figure import Figure

    curves = {
        model: [arm_curve for arm in arms_of(model) if (arm_curve := curve(points, model, arm))]
        for model in MODELS
    }
    measured = [model for model in MODELS if curves[model]]
    num_rows = max(1, math.ceil(len(measured) / _COLUMNS))
    size = (3 * _COLUMNS, 3 * num_rows)
    drawing = Figure(figsize=size, layout="constrained", facecolor="white")
    panels = drawing.subplots(num_rows, _COLUMNS, squeeze=False).flatten()
    for panel, model in zip(panels, measured, strict=False):
        for arm_curve in curves[model]:
            color = (
                f"C{[*ARMS].index(arm_curve[0].arm)}"  # the same in every panel, as the legend says
            )
            style = {"marker": ".", "label": arm_curve[0].arm, "color": color}
            panel.plot(
                [p.steps for p in arm_curve],
                [p.distance / arm_curve[-1].distance for p in arm_curve],
                **style,
            )
        panel.axhline(1 + TOLERANCE, color="black", linewidth=1, linestyle=":")
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xticks(STEPS, [str(steps) for steps in STEPS])
        panel.set_title(model)
        panel.set_xlabel("steps")
        panel.grid(alpha=0.3)
        panel.set_ylabel(f"Fréchet distance, of that in {STEPS[-1]}")
        panel.minorticks_off()
        panel.set_yticks(_SHARES, [f"{share:g}" for share in _SHARES])
    for panel in panels[len(measured) :]:
        panel.axis("off")
    lines_and_names = panels[0].get_legend_handles_labels()
    drawing.legend(*lines_and_names, loc="outside lower center", ncols=4, fontsize="small")
    drawing.savefig(path, dpi=120, metadata={"Software": None})


def kept(path: Path, revisions: Mapping[str, str], count: int) -> list[Point]:
    """Returns the stored results with these weights, settings and number of pictures."""
    if not path.is_file():
        return []
    points = [Point(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
    return [p for p in points if p.arm in arms_of(p.model) and p == _now(p, revisions, count)]


def _now(point: Point, revisions: Mapping[str, str], count: int) -> Point:
    """Returns a point with the current revision, count and settings."""
    return replace(
        point,
        revision=revisions.get(point.model, ""),
        count=count_of(point.model, point.arm, count),
        settings=settings_of(point.model, point.arm),
    )


def keep(path: Path, points: Sequence[Point]) -> None:
    """Stores the results so far."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = ",\n".join(json.dumps(vars(point)) for point in points)
    path.write_text(f"[\n{rows}\n]\n", encoding="utf-8")


def main(
    data_folder: Annotated[Path, typer.Option(help="where the data sets lie")] = DATA,
    count: Annotated[int, typer.Option(min=8, help="pictures of each point")] = 64,
    figure_path: Annotated[Path | None, typer.Option("--figure", help="where it goes")] = None,
    only: Annotated[str, typer.Option(help="draw models whose name has this in it")] = "",
    cards: Annotated[bool, typer.Option("--cards", help="write the model cards anew")] = False,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 is PyTorch's choice")] = 0,
    output: Annotated[Path, typer.Option(help="where results are kept")] = RESULTS,
) -> None:
    """Draws what was not yet, and prints all."""
    if threads:
        torch.set_num_threads(threads)
    revisions = {model: checkpoints.load(model).revision for model in MODELS}
    points = kept(output, revisions, count)
    measured = {(point.model, point.arm, point.steps) for point in points}
    for model in (model for model in MODELS if only in model):
        missing = [
            (arm, steps)
            for arm in arms_of(model)
            for steps in steps_of(arm)
            if (model, arm, steps) not in measured
        ]
        if not missing:
            continue
        reference = real(data_folder, model)
        for arm, steps in tqdm(missing, desc=model, unit="point"):
            pictures, difference = draw(model, arm, steps, count_of(model, arm, count))
            distance = frechet.between(look(model, pictures), reference)
            point_now = _now(Point(model, arm, steps, distance, difference), revisions, count)
            points.append(point_now)
            keep(output, points)
    header = ("model", "drawn with", *(f"{steps}" for steps in STEPS), "enough")
    print(markdown(header, rows(points)))
    revisions_text = ", ".join(f"`{model}` {revision}" for model, revision in revisions.items())
    print(
        f"\n{count} pictures a cell, as the studio draws {len(COLORS)} times as many (guided, "
        f"{count} of each colour), {_DIGIT_COUNT} digits, weights {revisions_text}."
    )
    if figure_path:
        figure(points, figure_path)
    if cards:
        for model in MODELS:
            record(model, card_figures(points, model))


if __name__ == "__main__":
    typer.run(main)
