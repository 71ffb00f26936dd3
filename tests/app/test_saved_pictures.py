"""Every picture that a page shows can be saved and opened again, and draws itself."""

from __future__ import annotations

import base64
import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.core import images
from pipelines.core.rules import validate
from pipelines.products import PRODUCTS
from pipelines.products.settings import ColorSettings, DigitsSettings, TextSettings
from pipelines.runs import provenance, timing
from pipelines.runs.product import Product
from pipelines.runs.sweep import parse_axis, sweep
from tabs import examples, i18n, lane, results, sweeps
from tabs.latest_run import Runs

NOISE = images.to_data_uri(Image.effect_noise((200, 200), 90))
SETTINGS: dict[str, Any] = {
    "one": ColorSettings(num_inference_steps=2, seed=4),
    "color": ColorSettings(num_inference_steps=2, num_images=3, seed=4, symmetry="left-right"),
    "masked": ColorSettings(num_inference_steps=2, num_images=2, mask=NOISE),
    "course": ColorSettings(num_inference_steps=2, num_images=2, method="course"),
    "digits": DigitsSettings(num_inference_steps=2, digits="007", seed=9, cfg_scale=4.0),
    "steered": DigitsSettings(
        num_inference_steps=2, digits="12", guidance_scale=0.2, brightness=0.6
    ),
    "text": TextSettings(num_inference_steps=2, num_images=2, prompt="ships | snow:0.5"),
    "like": TextSettings(num_inference_steps=2, prompt="", image_prompt=NOISE),
    "tried": TextSettings(num_inference_steps=4, num_images=2, tries=2),
}


LAST_BIT = 2  # of 255, in which networks of random weights differ alone and in a batch


def difference(one: Image.Image, other: Image.Image) -> int:
    assert (one.size, one.mode) == (other.size, other.mode)
    return max(abs(a - b) for a, b in zip(one.tobytes(), other.tobytes(), strict=True))


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(timing, "estimator", timing.Estimator())


def product_of(settings: Any) -> Product:
    return PRODUCTS[provenance.tab_of(settings)]


def saved_from(html: str, folder: Path) -> list[Path]:
    """The files that "Save image as" makes of the pictures of a page."""
    paths = []
    for i, body in enumerate(re.findall(r'src="data:image/png;base64,([^"]+)"', html)):
        paths.append(folder / f"download-{i}.png")
        paths[-1].write_bytes(base64.b64decode(body))
    return paths


def draws(record: provenance.Record) -> Image.Image:
    """The picture that a record stands for."""
    *_, last = PRODUCTS[record.tab].run(record.settings)
    return last.pictures[record.picture[0] if record.picture else 0]


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("name", SETTINGS)
def test_each_picture_of_a_page_brings_back_what_draws_that_very_picture(name: str, tmp_path: Path):
    product = product_of(SETTINGS[name])
    *_, last = product.run(SETTINGS[name])
    paths = saved_from(results.updates(product, last, "en")["pictures"], tmp_path)
    assert len(paths) == 2 * last.settings.count
    for path in paths:
        with Image.open(path) as shown:
            assert difference(draws(provenance.read(path)), shown) <= LAST_BIT


@pytest.mark.parametrize(
    "settings",
    [ColorSettings(num_images=2, num_inference_steps=4), DigitsSettings(digits="42", seed=3)],
    ids=["color", "digits"],
)
def test_with_the_bundled_models_it_is_the_same_to_the_last_bit(settings: Any, tmp_path: Path):
    product = product_of(settings)
    *_, last = product.run(settings)
    for path in saved_from(results.tiles(product, last, "en", with_records=True), tmp_path):
        with Image.open(path) as shown:
            assert difference(draws(provenance.read(path)), shown) == 0


COURSE = ColorSettings(
    method="course", guidance_scale=40, num_images=3, seed=3, num_inference_steps=4
)


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize(
    "settings", [*SETTINGS.values(), COURSE], ids=[*SETTINGS, "course, whose loss is of the batch"]
)
def test_a_picture_of_several_comes_back_with_the_others_and_its_index(
    settings: Any, tmp_path: Path
):
    product = product_of(settings)
    *_, last = product.run(settings)
    paths = saved_from(results.tiles(product, last, "en", with_records=True), tmp_path)[::2]
    count = last.settings.count
    for i, path in enumerate(paths):
        record = provenance.read(path)
        assert record.picture == ((i, count) if count > 1 else None)
        assert record.settings == last.settings
        with Image.open(path) as shown:
            assert difference(draws(record), shown) == 0


