"""The recipe of a training run on digits."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from typing import ClassVar, Literal, get_args

from pipelines.core.rules import Choice, Real, Whole
from training.core.objective import Prediction
from training.core.options import option
from training.core.recipe import LEARNING_RATE, SHARE, BaseRecipe, seed_option

Conditioning = Literal["channels", "embedding", "cross-attention"]


@dataclass(frozen=True, kw_only=True)
class Recipe(BaseRecipe):
    """Everything that decides the weights; saved with them."""

    other_recipe: ClassVar[str] = (
        "output must be an empty folder or one of the same recipe, got a run with"
    )

    conditioning: Conditioning = option(
        MISSING, "how the network learns the label", Choice(get_args(Conditioning))
    )
    dataset_name: str = option(MISSING, "Hub id or folder; without: MNIST", written=(str, ""))
    max_steps: int = option(8000, "length of the run", Whole(1, 10_000_000))
    batch_size: int = option(32, "pictures per step", Whole(1, 60_000))
    lr: float = option(1e-3, "peak learning rate; halve it if the loss jumps", LEARNING_RATE)
    warmup_steps: int = option(200, "steps to reach it", Whole(0, 10_000_000))
    ema_decay: float = option(0.999, "of the averaged weights", SHARE)
    label_dropout: float = option(0.1, "share of labels dropped", SHARE)
    prediction: Prediction = option("v_prediction", "network output", Choice(get_args(Prediction)))
    snr_gamma: float = option(5.0, "min-SNR clamp; 0 is off", Real(0.0, 1e6))
    seed: int = seed_option()
