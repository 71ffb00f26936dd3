"""What cannot end in time is refused before it starts, with what would fit; pure functions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipelines.core.errors import UserError
from pipelines.core.rules import SettingsError
from pipelines.products import color, digits, text
from pipelines.products.settings import ColorSettings, DigitsSettings, TextSettings
from pipelines.runs import comparison
from pipelines.runs.sweep import check, parse_axis
from pipelines.runs.time_limit import check_run, check_sweep
from pipelines.runs.timing import Estimator
from tabs import i18n

PRODUCTS = {
    "color": (ColorSettings(), color.work),
    "text": (TextSettings(), text.work),
    "digits": (DigitsSettings(), digits.work),
}
THOROUGH = ColorSettings(method="thorough", num_inference_steps=250)


@pytest.fixture(autouse=True)
def nothing_cached():
    comparison.unguided_runs.clear()


def measured(settings, work_of, seconds: float) -> Estimator:
    """An estimator for which a run takes that many seconds."""
    times = Estimator()
    times.note(work_of(settings), seconds)
    return times


def refusal(call, *args, **options) -> UserError:
    with pytest.raises(SettingsError) as caught:
        call(*args, **options)
    return caught.value


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_run_that_fits_is_not_refused(name: str):
    settings, work_of = PRODUCTS[name]
    check_run(settings, work_of, limit_seconds=300, times=measured(settings, work_of, 299))


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_run_slightly_over_is_left_to_the_deadline(name: str):
    settings, work_of = PRODUCTS[name]
    check_run(settings, work_of, limit_seconds=300, times=measured(settings, work_of, 350))


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_run_clearly_over_is_refused_and_what_fits_fits(name: str):
    settings, work_of = PRODUCTS[name]
    settings = replace(settings, num_inference_steps=200)
    times = measured(settings, work_of, 1000)
    error = refusal(check_run, settings, work_of, limit_seconds=300, times=times)
    message = str(error)
    assert message.startswith("This run would take about 1,000 s, and a run may take 300 s; ")
    steps = int(message.rpartition("; ")[2].split(" steps")[0])
    fitting = times.estimate(work_of(replace(settings, num_inference_steps=steps)))
    too_long = times.estimate(work_of(replace(settings, num_inference_steps=steps + 1)))
    assert fitting is not None
    assert too_long is not None
    assert fitting <= 300 < too_long


def test_every_way_to_fit_is_named():
    settings = TextSettings(num_images=8, tries=32, num_inference_steps=20)
    times = measured(settings, text.work, 600)
    message = str(refusal(check_run, settings, text.work, limit_seconds=300, times=times))
    assert "steps, or" in message
    assert "pictures, or" in message
    assert message.endswith("seeds tried would end in time")


def test_one_picture_is_offered_when_fewer_of_one_thing_are_not_enough():
    settings = TextSettings(num_images=8, tries=32, num_inference_steps=2)
    times = measured(settings, text.work, 2000)
    message = str(refusal(check_run, settings, text.work, limit_seconds=100, times=times))
    assert "; one picture of 2 steps with one seed tried would end in time" in message


def test_where_nothing_fits_another_method_is_advised():
    settings = ColorSettings(num_inference_steps=1)
    times = measured(settings, color.work, 5000)
    message = str(refusal(check_run, settings, color.work, limit_seconds=300, times=times))
    assert message.endswith("choose something faster for method, model")


def test_an_estimate_from_another_kind_must_be_further_over():
    times = measured(replace(THOROUGH, method="fast"), color.work, 100)
    seconds = times.estimate(color.work(THOROUGH))
    assert seconds is not None
    check_run(THOROUGH, color.work, limit_seconds=seconds / 1.9, times=times)
    refusal(check_run, THOROUGH, color.work, limit_seconds=seconds / 2.1, times=times)


def test_an_estimate_from_fewer_pictures_must_be_further_over():
    settings = ColorSettings(num_images=8)
    times = measured(replace(settings, num_images=1), color.work, 10)
    seconds = times.estimate(color.work(settings))
    assert seconds is not None
    check_run(settings, color.work, limit_seconds=seconds / 1.9, times=times)
    refusal(check_run, settings, color.work, limit_seconds=seconds / 2.1, times=times)


def test_unmeasured_devices_refuse_no_single_run():
    settings = TextSettings(method="thorough", num_inference_steps=250, num_images=1)
    check_run(settings, text.work, limit_seconds=300, times=Estimator())


def test_unmeasured_devices_refuse_a_hopeless_sweep():
    cells = cells_of(replace(THOROUGH, repeats=4))
    refusal(check_sweep, cells, color.work, limit_seconds=300, times=Estimator())


def cells_of(settings: ColorSettings, rows: str = "seed", row_values: str = "0-5") -> list:
    row = parse_axis(ColorSettings, rows, row_values)
    column = parse_axis(ColorSettings, "guidance_scale", "0.1..0.5 x 6")
    return [cell for cells in check(settings, row, column) for cell in cells]


def without_comparison(settings: ColorSettings):
    return color.work(settings, compare=False)


def test_a_sweep_that_cannot_end_says_how_many_cells_and_steps_would():
    cells = cells_of(THOROUGH)
    times = measured(cells[0], without_comparison, 52)
    error = refusal(check_sweep, cells, without_comparison, limit_seconds=300, times=times)
    message = str(error)
    assert message.startswith("36 cells of 250 steps would take about 1,900 s, and a run may take")
    assert "; 5 cells, or 36 cells of " in message
    steps = int(message.rpartition("36 cells of ")[2].split()[0])
    assert 30 <= steps <= 50
    check_sweep(
        [replace(cell, num_inference_steps=steps) for cell in cells],
        without_comparison,
        limit_seconds=300,
        times=times,
    )


def test_a_sweep_over_steps_offers_cells_alone():
    cells = cells_of(THOROUGH, "num_inference_steps", "100, 250")
    times = measured(cells[-1], without_comparison, 200)
    message = str(refusal(check_sweep, cells, without_comparison, limit_seconds=300, times=times))
    assert message.startswith("12 cells would take about")
    assert message.endswith(" 3 cells would end in time")


def test_the_unguided_pictures_that_a_sweep_does_not_draw_are_not_counted():
    for settings, work_of in PRODUCTS.values():
        assert work_of(settings, compare=False).evaluations < work_of(settings).evaluations


def test_the_refusal_is_one_sentence_in_chinese_too():
    cells = cells_of(THOROUGH)
    times = measured(cells[0], without_comparison, 52)
    error = refusal(check_sweep, cells, without_comparison, limit_seconds=300, times=times)
    sentence = i18n.error_message("zh", error)
    assert "36 格" in sentence
    assert "5 格，或" in sentence
    assert "cells" not in sentence
