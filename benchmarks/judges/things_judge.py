"""A classifier of everyday things, by plain names, that judges what a picture shows.

    python -m benchmarks.judges.things_judge

Neither guidance nor training of the models uses it: it is a plain convolutional network that learns
labels. Its first layers are those of `benchmarks.judges.emoji_judge` and stay as they are, which
shortens training. The others are not trained on the emoji that `training.held_out` names.
Those of the held-out designer, FxEmoji, which the first layers have not seen either, are used once,
at the end, for the accuracies that are stored with the weights.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from torch import Tensor

from benchmarks.judges import emoji_judge, genre_judge, judge
from benchmarks.judges.emoji_judge import DATA, OTHER, Emoji
from pipelines.core import images
from pipelines.models import judges
from training.clip.degrade import degraded
from training.core import held_out
from training.core.backgrounds import composited, draw_backgrounds
from training.core.batches import step_generator

WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "things_judge.safetensors"

_BY_OWN_NAME = """
    pear, peach, lemon, cherries, grapes, watermelon, avocado, broccoli, pizza, cookie, candy,
    lollipop, french fries, sushi, spaghetti, goat, lion, giraffe, frog, snake, dolphin, shark,
    duck, butterfly, spider, ant, palm tree, cactus, rose, sunflower, tulip, cherry blossom,
    maple leaf, snowflake, fire, droplet, church, ambulance, bicycle, motorcycle, rocket, sailboat,
    camera, television, hammer, axe, dagger, wrench, pencil, paintbrush, envelope, candle, bomb,
    pill, door, toilet, crown, dress, jeans, necktie, ring, handbag, balloon, guitar, trumpet, drum,
    microphone, basketball
