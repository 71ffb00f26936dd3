"""What the recipes of all runs share: checked values, and whether two are the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, ClassVar, Literal, Self, get_args

from pipelines.core.rules import MAX_SEED, Choice, Real, Whole
from training.core.options import option

Precision = Literal["no", "bf16", "fp16"]

LEARNING_RATE = Real(1e-8, 1.0)
SHARE = Real(0.0, 1.0)
SEED = Whole(0, MAX_SEED)
PRECISION = Choice(get_args(Precision))


class BaseRecipe:
    """Everything that decides the weights; saved with them.

    A base of frozen dataclasses, whose fields are declared with `options.option`.

    Raises:
        ValueError: one sentence on the first value that is wrong.
    """

    other_recipe: ClassVar[str] = (
        "model_save_name must be a new name or that of a run of the same recipe, got one with"
    )
    """The first words of the refusal to go on from a run of another recipe."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    max_steps: int
    lr: float
    warmup_steps: int
    ema_decay: float
    seed: int

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.metadata.get("rule"):
                field.metadata["rule"].check(field.name, getattr(self, field.name))

    @classmethod
    def from_options(cls, given: Mapping[str, Any], **decided: Any) -> Self:
        """Returns the recipe of a command line, some of whose values the program decided.

        Raises:
            ValueError: one sentence on the first value that is wrong.
        """
        return cls(**{**given, **decided})

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any]) -> Self:
        """Returns the recipe of a saved run, which may be of an older version."""
        return cls(**(cls.older_values() | dict(saved)))

    @classmethod
    def older_values(cls) -> dict[str, Any]:
        """Returns what the fields that older runs lack would have been for them."""
        return {f.name: f.metadata["older"] for f in fields(cls) if "older" in f.metadata}

    @classmethod
    def missing_from(cls, saved: Mapping[str, Any]) -> list[str]:
        """Names the fields that a saved recipe is too old to have."""
        return [name for name in cls.older_values() if name not in saved]

    def check_same(self, saved: Mapping[str, Any], *, moved: bool = False) -> None:
        """Refuses to go on from a run of another recipe.

        Args:
            saved: recipe of the run.
            moved: whether the data may lie elsewhere; their fingerprint tells whether they are the
                same.

        Raises:
            ValueError: naming what differs.
        """
        different = self.differing(self.older_values() | dict(saved))
        if moved:
            different = [name for name in different if name != "dataset_name"]
        if different:
            raise ValueError(f"{self.other_recipe} another {', '.join(different)}")

    def differing(self, saved: Mapping[str, Any]) -> list[str]:
        """Names the fields in which a saved recipe differs."""
        return [name for name, value in asdict(self).items() if saved.get(name) != value]


def seed_option() -> Any:
    """Declares the seed, which every run has."""
    return option(0, "of everything random", SEED)
