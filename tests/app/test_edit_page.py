"""What the Edit tab needs besides its canvas: records, small copies for the page, estimates."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest
from PIL import Image

from pipelines.core import images
from pipelines.products import PRODUCTS
from pipelines.products.edit import PRODUCT, EditSettings
from pipelines.products.settings import ColorSettings
from pipelines.runs import provenance, sweep
from tabs import controls, results
from tabs.any_picture import with_any_pictures


def noise(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    count = size[0] * size[1] * len(Image.new(mode, (1, 1)).getbands())
    return Image.frombytes(mode, size, os.urandom(count))


def test_a_file_holds_the_largest_photograph_and_its_mask(tmp_path: Path):
    """Noise cannot be made smaller, so no photograph takes more."""
    settings = EditSettings(
        image=images.to_data_uri(noise((1024, 1024))),
        mask=images.to_data_uri(noise((1024, 1024), "L")),
    )
    facts = {"tab": "edit", "settings": vars(settings)}
    path = tmp_path / "edited.png"
    path.write_bytes(images.to_png(images.with_metadata(noise((1024, 1024)), facts)))
    restored = provenance.read(path).settings
    assert (restored.image, restored.mask) == (settings.image, settings.mask)


def test_a_file_without_the_picture_says_why_it_cannot_be_opened(tmp_path: Path):
    settings = EditSettings(image=images.to_data_uri(noise((64, 64))))
    facts = provenance.with_hashes({"tab": "edit", "settings": vars(settings)})
    path = tmp_path / "private.png"
    path.write_bytes(images.to_png(images.with_metadata(noise((64, 64)), facts)))
    with pytest.raises(provenance.RecordError) as caught:
        provenance.read(path)
    assert caught.value.kind == "record_left_out"


def test_a_text_holds_the_address_of_a_picture_and_an_upload_the_picture():
    address = images.to_data_uri(noise((64, 64)))
    settings, text = EditSettings(image=address, mask=address), gr.Textbox()
    assert controls.update(settings, "image", text)["value"] == address
    assert controls.update(EditSettings(), "image", text)["value"] == ""
    assert controls.update(ColorSettings(), "mask", gr.Image())["value"] is None


@pytest.mark.parametrize(("count", "is_smaller"), [(1, False), (4, True)])
def test_pictures_that_would_make_a_page_heavy_are_smaller_there(count: int, is_smaller: bool):
    pictures = [Image.new("RGB", (1024, 1024))] * count
    page = results.pairs(PRODUCT, pictures, pictures, ["alt"] * count, "en", can_edit=True)
    shown = [images.from_data_uri(address) for address in re.findall(r'src="([^"]+)"', page)]
    assert len(shown) == 2 * count
    assert sum(p.width * p.height for p in shown) <= results.MAX_AREA
    assert (shown[0].width < 1024) is is_smaller
    assert page.count("edit-this") == count


def test_a_picture_that_is_not_square_keeps_its_shape_on_the_page():
    wide = [Image.new("RGB", (90, 60))]
    assert "--ratio: 1.5" in results.pairs(PRODUCT, wide, wide, ["alt"], "en")


@pytest.mark.parametrize(("count", "name"), [(1, "edited"), (3, "edited-3-pictures")])
def test_files_are_named_by_what_is_in_them(tiny_checkpoints: Path, count: int, name: str):
    picture = images.to_data_uri(noise((32, 32)))
    settings = EditSettings(image=picture, task="restyle", num_inference_steps=2, num_images=count)
    *_, last = PRODUCT.run(settings)
    found = results.updates(PRODUCT, last, "en")
    files = {b: Path(found[b]["value"]).name for b in ("download", "animation", "private")}
    assert files == {
        "download": f"{name}.png",
        "animation": f"{name}.webp",
        "private": f"{name}-without-my-picture.png",
    }
    assert results._file_name(PRODUCTS["digits"], 5) == "digits"


def test_a_cell_of_a_sweep_is_small_and_keeps_its_shape():
    assert sweep._bounded(Image.new("RGB", (1024, 512))).size == (256, 128)
    picture = Image.new("RGB", (256, 256))
    assert sweep._bounded(picture) is picture


@pytest.mark.parametrize("name", PRODUCTS)
def test_every_product_can_be_timed_without_anybodys_picture(name: str):
    product = PRODUCTS[name]
    assert product.work(with_any_pictures(product.settings()))


def test_an_estimate_needs_no_picture_for_any_square_that_there_can_be():
    for crop in ("", "0, 0, 16", "1000, 1000, 24", "5, 300, 700"):
        for task in ("fill", "restyle", "colorize", "sharpen", "vary"):
            assert with_any_pictures(replace(EditSettings(), crop=crop, task=task)).image
