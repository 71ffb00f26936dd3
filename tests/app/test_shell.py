"""What every tab is made of: controls and settings there and back, estimates, runs brought back."""

from __future__ import annotations

import dataclasses
import html
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from pipelines.core import images
from pipelines.core.rules import SettingsError, is_picture, validate
from pipelines.models import checkpoints
from pipelines.products import PRODUCTS, color
from pipelines.products import color as color_tab
from pipelines.products import digits as digits_tab
from pipelines.products import text as text_tab
from pipelines.products.settings import ColorSettings, DigitsSettings, TextSettings
from pipelines.runs import provenance, sweep, timing
from pipelines.runs.provenance import Record
from tabs import common, controls, examples, i18n, page, shell
from tabs.common import status_line, translated_status
from tabs.latest_run import new_token, runs
from tabs.tab import (
    Tab,
    estimate_of,
    example_status,
    names_without_pictures,
    restore_run,
    settings_of,
)
from tests.unit.test_provenance import RUNS, WITH_PICTURES

GREY = images.to_data_uri(Image.new("L", (64, 64), 128))
ALL = RUNS | {f"{name}, picture": settings for name, settings in WITH_PICTURES.items()}


def product_of(settings: Any) -> Any:
    return PRODUCTS[provenance.tab_of(settings)]


@pytest.fixture(autouse=True)
def _fresh_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "estimator", timing.Estimator())


@dataclasses.dataclass(frozen=True)
class Built:
    """The tabs inside a page."""

    demo: gr.Blocks
    head: page.Header
    row: gr.Tabs
    tabs: dict[str, Tab]

    def event(self, name: str) -> Any:
        """The function behind an event of the page."""
        (found,) = [f for f in self.demo.fns.values() if f.name == name]
        return found.fn

    def opened(self, accepted: str = "en", **query: str) -> dict[Any, Any]:
        """What a visitor finds."""
        request = SimpleNamespace(query_params=query, headers={"accept-language": accepted})
        return self.event("open_page")(request)


@pytest.fixture(scope="module")
def built() -> Built:
    return build_page()


def build_page() -> Built:
    """All tabs inside a page."""
    with gr.Blocks() as demo:
        head = page.build_header("Studio")
        with gr.Tabs() as row:
            tabs = {}
            for name, product in PRODUCTS.items():
                with gr.Tab(id=name):
                    tabs[name] = shell.build(product, head.language)
        page.wire(demo, head, row, tabs)
    return Built(demo, head, row, tabs)


def as_sent(value: Any) -> Any:
    """A value as an event gets it: a picture has become a file, and no picture is empty text."""
    if isinstance(value, Image.Image):
        return Path(common.save_png(value, "upload"))
    return "" if value is None else value


def values_of(tab: Tab, updates: dict[Any, Any]) -> list[Any]:
    """What the controls hold after updates, as the events of the tab are given it."""
    return [as_sent(updates[control]["value"]) for control in tab.inputs()]


def default_values(settings: Any) -> list[Any]:
    names = [f.name for f in dataclasses.fields(settings)]
    return [as_sent(controls.update(settings, name)["value"]) for name in names]


def plain_values(settings: Any) -> list[Any]:
    """The values that events get which take no pictures."""
    return [getattr(settings, name) for name in names_without_pictures(type(settings))]


def text_in(shown: str) -> str:
    """What a person reads in HTML."""
    return html.unescape(re.sub(r"<[^>]*>", "", shown))


def alone(tab: Tab, updates: dict[Any, Any]) -> dict[str, Any]:
    """The updates of controls, by the names of the settings."""
    return {name: updates[control] for name, control in tab.controls.items()}


# --- settings and controls -----------------------------------------------------------------------


@pytest.mark.parametrize("tab", PRODUCTS)
def test_every_setting_has_a_control_and_every_control_is_of_a_setting(built: Built, tab: str):
    fields = dataclasses.fields(PRODUCTS[tab].settings)
    assert set(built.tabs[tab].controls) == {f.name for f in fields}
    assert len(built.tabs[tab].inputs()) == len(fields)


