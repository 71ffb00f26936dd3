"""Words and colours, measured on emoji: is a red heart a heart, and is it red?

    python -m benchmarks.emoji

Twenty prompts, 8 seeds each, judged by a classifier that guidance never used
(`benchmarks.judges.emoji_judge`). The course's recipe (50 steps, 4 cutouts, scale 8) is drawn in
the same run with the same models.
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
"""What is asked for, and the thing and the colour that the judge must see."""

REPORT_SEED = 0
GRID_PICTURES = 6
SETTINGS = [*PRESETS[:3], TextSettings(method="thorough", tries=8)]
HEADER = ("pictures", "steps", "scale", "thing", "colour", "both (95 %)")


@dataclass(frozen=True)
class Score:
    """What a setting reaches.

    Attributes:
        name: of the setting.
        settings: which.
        things: per prompt and picture, whether the thing is right.
        colors: the same of the colour.
        pictures: per prompt, `(n, 3, h, w)` in [-1, 1].
    """

    name: str
    settings: TextSettings
    things: dict[str, list[bool]]
    colors: dict[str, list[bool]]
    pictures: dict[str, Tensor]

    def both(self, prompt: str) -> list[bool]:
        """Per picture of a prompt, whether thing and colour are right."""
        pairs = zip(self.things[prompt], self.colors[prompt], strict=True)
        return [thing and color for thing, color in pairs]

    @property
    def judged(self) -> frechet.Interval:
        """Share of all pictures with the right thing in the right colour."""
        right = [found for prompt in self.things for found in self.both(prompt)]
        return frechet.wilson(sum(right), len(right))


def score(
    judge: emoji_judge.EmojiJudge,
    name: str,
    settings: TextSettings,
    pictures: dict[str, Tensor],
) -> Score:
    """What the judge sees in the pictures of every prompt."""
    things, colors = {}, {}
    for prompt, (thing, color) in PROMPTS.items():
        seen_things, seen_colors = emoji_judge.classify(judge, pictures[prompt])
        things[prompt] = [seen == thing for seen in seen_things]
        colors[prompt] = [seen == color for seen in seen_colors]
    return Score(name, settings, things, colors, pictures)


def share(found: dict[str, list[bool]]) -> float:
    """Of all pictures of all prompts."""
    every = [right for of in found.values() for right in of]
    return sum(every) / len(every)


def row(found: Score, *, unguided: bool = False) -> list[str]:
    settings, judged = found.settings, found.judged
    return [
        found.name,
        f"{settings.num_inference_steps}",
        "" if unguided else f"{settings.guidance_scale:g}",
        f"{share(found.things):.0%}",
        f"{share(found.colors):.0%}",
        f"{judged.value:.0%} ({judged.low:.0%}-{judged.high:.0%})",
    ]


def prompt_rows(scores: list[Score]) -> list[list[str]]:
    """Per prompt, the share of pictures that are right, of each setting."""
    rows = []
    for prompt in PROMPTS:
        shares = [sum(found.both(prompt)) / len(found.both(prompt)) for found in scores]
        rows.append([prompt, *(f"{of:.0%}" for of in shares)])
    return rows


def grid(found: Score) -> Image.Image:
    """The first pictures of every prompt, those of two prompts in each row."""
    chosen = [pictures[:GRID_PICTURES] for pictures in found.pictures.values()]
    return images.grid(images.to_pil(torch.cat(chosen)), columns=2 * len(chosen[0]))


def card_figures(
    model: str, clip_model: str, scores: Sequence[Score]
) -> dict[str, tuple[str, str]]:
    """What a model card says: the share with the right thing in the right colour."""
    found = {}
    for score in scores:
        if score.name != "course":
            how = f"thing and colour on `{model}` with `{clip_model}`, {score.name}"
            found[f"emoji_{key_of(score.name)}"] = (
                f"{how}: judged as asked",
                f"{score.judged.value:.0%}",
            )
    return found


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
    plain = score(judge, "unguided", PRESETS[0], dict.fromkeys(PROMPTS, lab.unguided(PRESETS[0])))
    scores = []
    for settings in tqdm([*SETTINGS, COURSE], desc="score"):
        drawn = {prompt: lab.guided(settings, prompt) for prompt in PROMPTS}
        scores.append(score(judge, name_of(settings), settings, drawn))
    print(markdown(HEADER, [row(plain, unguided=True), *map(row, scores)]), end="\n\n")
    columns = ("prompt", "unguided", *(found.name for found in scores))
    print(markdown(columns, prompt_rows([plain, *scores])), end="\n\n")
    known = emoji_judge.stored_accuracies()
    machine = f"{devices.describe_device()}, PyTorch {torch.__version__}"
    print(
        f"{len(PROMPTS)} prompts, {num_images} seeds each. Of real emoji that it was not trained "
        f"on, the judge gets {known['all things']:.0%} of the things and {known['colours']:.0%} of "
        f"the colours right. Measured on {machine}, weights {lab.loaded.revision}, CLIP "
        f"{lab.clip.revision}."
    )
    if grid_path:
        best = max(scores, key=lambda found: found.judged.value)
        print(f"The grid is of {best.name}.")
        grid(best).save(grid_path)
    if cards:
        for key in (model, clip_model):
            record(key, card_figures(model, clip_model, [plain, *scores]))
    if json_path:
        figures = {
            found.name: {
                "judged": found.judged.value,
                "things": share(found.things),
                "colors": share(found.colors),
                "prompts": {p: sum(found.both(p)) / num_images for p in PROMPTS},
            }
            for found in (plain, *scores)
        }
        write_json(json_path, {"scores": figures, "machine": machine})


if __name__ == "__main__":
    typer.run(main)
