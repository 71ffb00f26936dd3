"""Sweeps: values as people write them, cells as runs of their own, and the sheet they make."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageChops

from pipelines.core.rules import MAX_SEED, SettingsError, rule
from pipelines.diffusion.methods import METHODS, TEXT_METHODS
from pipelines.products import color, digits, text
from pipelines.products.settings import ColorSettings, DigitsSettings, TextSettings
from pipelines.runs.sheet import sheet
from pipelines.runs.sweep import (
    MAX_CELLS,
    Axis,
    Sweep,
    check,
    label,
    parameters,
    parse_axis,
    suggestion,
    sweep,
)
from tests.conftest import Meter

pytestmark = pytest.mark.slow

ALL = [DigitsSettings(), ColorSettings(), TextSettings()]
EVERY = [(settings, name) for settings in ALL for name in parameters(type(settings))]
NONE = Axis("", (None,))
of_color, of_text, of_digits = (
    partial(parse_axis, kind) for kind in (ColorSettings, TextSettings, DigitsSettings)
)


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A preview of which no network knows."""

    pictures: list[Image.Image]
    finished: bool = True
    model: str = "none"
    revision: str = "0"
    revisions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    score_after: list[float] = dataclasses.field(default_factory=list)


def state(pictures: Sequence[Sequence[Image.Image | None]], **changes: Any) -> Sweep:
    """A sweep over scale and seed."""
    rows = Axis("guidance_scale", tuple(0.1 * i for i in range(len(pictures))))
    columns = Axis("seed", tuple(range(len(pictures[0]))))
    total = len(rows.values) * len(columns.values)
    empty = Sweep(
        rows=rows,
        columns=columns,
        pictures=[list(row) for row in pictures],
        scores=[[None] * len(row) for row in pictures],
        cells=[[None] * len(row) for row in pictures],
        done=0,
        total=total,
        seconds=0.0,
        settings=ColorSettings(),
        model="none",
        revision="0",
        revisions={},
    )
    return dataclasses.replace(empty, **changes)


def noise(seed: int, size_px: int) -> Image.Image:
    """Reddish pixels, which no other part of a sheet has."""
    pixels = np.random.default_rng(seed).integers(0, 50, (size_px, size_px, 3), dtype=np.uint8)
    pixels[..., 0] += 200
    return Image.fromarray(pixels)


def test_everything_but_pictures_and_their_number_can_change():
    names = parameters(TextSettings)
    assert {"prompt", "seed", "color", "clip_model"} <= set(names)
    assert not {"image_prompt", "num_images"} & set(names)
    assert "mask" not in parameters(ColorSettings)
    assert "digits" in parameters(DigitsSettings)


