"""A classifier of emoji, by thing and by colour, that judges text guidance.

    python -m benchmarks.judges.emoji_judge

Guidance never uses it: it is a plain convolutional network that learns labels, not sentences. It is
not trained on the emoji that `training.held_out` names. Those of the held-out designer, FxEmoji,
are used once, at the end, for the accuracies that are stored with the weights. So is an older set
of Noto, which was also held out from the first judge of version 0.2, so that the two can be
compared.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from datasets import Image as ImageFeature
from torch import Tensor
from tqdm import tqdm

from benchmarks.judges import genre_judge, judge
from pipelines.models import judges
from training.clip.degrade import degraded
from training.clip.pairs import RECOLORED, fitted, recolored
from training.core import captions, held_out
from training.core.backgrounds import composited, draw_backgrounds
from training.core.batches import step_generator
from training.core.data import read_split
from training.core.held_out import HeldOut

WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "emoji_judge.safetensors"
DATA = Path("../shared/data")
SOURCES = ("emoji", "emoji-more")
OLDER_SET = "noto-2018-05"
OTHER = "something else"
THINGS: dict[str, re.Pattern[str]] = {
    "heart": re.compile(
        r"(?!couple|smiling|.*\bcat|.*letter|.*hands|anatomical|kiss).*\bhearts?\b.*"
    ),
    "leaf": re.compile(r".*\bleaf\b(?!less).*|leafy green|herb|seedling|shamrock|.*clover"),
    "face": re.compile(
        r"(?!.*\b(cat|dog|cow|horse|dragon|pig|panda|fox|bear|moon|sun|\w+ey|mouse|rabbit|tiger)\b)"
        r".*\bface\b.*"
    ),
    "car": re.compile(r".*\b(automobile|taxi)|(oncoming )?police car|racing car|sport utility.*"),
    "star": re.compile(r"star|glowing star|shooting star|.*-pointed star"),
    "moon": re.compile(r".*\bmoon( face)?"),
    "circle": re.compile(r"(?!hollow).*\bcircle|radio button"),
    "square": re.compile(r"(?!.*\b(old|new)\b).*\bsquare( button)?"),
    "flower": re.compile(r".*(?<!playing )\b(flower|blossom|rose|tulip|hibiscus|sunflower|lotus)"),
    "fish": re.compile(r"(tropical )?fish|blowfish|shark|dolphin|.*whale"),
    "tree": re.compile(r"(evergreen|deciduous|palm|Christmas) tree|tanabata tree|cactus"),
    "fruit": re.compile(r"(red|green) apple|tomato|tangerine|peach|cherries|pear|mango|lemon"),
    "book": re.compile(r"(closed|green|blue|orange|red|open) book|books|notebook.*|ledger"),
    "cloud": re.compile(r"cloud( with .*)?|sun behind .*cloud|fog"),
}
"""Things that the judge tells apart, each with a pattern of the full names of its emoji; the first
match counts."""

KINDS = (*THINGS, OTHER)
COLORS = tuple(dict.fromkeys(name.split()[-1] for name in captions.COLORS))
_WIDTHS = (24, 48, 96, 160)
_WEIGHT_DECAY = 5e-4
_SMOOTHING = 0.1
_PX = 64


class EmojiJudge(genre_judge.GenreJudge):
    """A small residual classifier of 64x64 pictures, with logits of things, then of colours."""

    def __init__(self) -> None:
        super().__init__(len(KINDS) + len(COLORS), _WIDTHS)


@dataclass(frozen=True)
class Emoji:
    """Emoji with labels.

    Attributes:
        pixels: `(n, 4, px, px)` uint8, RGBA.
        things: `(n,)` int64, indices in `KINDS`.
        colors: `(n,)` int64, indices in `COLORS`; -1 without a dominant colour.
    """

    pixels: Tensor
    things: Tensor
    colors: Tensor

    def __len__(self) -> int:
        return len(self.pixels)


def thing_of(name: str) -> int:
    """Returns the index in `KINDS` of an emoji of that name."""
    for number, pattern in enumerate(THINGS.values()):
        if pattern.fullmatch(name):
            return number
    return KINDS.index(OTHER)


def color_of(picture: Tensor) -> int:
    """Returns the index in `COLORS` of a picture's dominant colour, `(4, h, w)` uint8, or -1."""
    colors = captions.dominant_colors(picture)
    return COLORS.index(colors[0].split()[-1]) if colors else -1


def load_emoji(
    data_folder: Path, sets: Collection[str] = (), label: Callable[[str], int] = thing_of
) -> Emoji:
    """Returns the emoji of some sets unchanged, or the training emoji, also in other colours.

    Args:
        data_folder: of the data sets.
        sets: the sets to load; empty loads the training emoji: all but those of `OLDER_SET` and
            those that `held_out` names.
        label: maps the name of an emoji to its number in `things`.

    Raises:
        ValueError: if they cannot be read.
    """
    pixels: list[Tensor] = []
    things: list[int] = []
    for name in SOURCES:
        rows = read_split(str((data_folder / name).resolve()), "train")
        rows = rows.cast_column("image", ImageFeature(mode="RGBA"))
        bar: Iterable[Any] = tqdm(rows, desc=name, unit="picture")
        for number, row in enumerate(bar):
            pictures = _asked(row, sets) if sets else _trained_on(row, number, held_out.load())
            pixels += pictures
            things += [label(row["name"] or "")] * len(pictures)
    stacked = torch.stack(pixels)
    colors = torch.tensor([color_of(picture) for picture in stacked])
    return Emoji(stacked, torch.tensor(things), colors)


