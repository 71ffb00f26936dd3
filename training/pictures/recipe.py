"""The recipe of a training run on pictures, and how it divides the data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from typing import Any, get_args

from pipelines.core.rules import Choice, Real, Whole
from pipelines.models.own_checkpoints import CONDITIONS
from pipelines.models.word_features import Features
from training.core.backgrounds import Backgrounds
from training.core.objective import Prediction
from training.core.options import decided, option
from training.core.recipe import (
    LEARNING_RATE,
    PRECISION,
    SHARE,
    BaseRecipe,
    Precision,
    seed_option,
)

VALIDATION_PICTURES = 128

_DIVISION = ("batch_size", "grad_accumulation_steps", "num_processes")
_PASSES = Whole(1, 65_536)


@dataclass(frozen=True, kw_only=True)
class Recipe(BaseRecipe):
    """Everything that decides the weights; saved with them.

    Attributes:
        start_model: what the run starts from; empty is from scratch.
        num_processes: processes that share a step.
        grounds: what transparent pictures stand on: white, or a colour that changes every time.
    """

    start_model: str = option("scenes", "bundled key, folder or Hub id")
    dataset_name: str = option(
        "huggan/wikiart", "Hub id, folder of parquet files or of pictures; several by commas"
    )
    image_column: str = option("", "column; without: the only one")
    image_size: int = option(64, "side of the training pictures", Whole(8, 1024))
    max_steps: int = option(
        MISSING,
        "length in steps; 0: num-epochs, or chosen",
        Whole(1, 100_000_000),
        written=(int, 0),
        minimum=0,
    )
    batch_size: int = option(32, "pictures per process and pass; without: chosen", _PASSES)
    grad_accumulation_steps: int = option(1, "passes per step", _PASSES)
    num_processes: int = decided(_PASSES)
    lr: float = option(4e-4, "peak learning rate; halve it if loss jumps", LEARNING_RATE)
    warmup_steps: int = option(
        100, "steps to reach it; without: a tenth of all, at most 100", Whole(0, 100_000_000)
    )
    ema_decay: float = option(0.999, "of the averaged weights", SHARE)
    snr_gamma: float = option(5.0, "min-SNR clamp; 0 is off", Real(0.0, 1e6))
    flip: bool = option(True, "mirror half of the pictures")
    mixed_precision: Precision = option("no", "arithmetic of the passes", PRECISION)
    seed: int = seed_option()
    prediction: Prediction = option(
        "v_prediction",
        "network output; without: the start model's, v_prediction from scratch",
        Choice(get_args(Prediction)),
        written=(Prediction | None, None),
        older="v_prediction",
    )
    grounds: Backgrounds = option(
        "white",
        "what transparent pictures stand on; colors: any, every time",
        Choice(get_args(Backgrounds)),
        older="white",
    )
    exclude: str = option("", "rows to leave out, like 'category=People & Body, Flags'", older="")
    focus: str = option(
        "", "rows that about half of all steps show, like 'name=.* heart'", older=""
    )
    recolor: float = option(
        0, "share of transparent pictures given other hues every time", SHARE, older=0.0
    )
    condition: str = option(
        "", "what the model is told: 'words', 'picture' or 'words,picture'; empty: none", older=""
    )
    clip_model: str = option("clip-small", "CLIP that reads words and pictures", older="clip-small")
    features: Features = option(
        "embeddings",
        "of the words: before CLIP's transformer, or its last outputs",
        Choice(get_args(Features)),
        older="embeddings",
    )
    collages: float = option(0, "share of steps' emoji shown several at once", SHARE, older=0.0)
    balanced: bool = option(
        False, "draw each name of an emoji equally often, not each picture", flag=True, older=False
    )
    focus_share: float = option(0.5, "of the pictures in focus, if balanced", SHARE, older=0.5)
    new_lr_factor: float = option(
        3, "learning rate of the condition's own weights, of lr", Real(0.01, 100.0), older=3.0
    )
    frozen: bool = option(False, "train only the condition's own weights", flag=True, older=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.recolor and self.grounds == "white":
            raise ValueError(f"recolor must be 0 where grounds are white, got {self.recolor:g}")
        for name in self.conditions:
            Choice(CONDITIONS).check("condition", name)
        needs_words = {"collages": self.collages, "balanced": self.balanced, "frozen": self.frozen}
        for name, value in needs_words.items():
            if value and not self.conditions:
                raise ValueError(f"condition must be set where {name} is, got nothing")
        if self.collages and self.grounds == "white":
            raise ValueError(f"collages must be 0 where grounds are white, got {self.collages:g}")
        if self.collages and self.flip:  # which would make their left the right
            raise ValueError(f"collages must be 0 where flip is on, got {self.collages:g}")

    @property
    def conditions(self) -> tuple[str, ...]:
        """What the model is told, of `CONDITIONS`; empty if it is unconditional."""
        names = (name.strip() for name in self.condition.split(","))
        return tuple(dict.fromkeys(name for name in names if name))

    @property
    def pictures_per_step(self) -> int:
        """Pictures that one optimizer step learns from, over all processes."""
        return self.batch_size * self.grad_accumulation_steps * self.num_processes

    def differing(self, saved: Mapping[str, Any]) -> list[str]:
        """Names the fields in which a saved recipe differs.

        How a step's pictures are divided into processes and forward passes may change: the same
        pictures with the same noise make the same step.
        """
        different = [name for name in super().differing(saved) if name not in _DIVISION]
        if math.prod(saved.get(name, 0) for name in _DIVISION) != self.pictures_per_step:
            different.append("number of pictures per step")
        return different


def channels_to_read(recipe: Recipe, taken: int) -> int:
    """Returns how many channels the data must have, for a network that takes so many.

    Raises:
        ValueError: if the network is one of grey pictures, which have no coloured backgrounds.
    """
    if recipe.grounds == "white":
        return taken
    if taken != 3:
        raise ValueError(f"grounds must be white for a network with {taken} channel, got colors")
    return 4


def num_held_out(num_pictures: int) -> int:
    """Returns how many of so many pictures are left for validation."""
    return min(VALIDATION_PICTURES, num_pictures // 10)


def steps_per_epoch(recipe: Recipe, num_pictures: int) -> int:
    """Returns how often so many pictures, less those held out, fill a step.

    Raises:
        ValueError: if they fill none.
    """
    validation = num_held_out(num_pictures)
    steps = (num_pictures - validation) // recipe.pictures_per_step
    if not steps:
        raise ValueError(
            f"dataset_name must hold at least the {recipe.pictures_per_step} pictures of one step, "
            f"got {num_pictures} of which {validation} are held out; choose a smaller batch_size"
        )
    return steps
