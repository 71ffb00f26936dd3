"""Writes the checkpoint folder of a run of digits, see `training.digits.exporting`.

python -m training.export runs/digits-embedding assets/checkpoints/digits-embedding
"""

from __future__ import annotations

import typer

from training.digits.exporting import main

if __name__ == "__main__":
    typer.run(main)