@pytest.mark.parametrize("told", [None, 7, [], {}, {"index": "0", "of": 3}, {"index": 3, "of": 3}])
def test_a_place_that_says_nothing_is_not_believed(told: Any):
    settings = validate(ColorSettings(num_images=3))
    facts = {"tab": "color", "settings": dataclasses.asdict(settings), "picture": told}
    assert provenance.from_facts(facts).settings == settings


@pytest.mark.usefixtures("tiny_checkpoints")
def test_previews_carry_nothing(tmp_path: Path):
    first, *_ = PRODUCTS["color"].run(SETTINGS["one"])
    for path in saved_from(results.updates(PRODUCTS["color"], first, "en")["pictures"], tmp_path):
        with pytest.raises(provenance.RecordError):
            provenance.read(path)


@pytest.mark.usefixtures("tiny_checkpoints")
def test_records_do_not_make_a_page_heavy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    product, settings = PRODUCTS["digits"], DigitsSettings(num_inference_steps=1, digits="0" * 64)
    *_, last = product.run(settings)
    plain, full = (len(results.tiles(product, last, "en", with_records=w)) for w in (False, True))
    assert (full - plain) / 128 < 1400, "characters of the page for each picture"
    monkeypatch.setattr(results, "MAX_RECORDS", 1000)
    *_, last = PRODUCTS["color"].run(SETTINGS["masked"])
    html = results.tiles(PRODUCTS["color"], last, "en", with_records=True)
    with pytest.raises(provenance.RecordError, match=r"^The picture given as mask was left out"):
        provenance.read(saved_from(html, tmp_path)[0])


@pytest.mark.usefixtures("tiny_checkpoints")
def test_cells_of_a_sweep_bring_back_what_draws_them(tmp_path: Path):
    rows = parse_axis(DigitsSettings, "cfg_scale", "1, 4")
    columns = parse_axis(DigitsSettings, "digits", "3, 7")
    product = PRODUCTS["digits"]
    *_, first, last = sweep(
        DigitsSettings(num_inference_steps=2, digits="55", seed=3),
        rows,
        columns,
        lambda cell: product.run(cell, compare=False),
    )
    for path in saved_from(sweeps.table(product, last, "en"), tmp_path):
        with Image.open(path) as shown:
            assert difference(draws(provenance.read(path)), shown) <= LAST_BIT
    *finished, unfinished = saved_from(sweeps.table(product, first, "en"), tmp_path)
    assert all(provenance.read(path).settings.seed == 3 for path in finished)
    with pytest.raises(provenance.RecordError):
        provenance.read(unfinished)


def test_the_small_pictures_of_examples_bring_their_runs_back(tmp_path: Path):
    for product in PRODUCTS.values():
        html = examples.gallery(product, "en")
        paths = saved_from(html, tmp_path)
        assert len(paths) == len(examples.names(product)) > 0
        for path, name in zip(paths, examples.names(product), strict=True):
            record, whole = provenance.read(path), examples.load(product, name)
            assert record.tab == product.name
            assert record.settings.seed == whole.settings.seed
            assert "shown" not in record.facts
            with Image.open(path) as picture:
                assert picture.tobytes() == whole.pictures[0].tobytes()


# --- stopped and failed runs ---------------------------------------------------------------------


def stopped_run(settings: Any, step: int = 2) -> Any:
    run = product_of(settings).run(settings)
    return next(preview for preview in run if preview.step == step)


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize(
    "settings",
    [ColorSettings(num_inference_steps=5), DigitsSettings(num_inference_steps=5, digits="12")],
    ids=["color", "digits"],
)
def test_a_stopped_run_is_saved_and_linked_as_what_it_is(settings: Any, tmp_path: Path):
    product, preview = product_of(settings), stopped_run(settings)
    found = results.stop_updates(product, preview, "", "en")
    assert "Step 2 of 5" in found["status"]
    assert found["download"]["interactive"]
    assert found["animation"]["interactive"]
    record = provenance.read(path_in(found["download"]))
    assert (record.stopped, record.settings) == ((2, 5), preview.settings)
    linked = provenance.from_query(dict(part.split("=") for part in found["link"].split("&")))
    assert linked is not None
    assert linked.stopped == (2, 5)
    for path in saved_from(found["pictures"], tmp_path):
        assert provenance.read(path).stopped == (2, 5)


