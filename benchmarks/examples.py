"""Draws the bundled examples, which the app shows without computing.

    python -m benchmarks.examples

Each becomes a PNG in `assets/examples` that contains its settings and all that the app shows of it.
Their titles stand in `assets/words/*/examples.toml`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipelines.core.assets import ASSETS
from pipelines.models import integrity
from pipelines.products import color, digits, text
from pipelines.products.settings import ColorSettings, DigitsSettings, TextSettings
from pipelines.runs import provenance

FOLDER = ASSETS / "examples"

_GENERATE = {"color": color.generate, "text": text.generate, "digits": digits.generate}

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


def drawn() -> Iterator[tuple[str, Any]]:
    """Draws all examples; yields the name and the finished run of each."""
    for name, settings in EXAMPLES.items():
        *_, last = _GENERATE[provenance.tab_of(settings)](settings)
        yield name, last


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, preview in drawn():
        path = FOLDER / f"{name}.png"
        provenance.save_example(preview, provenance.facts_of(preview), path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB, {preview.seconds:.1f} s")
    for path in FOLDER.glob("*.png"):
        if path.stem not in EXAMPLES:
            path.unlink()
    integrity.replaced(FOLDER)


if __name__ == "__main__":
    main()
