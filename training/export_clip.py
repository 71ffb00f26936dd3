"""Writes the checkpoint folder of a run of a CLIP, see `training.clip.exporting`.

python -m training.export_clip runs/clip-small assets/checkpoints/clip-small
"""

from __future__ import annotations

import typer

from training.clip.exporting import main

if __name__ == "__main__":
    typer.run(main)