@pytest.mark.parametrize("tab", PRODUCTS)
def test_the_page_begins_with_the_defaults(built: Built, tab: str):
    values = [as_sent(getattr(c, "value", None)) for c in built.tabs[tab].inputs()]
    assert settings_of(PRODUCTS[tab], values) == PRODUCTS[tab].settings()


@pytest.mark.parametrize("name", RUNS)
def test_settings_become_controls_and_these_the_same_settings(built: Built, name: str):
    settings = validate(RUNS[name])
    tab = built.tabs[provenance.tab_of(settings)]
    back = settings_of(product_of(settings), values_of(tab, tab.control_updates(settings)))
    assert validate(back) == settings


def test_a_mask_becomes_a_picture_and_that_the_same_mask():
    settings = validate(WITH_PICTURES["color"])
    update = controls.update(settings, "mask")
    assert isinstance(update["value"], Image.Image)
    back = validate(settings_of(color_tab.PRODUCT, default_values(settings)))
    masks = [color.region_of(s, 64) for s in (settings, back)]
    assert masks[0] is not None
    assert masks[1] is not None
    assert masks[0].equal(masks[1])
    assert back == settings


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1"])
@pytest.mark.parametrize("name", ["color", "text"])
def test_an_uploaded_picture_stays_the_same_once_it_is_a_setting(name: str, mode: str):
    drawn = Image.effect_noise((60, 60), 80).convert("RGBA")
    drawn.paste((255, 255, 255, 0), (0, 0, 20, 60))
    product = PRODUCTS[name]
    field = next(
        f.name for f in dataclasses.fields(product.settings) if is_picture(product.settings, f.name)
    )
    given = [
        as_sent(drawn.convert(mode)) if f.name == field else f.default
        for f in dataclasses.fields(product.settings)
    ]
    first = validate(settings_of(product, given))
    again = validate(settings_of(product, default_values(first)))
    assert getattr(first, field).startswith("data:image/png;base64,")
    assert again == first


def _at(product: Any, field: str) -> int:
    return [f.name for f in dataclasses.fields(product.settings)].index(field)


def test_no_picture_is_an_empty_setting_and_an_empty_control():
    assert controls.update(ColorSettings(), "mask")["value"] is None
    assert settings_of(color_tab.PRODUCT, default_values(ColorSettings())).mask == ""


def test_a_mask_has_the_word_where_a_part_was_chosen_too():
    values = default_values(ColorSettings(region="left"))
    values[_at(color_tab.PRODUCT, "mask")] = as_sent(Image.new("L", (8, 8), 255))
    found = settings_of(color_tab.PRODUCT, values)
    assert found.region == "all"
    assert validate(found).mask


def test_spaces_around_digits_do_not_count():
    values = default_values(DigitsSettings(digits=" 42\n"))
    assert settings_of(digits_tab.PRODUCT, values).digits == "42"


def test_values_too_many_or_too_few_are_a_mistake():
    values = default_values(DigitsSettings())
    for wrong in (values[:-1], [*values, 1]):
        with pytest.raises(ValueError, match="zip"):
            settings_of(digits_tab.PRODUCT, wrong)


@pytest.mark.parametrize("name", ["color", "text"])
def test_an_empty_field_of_a_number_is_refused_by_name(name: str):
    values = default_values(PRODUCTS[name].settings())
    values[_at(PRODUCTS[name], "seed")] = None
    with pytest.raises(SettingsError, match="seed must be"):
        validate(settings_of(PRODUCTS[name], values))


@pytest.mark.parametrize(("method", "most"), [("course", 200), ("balanced", 0.5)])
def test_the_strength_that_is_brought_back_fits_its_slider(built: Built, method: str, most: float):
    settings = ColorSettings(method=method, guidance_scale=0.4 if most < 1 else 40.5)
    tab = built.tabs["color"]
    update = alone(tab, tab.control_updates(settings))["guidance_scale"]
    assert update["value"] == settings.guidance_scale
    assert update["maximum"] == most
    assert update["step"] <= 1