@pytest.mark.parametrize(
    ("found", "values"),
    [
        (of_color("guidance_scale", "0, .05,0.2"), (0.0, 0.05, 0.2)),
        (of_color("guidance_scale", "0; 0.05\n0.2;"), (0.0, 0.05, 0.2)),
        (of_color("guidance_scale", "0..0.5 x 6"), (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)),
        (of_color("guidance_scale", "0.4..0"), (0.4, 0.3, 0.2, 0.1, 0.0)),
        (of_color("guidance_scale", "1-3, 0.5"), (1.0, 2.0, 3.0, 0.5)),
        (of_color("eta", "-1..1 x 3"), (-1.0, 0.0, 1.0)),
        (of_color("seed", "1-4"), (1, 2, 3, 4)),
        (of_color("seed", "4 - 2, 9"), (4, 3, 2, 9)),
        (of_color("seed", "7, 8.0"), (7, 8)),
        (of_color("num_inference_steps", "10..50"), (10, 20, 30, 40, 50)),
        (of_color("num_inference_steps", "10..20 x 3"), (10, 15, 20)),
        (of_color("num_inference_steps", "1..3"), (1, 2, 3)),
        (of_color("color", "teal, rgb(1, 2, 3), #4ca"), ("#008080", "#010203", "#44CCAA")),
        (of_color("method", "fast, course"), ("fast", "course")),
        (of_color("symmetry", "none, left-right"), ("none", "left-right")),
        (of_color("palette", "red 60, blue 40; teal; none"), None),
        (of_text("prompt", "snow, ice | sun:2\na cat"), ("snow, ice | sun:2", "a cat")),
        (of_text("negative_prompt", "none; people"), ("", "people")),
        (of_text("color", "none, teal"), ("", "#008080")),
        (of_digits("digits", "0-2, 7"), ("0", "1", "2", "7")),
        (of_digits("blend_with", "none, 8"), ("", "8")),
        (of_color("", "whatever"), (None,)),
        (of_color("num_inference_steps", "１０，２０、３０"), (10, 20, 30)),
        (of_color("num_inference_steps", "10；20"), (10, 20)),
        (of_color("guidance_scale", "０．２、0.3"), (0.2, 0.3)),
        (of_color("guidance_scale", "０‥０．４ × ３"), (0.0, 0.2, 0.4)),
        (of_color("guidance_scale", "0…0.4 ｘ 3"), (0.0, 0.2, 0.4)),
        (of_color("guidance_scale", "0…0.5 x 3"), (0.0, 0.25, 0.5)),
        (of_color("num_inference_steps", "10…50 x 3"), (10, 30, 50)),
        (of_color("brightness", "−1，０．５"), (-1.0, 0.5)),
        (of_color("seed", "１–３"), (1, 2, 3)),
        (of_digits("digits", "０—２、７"), ("0", "1", "2", "7")),
        (of_color("color", "ｔｅａｌ、rgb(1，2，3)"), ("#008080", "#010203")),
        (of_color("model", "ｅｍｏｊｉ、scenes"), ("emoji", "scenes")),
        (of_color("guidance_scale", "0,5; 1,5"), (0.5, 1.5)),
        (of_color("guidance_scale", "0,5;1"), (0.5, 1.0)),
        (of_color("guidance_scale", "1,5,10"), (1.0, 5.0, 10.0)),
        (of_color("guidance_scale", "0.5,1"), (0.5, 1.0)),
        (of_color("guidance_scale", "0, 5"), (0.0, 5.0)),
        (of_color("guidance_scale", "٠٫٥؛ ١٫٥"), (0.5, 1.5)),
        (of_color("guidance_scale", "0.00001..0.00002 x 3"), (1e-05, 1.5e-05, 2e-05)),
        (of_color("num_inference_steps", "10,20"), (10, 20)),
        (of_color("num_inference_steps", "١٠، ٢٠"), (10, 20)),
        (of_text("prompt", "snow：2；a、b︱c:−1"), ("snow:2", "a、b | c:-1")),
    ],
)
def test_values_are_read_as_they_are_written(found: Axis, values: tuple[Any, ...] | None):
    expected = ("#FF0000 60, #0000FF 40", "#008080 100", "") if values is None else values
    assert found.values == pytest.approx(expected) if _real(expected) else found.values == expected
    assert [type(value) for value in found.values] == [type(value) for value in expected]


def _real(values: tuple[Any, ...]) -> bool:
    return isinstance(values[0], float)


# What may mean two things, with the way out.
POINT = "guidance_scale must be numbers with a point, as in 0.5, or values between semicolons"
THOUSANDS = ".+ must be numbers without commas, as in 1000, or values between semicolons"
POINTS = r".+ must have two points between numbers, as in 1\.\.6"


@pytest.mark.parametrize(
    ("name", "written", "said"),
    [
        ("guidance_scale", "0.1, much", "guidance_scale must be a number from .+, got 'much'"),
        ("guidance_scale", "0..0.5 x 1", "guidance_scale must be ranges of 2 to 36 .+ x 1'"),
        ("guidance_scale", "0..0.5 x 99", "guidance_scale must be ranges of 2 to 36 .+ x 99'"),
        ("guidance_scale", "0..0.5 x 9999999", "guidance_scale must be a number"),
        ("guidance_scale", "0..5000", "guidance_scale must be a number .+ got 5000"),
        ("guidance_scale", "nan", "guidance_scale must be a number .+ got nan"),
        ("guidance_scale", "9" * 5000, "guidance_scale must be a number .+ got inf"),
        ("guidance_scale", "0.1, 0.10", "guidance_scale must be values that differ, got 0.1 twice"),
        ("seed", "1.5", "seed must be a whole number .+ got 1.5"),
        ("seed", "0-4000000000", "seed must be ranges of 2 to 36 values, got '0-4000000000'"),
        ("seed", "9-9", "seed must be ranges of 2 to 36 values, got '9-9'"),
        ("seed", "1-20, 31-50", "seed must be at most 36 values, got more in"),
        ("seed", "-1, -1", "seed must be values that differ, got -1 twice"),
        ("seed", "", "seed must be values between commas or semicolons, got nothing"),
        ("seed", " , ,\n", "seed must be values between commas or semicolons"),
        ("seed", None, "seed must be values between commas or semicolons, got None"),
        ("color", "red, #FF0000", "color must be values that differ, got '#FF0000' twice"),
        ("method", "fast, faster", "method must be one of .+, got 'faster'"),
        ("palette", "red 60, blue 50", "palette must be colours whose shares .+ got 110"),
        *(("guidance_scale", t, POINT) for t in ("0,5", "-1,5", "٠،٥", "0,5, 1,5", "0,5\n1,5")),
        ("guidance_scale", "0,5..1,5", POINT),
        *((name, "1,000", THOUSANDS) for name in ("guidance_scale", "num_inference_steps")),
        ("seed", "1,000, 2,000", "seed must be numbers without commas, as in 1000"),
        *((name, "1...6", POINTS) for name in ("guidance_scale", "num_inference_steps")),
        ("num_images", "1", "rows and columns must be settings out of color, .+ got 'num_images'"),
        ("mask", "none", "rows and columns must be settings out of .+ got 'mask'"),
        (["seed"], "1", "rows and columns must be settings out of "),
    ],
)
def test_a_bad_value_is_refused_with_one_sentence(name: Any, written: Any, said: str):
    with pytest.raises(SettingsError, match=f"^{said}"):
        parse_axis(ColorSettings, name, written)


