"""Settings: every malformed value is refused with one sentence that names it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.core import images
from pipelines.core.rules import (
    MAX_SEED,
    SettingsError,
    palette_entries,
    prompt_entries,
    rule,
    show,
    validate,
)
from pipelines.diffusion.methods import TEXT_METHODS
from pipelines.models.table import CLIPS
from pipelines.products.settings import ColorSettings, DigitsSettings, TextSettings


def mask(width: int = 64, height: int = 64, color: Any = 255, mode: str = "L") -> str:
    """A picture of one colour as the setting `mask` takes it."""
    return images.to_data_uri(Image.new(mode, (width, height), color))


def color_settings(**changes: Any) -> ColorSettings:
    return dataclasses.replace(ColorSettings(), **changes)


def text_settings(**changes: Any) -> TextSettings:
    return dataclasses.replace(TextSettings(), **changes)


@pytest.mark.parametrize(
    "settings", [DigitsSettings(), ColorSettings(), TextSettings()], ids=["digits", "color", "text"]
)
def test_the_defaults_are_valid_and_come_back_unchanged(
    settings: DigitsSettings | ColorSettings | TextSettings,
):
    assert validate(settings) == settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("digits", ""),
        ("digits", "12a"),
        ("digits", "１２a"),
        ("digits", "1" * 65),
        ("digits", 12),
        ("digits", None),
        ("cfg_scale", float("nan")),
        ("cfg_scale", float("inf")),
        ("cfg_scale", -0.1),
        ("cfg_scale", 10.1),
        ("cfg_scale", "2"),
        ("cfg_scale", True),
        ("cfg_scale", None),
        ("num_inference_steps", 0),
        ("num_inference_steps", 251),
        ("num_inference_steps", 2.5),
        ("num_inference_steps", float("nan")),
        ("num_inference_steps", float("inf")),
        ("num_inference_steps", "9"),
        ("num_inference_steps", True),
        ("num_inference_steps", [9]),
        ("seed", -2),
        ("seed", 2**70),
        ("seed", MAX_SEED + 1),
        ("seed", 0.5),
        ("conditioning", "Embedding"),
        ("conditioning", 1),
        ("conditioning", ["embedding"]),
        ("blend_with", "12"),
        ("blend_with", "x"),
        ("blend_with", 3),
        ("method", "fast"),
        ("method", "course"),
        ("blend", 1.5),
        ("solver", "euler"),
        ("eta", -1),
    ],
)
def test_a_malformed_value_is_refused_in_one_sentence_naming_it(name: str, value: Any):
    with pytest.raises(SettingsError, match=rf"^{name} must be .+, got .+$") as caught:
        validate(dataclasses.replace(DigitsSettings(), **{name: value}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("digits", "0", "0"),
        ("digits", "２０２４", "2024"),
        ("digits", "9" * 64, "9" * 64),
        ("cfg_scale", 0, 0.0),
        ("cfg_scale", 10, 10.0),
        ("num_inference_steps", 1, 1),
        ("num_inference_steps", 250.0, 250),
        ("seed", MAX_SEED, MAX_SEED),
        ("blend", 1, 1.0),
    ],
)
def test_the_bounds_themselves_are_accepted_in_their_proper_type(name: str, value: Any, kept: Any):
    found = getattr(validate(dataclasses.replace(DigitsSettings(), **{name: value})), name)
    assert found == kept
    assert type(found) is type(kept)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("seed", "−1", -1),
        ("seed", "１２３", 123),
        ("num_inference_steps", "＋２０", 20),
        ("guidance_scale", "０．２", 0.2),
        ("guidance_scale", "0。2", 0.2),
        ("brightness", "–1", -1),
        ("seed", "一二", "一二"),
    ],
)
def test_a_number_of_a_link_is_read_as_keyboards_type_it(name: str, text: str, value: Any):
    assert rule(ColorSettings, name).parse(text) == value


def test_seed_minus_one_draws_a_seed_that_is_reported():
    seeds = {validate(DigitsSettings(seed=-1)).seed for _ in range(4)}
    assert len(seeds) > 1
    assert all(0 <= seed <= MAX_SEED for seed in seeds)


def test_eta_needs_the_solver_that_has_it():
    with pytest.raises(SettingsError, match=r"eta must be 0 unless solver is ddim, got 0\.5"):
        validate(DigitsSettings(eta=0.5))
    assert validate(DigitsSettings(eta=0.5, solver="ddim")).eta == 0.5


def test_an_error_quotes_no_markup_and_stays_short():
    assert "<" not in show("<script>alert(1)</script>")
    assert len(show("x" * 1000)) <= 40
    assert show("") == "nothing"


MALFORMED_COLORS = [
    "",
    " ",
    "#12",
    "#44CCA",
    "#GGGGGG",
    "44CCA",
    "notacolour",
    "rgb(1,2)",
    "rgb(300,0,0)",
    "rgb(-20,0,0)",
    "rgb(nan,0,0)",
    "hsl(0,500%,50%)",
    "red; background: url(//example.org)",
    "<img src=x onerror=alert(1)>",
    "#44CCAA" * 10_000,
    None,
    5,
    True,
    ["#44CCAA"],
    b"#44CCAA",
]


@pytest.mark.parametrize("value", MALFORMED_COLORS, ids=lambda value: repr(value)[:30])
def test_a_malformed_colour_is_refused_in_one_short_sentence_without_markup(value: Any):
    with pytest.raises(SettingsError, match=r"^color must be a colour such as .+, got .+$") as told:
        validate(color_settings(color=value))
    assert len(str(told.value)) < 120
    assert not set("<>\n") & set(str(told.value))


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("#44CCAA", "#44CCAA"),
        ("#4ca", "#44CCAA"),
        (" #44ccaa ", "#44CCAA"),
        ("rgb(68, 204, 170)", "#44CCAA"),
        ("RGB(68,204,170)", "#44CCAA"),
        ("rgba(68.2, 204, 170, 1)", "#44CCAA"),
        ("rgb(100%, 50%, 0%)", "#FF8000"),
        ("hsl(120, 100%, 50%)", "#00FF00"),
        ("TEAL", "#008080"),
        ("＃４４CCAA", "#44CCAA"),
        ("44ccaa", "#44CCAA"),
        ("rgb(68 204 170 / 100%)", "#44CCAA"),
        ("hsl(120deg 100% 50%)", "#00FF00"),
    ],
)
def test_a_colour_in_any_form_becomes_six_hex_digits(value: str, kept: str):
    assert validate(color_settings(color=value)).color == kept


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("guidance_scale", float("nan")),
        ("guidance_scale", float("inf")),
        ("guidance_scale", 1e6),
        ("guidance_scale", -0.1),
        ("guidance_scale", "0.2"),
        ("guidance_scale", None),
        ("guidance_scale", 0.51),
        ("guidance_scale", 40),
        ("num_inference_steps", 0),
        ("num_inference_steps", 251),
        ("num_images", 0),
        ("num_images", 9),
        ("num_images", 1.5),
        ("seed", -2),
        ("seed", 2**70),
        ("model", "digits-embedding"),
        ("model", "../../etc/passwd"),
        ("model", None),
        ("method", "best"),
        ("method", ["fast"]),
        ("loss", "median"),
        ("region", "middle"),
        ("symmetry", True),
        ("brightness", 1.1),
        ("brightness", -1.1),
        ("brightness", float("nan")),
        ("contrast", 0.6),
        ("contrast", "high"),
        ("extras_weight", -0.1),
        ("start", -0.1),
        ("stop", 1.1),
        ("every", 0),
        ("every", 11),
        ("repeats", 5),
        ("repeats", -1),
        ("eta", 1.1),
        ("eta", -2),
    ],
)
def test_a_malformed_value_of_a_colour_run_is_refused_naming_it(name: str, value: Any):
    with pytest.raises(SettingsError, match=rf"^{name} must be .+, got .+$"):
        validate(color_settings(**{name: value}))


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("guidance_scale", 0, 0.0),
        ("guidance_scale", 0.5, 0.5),
        ("num_images", 8.0, 8),
        ("brightness", 0, 0.0),
        ("brightness", -1, -1.0),
        ("brightness", -0.35, -1.0),
        ("contrast", 0.5, 0.5),
        ("eta", 0, 0.0),
        ("repeats", 4, 4),
        ("palette", "  ", ""),
    ],
)
def test_the_bounds_of_a_colour_run_are_accepted_in_their_proper_type(
    name: str, value: Any, kept: Any
):
    found = getattr(validate(color_settings(**{name: value})), name)
    assert found == kept
    assert type(found) is type(kept)


def test_the_scale_of_the_course_goes_further_than_ours():
    assert validate(color_settings(method="course", guidance_scale=40)).guidance_scale == 40
    with pytest.raises(SettingsError, match=r"guidance_scale must be .+ to 1000, got 1001"):
        validate(color_settings(method="course", guidance_scale=1001))


@pytest.mark.parametrize(
    ("palette", "came"),
    [
        ("#102040 60, gold 30", "got 90"),
        ("#102040 60, gold 60", "got 120"),
        ("red, green, blue, gold, teal, pink", "got 6"),
        ("red 20, green", "got 1 of 2"),
        ("red -5, blue 105", "got 'red -5'"),
        ("red 0, blue 100", "got 'red 0'"),
        ("red 150", "got 'red 150'"),
        ("red 50, notacolour 50", "got 'notacolour'"),
        ("rgb(300, 0, 0) 50, red 50", r"got 'rgb\(300, 0, 0\)'"),
        ("60", "got '60'"),
        ("<b>red</b> 100", r"got '\?b\?red"),
        ("red," * 200, "got 'red,red,"),
        ("," * 1_000_000, "got ',,,"),
        (None, "got None"),
        (7, "got 7"),
        (["red"], "got "),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_malformed_palette_is_refused_in_one_sentence(palette: Any, came: str):
    with pytest.raises(SettingsError, match=rf"^palette must be .+, {came}") as told:
        validate(color_settings(palette=palette))
    assert not set("<>\n") & set(str(told.value))


@pytest.mark.parametrize(
    ("palette", "kept"),
    [
        ("#102040 60, gold 40", "#102040 60, #FFD700 40"),
        ("#102040 60%; gold 40 %", "#102040 60, #FFD700 40"),
        ("rgb(16, 32, 64) 62.5, rgba(255, 215, 0, 1) 37.5", "#102040 62.5, #FFD700 37.5"),
        ("teal", "#008080 100"),
        ("#102040 60%，gold 40%", "#102040 60, #FFD700 40"),
        ("#102040:60, gold : 40%", "#102040 60, #FFD700 40"),
        ("＃１０２０４０ ６０％、ｇｏｌｄ：４０", "#102040 60, #FFD700 40"),
        ("102040 60；gold 40", "#102040 60, #FFD700 40"),
        ("red 50\nblue 50", "#FF0000 50, #0000FF 50"),
        ("rgb(1，2，3)50, hsl(0deg 100% 50% / 1):50", "#010203 50, #FF0000 50"),
        ("lab(100 0 0) 50, rgb(10% 20% 30%) 50%", "#FFFFFF 50, #1A334D 50"),
        ("red, blue,", "#FF0000 50, #0000FF 50"),
        ("rgb(1, 2, 3), hsl(0, 100%, 50%)", "#010203 50, #FF0000 50"),
        ("red 33.3, blue 33.3, lime 33.3", "#FF0000 33.3, #0000FF 33.3, #00FF00 33.3"),
    ],
)
def test_a_palette_becomes_hex_colours_and_shares_and_stays_valid(palette: str, kept: str):
    checked = validate(color_settings(palette=palette))
    assert checked.palette == kept
    assert validate(checked) == checked


def test_the_shares_of_a_palette_add_up_to_1():
    assert palette_entries("#FF0000 60, #0000FF 40") == [("#FF0000", 0.6), ("#0000FF", 0.4)]
    thirds = palette_entries(validate(color_settings(palette="red, blue, lime")).palette)
    assert sum(share for _, share in thirds) == pytest.approx(1)
    assert palette_entries("") == []


@pytest.mark.parametrize(
    ("value", "came"),
    [
        ("white", "got 'white'"),
        ("https://example.org/mask.png", "got 'https"),
        ("data:image/png;base64,@@@@", "got 'data"),
        ("data:image/png;base64,AAAA", "got 'data"),
        (mask()[:90], "got 'data"),
        (None, "got None"),
        (7, "got 7"),
        (b"data:image/png;base64,", "got a file that cannot be read"),
        ({"path": "/etc/passwd"}, "got {'path'"),
        (Path("/etc/passwd"), "got a file that cannot be read"),
        (Path("/no/such/file"), "got a file that cannot be read"),
        (mask(64, 32), "got 64 x 32 px"),
        (mask(5000, 5000), "got 5000 x 5000 px"),
        (mask(color=0), "got one that is wholly black"),
        (mask(color=(255, 255, 255, 0), mode="RGBA"), "got one that is wholly black"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_malformed_mask_is_refused_in_one_sentence(value: Any, came: str):
    with pytest.raises(SettingsError, match=rf"^mask must be .+, {came}") as told:
        validate(color_settings(mask=value))
    assert len(str(told.value)) < 150


@pytest.mark.parametrize(
    "value", [mask(), mask(256, 256), mask(1, 1), mask(mode="LA", color=(255, 199))]
)
def test_a_square_mask_with_a_white_part_is_accepted_as_it_is(value: str):
    assert validate(color_settings(mask=value)).mask == value


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"start": 0.6, "stop": 0.5}, r"start must be at most stop, 0\.5, got 0\.6"),
        (
            {"mask": mask(), "region": "left"},
            "region must be all when mask is given, got left",
        ),
        ({"loss": "pixels", "region": "left"}, "loss must be mean with .+, got pixels"),
        ({"loss": "pixels", "mask": mask()}, "loss must be mean with .+, got pixels"),
        ({"loss": "pixels", "palette": "red"}, "loss must be mean with .+, got pixels"),
        ({"method": "fast", "eta": 0.5}, r"eta must be 0 or -1 when .+, got 0\.5"),
        ({"method": "fast", "repeats": 2}, "repeats must be 0 or 1 when .+, got 2"),
        ({"method": "course", "region": "top"}, "region must be left .+, got top"),
        ({"method": "course", "mask": mask()}, "mask must be left .+, got 'data:"),
        ({"method": "course", "palette": "red"}, "palette must be left .+, got '#FF0000 100'"),
        ({"method": "course", "brightness": 0.5}, r"brightness must be left .+, got 0\.5"),
        ({"method": "course", "contrast": 0.1}, r"contrast must be left .+, got 0\.1"),
        ({"method": "course", "symmetry": "left-right"}, "symmetry must be left .+, got left-"),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, Any], sentence: str):
    with pytest.raises(SettingsError, match=rf"^{sentence}"):
        validate(color_settings(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"start": 0.5, "stop": 0.5},
        {"mask": mask(), "palette": "red 50, blue 50"},
        {"method": "fast", "eta": 0, "repeats": 1},
        {"method": "course", "loss": "pixels", "guidance_scale": 0},
        {"loss": "pixels", "symmetry": "top-bottom", "brightness": 0.5, "contrast": 0.2},
    ],
    ids=lambda changes: ", ".join(changes),
)
def test_settings_that_agree_are_accepted(changes: dict[str, Any]):
    validate(color_settings(**changes))


@pytest.mark.parametrize(
    ("prompt", "kept", "entries"),
    [
        ("snow", "snow", [("snow", 1.0)]),
        ("snow:1", "snow", [("snow", 1.0)]),
        ("snow:1 | people:-0.5", "snow | people:-0.5", [("snow", 1.0), ("people", -0.5)]),
        (
            "  deep \n snow : 2.50|trees:+1",
            "deep snow:2.5 | trees",
            [("deep snow", 2.5), ("trees", 1)],
        ),
        ("snow:5 | rain:-5", "snow:5 | rain:-5", [("snow", 5.0), ("rain", -5.0)]),
        ("snow:0.001", "snow:0.001", [("snow", 0.001)]),
        ("снег 雪", "снег 雪", [("снег 雪", 1.0)]),
        ("it's 7", "it's 7", [("it's 7", 1.0)]),
        ("time 12:30 clock", "time 12:30 clock", [("time 12:30 clock", 1.0)]),
        ("time 12:30:1", "time 12:30:1", [("time 12:30", 1.0)]),
        ("dawn: a field", "dawn: a field", [("dawn: a field", 1.0)]),
        ("a|b|c|d|e|f|g|h", "a | b | c | d | e | f | g | h", [(c, 1.0) for c in "abcdefgh"]),
        ("x" * 500, "x" * 500, [("x" * 500, 1.0)]),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_prompt_becomes_sentences_and_weights_and_stays_valid(
    prompt: str, kept: str, entries: list[tuple[str, float]]
):
    for name in ("prompt", "negative_prompt"):
        checked = validate(text_settings(**{name: prompt}))
        assert getattr(checked, name) == kept
        assert prompt_entries(kept) == entries
        assert validate(checked) == checked


@pytest.mark.parametrize("prompt", ["", "  ", "\n\t "])
def test_a_negative_prompt_may_be_empty(prompt: str):
    assert validate(text_settings(negative_prompt=prompt)).negative_prompt == ""
    assert prompt_entries("") == []


@pytest.mark.parametrize(
    ("prompt", "came"),
    [
        ("snow:0", "got 'snow:0'"),
        ("snow:-0.0", "got 'snow:-0.0'"),
        ("snow:0.00001", "got 'snow:0.00001'"),
        ("snow:0." + "0" * 60 + "1", "got 'snow:0.000"),
        ("snow:5.1", "got 'snow:5.1'"),
        ("rain | snow:-6", "got ' snow:-6'"),
        ("snow:" + "9" * 400, "got 'snow:999"),
        ("snow | ", "got ' '"),
        ("|", "got nothing"),
        ("snow || rain", "got nothing"),
        ("snow | :2", "got ' :2'"),
        ("!?", "got '![?]'"),
        ("snow | ...", "got ' [.]{3}'"),
        ("<!-->", "got '[?]!--[?]'"),
        ("a|b|c|d|e|f|g|h|i", "got 9"),
        ("|" * 100, "got 101"),
        ("x" * 501, "got 501 characters"),
        (" x" * 501, "got 501 characters"),
        ("snow" * 1_000_000, "got 4000000 characters"),
        (None, "got None"),
        (7, "got 7"),
        (True, "got True"),
        (b"snow", "got b'snow'"),
        (["snow"], "got "),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_malformed_prompt_is_refused_in_one_sentence(prompt: Any, came: str):
    for name in ("prompt", "negative_prompt"):
        with pytest.raises(SettingsError, match=rf"^{name} must be .+, {came}") as told:
            validate(text_settings(**{name: prompt}))
        assert len(str(told.value)) < 150
        assert not set("<>\n") & set(str(told.value))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("guidance_scale", float("nan")),
        ("guidance_scale", float("inf")),
        ("guidance_scale", 1e6),
        ("guidance_scale", -0.1),
        ("guidance_scale", 0.51),
        ("guidance_scale", "0.2"),
        ("num_inference_steps", 0),
        ("num_inference_steps", 251),
        ("num_images", 9),
        ("seed", 2**70),
        ("model", "digits-embedding"),
        ("model", "clip-small"),
        ("method", "best"),
        ("clip_model", "ViT-L-14"),
        ("clip_model", "paintings"),
        ("clip_model", "../clip-small"),
        ("clip_model", None),
        ("image_weight", -1),
        ("image_weight", 5.1),
        ("image_weight", float("nan")),
        ("color", "notacolour"),
        ("color", "#12"),
        ("color", "rgb(300, 0, 0)"),
        ("color", None),
        ("color", 7),
        ("color", ["teal"]),
        ("color_weight", 1.1),
        ("color_weight", -0.1),
        ("cutouts", 0),
        ("cutouts", 17),
        ("cutouts", 2.5),
        ("start", -0.1),
        ("stop", 1.1),
        ("every", 0),
        ("every", 11),
        ("repeats", 5),
        ("eta", 1.1),
        ("eta", "0"),
    ],
)
def test_a_malformed_value_of_a_text_run_is_refused_naming_it(name: str, value: Any):
    with pytest.raises(SettingsError, match=rf"^{name} must be .+, got .+$") as told:
        validate(text_settings(**{name: value}))
    assert len(str(told.value)) < 200


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("guidance_scale", 0, 0.0),
        ("guidance_scale", 0.5, 0.5),
        ("cutouts", 16.0, 16),
        ("image_weight", 5, 5.0),
        ("color_weight", 0, 0.0),
        ("color", "", ""),
        ("color", "  ", ""),
        ("color", "teal", "#008080"),
        ("color", " rgb(68, 204, 170)", "#44CCAA"),
        ("clip_model", "ViT-B-32", "ViT-B-32"),
        ("clip_model", "ViT-B-32-laion", "ViT-B-32-laion"),
        ("eta", -0.5, -1.0),
    ],
)
def test_the_bounds_of_a_text_run_are_accepted_in_their_proper_type(
    name: str, value: Any, kept: Any
):
    found = getattr(validate(text_settings(**{name: value})), name)
    assert found == kept
    assert type(found) is type(kept)


def test_every_clip_and_method_that_settings_offer_there_is():
    assert rule(TextSettings, "clip_model").options == tuple(CLIPS)
    assert rule(TextSettings, "method").options == tuple(TEXT_METHODS)


@pytest.mark.parametrize(
    ("value", "came"),
    [
        ("cat", "got 'cat'"),
        ("https://example.org/cat.png", "got 'https"),
        ("file:///etc/passwd", "got 'file"),
        ("data:image/png;base64,@@@@", "got 'data"),
        ("data:image/png;base64,AAAA", "got 'data"),
        (mask(mode="RGB", color=0)[:90], "got 'data"),
        (" ", "got ' '"),
        (None, "got None"),
        (7, "got 7"),
        (b"data:image/png;base64,", "got a file that cannot be read"),
        (mask(8193, 2), "got 8193 x 2 px"),
        (mask(2, 8193), "got 2 x 8193 px"),
        (mask(5000, 5000), "got 5000 x 5000 px"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_malformed_image_prompt_is_refused_in_one_sentence(value: Any, came: str):
    with pytest.raises(SettingsError, match=rf"^image_prompt must be .+, {came}") as told:
        validate(text_settings(image_prompt=value))
    assert len(str(told.value)) < 160


@pytest.mark.parametrize(
    "value",
    [mask(), mask(64, 32), mask(256, 1), mask(color=0, mode="RGB"), mask(color=0, mode="RGBA")],
    ids=lambda value: value[-30:],
)
def test_an_image_prompt_of_any_shape_and_mode_is_accepted_as_it_is(value: str):
    assert validate(text_settings(image_prompt=value)).image_prompt == value
    assert validate(text_settings(prompt="", image_prompt=value)).prompt == ""


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"prompt": ""}, "prompt must be words .+, got nothing"),
        ({"prompt": " ", "negative_prompt": "people"}, "prompt must be words .+, got nothing"),
        ({"prompt": "", "color": "teal"}, "prompt must be words .+, got nothing"),
        (
            {"prompt": "", "image_prompt": mask(), "image_weight": 0},
            "prompt must be words .+, got nothing",
        ),
        ({"start": 0.6, "stop": 0.5}, r"start must be at most stop, 0\.5, got 0\.6"),
        ({"method": "fast", "eta": 0.5}, r"eta must be 0 or -1 when .+, got 0\.5"),
        ({"method": "fast", "repeats": 2}, "repeats must be 0 or 1 when .+, got 2"),
        ({"method": "course", "color": "teal"}, "color must be left empty .+, got '#008080'"),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)
def test_settings_of_a_text_run_that_contradict_each_other_are_refused(
    changes: dict[str, Any], sentence: str
):
    with pytest.raises(SettingsError, match=rf"^{sentence}$") as told:
        validate(text_settings(**changes))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "", "image_prompt": mask()},
        {"prompt": "snow", "image_prompt": mask(), "image_weight": 0},
        {"prompt": "snow:-1", "negative_prompt": "people:-2"},
        {"start": 0.5, "stop": 0.5},
        {"method": "course", "guidance_scale": 1000, "image_prompt": mask()},
        {"method": "fast", "eta": 0, "repeats": 1, "color": "teal"},
    ],
    ids=lambda changes: ", ".join(changes),
)
def test_settings_of_a_text_run_that_agree_are_accepted(changes: dict[str, Any]):
    validate(text_settings(**changes))


ODD: list[Any] = [
    None,
    True,
    float("nan"),
    float("inf"),
    -float("inf"),
    10**5000,
    -(2**70),
    1e308,
    "",
    "\ud800",
    "a\udfffb",
    "\0\x1b\u202e",
    "x" * 100_000,
    " " * 100_000,
    ":1 " * 30_000,
    [],
    [[[]]],
    {},
    {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
    b"bytes",
    object(),
]


@pytest.mark.parametrize("kind", [ColorSettings, TextSettings, DigitsSettings])
@pytest.mark.parametrize(
    "odd", ODD, ids=lambda value: ascii(value)[:20] if value != 10**5000 else ""
)
def test_whatever_a_setting_is_given_it_accepts_it_or_says_one_sentence(kind: Any, odd: Any):
    for field in dataclasses.fields(kind):
        try:
            checked = validate(kind(**{field.name: odd}))
        except SettingsError as error:
            sentence = str(error)
            assert len(sentence) < 300
            assert sentence.isprintable()
            sentence.encode()
        else:
            json.dumps(dataclasses.asdict(checked), ensure_ascii=False, allow_nan=False).encode()
            assert validate(checked) == checked


def test_control_characters_in_a_prompt_do_not_count():
    assert validate(text_settings(prompt="a\0 red\x1b\x07 heart\n")).prompt == "a red heart"
    with pytest.raises(SettingsError, match=r"^prompt must be valid Unicode, got 'a [?]'$"):
        validate(text_settings(prompt="a \ud800"))


def test_a_prompt_of_endless_spaces_is_refused():
    with pytest.raises(SettingsError, match="got 1000001 characters"):
        validate(text_settings(prompt="a" + " " * 1_000_000))