# --- estimates -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        ColorSettings(color="notacolour"),
        ColorSettings(num_inference_steps=0),
        ColorSettings(palette="red 10"),
        ColorSettings(seed=None),  # type: ignore[arg-type]
        TextSettings(prompt="snow | "),
        DigitsSettings(digits="seven"),
        DigitsSettings(digits=""),
        DigitsSettings(eta=0.5),
    ],
    ids=str,
)
def test_nothing_is_estimated_of_wrong_values(wrong: Any):
    assert estimate_of(product_of(wrong), "en", plain_values(wrong)) == ""


def test_a_run_without_words_is_estimated_as_one_with_a_picture():
    timing.estimator.note(text_tab.PRODUCT.work(validate(TextSettings())), 3.0)
    values = plain_values(TextSettings(prompt=""))
    assert estimate_of(text_tab.PRODUCT, "en", values).startswith("About 3 s")


@pytest.mark.parametrize(
    "name", ["update_state", "remove_setting", "translate_page", "estimates", "suggest_values"]
)
def test_events_that_skip_the_queue_take_no_pictures(built: Built, name: str):
    events = [fn for fn in built.demo.fns.values() if fn.name == name]
    assert events
    pictured = {type(block) for fn in events for block in fn.inputs if isinstance(block, gr.Image)}
    assert not pictured


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("tab", PRODUCTS)
def test_there_is_no_estimate_before_the_first_run_and_a_number_after_it(tab: str):
    product = PRODUCTS[tab]
    few: dict[str, Any] = {"num_inference_steps": 2}
    few |= {"image": GREY, "task": "restyle"} if tab == "edit" else {}
    settings = product.settings(**few)
    values = plain_values(settings)
    for language in i18n.LANGUAGES:
        said = estimate_of(product, language, values)
        assert said == i18n.translate(language, "status.no_estimate")
    *_, last = product.run(settings)
    said = estimate_of(product, "en", values)
    number = float(said.removeprefix("About ").removesuffix(" s on this device"))
    assert 0 < number <= 2 * last.seconds
    assert estimate_of(product, "zh", values) != said


def test_the_estimate_is_that_of_the_pace_in_two_digits():
    settings = validate(DigitsSettings(digits="12", num_inference_steps=8))
    work = digits_tab.PRODUCT.work(settings)
    timing.estimator.note(work, 12.3456)
    said = estimate_of(digits_tab.PRODUCT, "en", plain_values(settings))
    assert said == "About 12 s on this device"
    twice = dataclasses.replace(settings, num_inference_steps=16)
    said = estimate_of(digits_tab.PRODUCT, "en", plain_values(twice))
    assert said == "About 25 s on this device"


def test_while_the_device_is_measured_the_page_says_so():
    timing.estimator.measuring = True
    said = estimate_of(digits_tab.PRODUCT, "en", plain_values(DigitsSettings()))
    assert said == i18n.translate("en", "status.measuring")


def test_a_random_seed_can_be_estimated_too():
    timing.estimator.note(digits_tab.PRODUCT.work(validate(DigitsSettings())), 3.0)
    values = plain_values(DigitsSettings(seed=-1))
    assert estimate_of(digits_tab.PRODUCT, "en", values).startswith("About ")


# --- a run brought back --------------------------------------------------------------------------


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("name", ALL)
def test_a_record_is_put_into_the_controls_of_its_tab_alone(built: Built, name: str):
    settings = validate(ALL[name])
    tab = built.tabs[provenance.tab_of(settings)]
    found = restore_run(built.tabs, Record(provenance.tab_of(settings), settings), "en")
    assert set(found) == {*tab.shown_outputs(), tab.result.status}
    back = settings_of(tab.product, values_of(tab, found))
    assert validate(back) == settings


