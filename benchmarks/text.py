"""Measures text guidance: do the pictures show the prompt, and at what cost?

    python -m benchmarks.text

Six prompts with 16 seeds each, judged by two networks that guidance never uses
(`benchmarks.judges.painting_judges`): a classifier of genres and a second CLIP. The course's
settings (50 steps, 4 cutouts, scale 8) are measured in the same run with the same models.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from benchmarks.color import contrast, rounds
from benchmarks.digits import write_json
from benchmarks.figures import record
from benchmarks.judges.painting_judges import Judges, Shares, mean
from benchmarks.scoring import markdown
from pipelines.core import devices, images
from pipelines.diffusion.methods import TEXT_METHODS
from pipelines.models import checkpoints, clip
from pipelines.products import text
from pipelines.products.guided import seeds_of
from pipelines.products.settings import TextSettings
from pipelines.runs.run import Run

PROMPTS = {
    "a portrait of a woman": "portrait",
    "a landscape with trees": "landscape",
    "a city street": "cityscape",
    "a still life with fruit": "still_life",
    "ships on the sea": "marine",
    "a pencil sketch": "sketch_and_study",
}
REPORT_SEED = 0
COURSE = TextSettings(
    method="course", guidance_scale=8.0, num_inference_steps=50, cutouts=4, stop=1.0
)
PRESETS = [TextSettings(method=name) for name in ("balanced", "fast", "thorough")]
PRESETS.append(TextSettings(method="balanced", tries=8))
HEADER = (
    "pictures",
    "steps",
    "scale",
    "genre judge",
    "CLIP judge",
    "both",
    "the guide itself",
    "Fréchet distance",
    "contrast",
)
COST_HEADER = ("one picture", "takes", "of unguided, same steps", "of the course's recipe")
GRID_COLUMNS, GRID_SCALE = 8, 2


class Lab:
    """A bundled model and a CLIP, with the same seeds for every prompt and setting."""

    def __init__(self, model: str, clip_model: str, seed: int, num_images: int):
        self.loaded, self.clip = checkpoints.load(model), clip.load(clip_model)
        self.seed, self.num_images = seed, num_images
        self._unguided: dict[tuple[str, int, float], Tensor] = {}

    def run(self, settings: TextSettings) -> Run:
        """Returns a run that is ready to draw, after the seed search if there is one."""
        target = text.target_of(settings, self.clip)
        seeds: Sequence[int] = seeds_of(settings)
        if settings.tries > 1:
            *_, state = text.try_seeds(settings, self.loaded, self.clip, target)
            seeds = state.seeds
        return text.run_of(settings, self.loaded, self.clip, target, seeds)

    def guided(self, settings: TextSettings, prompt: str) -> Tensor:
        """Returns guided pictures `(n, 3, h, w)` in [-1, 1]."""
        seeds = {"seed": self.seed, "num_images": self.num_images}
        *_, last = self.run(dataclasses.replace(settings, prompt=prompt, **seeds)).steps()
        return last.x_prev.clamp(-1, 1)

    def unguided(self, settings: TextSettings) -> Tensor:
        """Returns unguided pictures with the same seeds, solver and steps."""
        method = TEXT_METHODS[settings.method]
        key = (method.solver, settings.num_inference_steps, method.eta)
        if key not in self._unguided:
            seeds = {"seed": self.seed, "num_images": self.num_images}
            *_, last = self.run(dataclasses.replace(settings, **seeds)).unguided().steps()
            self._unguided[key] = last.x_prev.clamp(-1, 1)
        return self._unguided[key]


def name_of(settings: TextSettings) -> str:
    """Returns the name of a setting in the tables."""
    return f"{settings.method}, best of {settings.tries}" if settings.tries > 1 else settings.method


def key_of(name: str) -> str:
    """Returns the name as a key of a card's figures."""
    return name.replace(",", "").replace(" ", "_")


@dataclass(frozen=True)
class Score:
    """The results of a setting.

    Attributes:
        name: of the setting.
        settings: the setting.
        shares: per prompt, the results of the judges.
        distance: Fréchet distance of all its pictures to real paintings.
        contrast: standard deviation of luma as a share of the unguided pictures'.
        pictures: per prompt, `(n, 3, h, w)` in [-1, 1].
    """

    name: str
    settings: TextSettings
    shares: dict[str, Shares]
    distance: float
    contrast: float
    pictures: dict[str, Tensor]


def score(lab: Lab, judges: Judges, name: str, settings: TextSettings) -> Score:
    """Draws and judges every prompt."""
    pictures = {prompt: lab.guided(settings, prompt) for prompt in PROMPTS}
    return _judged(lab, judges, name, settings, pictures)


def score_unguided(lab: Lab, judges: Judges, settings: TextSettings) -> Score:
    """Judges the unguided pictures, for the shares by chance."""
    unguided = lab.unguided(settings)
    pictures = dict.fromkeys(PROMPTS, unguided)
    return _judged(lab, judges, "unguided", settings, pictures)


def _judged(
    lab: Lab, judges: Judges, name: str, settings: TextSettings, pictures: dict[str, Tensor]
) -> Score:
    all_pictures = torch.cat(list(pictures.values()))
    unguided_contrast = contrast(lab.unguided(settings)).repeat(len(pictures))
    return Score(
        name,
        settings,
        {prompt: judges.shares(pictures[prompt], kind) for prompt, kind in PROMPTS.items()},
        judges.distance(all_pictures),
        (contrast(all_pictures) / unguided_contrast).mean().item(),
        pictures,
    )


