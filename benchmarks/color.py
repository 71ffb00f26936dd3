"""Measures colour guidance: distance to the colour, loss of contrast, and cost.

    python -m benchmarks.color

Twelve colours, greys included, on a bundled model: every preset of the studio against the course's
two variants at their best scale and 40 steps. The course's scale and the settings of the race are
chosen on a third of the colours and with other seeds than those reported.
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
from pipelines.diffusion import guidance, losses, plugins, sampling
from pipelines.diffusion.denoisers import unconditional
from pipelines.diffusion.methods import METHODS, PUBLISHED, Method
from pipelines.diffusion.noise import draw_noise, seeded
from pipelines.diffusion.solvers import make_schedule
from pipelines.models import checkpoints
from pipelines.models.timesteps import learned
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
    """One setting of guidance: method, scale, number of steps and loss."""

    name: str
    method: Method
    scale: float
    steps: int
    every_pixel: bool = False
    repeats: int | None = None

    def guide(self, rgb: Sequence[int]) -> guidance.Guide:
        target = images.from_uint8(torch.tensor(rgb))
        loss = losses.TargetColor if self.every_pixel else losses.MeanColor
        return guidance.Guide(
            self.method, [losses.Term(loss(target))], self.scale, repeats=self.repeats
        )


@dataclass(frozen=True)
class Score:
    """The results of one setting, means over all colours and seeds.

    Attributes:
        setting: the setting.
        difference: CIEDE2000 between mean colour and target.
        unguided: that of unguided pictures with the same seeds and solver.
        spread: standard deviation of luma, on the scale of 0 to 255.
        contrast: standard deviation of luma, as a share of the unguided pictures'.
        edges: mean absolute difference of neighbouring pixels' luma, as a share of the unguided
            pictures'.
        evaluations: network evaluations and backward passes per picture.
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
    """A bundled model, with a cache of unguided pictures for comparison.

    Timesteps are learned ones where the studio's are.

    With `one_path`, fresh noise is the same Brownian path for every number of steps.
    """

    def __init__(self, model: str, seed: int, num_images: int, *, one_path: bool = False):
        self.loaded, self.one_path = checkpoints.load(model), one_path
        self.seed, self.num_images = seed, num_images
        self._unguided: dict[tuple[Any, ...], Tensor] = {}

    def draw(
        self, setting: Setting, rgb: Sequence[int] | None, num_images: int | None = None
    ) -> Tensor:
        """Returns pictures `(b, 3, h, w)` in [-1, 1]; unguided without a colour."""
        *_, last = self.steps(setting, rgb, num_images)
        return last.x_prev.clamp(-1, 1)

    def steps(self, setting: Setting, rgb: Sequence[int] | None, num_images: int | None = None):
        """Starts a run and returns its steps."""
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
            timesteps=learned(loaded.checkpoint.key, method.solver, setting.steps),
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
        """Draws with a setting towards the colours and returns the results."""
        unguided = self.unguided(setting)
        guided_differences, unguided_differences, spreads, contrasts, edges = [], [], [], [], []
        for text in colors:
            rgb = images.parse_color(text)
            guided = self.draw(setting, rgb)
            guided_differences.append(statistics.mean(differences(guided, rgb)))
            unguided_differences.append(statistics.mean(differences(unguided, rgb)))
            spreads.append(contrast(guided).mean().item() * 127.5)
            contrasts.append((contrast(guided) / contrast(unguided)).mean().item())
            edges.append((edge_energy(guided) / edge_energy(unguided)).mean().item())
        return Score(
            setting,
            statistics.mean(guided_differences),
            statistics.mean(unguided_differences),
            statistics.mean(spreads),
            statistics.mean(contrasts),
            statistics.mean(edges),
            evaluations(setting),
            max(guided_differences),
        )


def differences(pictures: Tensor, rgb: Sequence[int]) -> list[float]:
    """Returns CIEDE2000 between each picture's mean colour, in 8 bits, and a colour."""
    return [colorimetry.difference(images.mean_rgb(p), rgb) for p in images.to_pil(pictures)]


def contrast(pictures: Tensor) -> Tensor:
    """Returns the standard deviation of luma `(b,)`."""
    return losses.luma(pictures).flatten(1).std(dim=1)


def edge_energy(pictures: Tensor) -> Tensor:
    """Returns the mean absolute difference of neighbouring luma, in both directions `(b,)`."""
    luma = losses.luma(pictures)  # (b, h, w)
    across, down = luma.diff(dim=2).abs().mean(dim=(1, 2)), luma.diff(dim=1).abs().mean(dim=(1, 2))
    return (across + down) / 2


def evaluations(setting: Setting) -> str:
    """Returns the network evaluations and backward passes per picture, as text."""
    guide = setting.guide((0, 0, 0))
    passes = sum(guide.recurrence(i, setting.steps) for i in range(setting.steps))
    return f"{passes} and {passes} backward" if setting.method.differentiates else f"{passes}"


def ours(name: str, scale: float, steps: int) -> Setting:
    return Setting(name, METHODS[name], scale, steps)


def course(name: str, scale: float) -> Setting:
    return Setting(f"course, {name}", COURSE[name], scale, COURSE_STEPS, every_pixel=True)