@pytest.mark.usefixtures("tiny_checkpoints")
def test_a_record_of_other_weights_says_that_the_picture_will_differ(built: Built):
    here = checkpoints.load("paintings").revision
    status = built.tabs["color"].result.status

    def said(revision: str) -> str:
        found = Record("color", ColorSettings(), {"paintings": revision} if revision else {})
        return restore_run(built.tabs, found, "en")[status]

    same = status_line(i18n.translate("en", "status.restored"))
    refused = dataclasses.replace(
        Record("color", ColorSettings()), problems=[SettingsError("prompt_missing")]
    )
    partly = status_line(i18n.translate("en", "status.restored_partly"))
    assert restore_run(built.tabs, refused, "en")[status] == partly
    assert said(here) == said("") == same
    assert said(here[:8]) == same, "a shortened one is the same"
    assert (
        "Brought back, but it was drawn with other weights: paintings of revision "
        f"000000000000 (here {here}). Press the button to draw it with those that are here; the "
        "picture will differ.</p>"
    ) in said("0" * 40)


@pytest.mark.usefixtures("tiny_checkpoints")
def test_a_record_of_words_names_the_clip_too(built: Built):
    record = Record("text", TextSettings(), {"paintings": "0" * 12, "clip-small": "1" * 12})
    found = restore_run(built.tabs, record, "en")[built.tabs["text"].result.status]
    assert "paintings of revision 000000000000" in found
    assert "clip-small of revision 111111111111" in found


@pytest.mark.parametrize("language", i18n.LANGUAGES)
def test_an_example_of_other_weights_says_so(language: str, built: Built):
    product = built.tabs["digits"].product
    preview = examples.load(product, examples.names(product)[0])
    drawn = i18n.translate(language, "status.example")
    assert example_status(preview, language) == status_line(drawn)
    older = dataclasses.replace(preview, revision="0" * 12)
    found = example_status(older, language)
    expected = {older.model, "0" * 12, preview.revision}
    assert {text for text in (*expected, "{") if text in text_in(found)} == expected


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize(
    ("axis", "text"),
    [("guidance_scale", "0, 0.2, 0.5"), ("seed", "1-4"), ("method", "fast, course")],
)
def test_a_saved_sweep_brings_its_axes_back_too(built: Built, axis: str, text: str):
    rows = sweep.parse_axis(ColorSettings, axis, text)
    columns = sweep.parse_axis(ColorSettings, "color", "teal; gold")
    facts = {"sweep": {"rows": dataclasses.asdict(rows), "columns": dataclasses.asdict(columns)}}
    panel = built.tabs["color"].sweep
    found = restore_run(built.tabs, Record("color", ColorSettings(), facts=facts), "en")
    assert (found[panel.rows]["value"], found[panel.columns]["value"]) == (axis, "color")
    assert sweep.parse_axis(ColorSettings, axis, found[panel.row_values]["value"]) == rows
    back = sweep.parse_axis(ColorSettings, "color", found[panel.column_values]["value"])
    assert back == columns


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize(
    "saved",
    [
        None,
        7,
        [],
        {},
        {"rows": {}, "columns": {}},
        {"rows": {"name": "nothing", "values": [1]}, "columns": {"name": "seed", "values": [1]}},
        {"rows": {"name": ["seed"], "values": [1]}, "columns": {"name": "seed", "values": [1]}},
        {"rows": {"name": "seed", "values": 7}, "columns": {"name": "seed", "values": [1]}},
        {"rows": {"name": "seed", "values": [[]]}, "columns": {"name": "seed", "values": ["<b>"]}},
    ],
    ids=str,
)
def test_a_sweep_that_is_damaged_is_left_out_and_the_run_brought_back(built: Built, saved: Any):
    found = restore_run(
        built.tabs, Record("color", ColorSettings(seed=5), facts={"sweep": saved}), "en"
    )
    tab = built.tabs["color"]
    assert values_of(tab, found)[_at(tab.product, "seed")] == 5
    assert not set(found) & set(tab.sweep.axes())


