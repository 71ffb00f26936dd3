"""A classifier of emoji, by thing and by colour, that judges what words made of them.

    python -m benchmarks.judges.emoji_judge

Guidance never sees it: it is a plain convolutional network that learns labels, not sentences. What
`training.held_out` names is not trained on: its designer, FxEmoji, is looked at once, at the end,
for the accuracies that are stored with the weights. So is an older set of Noto, which the first
judge of version 0.2 did not see either, so that the two can be compared.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Collection, Iterable
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

WEIGHTS = Path(__file__).resolve().parent.parent / "weights" / "emoji_judge.safetensors"
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
"""What a picture can be judged to be, and the names of the emoji that are it, whole and in any
case of letters; the first that fits."""

KINDS = (*THINGS, OTHER)
COLORS = tuple(dict.fromkeys(name.split()[-1] for name in captions.COLORS))
_WIDTHS = (24, 48, 96, 160)
_WEIGHT_DECAY = 5e-4
_SMOOTHING = 0.1
_PX = 64


class EmojiJudge(genre_judge.GenreJudge):
    """A small residual classifier of 64x64 pictures; its logits are of things, then of colours."""

    def __init__(self) -> None:
        super().__init__(len(KINDS) + len(COLORS), _WIDTHS)


@dataclass(frozen=True)
class Emoji:
    """Emoji and what they are.

    Attributes:
        pixels: `(n, 4, px, px)` uint8, RGBA.
        things: `(n,)` int64, numbers in `KINDS`.
        colors: `(n,)` int64, numbers in `COLORS`; -1 where none fills enough.
    """

    pixels: Tensor
    things: Tensor
    colors: Tensor

    def __len__(self) -> int:
        return len(self.pixels)


def thing_of(name: str) -> int:
    """The number in `KINDS` of what an emoji of that name is."""
    for number, pattern in enumerate(THINGS.values()):
        if pattern.fullmatch(name):
            return number
    return KINDS.index(OTHER)


def color_of(picture: Tensor) -> int:
    """The number in `COLORS` of what fills most of a picture `(4, h, w)` uint8; -1 is none."""
    found = captions.dominant_colors(picture)
    return COLORS.index(found[0].split()[-1]) if found else -1


def load_emoji(data_folder: Path, sets: Collection[str] = ()) -> Emoji:
    """The emoji of some sets as they are, or those to train on, which come in more colours, too.

    Args:
        data_folder: where the data sets lie.
        sets: whose emoji are wanted; empty is all those to train on: of neither `OLDER_SET` nor
            what `held_out` names.

    Raises:
        ValueError: if they cannot be read.
    """
    pixels: list[Tensor] = []
    things: list[int] = []
    for name in SOURCES:
        rows = read_split(str((data_folder / name).resolve()), "train")
        rows = rows.cast_column("image", ImageFeature(mode="RGBA"))
        shown: Iterable[Any] = tqdm(rows, desc=name, unit="picture")
        for number, row in enumerate(shown):
            pictures = _asked(row, sets) if sets else _trained_on(row, number, held_out.load())
            pixels += pictures
            things += [thing_of(row["name"])] * len(pictures)
    stacked = torch.stack(pixels)
    colors = torch.tensor([color_of(picture) for picture in stacked])
    return Emoji(stacked, torch.tensor(things), colors)


def _asked(row: captions.Row, sets: Collection[str]) -> list[Tensor]:
    return [fitted(row["image"])] if row["set"] in sets else []


def _trained_on(row: captions.Row, number: int, held: HeldOut) -> list[Tensor]:
    """An emoji in its own colours and in others, less those that are held out."""
    if row["set"] == OLDER_SET or held.has_emoji(row):
        return []
    chance = random.Random(number)
    turns = [0.0, *(chance.random() for _ in range(RECOLORED))]
    pictures = [fitted(recolored(row["image"], turn)) for turn in turns]
    thing = captions.everyday(row)
    if thing not in held.things:
        return pictures
    return [p for p in pictures if not held.has_pair(thing, captions.dominant_colors(p))]


def load(path: Path = WEIGHTS) -> EmojiJudge:
    """The trained judge, frozen, in evaluation mode, on the CPU.

    Raises:
        FileNotFoundError: if it was never trained; the message says how to.
    """
    return judges.with_weights(EmojiJudge(), path, "python -m benchmarks.judges.emoji_judge")


def stored_accuracies(path: Path = WEIGHTS) -> dict[str, float]:
    """Share of the held-out emoji it got right after training, by thing, and of colours."""
    return judge.stored_accuracies(path)


@torch.no_grad()
def classify(found: EmojiJudge, pixels: Tensor) -> tuple[list[str], list[str]]:
    """Thing and colour of each picture of `(n, 3, 64, 64)` in [-1, 1]."""
    logits = torch.cat([found(part) for part in pixels.split(250)])
    things, colors = logits.split([len(KINDS), len(COLORS)], dim=1)
    return [KINDS[i] for i in things.argmax(1).tolist()], [
        COLORS[i] for i in colors.argmax(1).tolist()
    ]


def accuracies(found: EmojiJudge, emoji: Emoji, seed: int = 0) -> dict[str, float]:
    """Share of things and colours it gets right, on grounds of any colour."""
    grounds = draw_backgrounds(len(emoji), torch.Generator().manual_seed(seed))
    shown = F.interpolate(composited(emoji.pixels, grounds), size=_PX, mode="area")
    things, colors = classify(found, shown)
    right = torch.tensor([KINDS.index(thing) for thing in things]) == emoji.things
    known = emoji.colors >= 0
    matched = torch.tensor([COLORS.index(color) for color in colors]) == emoji.colors
    of = {kind: right[emoji.things == number] for number, kind in enumerate(KINDS)}
    of |= {"all things": right, "colours": matched[known]}
    return {name: share.double().mean().item() for name, share in of.items() if len(share)}


def train(
    emoji: Emoji, *, epochs: int, batch_size: int, lr: float, seed: int, bf16: bool = False
) -> EmojiJudge:
    """Trains a judge; rare things are shown more often than they occur."""
    torch.manual_seed(seed)
    found = EmojiJudge().train()
    chance = genre_judge.rare_first(emoji.things, len(KINDS))

    def loss_of(step: int) -> Tensor:
        generator = step_generator(seed, step)
        chosen = torch.multinomial(chance, batch_size, generator=generator)
        shown = composited(emoji.pixels[chosen], draw_backgrounds(batch_size, generator))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = found(degraded(shown, _PX, generator)).float()
        things, colors = logits.split([len(KINDS), len(COLORS)], dim=1)
        of_things = F.cross_entropy(things, emoji.things[chosen], label_smoothing=_SMOOTHING)
        of_colors = F.cross_entropy(
            colors, emoji.colors[chosen], ignore_index=-1, label_smoothing=_SMOOTHING
        )
        return of_things + of_colors

    steps = epochs * math.ceil(len(emoji) / batch_size)
    return judge.fit(found, loss_of, steps=steps, lr=lr, weight_decay=_WEIGHT_DECAY)


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
    found = train(emoji, epochs=epochs, batch_size=batch_size, lr=lr, seed=seed, bf16=bf16)
    recipe = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed}
    measured = accuracies(found, load_emoji(data_folder, held_out.load().sets))
    older = accuracies(found, load_emoji(data_folder, {OLDER_SET}))
    measured |= {f"{OLDER_SET}: {name}": older[name] for name in ("all things", "colours")}
    judge.save_measured(found, output, " and ".join(SOURCES) + ", not held out", recipe, measured)


if __name__ == "__main__":
    typer.run(main)