def best_course_scale(lab: Lab, name: str) -> float:
    """Returns the scale with the smallest colour difference; stops at the first worse one."""
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
    """Returns the median seconds of each function; they take turns after a warm-up."""
    return [statistics.median(times) for times in zip(*rounds(works, repeats), strict=True)]


def rounds(works: Sequence[Callable[[], object]], repeats: int) -> list[list[float]]:
    """Returns the seconds of each function per round, `(repeats, works)`, after a warm-up."""
    for work in works:
        work()
    return [[seconds_of(work) for work in works] for _ in range(repeats)]


def cost_of_guidance(lab: Lab, steps: int, repeats: int) -> dict[str, float]:
    """Returns guided over unguided time of one picture, without recurrence, by method."""
    rgb, ratios = images.parse_color(ColorSettings.color), {}
    for name in OURS:
        setting = dataclasses.replace(ours(name, ColorSettings.guidance_scale, steps), repeats=1)
        unguided, guided = medians(
            [
                lambda setting=setting: lab.draw(setting, None, 1),
                lambda setting=setting: lab.draw(setting, rgb, 1),
            ],
            repeats,
        )
        ratios[name] = guided / unguided
    return ratios


def product_times(repeats: int) -> tuple[float, float]:
    """Returns the median seconds of one picture to the first preview and to the end.

    It uses the default settings; the unguided picture is not cached.
    """
    firsts, totals = [], []
    for seed in range(repeats + 1):
        began = time.perf_counter()
        run = color.generate(ColorSettings(seed=1000 + seed))
        next(run)
        firsts.append(time.perf_counter() - began)
        list(run)
        totals.append(time.perf_counter() - began)
    return statistics.median(firsts[1:]), statistics.median(totals[1:])


def race(tuning: Lab, lab: Lab, name: str, scale: float, repeats: int) -> list[list[str]]:
    """Returns rows of the course at its best scale, and of our cheapest setting that is as good.

    It must be as good in colour and contrast. Contrast is absolute here, because unguided pictures
    also differ with the number of steps.
    """
    course_setting = course(name, scale)
    goal = tuning.score(course_setting, TUNING_COLORS)
    fastest: Setting | None = None
    for steps, our_scale in RACE:
        setting = ours("fast", our_scale, steps)
        score = tuning.score(setting, TUNING_COLORS)
        if score.difference <= goal.difference and score.spread >= goal.spread:
            fastest = setting
            break
    if fastest is None:
        return [
            [course_setting.name, "", f"{scale:g}", "", "", "", "no setting of ours is as good"]
        ]
    rgb = images.parse_color(COLORS[0])
    times = medians(
        [lambda s=s: lab.draw(s, rgb, 1) for s in (course_setting, fastest)],
        repeats,
    )
    rows = []
    for setting, seconds in zip((course_setting, fastest), times, strict=True):
        score = lab.score(setting)
        less = "" if setting is course_setting else f"{times[0] / times[1]:.1f}"
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
    """Returns the figures of a model card: each preset of the studio at its default scale."""
    figures = {}
    for score in scores:
        name, default = score.setting.name, METHODS.get(score.setting.name)
        if default is None or score.setting.scale != default.default_scale:
            continue
        how = f"colour, `{name}`, {score.setting.steps} steps"
        label = f"{how}: CIEDE2000 to the wanted colour (unguided)"
        figures[f"color_{name}"] = (label, f"{score.difference:.1f} ({score.unguided:.1f})")
        figures[f"contrast_{name}"] = (f"{how}: contrast kept", f"{score.contrast:.2f}")
    return figures


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
    first, total = product_times(repeats)
    variants = list(COURSE) if through else ["shortcut"]
    scales = {name: best_course_scale(tuning, name) for name in tqdm(variants, desc="tune")}
    settings = [course("shortcut", METHODS["course"].default_scale)]
    settings += [course(name, scale) for name, scale in scales.items()]
    settings += [ours(name, scale, steps) for name in OURS for scale in OUR_SCALES]
    own = plugins.own_methods()  # of whoever measures
    settings += [ours(name, METHODS[name].default_scale, steps) for name in own]
    if through:
        settings.append(ours("thorough", METHODS["thorough"].default_scale, steps))
    scores = [lab.score(setting) for setting in tqdm(settings, desc="score")]
    print(markdown(HEADER, [row(score) for score in scores]), end="\n\n")
    races = [line for n, s in scales.items() for line in race(tuning, lab, n, s, repeats)]
    print(markdown(RACE_HEADER, races), end="\n\n")
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f} times the unguided run of the same {steps} steps")
    print(f"one picture at default settings: first preview {first:.2f} s, whole run {total:.2f} s")
    machine = f"{devices.describe_device()}, PyTorch {torch.__version__}"
    unguided = next(s.unguided for s in scores if s.setting.name == ColorSettings.method)
    print(
        f"\n{len(COLORS)} colours, {num_images} seeds each, unguided ΔE "
        f"{unguided:.1f}. Measured on {machine}, weights {lab.loaded.revision}."
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
                "whole_run": total,
                "machine": machine,
            },
        )


if __name__ == "__main__":
    typer.run(main)
