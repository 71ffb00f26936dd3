"""Writes the checkpoint folder of a run of pictures, see `training.pictures.exporting`.

python -m training.export_pictures runs/paintings assets/checkpoints/paintings
"""

from __future__ import annotations

import typer

from training.pictures.exporting import main

if __name__ == "__main__":
    typer.run(main)