def test_a_cell_draws_one_digit():
    with pytest.raises(SettingsError, match=r"digits must be single digits .+, got '012'"):
        of_digits("digits", "012")
    ((cell,),) = check(DigitsSettings(digits="47"), NONE, of_digits("seed", "5"))
    assert cell.digits == "4"
    with pytest.raises(SettingsError, match=r"digits must be .+ characters 0-9, got '4x'"):
        check(DigitsSettings(digits="4x"), NONE, of_digits("seed", "5"))


@pytest.mark.parametrize(("settings", "name"), EVERY)
def test_what_is_suggested_can_be_drawn(settings: Any, name: str):
    other = "num_inference_steps" if name == "seed" else "seed"
    axes = [parse_axis(type(settings), n, suggestion(settings, n)) for n in (name, other)]
    cells = check(settings, axes[0], axes[1])
    assert [getattr(row[0], name) for row in cells] == list(axes[0].values)


@pytest.mark.parametrize(("settings", "name"), EVERY)
def test_what_is_suggested_offers_a_choice_unless_the_rest_leaves_none(settings: Any, name: str):
    values = parse_axis(type(settings), name, suggestion(settings, name)).values
    only = name == "eta" and isinstance(settings, DigitsSettings)  # its solver allows but 0
    most = len(rule(settings, name).options) if name == "model" else 6
    assert len(values) == 1 if only else 2 <= len(values) <= most


def test_suggestions_follow_what_is_set():
    assert suggestion(ColorSettings(seed=41), "seed") == "41, 42, 43, 44"
    assert suggestion(ColorSettings(seed=-1), "seed") == "0, 1, 2, 3"
    assert suggestion(ColorSettings(seed=MAX_SEED), "seed").endswith(str(MAX_SEED))
    assert suggestion(ColorSettings(color="teal"), "color").startswith("teal, ")
    assert suggestion(ColorSettings(method="fast"), "eta") == "-1, 0"
    assert suggestion(DigitsSettings(solver="ddim"), "eta") == "0, 0.25, 0.5, 0.75, 1"
    assert suggestion(TextSettings(prompt="a;  b"), "prompt").startswith("a, b; ")
    assert suggestion(TextSettings(), "negative_prompt").startswith("none; ")
    assert suggestion(ColorSettings(), "method").split(", ") == list(
        rule(ColorSettings, "method").options
    )


@pytest.mark.parametrize(
    ("settings", "methods"),
    [(ColorSettings, METHODS), (TextSettings, TEXT_METHODS)],
)
def test_the_course_is_suggested_its_own_scale(settings: Any, methods: Any):
    values = suggestion(settings(method="course"), "guidance_scale").split(", ")
    assert float(values[-1]) == methods["course"].default_scale


def test_cells_are_the_product_of_rows_and_columns_with_one_picture_each():
    rows, columns = of_color("method", "fast, balanced"), of_color("seed", "1-3")
    cells = check(ColorSettings(num_images=4, color="teal"), rows, columns)
    assert [[(c.method, c.seed) for c in row] for row in cells] == [
        [("fast", 1), ("fast", 2), ("fast", 3)],
        [("balanced", 1), ("balanced", 2), ("balanced", 3)],
    ]
    assert {(c.num_images, c.color) for row in cells for c in row} == {(1, "#008080")}


def test_a_random_seed_is_the_same_in_all_cells():
    columns = of_color("guidance_scale", "0, 0.2")
    ((first, second),) = check(ColorSettings(seed=-1), NONE, columns)
    ((other, _),) = check(ColorSettings(seed=-1), NONE, columns)
    assert first.seed == second.seed >= 0
    assert first.seed != other.seed
    drawn = of_color("seed", "-1, 5")
    cells = check(ColorSettings(), columns, drawn)
    assert [[c.seed for c in row] for row in cells] == [list(drawn.values)] * 2
    assert drawn.values[0] >= 0


