"""Random numbers of pictures: one CPU generator per image.

So an image depends neither on its batch nor on the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def image_generators(seed: int, num_images: int) -> list[torch.Generator]:
    """One generator per image; image i is seeded with `seed + i`.

    Image 3 of seed 10 is image 0 of seed 13.
    """
    return seeded([seed + i for i in range(num_images)])


def seeded(seeds: Sequence[int]) -> list[torch.Generator]:
    """One generator per image, of a seed of its own."""
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def draw_noise(generators: Sequence[torch.Generator], shape: Sequence[int]) -> Tensor:
    """Standard normal noise `(b, *shape)` on the CPU, one generator per image."""
    return torch.stack([torch.randn(tuple(shape), generator=g) for g in generators])


def spawn(generator: torch.Generator, number: int = 0) -> torch.Generator:
    """An independent generator that follows from another one's seed, a different one per `number`.

    Of a seed, the CPU's generator takes the lower 32 bits alone, so it is these that must differ.
    """
    scattered = (
        generator.initial_seed() * 2_654_435_761 + (2 * number + 1) * 1_013_904_223
    ) % 2**32
    return torch.Generator("cpu").manual_seed(scattered)