# --- what a tab says -----------------------------------------------------------------------------


def test_a_page_that_showed_nothing_is_ready_in_its_language(built: Built):
    tab = built.tabs["color"]
    for language in i18n.LANGUAGES:
        found = tab.translated(language, new_token())
        ready = status_line(i18n.translate(language, "status.ready"))
        assert found[tab.result.status] == translated_status(ready, language)
        assert set(found) == {tab.explanation, tab.examples, tab.result.status}


@pytest.mark.usefixtures("tiny_checkpoints")
def test_what_a_page_shows_is_said_anew_in_another_language(built: Built):
    tab = built.tabs["digits"]
    *_, last = tab.product.run(DigitsSettings(digits="7", num_inference_steps=2))
    token = runs.announce("")
    runs.remember(token, last)
    english, chinese = (tab.translated(language, token) for language in ("en", "zh"))
    assert set(english) == {tab.explanation, tab.examples, *tab.result.outputs()}
    assert "Handwritten digit 7" in english[tab.result.pictures]
    assert i18n.translate("zh", "digits.alt", digit="7") in chinese[tab.result.pictures]
    assert english[tab.result.link] == chinese[tab.result.link]


# --- the page around the tabs --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "accepted", "expected"),
    [
        ({}, "", "en"),
        ({}, "zh-CN,zh;q=0.9", "zh"),
        ({"lang": "en"}, "zh-CN", "en"),
        ({"lang": "zh"}, "en-GB", "zh"),
        ({"lang": "klingon"}, "zh", "zh"),
        ({"lang": "<script>"}, "", "en"),
        ({"lang": ""}, "de", "en"),
    ],
)
def test_a_page_speaks_the_language_of_its_address_or_else_of_the_browser(
    built: Built, query: dict[str, str], accepted: str, expected: str
):
    found = built.opened(accepted, **query)
    assert found[built.head.language]["value"] == expected
    assert (len(found) > 1) is (expected != "en"), "English stands there already"


def test_in_another_language_all_that_the_page_says_is_in_it(built: Built):
    found = built.opened("zh")
    spoken = set(i18n.translatable_blocks(built.demo.blocks.values()))
    assert len(spoken) > 80
    assert spoken <= set(found)
    for tab in built.tabs.values():
        assert found[tab.controls["num_inference_steps"]]["label"] == "步数"


def test_a_link_opens_its_tab_with_its_settings(built: Built):
    settings = validate(TextSettings(prompt="ships & snow | people:-0.5", cutouts=3, seed=8))
    query = {"tab": "text", "prompt": settings.prompt, "cutouts": "3", "seed": "8"}
    tab = built.tabs["text"]
    for accepted in ("en", "zh"):
        found = built.opened(accepted, **query)
        assert found[built.row].selected == "text"
        assert settings_of(tab.product, values_of(tab, found)) == settings
    translated = built.opened("zh", **query)[tab.controls["cutouts"]]
    assert (translated["value"], translated["label"]) == (
        3,
        i18n.translate("zh", "setting.cutouts"),
    )


def test_a_link_to_a_tab_that_draws_nothing_opens_that_tab(built: Built):
    found = built.opened(tab="about")
    assert found[built.row].selected == "about"
    assert set(found) == {built.head.language, built.row}


@pytest.mark.parametrize(
    "query",
    [
        {"tab": "magic"},
        {"tab": "<script>alert(1)</script>"},
    ],
    ids=str,
)
def test_a_wrong_link_is_told_on_the_page_and_changes_no_control(
    built: Built, query: dict[str, str]
):
    found = built.opened(**query)
    said = found[built.head.notice]
    assert said.startswith('<p role="alert">')
    assert text_in(said).startswith("The link could not be followed. ")
    assert "<script" not in said
    controls = {c for tab in built.tabs.values() for c in tab.inputs()}
    assert not controls & set(found)


