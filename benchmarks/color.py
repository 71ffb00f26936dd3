"""Colour guidance, measured: how near the colour, how much contrast is kept, at what cost.

    python -m benchmarks.color

Twelve colours over the wheel, greys included, on a bundled model; the course's two variants at
their best scale and 40 steps beside every preset of the studio. The course's scale and the
settings of the race are chosen on a third of the colours and other seeds than those reported.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor
from tqdm import tqdm

from benchmarks.digits import write_json
from benchmarks.figures import record
from benchmarks.paths import BrownianPaths
from benchmarks.scoring import markdown
from pipelines.core import colorimetry, devices, images
from pipelines.diffusion import guidance, losses, sampling
from pipelines.diffusion.denoisers import unconditional
from pipelines.diffusion.methods import METHODS, PUBLISHED, Method
from pipelines.diffusion.noise import draw_noise, seeded
from pipelines.diffusion.solvers import make_schedule
from pipelines.models import checkpoints
from pipelines.products import color
from pipelines.products.settings import ColorSettings

COLORS = (
    *(f"hsl({hue}, 60%, 50%)" for hue in range(0, 360, 40)),
    *("#333333", "#808080", "#CCCCCC"),
)
REPORT_SEED, TUNING_SEED = 0, 100_000
TUNING_COLORS = COLORS[1::3]
COURSE_STEPS = 40
COURSE_SCALES = (40.0, 80.0, 160.0, 320.0, 640.0)
OURS, OUR_SCALES = ("fast", "balanced"), (0.05, 0.2, 0.5)
RACE = tuple((steps, scale) for steps in (6, 8, 10) for scale in (0.05, 0.1, 0.2, 0.5))
COURSE = {
    "shortcut": METHODS["course"],
    "through the network": PUBLISHED["course, through the network"],
}

HEADER = (
    "method",
    "steps",
    "scale",
    "ΔE",
    "of unguided",
    "worst colour",
    "contrast kept",
    "edges kept",
    "evaluations",
)
RACE_HEADER = ("", "steps", "scale", "ΔE", "contrast", "seconds a picture", "times less")


@dataclass(frozen=True)
class Setting:
    """One way to draw: a method, how strongly, in how many steps, towards which loss."""

    name: str
    method: Method
    scale: float
    steps: int
    every_pixel: bool = False
    repeats: int | None = None

    def guide(self, rgb: Sequence[int]) -> guidance.Guide:
        wanted = images.from_uint8(torch.tensor(rgb))
        chosen = losses.TargetColor if self.every_pixel else losses.MeanColor
        return guidance.Guide(
            self.method, [losses.Term(chosen(wanted))], self.scale, repeats=self.repeats
        )


@dataclass(frozen=True)
class Score:
    """What one setting reaches, means over all colours and seeds.

    Attributes:
        setting: which one.
        difference: CIEDE2000 between mean colour and target.
        unguided: the same of the unguided pictures of the same seeds and solver.
        spread: standard deviation of luma, of 255.
        contrast: the same as a share of the unguided picture's.
        edges: mean absolute difference of neighbouring pixels' luma, likewise.
        evaluations: network evaluations a picture, and backward passes.
        worst: the largest mean CIEDE2000 of any one colour.
    """

    setting: Setting
    difference: float
    unguided: float
    spread: float
    contrast: float
    edges: float
    evaluations: str
    worst: float


class Lab:
    """A bundled model, and the unguided pictures that guided ones are compared with.

    With `one_path`, fresh noise is the same Brownian path in every number of steps.
    """

    def __init__(self, model: str, seed: int, num_images: int, *, one_path: bool = False):
        self.loaded, self.one_path = checkpoints.load(model), one_path
        self.seed, self.num_images = seed, num_images
        self._unguided: dict[tuple[Any, ...], Tensor] = {}

    def draw(
        self, setting: Setting, rgb: Sequence[int] | None, num_images: int | None = None
    ) -> Tensor:
        """Pictures `(b, 3, h, w)` in [-1, 1]; unguided without a colour."""
        *_, last = self.steps(setting, rgb, num_images)
        return last.x_prev.clamp(-1, 1)

    def steps(self, setting: Setting, rgb: Sequence[int] | None, num_images: int | None = None):
        """The run step by step."""
        loaded, method = self.loaded, setting.method
        shape = (3, loaded.checkpoint.size_px, loaded.checkpoint.size_px)
        device = next(loaded.unet.parameters()).device
        seeds = range(self.seed, self.seed + (num_images or self.num_images))
        generators = seeded(seeds)
        scheduler = make_schedule(
            loaded.scheduler_config,
            solver=method.solver,
            num_inference_steps=setting.steps,
            device=device,
        )
        path = None
        if self.one_path and method.eta:
            path = BrownianPaths(seeds, shape, scheduler.alpha_bar, method.eta)
        return sampling.sample(
            unconditional(loaded.unet),
            draw_noise(generators, shape).to(device),
            scheduler,
            prediction_type=loaded.scheduler_config["prediction_type"],
            eta=method.eta,
            generators=generators,
            fresh_noise=path,
            guide=None if rgb is None else setting.guide(rgb),
        )

    def unguided(self, setting: Setting) -> Tensor:
        key = (setting.method.solver, setting.method.eta, setting.steps)
        if key not in self._unguided:
            self._unguided[key] = self.draw(setting, None)
        return self._unguided[key]

    def score(self, setting: Setting, colors: Sequence[str] = COLORS) -> Score:
        """What a setting reaches, over all of some colours."""
        plain = self.unguided(setting)
        found, before, spreads, contrasts, edges = [], [], [], [], []
        for text in colors:
            rgb = images.parse_color(text)
            guided = self.draw(setting, rgb)
            found.append(statistics.mean(differences(guided, rgb)))
            before.append(statistics.mean(differences(plain, rgb)))
            spreads.append(contrast(guided).mean().item() * 127.5)
            contrasts.append((contrast(guided) / contrast(plain)).mean().item())
            edges.append((edge_energy(guided) / edge_energy(plain)).mean().item())
        return Score(
            setting,
            statistics.mean(found),
            statistics.mean(before),
            statistics.mean(spreads),
            statistics.mean(contrasts),
            statistics.mean(edges),
            evaluations(setting),
            max(found),
        )


def differences(pictures: Tensor, rgb: Sequence[int]) -> list[float]:
    """CIEDE2000 between each picture's mean colour, as saved in 8 bits, and a colour."""
    return [colorimetry.difference(images.mean_rgb(p), rgb) for p in images.to_pil(pictures)]