def test_contradictions_are_told_before_anything_is_drawn():
    rows, columns = of_color("method", "balanced, fast"), of_color("eta", "0, 1")
    with pytest.raises(SettingsError, match="eta must be 0 or -1 when method is fast"):
        sweep(ColorSettings(), rows, columns, lambda _: pytest.fail("drawn"))


@pytest.mark.parametrize(
    ("rows", "columns", "said"),
    [
        (
            of_color("seed", "1-7"),
            of_color("eta", "0..1 x 6"),
            "rows and columns must be at most 36 cells together, got 7 x 6",
        ),
        (
            of_color("seed", "1"),
            of_color("seed", "2"),
            "rows and columns must be settings that differ, got seed for both",
        ),
        (NONE, NONE, "rows and columns must be settings that differ, got nothing for both"),
        (Axis("size", (1,)), NONE, "rows and columns must be settings out of .+, got 'size'"),
        (Axis("seed", (1.5,)), NONE, r"seed must be a whole number .+, got 1\.5"),
    ],
)
def test_bad_axes_are_refused_at_once(rows: Axis, columns: Axis, said: str):
    with pytest.raises(SettingsError, match=f"^{said}"):
        sweep(ColorSettings(), rows, columns, lambda _: pytest.fail("drawn"))


def test_as_many_cells_as_allowed_are_accepted():
    cells = check(ColorSettings(), of_color("seed", "1-6"), of_color("eta", "0..1 x 6"))
    assert sum(len(row) for row in cells) == MAX_CELLS


def test_a_cell_is_the_picture_of_a_run_of_its_own(tiny_checkpoints: Path):
    settings = ColorSettings(num_inference_steps=3, num_images=2)
    rows, columns = of_color("guidance_scale", "0, 0.2"), of_color("seed", "4, 9")
    *_, last = sweep(settings, rows, columns, color.generate)
    *_, alone = color.generate(
        dataclasses.replace(settings, guidance_scale=0.2, seed=9, num_images=1)
    )
    picture = last.pictures[1][1]
    assert picture is not None
    assert ImageChops.difference(picture, alone.pictures[0]).getbbox() is None
    assert last.scores[1][1] == alone.score_after[0]
    assert (last.model, last.revision) == (alone.model, alone.revision)
    assert last.revisions == alone.revisions
    assert (last.done, last.total, last.finished) == (4, 4, True)


def test_every_step_of_every_cell_is_shown_row_by_row(tiny_checkpoints: Path):
    rows, columns = of_digits("digits", "3, 8"), of_digits("conditioning", "channels, embedding")
    states = list(sweep(DigitsSettings(num_inference_steps=2), rows, columns, digits.generate))
    assert [s.done for s in states] == [0, 1, 1, 2, 2, 3, 3, 4]
    begun = [[p is not None for row in s.pictures for p in row].count(True) for s in states]
    assert begun == [1, 1, 2, 2, 3, 3, 4, 4]
    assert states[2].pictures[0][1] is not None
    assert [s.finished for s in states] == [False] * 7 + [True]
    assert [s.model for s in states[1::2]] == ["digits-channels", "digits-embedding"] * 2
    assert list(states[-1].revisions) == ["digits-channels", "digits-embedding"]


def test_a_sweep_over_words_has_scores_of_finished_cells_only(tiny_checkpoints: Path):
    columns = of_text("prompt", "snow; a city")
    states = list(sweep(TextSettings(num_inference_steps=2), NONE, columns, text.generate))
    scored = [[score is not None for score in s.scores[0]] for s in states]
    assert scored == [[False, False], [True, False], [True, False], [True, True]]


def test_closing_a_sweep_within_a_cell_stops_the_computing(meter: Meter):
    meter.seconds = 0.0
    runs: list[Iterator[color.Preview]] = []

    def generate(settings: ColorSettings) -> Iterator[color.Preview]:
        runs.append(color.generate(settings))  # else it would end by being forgotten
        return runs[-1]

    states = sweep(ColorSettings(num_inference_steps=9), NONE, of_color("seed", "1-3"), generate)
    assert next(states).done == 0
    calls = meter.calls
    assert isinstance(states, Generator)
    states.close()
    (run,) = runs
    assert next(run, None) is None
    assert meter.calls == calls > 0


