"""Timesteps that were learned for a model and a solver, where there are few steps.

A solver's own spacing is the same for all models. In few steps each model is better at timesteps of
its own, which `training.learn_timesteps` finds (LD3, Tong et al. 2024, arXiv:2405.15506).
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

FILE = Path(__file__).resolve().parent / "timesteps.json"

_LIST = re.compile(r"\[([^\]]*)\]")  # written on one line

CHOICES = ("learned", "spaced")
"""Where the timesteps of a run come from: learned where there are some, or the solver's spacing."""


def learned(model: str, solver: str, num_inference_steps: int) -> tuple[int, ...]:
    """Returns the timesteps that were learned, strictly falling; empty if none were.

    Args:
        model: key of the checkpoint.
        solver: key of `solvers.SOLVERS`.
        num_inference_steps: number of steps.
    """
    return tuple(_read(FILE).get(model, {}).get(solver, {}).get(str(num_inference_steps), ()))


def is_learned_for(solver: str, model: str = "") -> bool:
    """Returns whether timesteps were learned for a solver, with a model or with any."""
    table = _read(FILE)
    return any(solver in table.get(key, {}) for key in ([model] if model else table))


def keep(model: str, solver: str, timesteps: Sequence[int], path: Path = FILE) -> None:
    """Writes learned timesteps into the file, in place of those for as many steps."""
    table = _read(path) if path.is_file() else {}
    of_solver = table.get(model, {}).get(solver, {}) | {str(len(timesteps)): [*timesteps]}
    ordered = dict(sorted(of_solver.items(), key=lambda item: int(item[0])))
    table |= {model: table.get(model, {}) | {solver: ordered}}
    lines = _LIST.sub(lambda found: f"[{' '.join(found[1].split())}]", json.dumps(table, indent=1))
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(f"{lines}\n", encoding="utf-8")
    os.replace(temporary, path)
    _read.cache_clear()


@functools.cache
def _read(path: Path) -> dict[str, dict[str, dict[str, list[int]]]]:
    return json.loads(path.read_text(encoding="utf-8"))
