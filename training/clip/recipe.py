"""The recipe of a training run of a small CLIP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from pipelines.core.rules import Choice, Real, Whole
from training.clip.pairs import SOURCES
from training.core.options import option
from training.core.recipe import (
    LEARNING_RATE,
    PRECISION,
    SHARE,
    BaseRecipe,
    Precision,
    seed_option,
)

Architecture = Literal["resnet", "regnet"]


@dataclass(frozen=True, kw_only=True)
class Recipe(BaseRecipe):
    """Everything that decides the weights; saved with them."""

    architecture: Architecture = option(
        "resnet", "of the picture's tower", Choice(get_args(Architecture))
    )
    datasets: tuple[str, ...] = option(
        tuple(SOURCES),
        "data sets by commas, those of an older run to go on with it",
        written=(str, ",".join(SOURCES)),
    )
    half_formed: str = option(
        "paintings",
        "checkpoints, by commas, that predict half-formed pictures: of a data set that of "
        "its name, or the first; empty: none",
        name="half_formed_by",
    )
    max_steps: int = option(1600, "length of the run", Whole(1, 10_000_000))
    batch_size: int = option(256, "pairs per step", Whole(2, 65_536))
    lr: float = option(1e-3, "peak learning rate", LEARNING_RATE)
    warmup_steps: int = option(100, "steps to reach it", Whole(0, 10_000_000))
    ema_decay: float = option(0.995, "of the averaged weights", SHARE)
    mixed_precision: Precision = option("no", "arithmetic of the passes", PRECISION)
    seed: int = seed_option()
    start_model: str = option(
        "", "bundled CLIP or folder to go on from; empty: new weights", older=""
    )
    same_source_share: float = option(
        0.5, "share of steps whose pairs are all of one data set", SHARE, older=0.0
    )
    focus: str = option(
        "", "data sets, by commas, that most of those steps are of; empty: by size", older=""
    )
    adversarial_radius: float = option(
        0,
        "how far pictures are moved at most to be misread; 0 is off",
        Real(0.0, 100.0),
        older=0.0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.focused:
            Choice(self.datasets).check("focus", name)
        for name in self.formers[1:]:  # a former of no data set would form nothing
            Choice(self.datasets).check("half_formed_by", name)

    @property
    def formers(self) -> tuple[str, ...]:
        """The checkpoints of `half_formed`; the first is that of data sets without one."""
        return names_in(self.half_formed)

    @property
    def focused(self) -> tuple[str, ...]:
        """The data sets of `focus`."""
        return names_in(self.focus)


def names_in(listed: str) -> tuple[str, ...]:
    """Splits names by commas."""
    return tuple(name.strip() for name in listed.split(",") if name.strip())


def dataset_names(listed: str) -> tuple[str, ...]:
    """Returns the data sets of an option.

    Raises:
        ValueError: if one of them is unknown, or there is none.
    """
    names = names_in(listed)
    for name in names or ("",):
        Choice(tuple(SOURCES)).check("datasets", name)
    return names
