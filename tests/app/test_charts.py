"""Charts: valid SVG in every state of a run, and the same in words."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

import pytest

from tabs import charts

NAME = 'Distance < 1 & "near"'


def chart(*lines: list[float], total: int = 20) -> ElementTree.Element:
    """The chart parsed, which fails for anything but valid XML."""
    series: dict[str, list[float]] = dict(zip(("guided", "unguided"), lines, strict=True))
    return ElementTree.fromstring(
        charts.line_chart(series, total=total, x_label="step", y_label=NAME)
    )


def points(drawn: ElementTree.Element, number: int = 0) -> list[tuple[float, float]]:
    """The corners of one line."""
    (line,) = drawn.iterfind(f".//polyline[@class='line-{number}']")
    pairs = [pair.split(",") for pair in line.attrib["points"].split()]
    return [(float(x), float(y)) for x, y in pairs]


def labels(drawn: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in drawn.iterfind(".//text")]


def test_a_chart_draws_every_line_inside_its_axes_and_marks_where_it_is():
    drawn = chart([80.0, 40.0, 20.0], [80.0, 78.0, 79.0])
    view = drawn.find("svg")
    assert view is not None
    width, height = (float(value) for value in view.attrib["viewBox"].split()[2:])
    for number in (0, 1):
        found = points(drawn, number)
        assert len(found) == 3
        assert all(0 <= x <= width and 0 <= y <= height for x, y in found)
        (dot,) = drawn.iterfind(f".//circle[@class='line-{number}']")
        assert (float(dot.attrib["cx"]), float(dot.attrib["cy"])) == found[-1]
    assert [y for _, y in points(drawn)] == sorted(y for _, y in points(drawn))
    assert labels(drawn) == ["0", "50", "100", "1", "20", "step"]


def test_the_last_step_ends_at_the_right_of_the_axis():
    (grid, *_) = chart([1.0, 2.0], [1.0, 1.0], total=2).iterfind(".//line")
    assert points(chart([1.0, 2.0], [1.0, 1.0], total=2))[-1][0] == float(grid.attrib["x2"])


def test_a_chart_says_in_words_where_each_line_begins_and_ends():
    view = chart([83.04, 40.0, 0.5], [83.04, 90.0, 79.0]).find("svg")
    assert view is not None
    assert view.attrib["role"] == "img"
    assert view.attrib["aria-label"] == (
        f"{NAME} per step: guided from 83 to 0.5; unguided from 83 to 79"
    )


def test_the_name_and_the_lines_are_in_the_legend():
    caption = chart([1.0], [2.0]).find("figcaption")
    assert caption is not None
    assert "".join(caption.itertext()).split() == [*NAME.split(), "guided", "unguided"]


def test_before_the_first_step_there_are_axes_and_no_lines():
    drawn = chart([], [])
    assert not list(drawn.iterfind(".//polyline"))
    view = drawn.find("svg")
    assert view is not None
    assert view.attrib["aria-label"] == f"{NAME} per step: nothing yet"


def test_a_single_step_is_a_dot_at_the_left():
    drawn = chart([3.0], [3.0], total=1)
    ((x, _),) = points(drawn)
    assert labels(drawn)[3:] == ["1", "1", "step"]
    assert x == float(next(drawn.iterfind(".//line")).attrib["x1"])


def test_zeros_lie_on_the_axis():
    drawn = chart([0.0, 0.0], [0.0, 0.0])
    assert {y for _, y in points(drawn)} == {float(next(drawn.iterfind(".//line")).attrib["y1"])}


def heights(drawn: ElementTree.Element) -> list[float]:
    """Where the lines of the grid lie, from the lowest value to the highest."""
    return [float(line.attrib["y1"]) for line in drawn.iterfind(".//line")]


def numbers(drawn: ElementTree.Element) -> list[str]:
    """What is written beside the lines of the grid, from the lowest to the highest."""
    return labels(drawn)[: len(heights(drawn))]


def test_negative_values_lie_inside_an_axis_that_begins_below_zero():
    drawn = chart([-0.03, 0.1, 0.33], [-0.07, 0.0, 0.05])
    assert labels(drawn)[:3] == ["-0.1", "0", "0.4"]
    bottom, zero, top = heights(drawn)
    assert bottom > zero > top
    for number in (0, 1):
        assert all(top <= y <= bottom for _, y in points(drawn, number))
        assert points(drawn, number)[0][1] > zero, "the first value is below zero"
    assert points(drawn, 1)[1][1] == zero


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([-0.08, 0.3], ["-0.1", "0", "0.4"]),
        ([-1.0, 1.0], ["-1", "0", "1"]),
        ([0.0, 0.3], ["0", "0.2", "0.4"]),
    ],
)
def test_both_ends_of_the_axis_are_round_and_zero_is_marked(values: list[float], ticks: list[str]):
    drawn = chart(values, values)
    assert numbers(drawn) == ticks
    assert heights(drawn) == sorted(heights(drawn), reverse=True)


@pytest.mark.parametrize(
    ("values", "ticks"),
    [([-0.42, 0.004], ["-0.5", "0"]), ([-0.03, 0.3], ["0", "0.4"])],
)
def test_an_end_too_near_to_zero_has_no_number_to_print_over_it(
    values: list[float], ticks: list[str]
):
    assert numbers(chart(values, values)) == ticks


@pytest.mark.parametrize("values", [[-0.2], [-0.2, -0.1], [-0.2, 0.0], [-3.0, -0.001]])
def test_values_of_which_none_is_above_zero_are_drawn_too(values: list[float]):
    drawn = chart(values, values)
    bottom, *_, zero = heights(drawn)
    assert zero < bottom
    assert numbers(drawn)[-1] == "0"
    assert len(points(drawn)) == len(values)
    assert all(zero <= y <= bottom for _, y in points(drawn))
    assert len(set(numbers(drawn))) == len(heights(drawn)), "two ticks are the same"


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_a_value_that_is_no_number_is_left_out(odd: float):
    drawn = chart([1.0, odd, 2.0], [odd, odd, odd])
    assert len(points(drawn)) == 2
    assert not list(drawn.iterfind(".//polyline[@class='line-1']"))


@pytest.mark.parametrize(
    ("largest", "top"), [(0.003, "0.004"), (0.1, "0.1"), (0.11, "0.2"), (1, "1"), (42, "50")]
)
def test_the_axis_ends_at_the_next_round_number(largest: float, top: str):
    assert labels(chart([largest], [0.0]))[2] == top
