"""A run as HTML and files: well formed, described, and safe from what visitors write."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.core import images
from pipelines.core.rules import validate
from pipelines.products import PRODUCTS, color, digits, text
from pipelines.products.settings import ColorSettings, DigitsSettings, TextSettings
from pipelines.runs import product as products
from pipelines.runs import provenance, timing
from pipelines.runs.product import Product
from tabs import filmstrip, i18n, results
from tabs.results import ResultComponents

HOSTILE = """a "landscape" <script>alert('1')</script> & <img src=x onerror=alert(2)>"""
SETTINGS: dict[str, Any] = {
    "color": ColorSettings(num_inference_steps=3, num_images=2),
    "region": ColorSettings(num_inference_steps=2, region="left"),
    "palette": ColorSettings(num_inference_steps=2, palette="#102040 60, gold 40"),
    "text": TextSettings(num_inference_steps=3, num_images=2, prompt="ships | snow:0.5"),
    "all words": TextSettings(num_inference_steps=2, negative_prompt="people", color="teal"),
    "digits": DigitsSettings(num_inference_steps=3, digits="007"),
    "blend": DigitsSettings(num_inference_steps=2, digits="1", blend_with="7"),
    "many": DigitsSettings(num_inference_steps=2, digits="1234567890" * 2),
    "long": DigitsSettings(num_inference_steps=40, digits="12", conditioning="channels"),
}
KEYS = ("pictures", "status", "scores", "charts", "filmstrip")


@pytest.fixture(autouse=True)
def _no_traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files go to a folder of the test, and no other test is told how fast these runs were."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(timing, "estimator", timing.Estimator())


@pytest.fixture
def previews(tiny_checkpoints: Path) -> dict[str, Any]:
    """Every preview of a run, drawn when it is asked for."""

    class Drawn(dict[str, Any]):
        def __missing__(self, name: str) -> list[Any]:
            self[name] = list(product_of(name).run(SETTINGS[name]))
            return self[name]

    return Drawn()


def product_of(name: str) -> Product:
    return PRODUCTS[provenance.tab_of(SETTINGS[name])]


# --- HTML, read strictly -------------------------------------------------------------------------

VOID = {"img", "input", "br", "hr"}
FOREIGN = {"svg", "line", "polyline", "circle", "text"}
KNOWN = {
    *VOID,
    *FOREIGN,
    *("div", "p", "small", "b", "i", "code", "span", "figure", "figcaption", "label", "output"),
    *("button", "select", "option", "progress"),
}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    text: str = ""


@dataclass
class Reader(HTMLParser):
    """Takes a page apart, and refuses what browsers would have to guess."""

    elements: list[Element] = field(default_factory=list)
    opened: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in KNOWN, f"<{tag}>"
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"an attribute of <{tag}> twice"
        assert not any(name.startswith("on") for name in names), names
        assert all(re.fullmatch(r"[a-zA-Z0-9-]+", name) for name in names), names
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag not in VOID:
            self.opened.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in FOREIGN, f"<{tag}/> is not closed in HTML"
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.opened, f"</{tag}> closes nothing"
        assert self.opened[-1].tag == tag, f"</{tag}> closes <{self.opened[-1].tag}>"
        self.opened.pop()

    def handle_data(self, data: str) -> None:
        for element in self.opened:
            element.text += data

    def all(self, tag: str, **wanted: str) -> list[Element]:
        named = {name.rstrip("_"): value for name, value in wanted.items()}
        return [
            e
            for e in self.elements
            if e.tag == tag and all(v in e.attributes.get(n, "").split() for n, v in named.items())
        ]


def read(html: str) -> Reader:
    found = Reader()
    found.feed(html)
    found.close()
    assert found.opened == [], "something is left open"
    return found


def test_the_reader_refuses_what_is_not_well_formed():
    read('<div class="a"><img src="x" alt=""><p>a &lt; b</p></div>')
    for wrong in (
        "<div>",
        "<div></p></div>",
        "</div>",
        "<div/>",
        '<p a="1" a="2"></p>',
        "<script></script>",
        '<img src="x" onerror="alert(1)">',
        '<img alt="said "twice"">',
    ):
        with pytest.raises(AssertionError):
            read(wrong)


@pytest.mark.parametrize("language", i18n.LANGUAGES)
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.thorough
def test_every_state_of_a_run_is_well_formed_and_every_picture_described(
    previews: dict[str, Any], name: str, language: str
):
    product = product_of(name)
    for preview in (previews[name][0], previews[name][-1]):
        found = results.updates(product, preview, language)
        for key in KEYS if preview.finished else KEYS[:-1]:
            page = read(found[key])
            assert page.elements, key
            assert all(e.attributes.get("alt", "").strip() for e in page.all("img")), key
            assert all(
                e.attributes["aria-label"].strip()
                for e in page.elements
                if "role" in e.attributes and e.attributes["role"] == "img"
            ), key


@pytest.mark.parametrize("language", i18n.LANGUAGES)
@pytest.mark.parametrize("name", ["text", "all words"])
def test_what_a_visitor_writes_is_text_wherever_it_is_shown(
    previews: dict[str, Any], name: str, language: str
):
    # Longer than the CLIP reads, hence drawn with other words.
    drawn = previews[name][-1]
    negative = drawn.settings.negative_prompt and f"{HOSTILE}:0.5"
    settings = dataclasses.replace(drawn.settings, prompt=HOSTILE, negative_prompt=negative)
    assert validate(settings).prompt == HOSTILE
    preview = dataclasses.replace(drawn, settings=settings)
    found = results.updates(text.PRODUCT, preview, language)
    for key in KEYS:
        assert "<script" not in found[key]
        assert "<img src=x" not in found[key]
        read(found[key])
    wishes = [e.attributes["alt"] for e in read(found["pictures"]).all("img")][::2]
    assert all(HOSTILE in wish for wish in wishes), "and it is read out as it was written"


def test_words_that_the_clip_does_not_know_are_text_too(previews: dict[str, Any]):
    preview = dataclasses.replace(previews["text"][-1], unseen_words=[HOSTILE, "quxling"])
    page = read(results.updates(text.PRODUCT, preview, "en")["scores"])
    (unseen,) = page.all("p", class_="unseen")
    assert HOSTILE in unseen.text
    assert "quxling" in unseen.text


@pytest.mark.parametrize(
    ("language", "sentence"),
    [
        ("en", "clip-small learned English; it cannot read these words: 雪景, снег"),
        ("zh", "clip-small 只学过英文，读不懂这些词：雪景、снег"),
    ],
)
def test_words_that_the_clip_cannot_read_have_a_sentence_of_their_own(
    previews: dict[str, Any], language: str, sentence: str
):
    words = ["雪景", "quxling", "снег"]
    preview = dataclasses.replace(previews["text"][-1], unseen_words=words)
    page = read(results.updates(text.PRODUCT, preview, language)["scores"])
    unreadable, unseen = page.all("p", class_="unseen")
    assert unreadable.text == sentence
    assert "quxling" in unseen.text
    assert "雪景" not in unseen.text


def test_the_name_of_a_model_is_text(previews: dict[str, Any]):
    preview = dataclasses.replace(previews["color"][-1], model=HOSTILE)
    (status,) = read(results.updates(color.PRODUCT, preview, "en")["status"]).all("p")
    assert HOSTILE in status.text


# --- pairs of pictures ---------------------------------------------------------------------------


def picture_in(address: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))


@pytest.mark.parametrize("name", ["color", "text", "digits"])
def test_each_guided_picture_lies_under_the_unguided_one_of_the_same_seed(
    previews: dict[str, Any], name: str
):
    for preview in previews[name]:
        page = read(results.tiles(product_of(name), preview, "en"))
        shown = [picture_in(e.attributes["src"]).tobytes() for e in page.all("img")]
        assert shown[::2] == [p.tobytes() for p in preview.pictures]
        assert shown[1::2] == [p.tobytes() for p in preview.unguided]
        before = [e.attributes.get("class") for e in page.all("img")]
        assert before == [None, "before"] * len(preview.pictures)
        assert len(page.all("div", class_="pair")) == len(preview.pictures)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("region", ["Picture guided towards #44CCAA in its part left"]),
        ("palette", ["Picture guided towards the palette #102040 60, #FFD700 40"]),
        ("digits", [f"Handwritten digit {d}" for d in "007"]),
        ("blend", ["Handwritten digit 1 blended with 7"]),
    ],
)
def test_a_picture_says_what_was_wished_for(name: str, expected: list[str]):
    found = results.alt_texts_of(product_of(name), validate(SETTINGS[name]), "en")
    assert found == expected


def columns_of(count: int, product: Product) -> int:
    pictures = [Image.new("L", (4, 4))] * count
    (pairs,) = read(results.pairs(product, pictures, pictures, ["a"] * count, "en")).all(
        "div", class_="pairs"
    )
    return int(pairs.attributes["style"].partition("--columns: ")[2])


@pytest.mark.parametrize(
    ("product", "counts"),
    [
        (color.PRODUCT, {1: 1, 2: 2, 3: 2, 4: 2, 5: 3, 8: 3}),
        (digits.PRODUCT, {1: 1, 4: 4, 10: 5, 11: 8, 64: 8}),
    ],
    ids=["paintings", "digits"],
)
def test_few_pictures_are_large_and_many_small(product: Product, counts: dict[int, int]):
    assert {count: columns_of(count, product) for count in counts} == counts


def test_only_digits_are_shown_with_crisp_pixels():
    pictures = [Image.new("L", (4, 4))]
    crisp = {
        name: bool(
            read(results.pairs(p, pictures, pictures, ["a"], "en")).all("div", class_="crisp")
        )
        for name, p in PRODUCTS.items()
    }
    assert crisp == {"color": False, "text": False, "digits": True, "edit": False}


def test_a_picture_too_many_is_a_mistake_and_not_left_out():
    picture = Image.new("L", (4, 4))
    with pytest.raises(ValueError, match="zip"):
        results.pairs(color.PRODUCT, [picture] * 2, [picture], ["a"] * 2, "en")


@pytest.mark.parametrize("language", i18n.LANGUAGES)
def test_before_the_first_run_there_is_noise_with_a_name(language: str):
    for html, count in (
        (results.starting_noise(color.PRODUCT), 1),
        (results.starting_noise(text.PRODUCT), 1),
        (results.starting_noise(digits.PRODUCT), 10),
    ):
        found = read(html).all("img")
        assert len(found) == 2 * count
        assert all(e.attributes["alt"] for e in found)


# --- plots ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.thorough
def test_there_is_a_plot_of_nearness_and_one_of_the_gradient(previews: dict[str, Any], name: str):
    preview = previews[name][-1]
    page = read(results.plots(product_of(name), preview, "en"))
    assert len(page.all("figure", class_="chart")) == 2
    near, gradient = (e.attributes["aria-label"] for e in page.all("svg"))
    curve = product_of(name).curve(preview)
    label = product_of(name).texts[curve.label]
    assert near.startswith(f"{label} per step: guided from {curve.guided[0]:.3g} to ")
    assert near.endswith(f"unguided from {curve.unguided[0]:.3g} to {curve.unguided[-1]:.3g}")
    first = products.mean(preview.history.gradients[0])
    assert f"gradient from {first:.3g} to " in gradient
    assert len(curve.guided) == len(curve.unguided) == preview.total_steps


def test_where_nothing_is_guided_the_gradient_has_no_line_and_says_so(tiny_checkpoints: Path):
    *_, last = color.PRODUCT.run(ColorSettings(guidance_scale=0, num_inference_steps=3))
    page = read(results.plots(color.PRODUCT, last, "en"))
    assert page.all("svg")[1].attributes["aria-label"].endswith("per step: nothing yet")


def test_without_unguided_pictures_there_is_one_line(tiny_checkpoints: Path):
    *_, last = color.PRODUCT.run(ColorSettings(num_inference_steps=3), compare=False)
    page = read(results.plots(color.PRODUCT, last, "en"))
    assert [e.text for e in page.all("span")] == ["guided", "gradient"]


def test_the_mean_of_nothing_is_no_number():
    assert products.mean([1.0, 2.0]) == 1.5
    assert products.mean([]) != products.mean([])


# --- look inside ---------------------------------------------------------------------------------


def addresses(page: Reader) -> list[str]:
    return [
        found[1]
        for e in page.all("div", class_="moment")
        if (found := re.search(r"url\(([^)]*)\)", e.attributes["style"]))
    ]


@pytest.mark.parametrize("name", ["color", "text", "digits", "long", "many"])
@pytest.mark.thorough
def test_the_filmstrip_has_a_strip_per_kind_and_picture_with_a_frame_per_moment(
    previews: dict[str, Any], name: str
):
    preview = previews[name][-1]
    moments, count = preview.history.moments, len(preview.pictures)
    page = read(filmstrip.filmstrip(preview, "en", crisp=False))
    strips = addresses(page)
    assert len(strips) == len(filmstrip.KINDS) * count
    side = preview.pictures[0].width
    for address in set(strips):
        strip = picture_in(address)
        assert (strip.format, strip.size) == ("WEBP", (side * len(moments), side))
    assert len(page.all("button", class_="frame")) == count * len(moments)
    assert len(page.all("div", class_="of-picture")) == count
    hidden = ["hidden" in e.attributes for e in page.all("div", class_="of-picture")]
    assert hidden == [False] + [True] * (count - 1)
    (whole,) = page.all("div", class_="inside")
    labels = json.loads(whole.attributes["data-labels"])
    assert len(labels) == len(moments)
    assert labels[0] == f"Step 1 of {preview.total_steps}, t = {moments[0].t}"
    assert f"--count: {len(moments)};" in whole.attributes["style"]
    (scrub,) = page.all("input", type="range")
    assert (scrub.attributes["min"], scrub.attributes["max"]) == ("0", str(len(moments) - 1))
    (output,) = page.all("output")
    assert output.text == labels[int(scrub.attributes["value"])]
    assert [e.text for e in page.all("option")] == (
        [f"Picture {i + 1}" for i in range(count)] if count > 1 else []
    )


def test_the_strips_show_the_moments_in_their_order(previews: dict[str, Any]):
    preview = previews["digits"][-1]
    strips = addresses(read(filmstrip.filmstrip(preview, "en", crisp=True)))
    for number, moments in enumerate([strips[i : i + 3] for i in range(0, len(strips), 3)]):
        for kind, address in zip(filmstrip.KINDS, moments, strict=True):
            strip, side = picture_in(address).convert("RGB"), 28
            for at, moment in enumerate(preview.history.moments):
                seen = strip.crop((at * side, 0, (at + 1) * side, side))
                expected = getattr(moment, kind)[number].convert("RGB")
                away = images.to_tensor(seen) - images.to_tensor(expected)
                assert away.abs().mean() < 0.15


def test_a_short_run_can_be_looked_into_too(tiny_checkpoints: Path):
    *_, last = digits.PRODUCT.run(DigitsSettings(digits="1", num_inference_steps=1))
    page = read(filmstrip.filmstrip(last, "en", crisp=True))
    (scrub,) = page.all("input", type="range")
    assert scrub.attributes["max"] == scrub.attributes["value"] == "0"


def test_while_a_run_goes_on_there_is_nothing_to_look_into(tiny_checkpoints: Path):
    first = next(digits.PRODUCT.run(DigitsSettings(digits="1")))
    assert filmstrip.filmstrip(first, "en", crisp=True) == ""


def test_the_legend_says_how_much_was_changed_at_most_or_that_nothing_was(
    previews: dict[str, Any], tiny_checkpoints: Path
):
    guided_run = previews["color"][-1]
    (legend,) = read(filmstrip.filmstrip(guided_run, "en", crisp=False)).all("p", class_="legend")
    assert f"{100 * guided_run.history.largest_change:.0f} % of the range" in legend.text
    *_, plain = color.PRODUCT.run(ColorSettings(guidance_scale=0, num_inference_steps=2))
    (legend,) = read(filmstrip.filmstrip(plain, "en", crisp=False)).all("p", class_="legend")
    assert legend.text == "Guidance changed nothing in this run."


# --- what a run leaves, and the order of everything ----------------------------------------------


def names() -> list[str]:
    return [f.name for f in dataclasses.fields(ResultComponents)]


@pytest.mark.parametrize("name", ["color", "text", "digits"])
def test_a_finished_run_fills_every_component_and_one_that_goes_on_the_first(
    previews: dict[str, Any], name: str
):
    product = product_of(name)
    first, last = (results.updates(product, previews[name][i], "en") for i in (0, -1))
    assert set(last) == set(first) == set(names())
    assert (first["filmstrip"], first["link"]) == ("", "")
    assert not first["download"]["interactive"]
    assert not first["animation"]["interactive"]


def test_updates_are_in_the_order_of_the_components_and_cover_every_one():
    marked = {name: f"of {name}" for name in names()}
    assert results.in_output_order(marked) == [f"of {name}" for name in names()]
    skipped = results.in_output_order({"status": "s"})
    assert len(skipped) == len(names())
    assert [i for i, u in enumerate(skipped) if u == "s"] == [names().index("status")]
    assert all(u == "s" or u["__type__"] == "update" for u in skipped)
    for found in (results.start_updates("en"), results.failure_updates("en")):
        assert set(found) <= set(names())
    shown = ResultComponents(*(f"component {name}" for name in names()))  # type: ignore[arg-type]
    assert shown.outputs() == [f"component {name}" for name in names()]


def test_a_run_that_begins_leaves_the_last_one_until_there_is_a_picture():
    assert set(results.start_updates("en")) == {"status"}


@pytest.mark.parametrize("name", ["color", "text", "digits", "palette"])
def test_the_saved_sheet_brings_its_run_back_and_says_what_was_reached(
    previews: dict[str, Any], name: str
):
    product, last = product_of(name), previews[name][-1]
    found = results.updates(product, last, "en")
    path = found["download"]["value"]
    back = provenance.read(path["path"] if isinstance(path, dict) else path)
    assert back.settings == last.settings
    assert back.facts["score_after"] == product.facts(last)["score_after"]
    animated = found["animation"]["value"]
    moving = Image.open(animated["path"] if isinstance(animated, dict) else animated)
    assert (moving.format, moving.info["loop"]) == ("WEBP", 0)
    linked = provenance.from_query(dict(pair.split("=") for pair in found["link"].split("&")[:1]))
    assert linked is not None
    assert linked.tab == product.name


def test_a_run_that_holds_a_picture_has_a_mark_in_place_of_a_link(tiny_checkpoints: Path):
    noisy = images.to_data_uri(Image.effect_noise((100, 100), 80))
    *_, last = text.PRODUCT.run(TextSettings(image_prompt=noisy, num_inference_steps=1))
    assert results.updates(text.PRODUCT, last, "en")["link"] == results.TOO_LONG


def test_a_status_of_ones_own_stands_in_place_of_the_usual_one(previews: dict[str, Any]):
    found = results.updates(digits.PRODUCT, previews["digits"][-1], "en", status="<p>mine</p>")
    assert found["status"] == "<p>mine</p>"


@pytest.mark.usefixtures("tiny_checkpoints")
def test_finished_runs_that_are_compared_teach_how_long_the_next_takes():
    settings = validate(DigitsSettings(digits="12", num_inference_steps=3))
    work = digits.PRODUCT.work(settings)
    stream = digits.PRODUCT.run(settings)
    next(stream)
    assert timing.estimator.estimate(work) is None, "one that goes on teaches nothing yet"
    *_, last = stream
    assert timing.estimator.estimate(work) == pytest.approx(last.seconds)
