"""Draws the bundled examples, which the app shows without computing.

    python -m benchmarks.examples [--all]

Each becomes a PNG in `assets/examples` that contains its settings and all that the app shows of it.
Their titles stand in `assets/words/*/examples.toml`. Only examples that are new, changed or drawn
with other weights are drawn; none must be, because the app says with which weights each was drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image, ImageDraw

from pipelines.core import images
from pipelines.core.assets import ASSETS
from pipelines.core.rules import validate
from pipelines.models import integrity
from pipelines.products import PRODUCTS
from pipelines.products.edit import EditSettings
from pipelines.products.settings import ColorSettings, DigitsSettings, TextSettings
from pipelines.runs import example_files, provenance

FOLDER = ASSETS / "examples"


def path_of(name: str) -> Path:
    """Returns the path of an example's file."""
    return FOLDER / f"{name}.png"


def edited(name: str, begin: Callable[[], tuple[str, str]], **values: Any) -> EditSettings:
    """Returns the settings of an example that edits a picture of our own models.

    Picture and mask are those of its file, where there is one, since another machine would draw
    them otherwise in their last bit.

    Args:
        name: of the example.
        begin: draws the picture and its mask, as addresses.
        values: other settings.
    """
    if path_of(name).is_file():
        stored = provenance.read_facts(path_of(name))["settings"]
        image, mask = stored["image"], stored["mask"]
    else:
        image, mask = begin()
    return EditSettings(image=image, mask=mask, **values)


def drawn(settings: Any) -> Image.Image:
    """Returns the first picture that settings draw."""
    *_, last = PRODUCTS[provenance.tab_of(settings)].generate(settings, compare=False)
    return last.pictures[0]


def with_hole() -> tuple[str, str]:
    """Returns a painting, and a mask with a hole in it."""
    picture = drawn(TextSettings(prompt="a landscape with trees", seed=5))
    mask = Image.new("L", picture.size)
    ImageDraw.Draw(mask).ellipse((16, 16, 48, 48), fill=255)
    return images.to_data_uri(picture), images.to_data_uri(mask)


def scene() -> tuple[str, str]:
    """Returns a picture of the model of photographs."""
    settings = TextSettings(model="scenes", prompt="a street with houses", seed=2)
    return images.to_data_uri(drawn(settings)), ""


def old_grey() -> tuple[str, str]:
    """Returns a painting without its colours."""
    picture = drawn(TextSettings(prompt="ships on the sea", seed=12))
    return images.to_data_uri(picture.convert("L")), ""


def on_transparent() -> tuple[str, str]:
    """Returns an emoji whose ground is transparent."""
    picture = drawn(TextSettings(model="emoji", prompt="a red heart", method="thorough", seed=4))
    ground = picture.copy()
    for corner in ((0, 0), (63, 0), (0, 63), (63, 63)):
        ImageDraw.floodfill(ground, corner, _MARK, thresh=90)
    alpha = Image.new("L", picture.size)
    alpha.putdata([0 if pixel == _MARK else 255 for pixel in ground.getdata()])
    picture.putalpha(alpha)
    return images.to_data_uri(picture), ""


def tiny() -> tuple[str, str]:
    """Returns a picture of 16 px."""
    picture = drawn(TextSettings(prompt="a portrait of a woman", seed=12))
    return images.to_data_uri(picture.resize((16, 16), Image.Resampling.BOX)), ""


def painting() -> tuple[str, str]:
    """Returns a painting."""
    return images.to_data_uri(drawn(TextSettings(prompt="a landscape with trees", seed=8))), ""


_MARK = (255, 0, 255)  # of pixels that belong to the ground

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
    "edit-1-hole": edited("edit-1-hole", with_hole, num_images=2, seed=3),
    "edit-2-painting": edited("edit-2-painting", scene, task="restyle", strength=0.7, seed=1),
    "edit-3-grey": edited("edit-3-grey", old_grey, task="colorize", num_images=2, seed=1),
    "edit-4-ground": edited(
        "edit-4-ground", on_transparent, model="scenes", prompt="the sea", num_images=2, seed=1
    ),
    "edit-5-tiny": edited("edit-5-tiny", tiny, task="sharpen", num_images=2, seed=1),
    "edit-6-vary": edited("edit-6-vary", painting, task="vary", num_images=4, seed=2),
    "digits-1-pi": DigitsSettings(digits="3141592653", seed=3),
    "digits-2-unguided": DigitsSettings(digits="5555555555", cfg_scale=4.0, seed=30),
    "digits-3-blend": DigitsSettings(digits="3333333333", blend_with="8", blend=0.5, seed=12),
    "digits-4-attention": DigitsSettings(
        digits="0123456789", conditioning="cross-attention", seed=6
    ),
}


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
