"""Measures the bundled CLIP on pairs of pictures and sentences that it was not trained on.

    python -m benchmarks.clip

Prints retrieval of sentences and pictures and zero-shot classification, each with its chance level.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from tqdm import tqdm

from benchmarks.scoring import markdown
from pipelines.core import devices
from pipelines.models import clip
from training.cards.clip import figure_rows
from training.clip.judging import judge
from training.clip.pairs import SOURCES, load_pairs
from training.clip.runs import DATA


def main(
    data_folder: Annotated[Path, typer.Option(help="where the data sets lie")] = DATA,
    clip_model: Annotated[str, typer.Option(help="key of a CLIP of 64 px")] = "clip-small",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 is PyTorch's choice")] = 0,
) -> None:
    """Prints the table of a CLIP."""
    if threads:
        torch.set_num_threads(threads)
    loaded = clip.load(clip_model)
    parts = {name: load_pairs(data_folder, name)[1] for name in tqdm(SOURCES, desc="data sets")}
    held_out = {name: pairs for name, pairs in parts.items() if len(pairs)}
    figures = judge(loaded.model, loaded.tokenizer, held_out)
    print(markdown((f"{clip_model}, on held-out pairs", "", "chance"), figure_rows(figures)))
    print(f"\nMeasured on {devices.describe_device()}, weights {loaded.revision}.")


if __name__ == "__main__":
    typer.run(main)