def path_in(button: Any) -> str:
    value = button["value"] if isinstance(button, dict) else button.value
    return value["path"] if isinstance(value, dict) else value


@pytest.mark.usefixtures("tiny_checkpoints")
def test_a_run_that_is_stopped_while_seeds_are_tried_is_kept_too():
    settings = TextSettings(num_inference_steps=4, tries=3)
    preview = stopped_run(settings, step=0)
    found = results.stop_updates(PRODUCTS["text"], preview, "", "en")
    assert provenance.read(path_in(found["download"])).stopped == (0, 4)
    assert not found["animation"]["interactive"]
    assert "while seeds were tried" in found["status"]


@pytest.mark.usefixtures("tiny_checkpoints")
def test_stop_leaves_a_finished_result_and_tells_of_a_run_without_pictures():
    *_, last = PRODUCTS["color"].run(SETTINGS["one"])
    done = results.updates(PRODUCTS["color"], last, "en")["status"]
    assert results.stop_updates(PRODUCTS["color"], last, done, "en") == {"status": done}
    begun = results.start_updates("zh")["status"]
    told = results.stop_updates(PRODUCTS["color"], last, begun, "en")
    assert set(told) == {"status"}
    assert i18n.translate("en", "status.stopped_early") in told["status"]


@pytest.mark.usefixtures("tiny_checkpoints")
def test_a_failed_run_leaves_what_was_there_with_all_that_takes_it_away():
    product, error = PRODUCTS["color"], ValueError("no")
    *_, last = product.run(SETTINGS["one"])
    assert set(results.end_updates(product, last, last, "en", error)) == {"status"}
    assert set(results.end_updates(product, None, None, "en", error)) == {"status"}
    half = stopped_run(ColorSettings(num_inference_steps=5, seed=1))
    back = results.end_updates(product, half, last, "en", error)
    assert back["pictures"] == results.tiles(product, last, "en", with_records=True)
    assert provenance.read(path_in(back["download"])).settings == last.settings
    assert "Nothing was drawn" in back["status"]
    alone = results.end_updates(product, half, None, "en", error)
    assert provenance.read(path_in(alone["download"])).stopped == (2, 5)
    late = lane.Overtime("Stopped after 300 seconds at step 2 of 5.")
    kept = results.end_updates(product, half, last, "en", late)
    assert provenance.read(path_in(kept["download"])).stopped == (2, 5)
    assert "step 2 of 5" in kept["status"]


def test_a_run_that_was_ended_is_not_remembered_later():
    runs = Runs()
    token = runs.announce("0123456789abcdef:1")
    runs.begin(token)
    assert runs.is_drawing(token)
    runs.remember(token, "early")
    runs.halt("0123456789abcdef:2")
    assert not runs.is_drawing(token)
    runs.remember(token, "late")
    assert runs.preview(token) == "early"


@pytest.mark.usefixtures("tiny_checkpoints")
def test_a_stopped_sweep_can_be_saved_and_says_so_when_it_is_opened():
    product = PRODUCTS["digits"]
    states = sweep(
        DigitsSettings(num_inference_steps=2),
        parse_axis(DigitsSettings, "cfg_scale", "1, 4"),
        parse_axis(DigitsSettings, "digits", "3, 7"),
        lambda cell: product.run(cell, compare=False),
    )
    state = next(state for state in states if state.done == 3)
    progress = sweeps._status(state, "en")
    status, _, download = sweeps._stopped(product, state, progress, "en")
    assert "3 of 4 cells" in status
    record = provenance.read(path_in(download))
    assert sweeps.cells_of(record.facts["sweep"]) == (3, 4)
    assert sweeps.cells_of({"rows": 7}) == (0, 0)