"""
_BY_PATTERN = {
    "apple": r"(red|green) apple",
    "mushroom": r"(brown )?mushroom",
    "tomato": r"tomato",
    "bread": r"bread|baguette bread",
    "cheese": r"cheese wedge",
    "egg": r"egg",
    "corn": r"ear of corn",
    "cake": r"birthday cake|shortcake",
    "ice cream": r"ice cream",
    "beer": r"beer mug|clinking beer mugs",
    "glass of wine": r"wine glass",
    "dog": r"dog( face)?|(guide|service) dog|poodle",
    "cat": r"(.*\b)?cat( face| with .*)?",
    "horse": r"horse( face)?",
    "cow": r"cow( face)?|ox",
    "pig": r"pig( face)?",
    "sheep": r"ewe|ram",
    "rabbit": r"rabbit( face)?",
    "mouse": r"mouse( face)?|rat",
    "bear": r"(polar )?bear",
    "tiger": r"tiger( face)?",
    "monkey": r"monkey( face)?|.*-no-evil monkey",
    "camel": r"(two-hump )?camel",
    "chicken": r"chicken",
    "chick": r".*baby chick|hatching chick",
    "bird": r"(black )?bird|dove",
    "fish": r"(tropical )?fish",
    "whale": r"(spouting )?whale",
    "bee": r"honeybee",
    "shell": r"spiral shell",
    "tree": r"(deciduous|evergreen|leafless) tree",
    "Christmas tree": r"Christmas tree",
    "clover": r"four leaf clover|shamrock",
    "sun": r"sun|sun with face",
    "moon": r".*\bmoon( face)?",
    "star": r"(glowing )?star",
    "cloud": r"cloud( with .*)?|sun behind .*cloud",
    "wave": r"water wave",
    "mountain": r"(snow-capped )?mountain|mount fuji",
    "house": r"house( with garden)?|houses|derelict house",
    "castle": r"(Japanese )?castle",
    "tent": r"(circus )?tent|camping",
    "car": r"(oncoming )?(automobile|taxi)|sport utility vehicle",
    "bus": r"(oncoming )?bus|minibus|trolleybus",
    "truck": r"articulated lorry|(delivery|pickup) truck",
    "fire truck": r"fire engine",
    "train": r"train|locomotive|metro|high-speed train|mountain railway|railway car|light rail|"
    r"tram( car)?|monorail",
    "airplane": r"(small )?airplane( .*)?",
    "ship": r"(passenger )?ship|ferry",
    "clock": r".*(o’clock|-thirty)|(alarm|mantelpiece|timer) clock|stopwatch|watch",
    "glasses": r"(sun)?glasses",
    "telephone": r"telephone|mobile phone.*",
    "computer": r"desktop computer|laptop",
    "key": r"(old )?key",
    "lock": r"(un)?locked( with .*)?",
    "knife": r"kitchen knife",
    "book": r"(closed|green|blue|orange|red|open) book|books|notebook.*|ledger",
    "hat": r"woman’s hat|(billed|graduation) cap",
    "shirt": r"t-shirt|running shirt|woman’s clothes",
    "shoe": r"(man’s|running|flat) shoe|(hiking|woman’s) boot",
    "gift": r"wrapped gift",
    "piano": r"musical keyboard",
    "baseball": r"baseball|softball",
    "pumpkin": r"jack-o-lantern",
}
_OWN_NAMES = (name.strip() for name in _BY_OWN_NAME.split(","))
THINGS: dict[str, re.Pattern[str]] = {
    **{name: re.compile(re.escape(name)) for name in _OWN_NAMES},
    **{name: re.compile(pattern) for name, pattern in _BY_PATTERN.items()},
}
"""Things that the judge tells apart, each with a pattern of the full names of its emoji. No two
patterns match the same name."""

KINDS = (*THINGS, OTHER)
_WIDTHS = (24, 48, 96, 88)
_COPIED = 5  # layers, up to the first width, which is that of the emoji judge
_WEIGHT_DECAY = 5e-4
_SMOOTHING = 0.1
_PX = 64
_MAX_ANGLE = 0.3  # radians
_GROUNDS = 8
"""Backgrounds of each held-out emoji in the accuracies: most things have only one drawing there."""


class ThingsJudge(genre_judge.GenreJudge):
    """A small residual classifier of 64x64 pictures."""

    def __init__(self) -> None:
        super().__init__(len(KINDS), _WIDTHS)


def thing_of(name: str) -> int:
    """Returns the index in `KINDS` of an emoji of that name."""
    for number, pattern in enumerate(THINGS.values()):
        if pattern.fullmatch(name):
            return number
    return KINDS.index(OTHER)


def load(path: Path = WEIGHTS) -> ThingsJudge:
    """Returns the trained judge, frozen, in evaluation mode, on the CPU.

    Raises:
        FileNotFoundError: without a weights file; the message says how to train it.
    """
    return judges.with_weights(ThingsJudge(), path, "python -m benchmarks.judges.things_judge")


def stored_accuracies(path: Path = WEIGHTS) -> dict[str, float]:
    """Returns the judge's accuracies on held-out emoji after training, by thing and of all."""
    return judge.stored_accuracies(path)


def classify(model: ThingsJudge, pixels: Tensor) -> list[str]:
    """Returns the thing of each picture, `(n, 3, 64, 64)` in [-1, 1]."""
    return [KINDS[i] for i in judge.classify(model, pixels).tolist()]


def accuracies(model: ThingsJudge, emoji: Emoji, seed: int = 0) -> dict[str, float]:
    """Returns the judge's accuracies, on backgrounds of any colour.

    Returns:
        By thing; "all things" is the mean over things that the emoji show, without `OTHER`.
    """
    generator = torch.Generator().manual_seed(seed)
    pixels, labels = emoji.pixels.repeat(_GROUNDS, 1, 1, 1), emoji.things.repeat(_GROUNDS)
    grounds = draw_backgrounds(len(pixels), generator)
    right = torch.cat(
        [
            judge.classify(model, F.interpolate(composited(part, ground), size=_PX, mode="area"))
            for part, ground in zip(pixels.split(500), grounds.split(500), strict=True)
        ]
    ).eq(labels)
    shown = {kind: right[labels == number] for number, kind in enumerate(KINDS)}
    shares = {kind: r.double().mean().item() for kind, r in shown.items() if len(r)}
    things = [share for kind, share in shares.items() if kind != OTHER]
    return shares | {"all things": sum(things) / max(1, len(things))}


