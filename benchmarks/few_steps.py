"""Measures learned timesteps beside the solver's own, where there are few steps.

    python -m benchmarks.few_steps --figure assets/few-steps.png

The same pictures of `fast` are drawn at both kinds of timesteps, unguided and guided towards four
colours, on two sets of seeds that nothing was learned from. Quality is the Fréchet distance to real
pictures, as in `benchmarks.steps`; `balanced` in its default steps stands beside them. `--words`
tries the same timesteps with words instead, judged as in `benchmarks.text`; the studio does not
take them there.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor
from tqdm import tqdm

from benchmarks import frechet
from benchmarks import text as text_benchmark
from benchmarks.color import differences
from benchmarks.judges.painting_judges import Judges
from benchmarks.recipes import looks
from benchmarks.scoring import markdown
from benchmarks.steps import COLORS, DATA, REAL, SCALE, real
from pipelines.core import images
from pipelines.diffusion.methods import METHODS
from pipelines.models import checkpoints, timesteps
from pipelines.products import color, guided
from pipelines.products.settings import ColorSettings, TextSettings
from pipelines.runs.run import Run

STEPS = (4, 6, 8, 12)
SEEDS = (1_000, 5_000)
_AT_ONCE = 8
_TICKS = (4, 5, 6, 8, 10, 15, 20, 30, 40)
_ARMS: dict[str, dict[str, Any]] = {
    "spaced": {"method": "fast", "timesteps": "spaced"},
    "learned": {"method": "fast", "timesteps": "learned"},
}
_REFERENCE = ("balanced", 20)


@dataclass(frozen=True)
class Point:
    """The result of one kind of timesteps.

    Attributes:
        model: key of the checkpoint.
        kind: "spaced", "learned" or "balanced".
        steps: number of steps.
        seed: first seed of the set.
        unguided: Fréchet distance of unguided pictures.
        guided: the same of guided ones.
        difference: CIEDE2000 of guided ones to the wanted colour.
    """

    model: str
    kind: str
    steps: int
    seed: int
    unguided: float
    guided: float
    difference: float


def drawn(settings: ColorSettings, *, is_guided: bool) -> Tensor:
    """Returns pictures `(b, 3, h, w)` in [-1, 1], as the studio draws them."""
    loaded = checkpoints.load(settings.model)
    run: Run = guided.run_of(settings, loaded, color.terms_of(settings, loaded.checkpoint.size_px))
    *_, last = (run if is_guided else run.unguided()).steps()
    return last.x_prev.clamp(-1, 1)


def many(settings: ColorSettings, seed: int, count: int, *, is_guided: bool) -> Tensor:
    """Returns `count` pictures of successive seeds."""
    parts = []
    for first in range(seed, seed + count, _AT_ONCE):
        num_images = min(_AT_ONCE, seed + count - first)
        part = replace(settings, seed=first, num_images=num_images)
        parts.append(drawn(part, is_guided=is_guided))
    return torch.cat(parts)


def measure(
    model: str, kind: str, steps: int, seed: int, count: int, reference: frechet.Gaussian
) -> Point:
    """Draws the pictures of one row from one set of seeds."""
    arm: dict[str, Any] = _ARMS.get(kind, {"method": kind})
    plain = ColorSettings(model=model, num_inference_steps=steps, guidance_scale=SCALE, **arm)
    unguided = looks(many(plain, seed, count, is_guided=False))
    pictures, away = [], []
    for number, text in enumerate(COLORS):
        part = count // len(COLORS)
        of_color = replace(plain, color=text)
        pictures.append(many(of_color, seed + number * part, part, is_guided=True))
        away += differences(pictures[-1], images.parse_color(text))
    return Point(
        *(model, kind, steps, seed),
        unguided=frechet.between(unguided, reference),
        guided=frechet.between(looks(torch.cat(pictures)), reference),
        difference=statistics.mean(away),
    )


def words_rows(model: str = "paintings", num_images: int = 12) -> list[list[str]]:
    """Returns rows of a table: the share of pictures that both judges find to fit their words."""
    lines = []
    for steps in STEPS[1:]:
        shares: dict[str, list[str]] = {kind: [] for kind in _ARMS}
        for seed in SEEDS:
            lab = text_benchmark.Lab(model, "clip-small", seed, num_images)
            judges = Judges(lab.clip)
            for kind in _ARMS:
                judged = [
                    judges.shares(_with_words(lab, prompt, steps, kind), genre).judged
                    for prompt, genre in text_benchmark.PROMPTS.items()
                ]
                shares[kind].append(f"{100 * statistics.mean(judged):.0f} %")
        lines += [[f"{steps}", kind, " / ".join(of_kind)] for kind, of_kind in shares.items()]
    return lines


def _with_words(lab: text_benchmark.Lab, prompt: str, steps: int, kind: str) -> Tensor:
    """Returns pictures of `fast` with words, at the timesteps that were learned without words."""
    settings = TextSettings(
        method="fast",
        prompt=prompt,
        num_inference_steps=steps,
        seed=lab.seed,
        num_images=lab.num_images,
    )
    run = lab.run(settings)
    if kind == "learned":
        chosen = timesteps.learned(settings.model, METHODS["fast"].solver, steps)
        run = replace(run, plan=replace(run.plan, timesteps=chosen))
    *_, last = run.steps()
    return last.x_prev.clamp(-1, 1)


def rows(points: Sequence[Point]) -> list[list[str]]:
    """Returns rows of a table; each cell has a figure for each set of seeds."""
    found: dict[tuple[str, int, str], list[Point]] = {}
    for point in points:
        found.setdefault((point.model, point.steps, point.kind), []).append(point)
    return [
        [
            model,
            f"{steps}",
            kind,
            " / ".join(f"{p.unguided:.2f}" for p in sets),
            " / ".join(f"{p.guided:.2f}" for p in sets),
            " / ".join(f"{p.difference:.1f}" for p in sets),
        ]
        for (model, steps, kind), sets in found.items()
    ]


def figure(points: Sequence[Point], path: Path) -> None:
    """Draws the distances over the number of steps, a panel per model; the mean of both sets."""
    from matplotlib.figure import Figure

    models = list(dict.fromkeys(point.model for point in points))
    drawing = Figure(figsize=(3 * len(models), 3), layout="constrained", facecolor="white")
    panels = drawing.subplots(1, len(models), squeeze=False).flatten()
    for panel, model in zip(panels, models, strict=True):
        for name, style in (("unguided", "-"), ("guided", "--")):
            for color_index, kind in enumerate(_ARMS):
                of_kind = [p for p in points if (p.model, p.kind) == (model, kind)]
                counts = sorted({p.steps for p in of_kind})
                means = [
                    statistics.mean(getattr(p, name) for p in of_kind if p.steps == count)
                    for count in counts
                ]
                options = {"marker": ".", "color": f"C{color_index}", "linestyle": style}
                panel.plot(counts, means, label=f"{kind}, {name}", **options)
        panel.set_yscale("log")
        low, high = panel.get_ylim()
        panel.set_yticks([tick for tick in _TICKS if low <= tick <= high])
        panel.yaxis.set_major_formatter("{x:g}")
        panel.minorticks_off()
        panel.set_xticks(STEPS, [f"{count}" for count in STEPS])
        panel.set_title(model)
        panel.set_xlabel("steps")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("Fréchet distance")
    lines_and_names = panels[0].get_legend_handles_labels()
    drawing.legend(*lines_and_names, loc="outside lower center", ncols=4, fontsize="small")
    drawing.savefig(path, dpi=120, metadata={"Software": None})


def main(
    data_folder: Annotated[Path, typer.Option(help="where the data sets lie")] = DATA,
    count: Annotated[int, typer.Option(min=16, help="pictures of a set")] = 128,
    only: Annotated[str, typer.Option(help="draw models whose name has this in it")] = "",
    figure_path: Annotated[Path | None, typer.Option("--figure", help="where it goes")] = None,
    words: Annotated[bool, typer.Option("--words", help="try words instead")] = False,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 is PyTorch's choice")] = 0,
) -> None:
    """Prints the table."""
    if threads:
        torch.set_num_threads(threads)
    if words:
        print(markdown(("steps", "timesteps", "fit their words"), words_rows()))
        return
    points: list[Point] = []
    for model in (model for model in REAL if only in model):
        reference = real(data_folder, model)
        cells = [(kind, steps) for steps in STEPS for kind in _ARMS]
        for kind, steps in tqdm([*cells, _REFERENCE], desc=model, unit="row"):
            points += [measure(model, kind, steps, seed, count, reference) for seed in SEEDS]
    header = ("model", "steps", "timesteps", "unguided", "guided", "ΔE")
    print(markdown(header, rows(points)))
    print(f"\n{count} pictures a figure, two sets of seeds; Fréchet distance, lower is better.")
    if figure_path:
        figure(points, figure_path)


if __name__ == "__main__":
    typer.run(main)