def row(score: Score) -> list[str]:
    shares, settings = mean(list(score.shares.values())), score.settings
    unguided = score.name == "unguided"
    return [
        score.name,
        f"{settings.num_inference_steps}",
        "" if unguided else f"{settings.guidance_scale:g}",
        f"{shares.genre:.0%}",
        f"{shares.clip:.0%}",
        f"{shares.judged:.0%}",
        f"{shares.guide:.0%}",
        f"{score.distance:.1f}",
        f"{score.contrast:.2f}",
    ]


def prompt_rows(judges: Judges, unguided: Score, ours: Score, course: Score) -> list[list[str]]:
    """Returns a row per prompt: real paintings, unguided, the course's and ours."""
    real = judges.reference.shares
    rows = []
    for prompt in PROMPTS:
        shares = [f.shares[prompt].judged for f in (unguided, course, ours)]
        rows.append(
            [prompt, f"{real[PROMPTS[prompt]].judged:.0%}", *(f"{share:.0%}" for share in shares)]
        )
    return rows


@dataclass(frozen=True)
class Cost:
    """The cost of one picture; ratios are medians over turns.

    Attributes:
        seconds: median with guidance.
        of_unguided: as a multiple of the same steps without guidance.
        of_course: as a multiple of the course's settings.
    """

    seconds: float
    of_unguided: float
    of_course: float


def cost_of(lab: Lab, settings: TextSettings, repeats: int) -> Cost:
    """Times a setting against no guidance, and against the course's settings.

    They take turns, because the speed of a machine varies more than they differ.
    """
    all_settings = [settings, dataclasses.replace(settings, guidance_scale=0.0, tries=1), COURSE]
    single = [
        dataclasses.replace(s, num_images=1, prompt=next(iter(PROMPTS))) for s in all_settings
    ]
    ours, unguided, course = (lambda s=s: list(lab.run(s).steps()) for s in single)
    against_unguided, against_course = (
        rounds([ours, other], repeats) for other in (unguided, course)
    )
    return Cost(
        statistics.median(seconds for seconds, _ in against_unguided),
        statistics.median(seconds / other for seconds, other in against_unguided),
        statistics.median(seconds / other for seconds, other in against_course),
    )


def cost_row(name: str, cost: Cost) -> list[str]:
    return [name, f"{cost.seconds:.2f} s", f"{cost.of_unguided:.2f}", f"{cost.of_course:.2f}"]


def grid(score: Score) -> Image.Image:
    """Returns a sheet with a row of pictures per prompt."""
    chosen = [p[:GRID_COLUMNS] for p in score.pictures.values()]
    return images.grid(images.to_pil(torch.cat(chosen)), columns=len(chosen[0]), scale=GRID_SCALE)


def card_figures(
    model: str, clip_model: str, scores: Sequence[Score]
) -> dict[str, tuple[str, str]]:
    """Returns the figures of a model card: the share judged as asked, without the course's."""
    figures = {}
    for score in scores:
        if score.name == "course":
            continue
        label = f"words on `{model}` with `{clip_model}`, {score.name}: judged as asked"
        shares = mean(list(score.shares.values()))
        figures[f"words_{key_of(score.name)}"] = (label, f"{shares.judged:.0%}")
    return figures


def main(
    model: Annotated[str, typer.Option(help="key of an unconditional checkpoint")] = "paintings",
    clip_model: Annotated[str, typer.Option(help="key of the CLIP that guides")] = "clip-small",
    num_images: Annotated[int, typer.Option(min=2, help="seeds a prompt")] = 16,
    repeats: Annotated[int, typer.Option(min=1, help="of each timing")] = 9,
    grid_path: Annotated[Path | None, typer.Option("--grid", help="where ours go")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="raw numbers")] = None,
    cards: Annotated[bool, typer.Option("--cards", help="write the model cards anew")] = False,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 is PyTorch's choice")] = 0,
) -> None:
    """Prints the tables of text guidance."""
    if threads:
        torch.set_num_threads(threads)
    lab = Lab(model, clip_model, REPORT_SEED, num_images)
    judges = Judges(lab.clip)
    costs = {name_of(settings): cost_of(lab, settings, repeats) for settings in PRESETS}
    unguided = score_unguided(lab, judges, PRESETS[0])
    bar = tqdm([*PRESETS, COURSE], desc="score")
    scores = [score(lab, judges, name_of(settings), settings) for settings in bar]
    ours, course = scores[0], scores[-1]
    print(markdown(HEADER, [row(result) for result in (unguided, *scores)]), end="\n\n")
    columns = ("prompt", "real paintings", "unguided", "course", "balanced")
    print(markdown(columns, prompt_rows(judges, unguided, ours, course)), end="\n\n")
    print(markdown(COST_HEADER, [cost_row(*cost) for cost in costs.items()]), end="\n\n")
    machine = f"{devices.describe_device()}, PyTorch {torch.__version__}"
    print(
        f"{len(PROMPTS)} prompts, {num_images} seeds each. Measured on {machine}, weights "
        f"{lab.loaded.revision}, CLIP {lab.clip.revision}."
    )
    if grid_path:
        grid(ours).save(grid_path)
    if cards:
        for key in (model, clip_model):
            record(key, card_figures(model, clip_model, [unguided, *scores]))
    if json_path:
        figures = {
            result.name: {
                "judged": mean(list(result.shares.values())).judged,
                "shares": {p: dataclasses.asdict(s) for p, s in result.shares.items()},
                "distance": result.distance,
                "contrast": result.contrast,
            }
            for result in (unguided, *scores)
        }
        cost_figures = {name: dataclasses.asdict(cost) for name, cost in costs.items()}
        write_json(json_path, {"scores": figures, "costs": cost_figures, "machine": machine})


if __name__ == "__main__":
    typer.run(main)