def test_a_state_does_not_change_after_it_was_shown():
    def generate(_: Any) -> Iterator[Drawn]:
        yield Drawn([noise(0, 8)], score_after=[1.5])

    first, second = sweep(ColorSettings(), NONE, of_color("seed", "1, 2"), generate)
    assert first.pictures[0][1] is None
    assert second.pictures[0][1] is not None
    assert (first.scores, second.scores) == ([[1.5, None]], [[1.5, 1.5]])


def test_the_pixels_of_a_cell_are_those_of_its_picture():
    pictures = [[noise(10 * i + j, 28) for j in range(3)] for i in range(2)]
    pixels = np.asarray(sheet(state(pictures)))
    red = (pixels[..., 0] >= 200) & (pixels[..., 1] < 50)  # (h, w)
    down, across = (np.flatnonzero(red.any(axis=axis)) for axis in (1, 0))
    assert (len(down), len(across)) == (2 * 28 * 4, 3 * 28 * 4)
    found = pixels[np.ix_(down, across)]
    wanted = np.vstack([np.hstack([np.asarray(p) for p in row]) for row in pictures])
    assert np.array_equal(found, wanted.repeat(4, axis=0).repeat(4, axis=1))


@pytest.mark.parametrize(("size_px", "side"), [(28, 112), (64, 128), (128, 128), (200, 200)])
def test_pixels_become_the_largest_squares_that_fit_a_cell(size_px: int, side: int):
    narrow, wide = (sheet(state([[noise(0, size_px)] * n])).width for n in (2, 3))
    assert wide - narrow - side in range(1, 16)


def test_cells_to_come_are_grey_and_as_large_as_the_others():
    pixels = np.asarray(sheet(state([[noise(0, 28), None]])))
    grey = (pixels == (0xE4, 0xE7, 0xEB)).all(axis=-1)
    assert grey.sum() == 112 * 112
    assert np.asarray(sheet(state([[None, None]]))).shape[1] > pixels.shape[1]


def test_grey_pictures_come_on_a_white_sheet_in_color():
    drawn = sheet(state([[Image.new("L", (28, 28), 77)]]))
    assert drawn.mode == "RGB"
    assert (np.asarray(drawn) == 77).all(axis=-1).sum() >= 112 * 112
    assert drawn.getpixel((0, 0)) == (255, 255, 255)


def test_names_values_and_scores_are_written_at_the_edges():
    plain = state([[noise(0, 28)] * 2] * 2)
    first = sheet(plain)
    renamed = sheet(dataclasses.replace(plain, columns=Axis("eta", plain.columns.values)))
    revalued = sheet(dataclasses.replace(plain, columns=Axis("seed", (0, 7))))
    scored = sheet(dataclasses.replace(plain, scores=[[2.5, None], [None, None]]))
    assert ImageChops.difference(first, renamed).getbbox() is not None
    box = ImageChops.difference(first, revalued).getbbox()
    assert box is not None
    assert box[0] > first.width / 2  # of the second column alone
    assert scored.height > first.height
    without_rows = sheet(state([[noise(0, 28)] * 2], rows=NONE))
    assert without_rows.width < first.width


def test_a_score_may_be_in_words_and_in_characters_that_the_font_has():
    scored = dataclasses.replace(state([[noise(0, 28)]]), scores=[[2.5]])
    number, unit, spelt = (
        sheet(scored, score_text=text) if text else sheet(scored)
        for text in (None, lambda *_: "ΔE 2.5", lambda *_: "Delta E 2.5")
    )
    assert unit.tobytes() == spelt.tobytes() != number.tobytes()
    wide = sheet(scored, score_text=lambda *_: "similarity to what was asked for 0.25")
    assert wide.size == number.size


def test_long_values_keep_a_sheet_small():
    prompt = "a very long sentence about many things " * 12
    pictures = [[noise(0, 64)] * 2] * 2
    drawn = sheet(state(pictures, rows=Axis("prompt", (prompt, "x" * 500))))
    assert drawn.width < sheet(state(pictures)).width + 128
    above = sheet(state(pictures, columns=Axis("prompt", (prompt, "snow"))))
    assert above.height < sheet(state(pictures)).height + 50  # two lines more


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.2, "0.2"),
        (0.30000000000000004, "0.3"),
        (7, "7"),
        (4294967295, "4294967295"),
        ("balanced", "balanced"),
        ("#44CCAA", "#44CCAA"),
        ("", "none"),
        (None, ""),
        ("snow  |\nrain", "snow | rain"),
    ],
)
def test_a_label_is_the_value_as_people_write_it(value: Any, written: str):
    assert label(value) == written


def test_a_long_label_ends_in_an_ellipsis():
    assert len(label("word " * 50)) <= 60
    assert label("word " * 50).endswith("word…")
