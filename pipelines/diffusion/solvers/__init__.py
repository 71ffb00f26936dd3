"""Solvers. Each is one file in this folder, with its rows in a tuple `SOLVERS`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import torch

from pipelines.diffusion.schedules import Schedule, alphas_cumprod, schedule_at
from pipelines.diffusion.solvers.solver import Estimate, Solver, SolverStep

__all__ = ["SOLVERS", "Estimate", "Solver", "SolverStep", "make_schedule"]

_MODULES = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]

SOLVERS: dict[str, Solver] = {
    solver.key: solver for module in _MODULES for solver in getattr(module, "SOLVERS", ())
}


def make_schedule(
    config: Mapping[str, Any],
    *,
    solver: str,
    num_inference_steps: int,
    device: torch.device | str,
    timesteps: Sequence[int] = (),
) -> Schedule:
    """Returns the noise levels of a run with a solver.

    Args:
        config: scheduler configuration of the checkpoint, as diffusers writes it (betas, ...).
        solver: key of `SOLVERS`.
        num_inference_steps: 1 or more, at most half of the training timesteps.
        device: of the run.
        timesteps: as many, strictly falling, instead of the solver's own spacing.

    Raises:
        ValueError: for an unknown solver, or for another number of timesteps.
    """
    if solver not in SOLVERS:
        raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, got {solver!r}")
    alpha_bar = alphas_cumprod(config)
    row = SOLVERS[solver]
    if timesteps and len(timesteps) != num_inference_steps:
        raise ValueError(f"timesteps must be {num_inference_steps}, got {len(timesteps)}")
    chosen = [*timesteps] or row.spacing(alpha_bar, num_inference_steps)
    return schedule_at(chosen, alpha_bar, solver=solver, device=device, by_ratio=row.is_multistep)
