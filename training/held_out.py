"""Counts what `held_out.toml` holds out of the data sets, see `training.core.held_out`.

python -m training.held_out
"""

from __future__ import annotations

import typer

from training.core.held_out import main

if __name__ == "__main__":
    typer.run(main)