def contrast(pictures: Tensor) -> Tensor:
    """Standard deviation of luma `(b,)`."""
    return losses.luma(pictures).flatten(1).std(dim=1)


def edge_energy(pictures: Tensor) -> Tensor:
    """Mean absolute difference of horizontally and vertically neighbouring luma `(b,)`."""
    luma = losses.luma(pictures)  # (b, h, w)
    across, down = luma.diff(dim=2).abs().mean(dim=(1, 2)), luma.diff(dim=1).abs().mean(dim=(1, 2))
    return (across + down) / 2


def evaluations(setting: Setting) -> str:
    """Network evaluations a picture, and backward passes."""
    guide = setting.guide((0, 0, 0))
    passes = sum(guide.recurrence(i, setting.steps) for i in range(setting.steps))
    return f"{passes} and {passes} backward" if setting.method.differentiates else f"{passes}"


def ours(name: str, scale: float, steps: int) -> Setting:
    return Setting(name, METHODS[name], scale, steps)


def course(name: str, scale: float) -> Setting:
    return Setting(f"course, {name}", COURSE[name], scale, COURSE_STEPS, every_pixel=True)


def best_course_scale(lab: Lab, name: str) -> float:
    """The scale that comes nearest to the colours; larger ones than the first that is worse are
    not tried."""
    best = lab.score(course(name, COURSE_SCALES[0]), TUNING_COLORS)
    for scale in COURSE_SCALES[1:]:
        score = lab.score(course(name, scale), TUNING_COLORS)
        if score.difference > best.difference:
            break
        best = score
    return best.setting.scale


def row(score: Score) -> list[str]:
    setting = score.setting
    return [
        setting.name,
        f"{setting.steps}",
        f"{setting.scale:g}",
        f"{score.difference:.1f}",
        f"{score.difference / score.unguided:.2f}",
        f"{score.worst:.1f}",
        f"{score.contrast:.2f}",
        f"{score.edges:.2f}",
        score.evaluations,
    ]


