"""Random numbers: one CPU generator per image.

So the noise of an image depends neither on its batch nor on its device. Networks still round
differently in other batches: steered by words, an image differs visibly when it is drawn alone; see
`benchmarks.batches`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def image_generators(seed: int, num_images: int) -> list[torch.Generator]:
    """Returns one generator per image; image i is seeded with `seed + i`.

    Image 3 of seed 10 has the noise of image 0 of seed 13.
    """
    return seeded([seed + i for i in range(num_images)])


def seeded(seeds: Sequence[int]) -> list[torch.Generator]:
    """Returns one generator per seed."""
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def draw_noise(generators: Sequence[torch.Generator], shape: Sequence[int]) -> Tensor:
    """Returns standard normal noise `(b, *shape)` on the CPU, one generator per image."""
    return torch.stack([torch.randn(tuple(shape), generator=g) for g in generators])


def spawn(generator: torch.Generator, number: int = 0) -> torch.Generator:
    """Returns an independent generator seeded from another's seed and a stream `number`.

    The CPU generator uses only the lower 32 bits of a seed, so these bits must differ.
    """
    seed = (generator.initial_seed() * 2_654_435_761 + (2 * number + 1) * 1_013_904_223) % 2**32
    return torch.Generator("cpu").manual_seed(seed)
