"""How long a step of training and a step of drawing take on a device."""

from __future__ import annotations

import time
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor

from training.pictures.trainer import SAMPLE_STEPS, Trainer

MEASURED_STEPS = 3
_DRAWN = 8  # pictures at once


@dataclass(frozen=True)
class Speed:
    """Seconds that parts of a run take.

    Attributes:
        step: of an optimizer step.
        forward: of the network for one picture, when it is used and not trained.
    """

    step: float
    forward: float


def measure(trainer: Trainer, batch_size: int) -> Speed:
    """Times a few real steps, then puts everything back: weights, averages, random numbers.

    Args:
        trainer: whose data and network are used.
        batch_size: pictures per process and pass.

    Raises:
        FloatingPointError: if the loss is not finite.
    """
    recipe, before = trainer.recipe, deepcopy(trainer.state())
    trainer.recipe = replace(recipe, batch_size=batch_size)
    try:
        with torch.random.fork_rng():
            trainer.train_step()  # the first one is slower
            began = time.monotonic()
            for _ in range(MEASURED_STEPS):
                trainer.train_step()
            step = (time.monotonic() - began) / MEASURED_STEPS
            speed = [step, _forward(trainer)]
    finally:
        trainer.recipe = recipe
        trainer.restore(before)
    if trainer.accelerator.num_processes > 1:
        broadcast_object_list(speed)
    return Speed(*speed)


@torch.no_grad()
def _forward(trainer: Trainer) -> float:
    network, shape = trainer.averaged(), trainer.shape()
    x = torch.zeros(_DRAWN, *shape, device=trainer.device)
    t = torch.zeros(_DRAWN, dtype=torch.long, device=trainer.device)
    inputs = trainer.inputs_for(torch.zeros(_DRAWN, dtype=torch.long))
    _answer(network(x, t, **inputs).sample)
    began = time.monotonic()
    _answer(network(x, t, **inputs).sample)
    return (time.monotonic() - began) / _DRAWN


def _answer(output: Tensor) -> None:
    """Waits until a device has computed."""
    output.sum().item()


def drawing_steps(num_pictures: int) -> int:
    """Forward passes of one picture for so many drawn pictures."""
    return num_pictures * SAMPLE_STEPS
