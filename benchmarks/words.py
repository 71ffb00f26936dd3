"""Measures a network that is told words against guidance by CLIP, on the same seeds.

    python -m benchmarks.words --model KEY
    python -m benchmarks.words --run ../training-runs/NAME --quick

Judges that neither guidance nor training uses look at the pictures: those of things and colours
(`emoji_judge`), of everyday things (`things_judge`), and of any name (`name_judge`). On two CPU
cores everything takes hours, `--quick` takes three minutes; `--only` chooses parts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.digits import write_json
from benchmarks.judges import emoji_judge
from benchmarks.text import Lab
from benchmarks.words_drawing import Studio, WordsModel, load_model, load_run
from benchmarks.words_parts import PARTS, Bench
from pipelines.core import devices, images

REPORT_SEED = 0
SIBLING = "emoji"
GRID_PICTURES, GRID_COLUMNS = 4, 16


def chosen_parts(only: str) -> list[str]:
    """Returns the parts that an option names, in the order of `PARTS`; all for an empty one.

    Raises:
        ValueError: for an unknown part.
    """
    named = [name.strip() for name in only.split(",") if name.strip()]
    unknown = [name for name in named if name not in PARTS]
    if unknown:
        raise ValueError(f"only must be some of {', '.join(PARTS)}, got {unknown[0]!r}")
    return [part for part in PARTS if not named or part in named]


def parsed_scales(text: str) -> list[float]:
    """Returns the scales that an option lists.

    Raises:
        ValueError: unless all are numbers of 0 or more.
    """
    try:
        scales = [float(part) for part in text.split(",")]
    except ValueError:
        scales = [-1.0]
    if not all(0 <= scale < 100 for scale in scales):
        raise ValueError(f"scales must be numbers from 0 to 100 with commas, got {text!r}")
    return scales


def save_grids(bench: Bench, path: Path) -> None:
    """Writes a sheet of each part: conditioned pictures, a few of each sentence."""
    for part, drawn in bench.sheets.items():
        pictures = images.to_pil(torch.cat([of_text[:GRID_PICTURES] for of_text in drawn]))
        sheet = images.grid(pictures, columns=GRID_COLUMNS)
        sheet.save(path.with_name(f"{path.stem}-{part}{path.suffix or '.png'}"))


def loaded(model: str, run: Path | None) -> WordsModel:
    """Returns the network of a checkpoint or of a training run.

    Raises:
        ValueError: unless exactly one is named, and it is told words.
    """
    if bool(model) == bool(run):
        raise ValueError("one of model and run must be given, got both or none")
    return load_run(run) if run else load_model(model)


def main(
    model: Annotated[str, typer.Option(help="key of a checkpoint that is told words")] = "",
    run: Annotated[Path | None, typer.Option(help="or the folder of a training run")] = None,
    clip_model: Annotated[str, typer.Option(help="key of the CLIP that guides")] = "clip-small",
    num_images: Annotated[int, typer.Option(min=1, help="seeds of a prompt; else half")] = 8,
    cfg: Annotated[float, typer.Option(min=0, max=100, help="scale where one is shown")] = 4.0,
    scales: Annotated[str, typer.Option(help="scales of the twenty prompts")] = "1,2,3,4,6",
    only: Annotated[str, typer.Option(help=f"of {', '.join(PARTS)}")] = "",
    quick: Annotated[bool, typer.Option("--quick", help="few pictures, no CLIP guidance")] = False,
    data_folder: Annotated[Path, typer.Option(help="for real emoji")] = emoji_judge.DATA,
    grid_path: Annotated[Path | None, typer.Option("--grid", help="where sheets go")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="raw numbers")] = None,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 is PyTorch's choice")] = 0,
) -> None:
    """Prints how a network that is told words compares with guidance by CLIP."""
    if threads:
        torch.set_num_threads(threads)
    try:
        parts, numbers = chosen_parts(only), parsed_scales(scales)
        told = loaded(model, run)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    studio = Studio(told, Lab(SIBLING, clip_model, REPORT_SEED, num_images), REPORT_SEED)
    images_each = 2 if quick else num_images
    bench = Bench(studio, images_each, numbers, cfg, quick, data_folder)
    about = {"model": told.name, "about": told.about, "machine": devices.describe_device()}
    print(
        f"{told.name}: {told.about}. Measured on {about['machine']}, PyTorch {torch.__version__}.",
        end="\n\n",
        flush=True,
    )
    for part in parts:
        PARTS[part](bench)
        if grid_path:
            save_grids(bench, grid_path)
        if json_path:
            costs = {name: vars(cost) for name, cost in studio.costs.items()}
            write_json(json_path, {**about, "parts": bench.results, "costs": costs})


if __name__ == "__main__":
    typer.run(main)
