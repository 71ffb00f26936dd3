"""A short description of the data of a run, to tell when they have changed."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

NUM_SAMPLES = 16


def sample_indices(count: int) -> Tensor:
    """Returns numbers of some examples, spread evenly, `(m,)` int64."""
    return torch.linspace(0, count - 1, min(NUM_SAMPLES, count)).long()


def fingerprint(count: int, *samples: Tensor | str) -> str:
    """Describes data by their number and by the bytes of some examples.

    Args:
        count: of all examples.
        samples: pictures, or texts, of those of `sample_indices`.
    """
    digest = hashlib.sha256()
    for sample in samples:
        is_text = isinstance(sample, str)
        digest.update(sample.encode() if is_text else sample.cpu().contiguous().numpy().tobytes())
    return f"{count} examples, {digest.hexdigest()[:16]}"
