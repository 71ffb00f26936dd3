"""Chooses how long a run is, its batches and its warm-up, where the command line does not say.

From the number of pictures, the speed of the device, and the minutes that there are.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from accelerate.utils import broadcast_object_list

from training.core.folders import counted
from training.core.objective import VALIDATION_TIMESTEPS
from training.pictures import exporting
from training.pictures.measuring import Speed, drawing_steps, measure
from training.pictures.recipe import steps_per_epoch
from training.pictures.trainer import NUM_JUDGED, SAMPLE_COLUMNS, Trainer

BATCHES = (32, 16, 8)
WANTED_STEPS = 500
"""Batches are as large as so many steps allow: many small steps teach more than few large ones."""
PICTURES_WITHOUT_LIMIT = 16_000
"""So many pictures, with repeats, are learned from without `max_minutes`, or each one once."""
LONGEST_WARMUP = 100
LONGEST_AVERAGE = 0.999

MANY_PICTURES = 1000
LR_OF_FEW = 1e-4
"""Learning rate for fewer than `MANY_PICTURES`, which a higher one learns by heart sooner."""

FEW_STEPS = 100
FEW_PICTURES = 20
MANY_REPEATS = 2000
_MARGIN = 0.95  # of the time, since a device is slower now and then
_SHARE_OF_SAMPLES = 0.15  # of the time

T = TypeVar("T")


@dataclass(frozen=True)
class Wish:
    """What the command line says of the length of a run; 0 is nothing.

    Attributes:
        max_steps: its steps.
        num_epochs: times through the data.
        ends: when the command is to end, on the clock of `time.monotonic`.
        judge_every: steps between judgements.
        written: names of the recipe's options that it sets, which are left alone.
    """

    max_steps: int
    num_epochs: int
    ends: float
    judge_every: int
    written: Collection[str] = ()


@dataclass(frozen=True)
class Plan:
    """What was chosen.

    Attributes:
        training_minutes: until training stops; 0 is at its last step.
        num_samples: pictures that are drawn for the card; 0 is as many as usual.
        lines: what to tell the user.
    """

    training_minutes: float = 0
    num_samples: int = 0
    lines: tuple[str, ...] = ()


def plan(trainer: Trainer, wish: Wish) -> Plan:
    """Gives a new run its length, or a finished one more of it; another is left as it is.

    Raises:
        ValueError: if the data do not fill a step.
        FloatingPointError: if the loss is not finite.
    """
    if trainer.restored and trainer.step < trainer.recipe.max_steps:
        return Plan()
    steps = wish.max_steps or wish.num_epochs * steps_per_epoch(trainer.recipe, _count(trainer))
    if steps:
        return _fixed(trainer, steps, wish)
    if trainer.step and not wish.ends:
        return Plan()
    return _measured(trainer, wish)


def _fixed(trainer: Trainer, steps: int, wish: Wish) -> Plan:
    """The length that was asked for; of a finished run, what goes beyond it is new."""
    if not trainer.step:
        _follow(trainer, wish, max_steps=steps)
    elif steps > trainer.step:
        trainer.extend(steps)
    return Plan(lines=tuple(_warnings(trainer)))


def _measured(trainer: Trainer, wish: Wish) -> Plan:
    batch_size, speed = _batch_and_speed(trainer, wish)
    left = _seconds_left(trainer, wish)
    num_samples = _num_samples(speed, left)
    judge = _seconds_to_judge(trainer, speed, NUM_JUDGED)
    export = _seconds_to_judge(trainer, speed, num_samples)
    if left:
        per_step = speed.step + judge / wish.judge_every
        steps = max(1, int((left * _MARGIN - judge - export) / per_step))
    else:
        per_step_pictures = batch_size * trainer.recipe.pictures_per_step
        per_step_pictures //= trainer.recipe.batch_size
        steps = max(len(trainer.train), PICTURES_WITHOUT_LIMIT) // per_step_pictures
    steps = _same_for_all(trainer, steps)
    if trainer.step:
        trainer.extend(trainer.step + steps)
    else:
        _follow(trainer, wish, max_steps=steps, batch_size=batch_size, planned=True)
    lines = (*_chosen(trainer, steps, speed, judge + export), *_warnings(trainer))
    minutes = max(1e-9, (left - judge - export) / 60) if left else 0.0
    return Plan(minutes, num_samples, lines)


def _batch_and_speed(trainer: Trainer, wish: Wish) -> tuple[int, Speed]:
    """The largest batch of which enough steps fit into the time, and the speed with it."""
    recipe = trainer.recipe
    if trainer.step or "batch_size" in wish.written:
        return recipe.batch_size, measure(trainer, recipe.batch_size)
    others = recipe.grad_accumulation_steps * recipe.num_processes
    most = len(trainer.train) // others
    sizes = [size for size in BATCHES if size <= most] or [most]
    speed = measure(trainer, sizes[-1])
    if wish.ends:
        most_per_step = _seconds_left(trainer, wish) / WANTED_STEPS * sizes[-1] / speed.step
        size = next((size for size in sizes if size <= most_per_step), sizes[-1])
    else:
        size = sizes[0] if len(trainer.train) >= PICTURES_WITHOUT_LIMIT else sizes[-1]
    return size, speed if size == sizes[-1] else measure(trainer, size)


def _seconds_left(trainer: Trainer, wish: Wish) -> float:
    """Until the command is to end; 0 where it may take as long as it likes."""
    left = max(1.0, wish.ends - time.monotonic()) if wish.ends else 0.0
    return _same_for_all(trainer, left)


def _num_samples(speed: Speed, left: float) -> int:
    """Pictures for the card: as many as usual, or fewer where they would take much of the time."""
    usual = exporting.NUM_SAMPLES
    fitting = int(left * _SHARE_OF_SAMPLES / (drawing_steps(SAMPLE_COLUMNS) * speed.forward))
    return min(usual, max(1, fitting) * SAMPLE_COLUMNS) if left else usual


def _seconds_to_judge(trainer: Trainer, speed: Speed, num_drawn: int) -> float:
    """Of measuring errors and drawing so many pictures."""
    errors = len(VALIDATION_TIMESTEPS) * len(trainer.validation)
    return (errors + drawing_steps(num_drawn)) * speed.forward


def _follow(
    trainer: Trainer,
    wish: Wish,
    *,
    max_steps: int,
    batch_size: int | None = None,
    planned: bool = False,
) -> None:
    """Gives a new run its length, and what follows from it and is not set by hand."""
    chosen: dict[str, float] = {
        "max_steps": max_steps,
        "batch_size": batch_size or trainer.recipe.batch_size,
        "warmup_steps": min(LONGEST_WARMUP, max(1, max_steps // 10)),
    }
    if planned:  # averages reach over the last steps, so nothing of the start model is left
        chosen["ema_decay"] = min(LONGEST_AVERAGE, round(1 - 10 / (max_steps + 10), 4))
    if planned and trainer.recipe.start_model and len(trainer.train) < MANY_PICTURES:
        chosen["lr"] = LR_OF_FEW
    kept = set(wish.written) - {"max_steps"}
    values = {name: value for name, value in chosen.items() if name not in kept}
    trainer.recipe = replace(trainer.recipe, **values)
    trainer.ema.decay = trainer.recipe.ema_decay


def _chosen(trainer: Trainer, steps: int, speed: Speed, closing: float) -> Iterator[str]:
    """What was chosen, and how long it takes."""
    recipe, count = trainer.recipe, len(trainer.train)
    seen = steps * recipe.pictures_per_step / count
    yield (
        f"Chosen: {counted(steps, 'step')} of {counted(recipe.pictures_per_step, 'picture')}, "
        f"{recipe.warmup_steps:,} of them warm-up; decay of the averaged weights "
        f"{recipe.ema_decay:g}; learning rate {recipe.lr:g}; from "
        f"{recipe.start_model or 'scratch'}"
    )
    if seen >= 1:
        yield f"Each of the {count:,} pictures is seen about {seen:,.0f} times"
    yield (
        f"A step takes {speed.step:.2g} s here: {_time(steps * speed.step)} of training, and "
        f"{_time(closing)} for errors, samples and the model card"
    )


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{max(1, seconds):.0f} seconds"


def _warnings(trainer: Trainer) -> Iterator[str]:
    """What speaks against a good result."""
    recipe, count = trainer.recipe, len(trainer.train) + len(trainer.validation)
    steps = recipe.max_steps - trainer.schedule_start
    if 0 < steps < FEW_STEPS:
        yield (
            f"Warning: the model will hardly change in {counted(steps, 'step')}; a few hundred "
            "are better"
        )
    if count < FEW_PICTURES:
        yield (
            f"Warning: of {counted(count, 'picture')} the model can only make repetitions; 50 or "
            "more are better"
        )
    if trainer.enlarged == count:
        yield (
            f"Warning: all pictures are smaller than {recipe.image_size} px and are scaled up, so "
            "the model will draw blurred ones"
        )
    if steps * recipe.pictures_per_step > MANY_REPEATS * len(trainer.train):
        yield (
            "Warning: each picture is seen very often, and the model may learn them by heart; "
            "fewer minutes are enough"
        )


def _same_for_all(trainer: Trainer, value: T) -> T:
    """The value of the main process, whose clock decides for all."""
    values = [value]
    if trainer.accelerator.num_processes > 1:
        broadcast_object_list(values)
    return values[0]


def _count(trainer: Trainer) -> int:
    return len(trainer.train) + len(trainer.validation)