def seconds_of(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def medians(works: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Median seconds of each, after a warm-up, taking turns."""
    return [statistics.median(times) for times in zip(*rounds(works, repeats), strict=True)]


def rounds(works: Sequence[Callable[[], object]], repeats: int) -> list[list[float]]:
    """Seconds of each, turn by turn, after a warm-up: `repeats` times as many as works."""
    for work in works:
        work()
    return [[seconds_of(work) for work in works] for _ in range(repeats)]


def cost_of_guidance(lab: Lab, steps: int, repeats: int) -> dict[str, float]:
    """Time with guidance over time without, same steps, one picture, no step done twice."""
    rgb, ratios = images.parse_color(ColorSettings.color), {}
    for name in OURS:
        setting = dataclasses.replace(ours(name, ColorSettings.guidance_scale, steps), repeats=1)
        plain, guided = medians(
            [
                lambda setting=setting: lab.draw(setting, None, 1),
                lambda setting=setting: lab.draw(setting, rgb, 1),
            ],
            repeats,
        )
        ratios[name] = guided / plain
    return ratios


def product_times(repeats: int) -> tuple[float, float]:
    """Median seconds to the first preview and to the end of one picture at default settings.

    The unguided picture beside it is drawn anew each time.
    """
    firsts, wholes = [], []
    for seed in range(repeats + 1):
        began = time.perf_counter()
        run = color.generate(ColorSettings(seed=1000 + seed))
        next(run)
        firsts.append(time.perf_counter() - began)
        list(run)
        wholes.append(time.perf_counter() - began)
    return statistics.median(firsts[1:]), statistics.median(wholes[1:])


def race(tuning: Lab, lab: Lab, name: str, scale: float, repeats: int) -> list[list[str]]:
    """The course at its best scale, and our cheapest setting that is no worse in both figures.

    Contrast is in absolute terms here, since fewer steps draw other pictures, guided or not.
    """
    theirs = course(name, scale)
    goal = tuning.score(theirs, TUNING_COLORS)
    found: Setting | None = None
    for steps, our_scale in RACE:
        setting = ours("fast", our_scale, steps)
        score = tuning.score(setting, TUNING_COLORS)
        if score.difference <= goal.difference and score.spread >= goal.spread:
            found = setting
            break
    if found is None:
        return [[theirs.name, "", f"{scale:g}", "", "", "", "no setting of ours is as good"]]
    rgb = images.parse_color(COLORS[0])
    times = medians(
        [lambda s=s: lab.draw(s, rgb, 1) for s in (theirs, found)],
        repeats,
    )
    rows = []
    for setting, seconds in zip((theirs, found), times, strict=True):
        score = lab.score(setting)
        less = "" if setting is theirs else f"{times[0] / times[1]:.1f}"
        rows.append(
            [
                setting.name,
                f"{setting.steps}",
                f"{setting.scale:g}",
                f"{score.difference:.1f}",
                f"{score.spread:.0f}",
                f"{seconds:.2f}",
                less,
            ]
        )
    return rows


def card_figures(scores: Sequence[Score]) -> dict[str, tuple[str, str]]:
    """What a model card says: each preset of the studio at its default strength."""
    found = {}
    for score in scores:
        name, default = score.setting.name, METHODS.get(score.setting.name)
        if default is None or score.setting.scale != default.default_scale:
            continue
        how = f"colour, `{name}`, {score.setting.steps} steps"
        label = f"{how}: CIEDE2000 to the wanted colour (unguided)"
        found[f"color_{name}"] = (label, f"{score.difference:.1f} ({score.unguided:.1f})")
        found[f"contrast_{name}"] = (f"{how}: contrast kept", f"{score.contrast:.2f}")
    return found


def main(
    model: Annotated[str, typer.Option(help="key of an unconditional checkpoint")] = "paintings",
    num_images: Annotated[int, typer.Option(min=1, max=32, help="seeds a colour")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="of our presets")] = 20,
    repeats: Annotated[int, typer.Option(min=1, help="of each timing")] = 9,
    through: Annotated[bool, typer.Option(help="also methods with backward passes")] = True,
    json_path: Annotated[Path | None, typer.Option("--json", help="raw numbers")] = None,
    cards: Annotated[bool, typer.Option("--cards", help="write the model cards anew")] = False,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 is PyTorch's choice")] = 0,
) -> None:
    """Prints the tables of colour guidance."""
    if threads:
        torch.set_num_threads(threads)
    lab = Lab(model, REPORT_SEED, num_images)
    tuning = Lab(model, TUNING_SEED, max(1, num_images // 4))
    ratios = cost_of_guidance(lab, steps, repeats)
    first, whole = product_times(repeats)
    variants = list(COURSE) if through else ["shortcut"]
    chosen = {name: best_course_scale(tuning, name) for name in tqdm(variants, desc="tune")}
    settings = [course("shortcut", METHODS["course"].default_scale)]
    settings += [course(name, scale) for name, scale in chosen.items()]
    settings += [ours(name, scale, steps) for name in OURS for scale in OUR_SCALES]
    if through:
        settings.append(ours("thorough", METHODS["thorough"].default_scale, steps))
    scores = [lab.score(setting) for setting in tqdm(settings, desc="score")]
    print(markdown(HEADER, [row(score) for score in scores]), end="\n\n")
    races = [line for n, s in chosen.items() for line in race(tuning, lab, n, s, repeats)]
    print(markdown(RACE_HEADER, races), end="\n\n")
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f} times the unguided run of the same {steps} steps")
    print(f"one picture at default settings: first preview {first:.2f} s, whole run {whole:.2f} s")
    machine = f"{devices.describe_device()}, PyTorch {torch.__version__}"
    print(
        f"\n{len(COLORS)} colours, {num_images} seeds each, unguided ΔE "
        f"{scores[-1].unguided:.1f}. Measured on {machine}, weights {lab.loaded.revision}."
    )
    if cards:
        record(model, card_figures(scores))
    if json_path:
        figures = [
            {k: v for k, v in dataclasses.asdict(score).items() if k != "setting"}
            | {"name": score.setting.name, "scale": score.setting.scale}
            for score in scores
        ]
        write_json(
            json_path,
            {
                "scores": figures,
                "races": races,
                "ratios": ratios,
                "first_preview": first,
                "whole_run": whole,
                "machine": machine,
            },
        )


if __name__ == "__main__":
    typer.run(main)
