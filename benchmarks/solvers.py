"""The solvers that visitors may choose, at equal evaluations of the network, on digits.

    python -m benchmarks.solvers

A step of Heun's method evaluates the network twice, so it makes half as many steps. Digits are
judged as in `benchmarks.digits`.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import torch
import typer

from benchmarks import scoring
from benchmarks.digits import REPORT_SEED, draw, last_line
from benchmarks.scoring import HEADER, Score, Scorer, markdown
from pipelines.core.rules import rule
from pipelines.diffusion.solvers import SOLVERS
from pipelines.models.judges import load_judge
from pipelines.products.settings import DigitsSettings
from training.digits.data import default_mnist, load_digits

EVALUATIONS = (6, 10, 20)


def settings_for(solver: str, evaluations: int) -> DigitsSettings:
    """Returns the default settings with a solver and as many steps as the evaluations allow."""
    steps = max(1, evaluations // SOLVERS[solver].evaluations)
    return dataclasses.replace(DigitsSettings(), solver=solver, num_inference_steps=steps)


def score(scorer: Scorer, solver: str, evaluations: int, num_digits: int) -> Score:
    """Scores the digits of one solver at a number of evaluations."""
    settings = settings_for(solver, evaluations)
    name = f"{evaluations} evaluations: {solver}, {settings.num_inference_steps} steps"
    return scorer.score(name, draw(settings, num_digits, REPORT_SEED))


def main(
    num_digits: Annotated[int, typer.Option(min=20, help="digits of each row")] = 1000,
    dataset_name: Annotated[str, typer.Option(help="Hub id or folder; without: MNIST")] = "",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 is PyTorch's choice")] = 0,
) -> None:
    """Prints the table of solvers."""
    if threads:
        torch.set_num_threads(threads)
    scorer = Scorer(load_judge(), load_digits(dataset_name or default_mnist(), "test"))
    solvers: tuple[str, ...] = rule(DigitsSettings, "solver").options
    rows = [
        scoring.row(score(scorer, solver, evaluations, num_digits))
        for evaluations in EVALUATIONS
        for solver in solvers
    ]
    print(markdown(HEADER, rows), end="\n\n")
    print(last_line())


if __name__ == "__main__":
    typer.run(main)
