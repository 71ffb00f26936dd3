"""Writes the model card of a checkpoint anew, see `training.cards.model_card`.

python -m training.cards assets/checkpoints/digits-embedding
"""

from __future__ import annotations

import typer

from training.cards.model_card import main

if __name__ == "__main__":
    typer.run(main)
