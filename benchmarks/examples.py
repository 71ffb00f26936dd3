"""Draws the bundled examples, which the app shows without computing.

    python -m benchmarks.examples [--all]

Each becomes a PNG in `assets/examples` that contains its settings and all that the app shows of it.
Their titles stand in `assets/words/*/examples.toml`. Only examples that are new, changed or drawn
with other weights are drawn; none must be, because the app says with which weights each was drawn.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.core.assets import ASSETS
from pipelines.core.rules import validate
from pipelines.models import integrity
from pipelines.products import PRODUCTS
from pipelines.products.settings import ColorSettings, DigitsSettings, TextSettings
from pipelines.runs import example_files, provenance

FOLDER = ASSETS / "examples"

EXAMPLES: dict[str, Any] = {
    "color-1-vermilion": ColorSettings(color="#C8452F", num_images=2, seed=11),
    "color-2-half": ColorSettings(color="#2A3F8F", region="top", num_images=2, seed=4),
    "color-3-palette": ColorSettings(palette="#102040 55, #E0A030 30, #C8452F 15", seed=8),
    "color-4-mirror": ColorSettings(color="#6B7F3A", symmetry="left-right", contrast=0.2, seed=61),
    "color-5-course": ColorSettings(
        color="#C8452F", method="course", guidance_scale=40, num_inference_steps=40, seed=11
    ),
    "text-1-sea": TextSettings(prompt="ships on the sea", num_images=2, seed=12),
    "text-2-figure": TextSettings(prompt="a portrait of a woman", seed=12),
    "text-3-street": TextSettings(prompt="a city street", seed=6),
    "text-4-autumn": TextSettings(
        prompt="a landscape with trees",
        negative_prompt="a portrait of a woman",
        color="#C88A3A",
        color_weight=0.5,
        seed=3,
    ),
    "text-5-sketch": TextSettings(prompt="a pencil sketch", seed=5),
    "text-6-course": TextSettings(
        prompt="ships on the sea",
        method="course",
        guidance_scale=8,
        num_inference_steps=50,
        cutouts=4,
        stop=1.0,
        seed=2,
    ),
    "text-7-heart": TextSettings(
        model="emoji", prompt="a red heart", method="thorough", num_images=2, seed=4
    ),
    "text-8-car": TextSettings(
        model="emoji", prompt="a blue car", method="thorough", num_images=2, tries=8
    ),
    "digits-1-pi": DigitsSettings(digits="3141592653", seed=3),
    "digits-2-unguided": DigitsSettings(digits="5555555555", cfg_scale=4.0, seed=30),
    "digits-3-blend": DigitsSettings(digits="3333333333", blend_with="8", blend=0.5, seed=12),
    "digits-4-attention": DigitsSettings(
        digits="0123456789", conditioning="cross-attention", seed=6
    ),
}


def path_of(name: str) -> Path:
    """Returns the path of an example's file."""
    return FOLDER / f"{name}.png"


def is_current(name: str) -> bool:
    """Returns whether an example has the settings above and the weights that are here."""
    if not path_of(name).is_file():
        return False
    product = PRODUCTS[provenance.tab_of(EXAMPLES[name])]
    found = example_files.load_example(path_of(name), product.preview)
    same = found.settings == validate(EXAMPLES[name])
    return same and not provenance.other_weights(found.revisions)


def draw(name: str) -> Any:
    """Draws an example and saves it; returns the finished run."""
    settings = EXAMPLES[name]
    *_, last = PRODUCTS[provenance.tab_of(settings)].generate(settings)
    example_files.save_example(last, provenance.facts_of(last), path_of(name))
    return last


def main(
    draw_all: Annotated[bool, typer.Option("--all", help="current ones too")] = False,
) -> None:
    """Draws the examples that are not current, or all; removes the files of those dropped."""
    FOLDER.mkdir(exist_ok=True)
    for name in EXAMPLES:
        if draw_all or not is_current(name):
            seconds = draw(name).seconds
            print(f"{name}.png: {path_of(name).stat().st_size / 1000:.0f} kB, {seconds:.1f} s")
    for path in FOLDER.glob("*.png"):
        if path.stem not in EXAMPLES:
            path.unlink()
    integrity.replaced(FOLDER)


if __name__ == "__main__":
    typer.run(main)
