"""Which examples and which noise a step gets; both follow from its number alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def step_generator(seed: int, step: int) -> torch.Generator:
    """The CPU generator of one training step.

    All randomness of a step comes from it, so a resumed run repeats an uninterrupted one without
    any saved random state.
    """
    return torch.Generator("cpu").manual_seed(seed * 1_000_003 + step)


def epoch_order(num_examples: int, seed: int, epoch: int) -> Tensor:
    """A permutation of the data `(n,)`, the same for the same seed and epoch."""
    generator = torch.Generator("cpu").manual_seed(seed * 7_368_787 + epoch)
    return torch.randperm(num_examples, generator=generator)


def batch_indices(num_examples: int, batch_size: int, seed: int, step: int) -> Tensor:
    """Which examples step `step` (from 0) trains on, `(batch_size,)`; every epoch sees each once.

    The last incomplete batch of an epoch is dropped.

    Raises:
        ValueError: if there are fewer examples than one batch.
    """
    per_epoch = num_examples // batch_size
    if per_epoch == 0:
        raise ValueError(
            f"batch_size must be at most the number of pictures, {num_examples}, got {batch_size}"
        )
    epoch, position = divmod(step, per_epoch)
    order = epoch_order(num_examples, seed, epoch)
    return order[position * batch_size : (position + 1) * batch_size]


def slot_noise(
    seed: int, step: int, slots: Tensor, shape: Sequence[int], device: torch.device
) -> Tensor:
    """Standard normal noise `(len(slots), *shape)` for some of the pictures of one step.

    Each slot has its own generator, so a picture gets the same noise whichever process or forward
    pass it falls to.
    """
    generator = torch.Generator(device)
    noise = torch.empty((len(slots), *shape), device=device)
    for row, slot in zip(noise, slots.tolist(), strict=True):
        generator.manual_seed(((seed * 1_000_003 + step) * 65_537 + slot) % 2**63)
        row.normal_(generator=generator)
    return noise