def untrained() -> ThingsJudge:
    """Returns a judge that begins with the first layers of the emoji judge, frozen."""
    model, trained = ThingsJudge(), emoji_judge.load()
    for layer, copied in zip(model.body[:_COPIED], trained.body[:_COPIED], strict=True):
        layer.load_state_dict(copied.state_dict())
        layer.requires_grad_(False)
    return model


def train(
    emoji: Emoji, *, epochs: int, batch_size: int, lr: float, seed: int, start: Path | None = None
) -> ThingsJudge:
    """Trains a judge; oversamples rare things.

    The loss adds the log frequency of each class to its logit (balanced softmax, Ren et al. 2020,
    arXiv:2007.10740), so that the judge does not prefer `OTHER`, of which there are most pictures.

    Args:
        emoji: to train on.
        epochs: passes over as many pictures as there are.
        batch_size: of a step.
        lr: peak of the one cycle.
        seed: of everything random.
        start: weights to go on from; None begins with `untrained`.
    """
    torch.manual_seed(seed)
    model = untrained()
    if start is not None:
        model.load_state_dict(load(start).state_dict())
    model.train().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    probabilities = genre_judge.rare_first(emoji.things, len(KINDS))
    counts = torch.zeros(len(KINDS)).index_add_(0, emoji.things, probabilities)
    log_prior = torch.where(counts > 0, (counts / counts.sum()).log(), 0.0)  # 0: learned as absent

    def loss_of(step: int) -> Tensor:
        generator = step_generator(seed, step)
        chosen = torch.multinomial(probabilities, batch_size, generator=generator)
        pictures = composited(emoji.pixels[chosen], draw_backgrounds(batch_size, generator))
        logits = model(_seen(pictures, generator)) + log_prior
        return F.cross_entropy(logits, emoji.things[chosen], label_smoothing=_SMOOTHING)

    steps = epochs * math.ceil(len(emoji) / batch_size)
    return judge.fit(model, loss_of, steps=steps, lr=lr, weight_decay=_WEIGHT_DECAY)


def _seen(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Degrades half of the pictures; the others are turned a little and cropped a little."""
    rough, clear = recolored(pictures, generator).chunk(2)
    side, angle, across, down, flip = torch.rand(5, len(clear), generator=generator)
    side = 1 - 0.25 * side
    shift = (torch.stack([across, down]) * 2 - 1) * (1 - side)
    mirrored = torch.where(flip < 0.5, -1.0, 1.0)
    clear = images.crops(clear, side, (angle * 2 - 1) * _MAX_ANGLE, mirrored, shift, _PX)
    return torch.cat([degraded(rough, _PX, generator), clear])


def recolored(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Returns pictures `(n, 3, h, w)` in [-1, 1], paler or brighter: designers differ in that."""
    saturation, contrast, gain = torch.rand(3, len(pictures), 1, 1, 1, generator=generator)
    grey = pictures.mean(dim=1, keepdim=True)
    shown = grey + (0.2 + 1.3 * saturation) * (pictures - grey)
    return ((0.6 + 0.6 * contrast) * shown + 0.6 * (gain - 0.5)).clamp(-1, 1)


def main(
    data_folder: Annotated[Path, typer.Option(help="where the data sets lie")] = DATA,
    epochs: Annotated[int, typer.Option(min=1)] = 8,
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    lr: Annotated[float, typer.Option(help="peak of the one cycle")] = 3e-3,
    seed: int = 0,
    start: Annotated[Path | None, typer.Option(help="weights to go on from")] = None,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 is PyTorch's choice")] = 0,
    output: Annotated[Path, typer.Option(help="where the weights go")] = WEIGHTS,
) -> None:
    """Trains the judge, prints its accuracies on held-out emoji and stores both."""
    if threads:
        torch.set_num_threads(threads)
    emoji = emoji_judge.load_emoji(data_folder, label=thing_of)
    model = train(emoji, epochs=epochs, batch_size=batch_size, lr=lr, seed=seed, start=start)
    recipe = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed}
    measured = accuracies(
        model, emoji_judge.load_emoji(data_folder, held_out.load().sets, thing_of)
    )
    sources = " and ".join(emoji_judge.SOURCES)
    judge.save_measured(model, output, f"{sources}, not held out", recipe, measured)


if __name__ == "__main__":
    typer.run(main)
