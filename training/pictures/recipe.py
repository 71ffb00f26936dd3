"""The recipe of a training run on pictures, and how it divides the data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from pipelines.core.rules import MAX_SEED, Choice, Real, Whole
from training.core import loop
from training.core.backgrounds import Grounds
from training.core.loop import Prediction

Precision = Literal["no", "bf16", "fp16"]

VALIDATION_PICTURES = 128

_RULES = {
    "image_size": Whole(8, 1024),
    "max_steps": Whole(1, 100_000_000),
    "batch_size": Whole(1, 65_536),
    "grad_accumulation_steps": Whole(1, 65_536),
    "num_processes": Whole(1, 65_536),
    "lr": Real(1e-8, 1.0),
    "warmup_steps": Whole(0, 100_000_000),
    "ema_decay": Real(0.0, 1.0),
    "snr_gamma": Real(0.0, 1e6),
    "grounds": Choice(get_args(Grounds)),
    "recolor": Real(0.0, 1.0),
    "mixed_precision": Choice(get_args(Precision)),
    "seed": Whole(0, MAX_SEED),
    "prediction": Choice(get_args(Prediction)),
}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights; saved with them.

    Attributes:
        start_model: what the run starts from; empty is from scratch.
        dataset_name: Hub id or folder, several by commas.
        image_column: the column of the pictures; empty is the only one.
        image_size: side of the training pictures in pixels.
        max_steps: optimizer steps.
        batch_size: pictures per process and forward pass.
        grad_accumulation_steps: forward passes per optimizer step.
        num_processes: processes that share a step.
        lr: peak learning rate of AdamW.
        warmup_steps: steps to reach it.
        ema_decay: of the averaged weights that are saved; nearer to 1 for longer runs.
        snr_gamma: min-SNR clamp, 0 is off.
        flip: whether half of the pictures are mirrored.
        mixed_precision: arithmetic of the forward pass.
        seed: of everything random.
        prediction: what the network predicts; a start model's own.
        grounds: what transparent pictures stand on: white, or a colour that changes every time.
        exclude: rows of the data that are left out, as `column=value, value`; empty is none.
        focus: rows of the data that about half of the pictures are of, as `column=pattern`; empty
            is each as often as any other.
        recolor: share of the transparent pictures whose hues are turned on their circle.

    Raises:
        ValueError: one sentence on the first value that is wrong.
    """

    start_model: str
    dataset_name: str
    image_column: str
    image_size: int
    max_steps: int
    batch_size: int
    grad_accumulation_steps: int
    num_processes: int
    lr: float
    warmup_steps: int
    ema_decay: float
    snr_gamma: float
    flip: bool
    mixed_precision: Precision
    seed: int
    prediction: Prediction = "v_prediction"
    grounds: Grounds = "white"
    exclude: str = ""
    focus: str = ""
    recolor: float = 0.0

    def __post_init__(self) -> None:
        for name, rule in _RULES.items():
            rule.check(name, getattr(self, name))
        if self.recolor and self.grounds == "white":
            raise ValueError(f"recolor must be 0 where grounds are white, got {self.recolor:g}")

    @property
    def pictures_per_step(self) -> int:
        """Pictures that one optimizer step learns from, over all processes."""
        return self.batch_size * self.grad_accumulation_steps * self.num_processes

    def check_same(self, saved: Mapping[str, Any]) -> None:
        """Refuses to go on from a run of another recipe.

        How a step's pictures are divided into processes and forward passes may change: the same
        pictures with the same noise make the same step.

        Raises:
            ValueError: naming what differs.
        """
        # What older runs do not tell.
        older = {
            "prediction": "v_prediction",
            "grounds": "white",
            "exclude": "",
            "focus": "",
            "recolor": 0.0,
        }
        saved = older | dict(saved)
        division = {"batch_size", "grad_accumulation_steps", "num_processes"}
        names = [f.name for f in fields(self) if f.name not in division]
        differing = [name for name in names if saved.get(name) != getattr(self, name)]
        if math.prod(saved.get(name, 0) for name in division) != self.pictures_per_step:
            differing.append("number of pictures per step")
        loop.refuse_another(differing)


def channels_to_read(recipe: Recipe, taken: int) -> int:
    """How many channels the data of a run must have, for a network that takes so many.

    Raises:
        ValueError: if the network is one of grey pictures, which have no coloured grounds.
    """
    if recipe.grounds == "white":
        return taken
    if taken != 3:
        raise ValueError(f"grounds must be white for a network with {taken} channel, got colors")
    return 4


def held_out(num_pictures: int) -> int:
    """How many of so many pictures are kept for validation."""
    return min(VALIDATION_PICTURES, num_pictures // 10)


def steps_per_epoch(recipe: Recipe, num_pictures: int) -> int:
    """How often so many pictures, less those held out, fill a step.

    Raises:
        ValueError: if they fill none.
    """
    kept = held_out(num_pictures)
    steps = (num_pictures - kept) // recipe.pictures_per_step
    if not steps:
        raise ValueError(
            f"dataset_name must hold at least the {recipe.pictures_per_step} pictures of one step, "
            f"got {num_pictures} of which {kept} are held out; choose a smaller batch_size"
        )
    return steps
