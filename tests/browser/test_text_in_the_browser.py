"""What a person does on the Text tab, in a real Chromium."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, expect

from tabs.views.text import EXAMPLES
from tests.browser.visits import (
    NARROW,
    WIDE,
    Visit,
    facts_in,
    hasten,
    keep_screenshot,
    set_slider,
    visit,
)
from tests.conftest import Meter


@pytest.mark.core
@pytest.mark.parametrize(
    ("size", "dark"), [(WIDE, False), (NARROW, True)], ids=["wide light", "narrow dark"]
)
def test_a_visitor_paints_what_words_say_and_saves_it(
    browser: Browser, served: str, tmp_path: Path, size: tuple[int, int], dark: bool
):
    found = visit(browser, served, size, dark, tab="Text")
    box = found.part("draw").bounding_box()
    assert box
    assert box["y"] + box["height"] < size[1], "Paint is not on the first screen"
    hasten(found)
    found.draw("ships on the sea")
    expect(found.status).to_contain_text("Done in")
    expect(found.status).to_contain_text("4 steps, seed 0, paintings")
    assert found.tiles.evaluate_all("all => all.map(img => img.alt)") == [
        "Picture guided towards the words: ships on the sea",
        "The same seed without guidance",
    ]
    one, other = found.sources()
    assert one != other
    reached = re.compile(r"Picture 1: -?\d\.\d\d, unguided -?\d\.\d\d")
    expect(found.part("scores")).to_contain_text(reached)
    near, gradient = found.part("chart").get_by_role("img").all()
    expect(near).to_be_visible()
    expect(near.locator("polyline")).to_have_count(2)
    expect(gradient).to_be_visible()
    expect(gradient.locator("polyline")).to_have_count(1)
    assert found.width() <= size[0], "the page scrolls sideways"
    keep_screenshot(found.page, f"text-{size[0]}-{'dark' if dark else 'light'}")
    saved = found.save(tmp_path / "painting.png")
    with Image.open(saved) as sheet:
        assert sheet.size == (64 * 4, 64 * 4)
    inside = facts_in(saved)
    assert inside["settings"]["prompt"] == "ships on the sea"
    assert inside["score"] == "cosine similarity"
    found.leave()


@pytest.mark.usefixtures("tiny_checkpoints")
def test_the_examples_are_those_that_work_on_the_chosen_model(desk: Visit):
    def example(words: str) -> Locator:
        return desk.page.get_by_role("button", name=words, exact=True)

    examples = desk.page.locator(".examples:visible")
    expect(examples).to_contain_text("These work on paintings:")
    example("ships on the sea").click()
    expect(desk.text).to_have_value("ships on the sea")
    desk.part("model").get_by_label("scenes").check()
    expect(examples).to_contain_text("These work on scenes:")
    expect(example("ships on the sea")).to_be_hidden()
    example("a glacier").click()
    desk.part("draw").click()
    expect(desk.status).to_contain_text("seed 0, scenes")
    expect(desk.tiles.first).to_have_attribute("alt", "Picture guided towards the words: a glacier")


@pytest.mark.usefixtures("tiny_checkpoints")
def test_words_that_the_clip_never_saw_are_named_until_they_are_gone(desk: Visit):
    unseen = desk.part("scores").locator(".unseen")
    desk.draw("<i>Zebra</i> in snow | a quagga:-0.5")
    expect(unseen).to_have_text(
        "clip-small never saw these words, and can only guess: i, zebra, quagga"
    )
    expect(desk.status).to_contain_text("Done in")
    desk.draw("a red rose")
    expect(desk.tiles.first).to_have_attribute(
        "alt", "Picture guided towards the words: a red rose"
    )
    expect(unseen).to_have_count(0)
    expect(desk.status).to_contain_text("Done in")


@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
def test_what_stands_beside_the_prompts_of_each_model_fits_a_narrow_page(
    browser: Browser, served: str, locale: str
):
    found = visit(browser, served, NARROW, tab="Text", locale=locale)
    for model in EXAMPLES:
        found.part("model").locator(f"input[value={model}]").check()
        row = found.page.locator(".examples").filter(has=found.page.get_by_text(EXAMPLES[model][0]))
        expect(row).to_be_visible()
        label = row.locator(".examples-label p").bounding_box()
        assert label
        assert label["x"] + label["width"] <= NARROW[0]
    found.leave()


def test_seeds_are_tried_before_the_first_step_and_stop_ends_that_too(desk: Visit, meter: Meter):
    hasten(desk)
    set_slider(desk.page, "text-tries", 6)
    desk.finish("ships")
    expect(desk.part("scores")).to_contain_text("unguided")
    expect(desk.part("chart").get_by_role("img").first.locator("polyline")).to_have_count(2)
    set_slider(desk.page, "text-tries", 32)
    set_slider(desk.page, "text-num-images", 8)
    set_slider(desk.page, "text-num-inference-steps", 250)
    desk.draw("snow")
    expect(desk.status).to_contain_text("Trying 32 seeds for each picture")
    expect(desk.tiles).to_have_count(16)
    expect(desk.part("scores")).to_have_text("")
    desk.part("stop").click()
    assert meter.settled()
    set_slider(desk.page, "text-tries", 1)
    set_slider(desk.page, "text-num-images", 1)
    hasten(desk)
    desk.finish("ships")


def test_stop_keeps_the_partial_picture_of_words_and_its_plot(desk: Visit, meter: Meter):
    set_slider(desk.page, "text-num-inference-steps", 250)
    desk.draw("snow")
    expect(desk.status).to_contain_text(re.compile(r"Step ([3-9]|\d\d+) of 250"))
    desk.part("stop").click()
    expect(desk.status).to_contain_text(re.compile(r"Stopped\. Step \d+ of 250"))
    expect(desk.tiles).to_have_count(2)
    points = desk.part("chart").get_by_role("img").first.locator("polyline.line-0")
    assert 3 <= len(str(points.get_attribute("points")).split()) < 250
    expect(desk.part("scores")).to_contain_text("unguided")
    assert meter.settled()
    assert meter.calls < 300
    hasten(desk)
    desk.draw("ships")
    expect(desk.status).to_contain_text("Done in")


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("", "“Prompt” must be words such as a landscape with trees, or come with “A picture"),
        ("<b>snow</b>:9", "“Prompt” must be sentences with weights from -5 to 5 other than 0"),
        (" ".join(["snow"] * 15), "“Prompt” must be at most 14 tokens for clip-small"),
    ],
    ids=["empty", "weight", "too long"],
)
def test_bad_words_show_one_sentence_and_lose_nothing(desk: Visit, typed: str, sentence: str):
    desk.draw("snow")
    expect(desk.status).to_contain_text("Done in")
    before, scores = desk.sources(), desk.part("scores").inner_text()
    desk.draw(typed)
    expect(desk.page.get_by_text(sentence)).to_be_visible()
    assert desk.sources() == before
    assert desk.part("scores").inner_text() == scores
    expect(desk.text).to_have_value(typed)
    desk.draw("ships")
    expect(desk.tiles.first).to_have_attribute("alt", "Picture guided towards the words: ships")


@pytest.mark.usefixtures("tiny_checkpoints")
def test_a_picture_steers_alone_and_a_colour_beside_words(desk: Visit, tmp_path: Path):
    Image.new("RGBA", (300, 40), (200, 30, 30, 128)).save(tmp_path / "like.png")
    desk.part("more").get_by_role("button").first.click()
    # The picture first: a field loses what is typed within 50 ms of being unfolded.
    upload = desk.part("image-prompt")
    upload.locator("input[type=file]").set_input_files(tmp_path / "like.png")
    upload.locator("img").wait_for()
    desk.draw("")
    alone = "Picture guided towards an uploaded picture"
    expect(desk.tiles.first).to_have_attribute("alt", alone)
    expect(desk.status).to_contain_text("Done in")
    upload.get_by_role("button", name="Remove Image").click()
    expect(upload.locator("img")).to_have_count(0)
    color = desk.part("color").locator("input, textarea")
    color.fill("teal")
    expect(color).to_have_value("teal")
    desk.draw("snow")
    both = "Picture guided towards the words: snow, towards the colour #008080"
    expect(desk.tiles.first).to_have_attribute("alt", both)
    expect(desk.status).to_contain_text("Done in")


@pytest.mark.usefixtures("tiny_checkpoints")
def test_the_method_of_the_course_has_a_scale_of_its_own_for_words_and_guides_to_the_end(
    desk: Visit,
):
    scale = desk.page.locator("#text-guidance-scale input[type=number]")
    desk.part("advanced").get_by_role("button").first.click()
    stop = desk.page.locator("#text-guide-until input[type=number]")
    expect(stop).to_have_value("0.8")
    desk.part("method").get_by_label("course").check()
    expect(scale).to_have_value("8")
    expect(stop).to_have_value("1")
    desk.draw("snow")
    expect(desk.status).to_contain_text("Done in")
    desk.part("method").get_by_label("thorough").check()
    expect(scale).to_have_value("0.2")
    expect(stop).to_have_value("0.8")
    desk.draw("ships")
    expect(desk.tiles.first).to_have_attribute("alt", "Picture guided towards the words: ships")
    expect(desk.status).to_contain_text("Done in")