def _asked(row: captions.Row, sets: Collection[str]) -> list[Tensor]:
    return [fitted(row["image"])] if row["set"] in sets else []


def _trained_on(row: captions.Row, number: int, held: HeldOut) -> list[Tensor]:
    """Returns an emoji in its own colours and in others, without held-out ones."""
    if row["set"] == OLDER_SET or held.has_emoji(row):
        return []
    rng = random.Random(number)
    hue_shifts = [0.0, *(rng.random() for _ in range(RECOLORED))]
    pictures = [fitted(recolored(row["image"], hue_shift)) for hue_shift in hue_shifts]
    thing = captions.everyday(row)
    if thing not in held.things:
        return pictures
    return [p for p in pictures if not held.has_pair(thing, captions.dominant_colors(p))]


def load(path: Path = WEIGHTS) -> EmojiJudge:
    """Returns the trained judge, frozen, in evaluation mode, on the CPU.

    Raises:
        FileNotFoundError: without a weights file; the message says how to train it.
    """
    return judges.with_weights(EmojiJudge(), path, "python -m benchmarks.judges.emoji_judge")


def stored_accuracies(path: Path = WEIGHTS) -> dict[str, float]:
    """Returns the judge's accuracies on held-out emoji after training, by thing and of colours."""
    return judge.stored_accuracies(path)


@torch.no_grad()
def classify(model: EmojiJudge, pixels: Tensor) -> tuple[list[str], list[str]]:
    """Returns the thing and the colour of each picture, `(n, 3, 64, 64)` in [-1, 1]."""
    logits = torch.cat([model(part) for part in pixels.split(250)])
    things, colors = logits.split([len(KINDS), len(COLORS)], dim=1)
    return [KINDS[i] for i in things.argmax(1).tolist()], [
        COLORS[i] for i in colors.argmax(1).tolist()
    ]


def accuracies(model: EmojiJudge, emoji: Emoji, seed: int = 0) -> dict[str, float]:
    """Returns the judge's accuracies of things and colours, on backgrounds of any colour."""
    grounds = draw_backgrounds(len(emoji), torch.Generator().manual_seed(seed))
    pictures = F.interpolate(composited(emoji.pixels, grounds), size=_PX, mode="area")
    things, colors = classify(model, pictures)
    right = torch.tensor([KINDS.index(thing) for thing in things]) == emoji.things
    has_color = emoji.colors >= 0
    matched = torch.tensor([COLORS.index(color) for color in colors]) == emoji.colors
    by_name = {kind: right[emoji.things == number] for number, kind in enumerate(KINDS)}
    by_name |= {"all things": right, "colours": matched[has_color]}
    return {name: share.double().mean().item() for name, share in by_name.items() if len(share)}


def train(
    emoji: Emoji, *, epochs: int, batch_size: int, lr: float, seed: int, bf16: bool = False
) -> EmojiJudge:
    """Trains a judge; oversamples rare things."""
    torch.manual_seed(seed)
    model = EmojiJudge().train()
    probabilities = genre_judge.rare_first(emoji.things, len(KINDS))

    def loss_of(step: int) -> Tensor:
        generator = step_generator(seed, step)
        chosen = torch.multinomial(probabilities, batch_size, generator=generator)
        pictures = composited(emoji.pixels[chosen], draw_backgrounds(batch_size, generator))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = model(degraded(pictures, _PX, generator)).float()
        things, colors = logits.split([len(KINDS), len(COLORS)], dim=1)
        thing_loss = F.cross_entropy(things, emoji.things[chosen], label_smoothing=_SMOOTHING)
        color_loss = F.cross_entropy(
            colors, emoji.colors[chosen], ignore_index=-1, label_smoothing=_SMOOTHING
        )
        return thing_loss + color_loss

    steps = epochs * math.ceil(len(emoji) / batch_size)
    return judge.fit(model, loss_of, steps=steps, lr=lr, weight_decay=_WEIGHT_DECAY)


def main(
    data_folder: Annotated[Path, typer.Option(help="where the data sets lie")] = DATA,
    epochs: Annotated[int, typer.Option(min=1)] = 10,
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    lr: Annotated[float, typer.Option(help="peak of the one cycle")] = 3e-3,
    seed: int = 0,
    bf16: Annotated[bool, typer.Option("--bf16", help="faster where the CPU has it")] = False,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 is PyTorch's choice")] = 0,
    output: Annotated[Path, typer.Option(help="where the weights go")] = WEIGHTS,
) -> None:
    """Trains the judge, prints its accuracies on held-out emoji and stores both."""
    if threads:
        torch.set_num_threads(threads)
    emoji = load_emoji(data_folder)
    model = train(emoji, epochs=epochs, batch_size=batch_size, lr=lr, seed=seed, bf16=bf16)
    recipe = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed}
    measured = accuracies(model, load_emoji(data_folder, held_out.load().sets))
    older = accuracies(model, load_emoji(data_folder, {OLDER_SET}))
    measured |= {f"{OLDER_SET}: {name}": older[name] for name in ("all things", "colours")}
    judge.save_measured(model, output, " and ".join(SOURCES) + ", not held out", recipe, measured)


if __name__ == "__main__":
    typer.run(main)
