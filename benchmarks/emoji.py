"""Measures text guidance on emoji: is a red heart a heart, and is it red?

    python -m benchmarks.emoji

Twenty prompts with 8 seeds each, judged by a classifier that guidance never uses
(`benchmarks.judges.emoji_judge`). The course's settings (50 steps, 4 cutouts, scale 8) are measured
in the same run with the same models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from benchmarks import frechet
from benchmarks.digits import write_json
from benchmarks.figures import record
from benchmarks.judges import emoji_judge
from benchmarks.scoring import markdown
from benchmarks.text import COURSE, PRESETS, Lab, key_of, name_of
from pipelines.core import devices, images
from pipelines.products.settings import TextSettings

PROMPTS = {
    "a red heart": ("heart", "red"),
    "a blue heart": ("heart", "blue"),
    "a green heart": ("heart", "green"),
    "a purple heart": ("heart", "purple"),
    "a yellow heart": ("heart", "yellow"),
    "a green leaf": ("leaf", "green"),
    "an orange leaf": ("leaf", "orange"),
    "a yellow face": ("face", "yellow"),
    "a red face": ("face", "red"),
    "a blue car": ("car", "blue"),
    "a red car": ("car", "red"),
    "a yellow star": ("star", "yellow"),
    "a yellow moon": ("moon", "yellow"),
    "a red circle": ("circle", "red"),
    "a blue circle": ("circle", "blue"),
    "a blue square": ("square", "blue"),
    "a pink flower": ("flower", "pink"),
    "a blue fish": ("fish", "blue"),
    "a green tree": ("tree", "green"),
    "a red book": ("book", "red"),
}
"""Prompts, each with the thing and the colour that the judge must see."""

REPORT_SEED = 0
GRID_PICTURES = 6
SETTINGS = [*PRESETS[:3], TextSettings(method="thorough", tries=8)]
HEADER = ("pictures", "steps", "scale", "thing", "colour", "both (95 %)")


@dataclass(frozen=True)
class Score:
    """The results of a setting.

    Attributes:
        name: of the setting.
        settings: the setting.
        things: per prompt, whether the thing is right in each picture.
        colors: per prompt, whether the colour is right in each picture.
        pictures: per prompt, `(n, 3, h, w)` in [-1, 1].
    """

    name: str
    settings: TextSettings
    things: dict[str, list[bool]]
    colors: dict[str, list[bool]]
    pictures: dict[str, Tensor]

    def both(self, prompt: str) -> list[bool]:
        """Returns for each picture of a prompt whether thing and colour are right."""
        pairs = zip(self.things[prompt], self.colors[prompt], strict=True)
        return [thing and color for thing, color in pairs]

    @property
    def judged(self) -> frechet.Interval:
        """Share of all pictures with the right thing in the right colour."""
        right = [is_right for prompt in self.things for is_right in self.both(prompt)]
        return frechet.wilson(sum(right), len(right))


def score(
    judge: emoji_judge.EmojiJudge,
    name: str,
    settings: TextSettings,
    pictures: dict[str, Tensor],
) -> Score:
    """Judges the pictures of every prompt."""
    things, colors = {}, {}
    for prompt, (thing, color) in PROMPTS.items():
        judged_things, judged_colors = emoji_judge.classify(judge, pictures[prompt])
        things[prompt] = [judged == thing for judged in judged_things]
        colors[prompt] = [judged == color for judged in judged_colors]
    return Score(name, settings, things, colors, pictures)


def share(results: dict[str, list[bool]]) -> float:
    """Returns the share of right pictures of all prompts."""
    all_results = [right for prompt_results in results.values() for right in prompt_results]
    return sum(all_results) / len(all_results)


def row(score: Score, *, unguided: bool = False) -> list[str]:
    settings, judged = score.settings, score.judged
    return [
        score.name,
        f"{settings.num_inference_steps}",
        "" if unguided else f"{settings.guidance_scale:g}",
        f"{share(score.things):.0%}",
        f"{share(score.colors):.0%}",
        f"{judged.value:.0%} ({judged.low:.0%}-{judged.high:.0%})",
    ]


def prompt_rows(scores: list[Score]) -> list[list[str]]:
    """Returns a row per prompt: the share of right pictures of each setting."""
    rows = []
    for prompt in PROMPTS:
        shares = [sum(score.both(prompt)) / len(score.both(prompt)) for score in scores]
        rows.append([prompt, *(f"{share:.0%}" for share in shares)])
    return rows


def grid(score: Score) -> Image.Image:
    """Returns a sheet of the first pictures of every prompt, two prompts per row."""
    chosen = [pictures[:GRID_PICTURES] for pictures in score.pictures.values()]
    return images.grid(images.to_pil(torch.cat(chosen)), columns=2 * len(chosen[0]))


def card_figures(
    model: str, clip_model: str, scores: Sequence[Score]
) -> dict[str, tuple[str, str]]:
    """Returns the figures of a model card: the share of the right thing in the right colour."""
    figures = {}
    for score in scores:
        if score.name != "course":
            how = f"thing and colour on `{model}` with `{clip_model}`, {score.name}"
            figures[f"emoji_{key_of(score.name)}"] = (
                f"{how}: judged as asked",
                f"{score.judged.value:.0%}",
            )
    return figures


def main(
    model: Annotated[str, typer.Option(help="key of an unconditional checkpoint")] = "emoji",
    clip_model: Annotated[str, typer.Option(help="key of the CLIP that guides")] = "clip-small",
    num_images: Annotated[int, typer.Option(min=1, help="seeds a prompt")] = 8,
    grid_path: Annotated[Path | None, typer.Option("--grid", help="where the best go")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="raw numbers")] = None,
    cards: Annotated[bool, typer.Option("--cards", help="write the model cards anew")] = False,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 is PyTorch's choice")] = 0,
) -> None:
    """Prints the tables of words on emoji."""
    if threads:
        torch.set_num_threads(threads)
    lab, judge = Lab(model, clip_model, REPORT_SEED, num_images), emoji_judge.load()
    unguided = score(
        judge, "unguided", PRESETS[0], dict.fromkeys(PROMPTS, lab.unguided(PRESETS[0]))
    )
    scores = []
    for settings in tqdm([*SETTINGS, COURSE], desc="score"):
        drawn = {prompt: lab.guided(settings, prompt) for prompt in PROMPTS}
        scores.append(score(judge, name_of(settings), settings, drawn))
    print(markdown(HEADER, [row(unguided, unguided=True), *map(row, scores)]), end="\n\n")
    columns = ("prompt", "unguided", *(result.name for result in scores))
    print(markdown(columns, prompt_rows([unguided, *scores])), end="\n\n")
    accuracies = emoji_judge.stored_accuracies()
    machine = f"{devices.describe_device()}, PyTorch {torch.__version__}"
    print(
        f"{len(PROMPTS)} prompts, {num_images} seeds each. Of real emoji that it was not trained "
        f"on, the judge gets {accuracies['all things']:.0%} of the things and "
        f"{accuracies['colours']:.0%} of the colours right. Measured on {machine}, weights "
        f"{lab.loaded.revision}, CLIP {lab.clip.revision}."
    )
    if grid_path:
        best = max(scores, key=lambda result: result.judged.value)
        print(f"The grid is of {best.name}.")
        grid(best).save(grid_path)
    if cards:
        for key in (model, clip_model):
            record(key, card_figures(model, clip_model, [unguided, *scores]))
    if json_path:
        figures = {
            result.name: {
                "judged": result.judged.value,
                "things": share(result.things),
                "colors": share(result.colors),
                "prompts": {p: sum(result.both(p)) / num_images for p in PROMPTS},
            }
            for result in (unguided, *scores)
        }
        write_json(json_path, {"scores": figures, "machine": machine})


if __name__ == "__main__":
    typer.run(main)