@pytest.mark.parametrize(
    ("query", "told", "used"),
    [
        (
            {"tab": "color", "color": "notacolour", "seed": "7", "foo": "1"},
            [
                "“Colour” must be a colour such as #44CCAA, rgb(68, 204, 170) or teal, "
                "got 'notacolour'",
                "This link sets 'foo', which is not known here.",
                "The rest of this link is used.",
            ],
            {"seed": 7, "color": "#44CCAA"},
        ),
        (
            {"tab": "digits", "eta": "0.5", "digits": "42", "utm_source": "x", "fbclid": "y"},
            [
                "“eta” must be 0 unless “Solver” is ddim, got 0.5",
                "The rest of this link is used.",
            ],
            {"eta": 0.0, "digits": "42"},
        ),
        (
            {"tab": "text", "prompt": "|", "num_images": "99", "cutouts": "3"},
            [
                "“Prompt” must be words before and after every |, got nothing",
                "“Pictures” must be a whole number from 1 to 8, got 99",
                "The rest of this link is used.",
            ],
            {"cutouts": 3, "num_images": 1},
        ),
        (
            {"tab": "color", "colr": "red"},
            ["This link sets 'colr', which is not known here."],
            {"color": "#44CCAA"},
        ),
        ({"tab": "color", "__theme": "dark", "view": "api", "lang": "en", "seed": "3"}, [], {}),
        ({"tab": "color", **dict.fromkeys("abcdefg", "1")}, 6 * [""], {}),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_what_is_wrong_in_a_link_is_told_and_the_rest_is_used(
    built: Built, query: dict[str, str], told: list[str], used: dict[str, Any]
):
    found = built.opened("en", **query)
    notice = found.get(built.head.notice, "")
    lines = [text_in(line) for line in notice.split("<br>")] if notice else [""]
    assert lines == told if told and told[0] else len(lines) == max(1, len(told))
    tab = built.tabs[query["tab"]]
    settings = settings_of(tab.product, values_of(tab, found))
    assert {name: getattr(settings, name) for name in used} == used


def test_names_in_a_link_without_a_tab_are_told_too(built: Built):
    assert "'foo'" in built.opened("en", foo="1")[built.head.notice]
    chinese = built.opened("zh", foo="<b>")[built.head.notice]
    assert "此链接设置了 'foo'" in chinese
    assert built.head.notice not in built.opened("en", utm_campaign="x", gclid="y", run="z")


def test_all_that_events_of_the_page_answer_is_among_their_outputs(built: Built):
    """Or Gradio refuses the whole answer, and only when a visitor comes."""
    opened = built.opened("zh", tab="color", seed="7")
    for event in ("open_page", "translate_page", "open_picture"):
        (block,) = [f for f in built.demo.fns.values() if f.name == event]
        assert set(opened) <= set(block.outputs)
        sweeps = {c for tab in built.tabs.values() for c in tab.sweep.axes()}
        assert sweeps <= set(block.outputs)
        assert len(block.outputs) == len(set(block.outputs))


@pytest.mark.usefixtures("tiny_checkpoints")
def test_a_saved_picture_is_opened_in_its_tab_and_another_file_is_told_about(
    built: Built, tmp_path: Any
):
    *_, last = color_tab.PRODUCT.run(ColorSettings(color="#102030", num_inference_steps=1))
    path = tmp_path / "saved.png"
    drawn = images.with_metadata(last.pictures[0], color_tab.PRODUCT.metadata(last))
    path.write_bytes(images.to_png(drawn))
    opened = built.event("open_picture")
    found = opened(str(path), "en")
    tab = built.tabs["color"]
    assert settings_of(tab.product, values_of(tab, found)) == last.settings
    assert found[built.row].selected == "color"
    assert found[built.head.notice] == ""
    path.write_bytes(b"no picture")
    for language in i18n.LANGUAGES:
        told = opened(str(path), language)
        assert set(told) == {built.head.notice}
        assert (
            i18n.error_message(language, provenance.RecordError("record_no_png"))
            in told[built.head.notice]
        )
