"""The learning rate: warm-up, then a half cosine."""

from __future__ import annotations

import math


def learning_rate(step: int, *, peak: float, warmup_steps: int, max_steps: int) -> float:
    """Linear warm-up to `peak`, then a half cosine down to 1 % of it at `max_steps`.

    Args:
        step: steps done before this one, from 0.
        peak: the highest rate.
        warmup_steps: step `warmup_steps - 1` is the first at `peak`; 0 is off.
        max_steps: length of the run.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, max_steps - warmup_steps)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))
