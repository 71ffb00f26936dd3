"""What a run leaves behind and how it comes back: pictures, links, refusals, examples."""

from __future__ import annotations

import dataclasses
import io
import json
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import torch
from PIL import Image, PngImagePlugin

from benchmarks.soak.mutations import mutated_pictures
from pipelines.core import errors, images
from pipelines.core.rules import SettingsError, validate
from pipelines.products import PRODUCTS, color, digits, edit, text
from pipelines.products.edit import EditSettings
from pipelines.products.settings import ColorSettings, DigitsSettings, TextSettings
from pipelines.runs import example_files, provenance
from pipelines.runs.provenance import Record, RecordError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
KINDS = {name: product.settings for name, product in PRODUCTS.items()}
GENERATE = {"color": color.generate, "text": text.generate, "digits": digits.generate}
GENERATE |= {"edit": edit.generate}
TABS = "color, text, digits, edit"
PREVIEWS = {"color": color.Preview, "text": text.Preview, "digits": digits.Preview}
PREVIEWS |= {"edit": edit.Preview}


def half_white(size_px: int = 8) -> str:
    """A mask as a data address."""
    picture = Image.new("L", (size_px, size_px))
    picture.paste(255, (0, 0, size_px // 2, size_px))
    return images.to_data_uri(picture)


RUNS: dict[str, Any] = {
    "color": ColorSettings(
        color="#C8452F",
        guidance_scale=0.35,
        num_inference_steps=4,
        num_images=2,
        seed=123456789,
        model="scenes",
        palette="#102040 60, #FFD700 40",
        region="left",
        brightness=0.4,
        contrast=0.14,
        symmetry="top-bottom",
        extras_weight=0.55,
        start=0.15,
        stop=0.85,
        every=2,
        repeats=2,
        eta=0.35,
        timesteps="spaced",
        computed_by="PyTorch bf16",
    ),
    "course": ColorSettings(
        method="course", guidance_scale=40.5, num_inference_steps=3, loss="pixels"
    ),
    "text": TextSettings(
        prompt="ships on the sea:1.5 | snow",
        negative_prompt="people:0.25",
        guidance_scale=0.11,
        num_inference_steps=4,
        num_images=2,
        seed=7,
        model="scenes",
        method="thorough",
        image_weight=2.5,
        color="#D8E2EC",
        color_weight=0.3,
        cutouts=2,
        start=0.05,
        stop=0.95,
        every=3,
        repeats=1,
        eta=0.0,
        tries=2,
        computed_by="PyTorch bf16",
    ),
    "digits": DigitsSettings(
        digits="0077",
        cfg_scale=3.7,
        num_inference_steps=4,
        seed=2**32 - 1,
        conditioning="channels",
        blend_with="0",
        blend=0.35,
        solver="ddim",
        eta=0.65,
        symmetry="top-bottom",
        brightness=0.4,
        contrast=0.2,
        guidance_scale=0.15,
        method="thorough",
        start=0.1,
        stop=0.9,
        computed_by="PyTorch bf16",
        cfg_start=0.2,
        cfg_stop=0.8,
    ),
    "edit": EditSettings(
        image=half_white(64),
        task="sharpen",
        mask=half_white(64),
        strength=0.35,
        crop="0, 0, 64",
        factor=2,
        prompt="ships on the sea:1.5 | snow",
        negative_prompt="people:0.25",
        color="#D8E2EC",
        palette="#102040 60, #FFD700 40",
        symmetry="top-bottom",
        guidance_scale=0.31,
        num_inference_steps=3,
        num_images=2,
        seed=11,
        model="emoji",
        method="thorough",
        start=0.1,
        stop=0.9,
        repeats=2,
        eta=0.25,
        computed_by="PyTorch bf16",
    ),
}
WITH_PICTURES: dict[str, Any] = {
    "color": ColorSettings(mask=half_white(), num_inference_steps=3),
    "text": TextSettings(prompt="", image_prompt=half_white(), num_inference_steps=3),
    "edit": EditSettings(image=half_white(64), task="colorize", num_inference_steps=3),
}
ALL = RUNS | {f"{name}, picture": settings for name, settings in WITH_PICTURES.items()}


def kind_of(name: str) -> str:
    return provenance.tab_of(ALL[name])


def last_of(settings: Any) -> Any:
    *_, last = GENERATE[provenance.tab_of(settings)](settings)
    return last


def saved(path: Path, facts: Any, *, picture: Image.Image | None = None) -> Path:
    """A PNG with facts in it; a text that is no JSON is taken as it is."""
    info = PngImagePlugin.PngInfo()
    told = facts if isinstance(facts, str) else json.dumps(facts)
    info.add_text(images.METADATA_KEY, told)
    (picture or Image.new("RGB", (4, 4))).save(path, pnginfo=info)
    return path


def facts(tab: str, **settings: Any) -> dict[str, Any]:
    return {"tab": tab, "revision": "0123456789ab", "settings": settings}


def followed(query: str) -> Record:
    """The run of a link, taken apart as a server does."""
    found = provenance.from_query(dict(parse_qsl(query, keep_blank_values=True)))
    assert found is not None
    return found


# --- the way there and back ----------------------------------------------------------------------


def test_these_runs_leave_no_setting_at_its_default():
    """Or a setting that gets lost would not be missed."""
    for tab, kind in KINDS.items():
        runs = [settings for name, settings in ALL.items() if kind_of(name) == tab]
        for f in dataclasses.fields(kind):
            fixed = f.name == "clip_model"  # the others need the network
            assert fixed or any(getattr(run, f.name) != f.default for run in runs), f.name


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("name", ALL)
def test_a_picture_brings_its_settings_back_and_they_draw_the_same_pixels(
    name: str, tmp_path: Path
):
    last = last_of(ALL[name])
    drawn = images.with_metadata(last.pictures[0], provenance.facts_of(last))
    path = tmp_path / "saved.png"
    path.write_bytes(images.to_png(drawn))
    found = provenance.read(path)
    assert found.settings == last.settings == validate(ALL[name])
    assert (found.tab, found.revisions) == (kind_of(name), last.revisions)
    assert found.facts["versions"] == provenance.versions()
    again = last_of(found.settings)
    assert [p.tobytes() for p in again.pictures] == [p.tobytes() for p in last.pictures]


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("name", RUNS)
def test_a_link_brings_its_settings_back_and_they_draw_the_same_pixels(name: str):
    last = last_of(RUNS[name])
    found = followed(provenance.to_query(last.settings, last.revisions))
    assert found.settings == last.settings
    assert (found.tab, found.revisions) == (kind_of(name), last.revisions)
    again = last_of(found.settings)
    assert [p.tobytes() for p in again.pictures] == [p.tobytes() for p in last.pictures]


def test_a_link_says_only_what_is_not_at_its_default_and_the_seed():
    assert provenance.to_query(ColorSettings()) == "tab=color&seed=0"
    drawn_with = {"digits-embedding": "0123456789ab", "another": "ffff"}
    query = provenance.to_query(DigitsSettings(digits="42", seed=9), drawn_with)
    assert dict(parse_qsl(query)) == {
        "tab": "digits",
        "digits": "42",
        "seed": "9",
        "rev": "0123456789ab",
    }


@pytest.mark.parametrize("tab", KINDS)
def test_the_shortest_link_of_a_tab_is_its_name_and_means_its_defaults(tab: str):
    assert followed(f"tab={tab}").settings == KINDS[tab]()


def test_a_link_without_the_picture_that_it_needs_keeps_the_rest_and_says_so():
    found = followed("tab=edit&task=vary&strength=0.3&prompt=ships&seed=4")
    assert found.settings == EditSettings(task="vary", strength=0.3, prompt="ships", seed=4)
    assert [str(error) for error in found.problems] == [
        "image must be a picture to edit, got nothing"
    ]


def test_a_link_to_fill_a_picture_without_a_mask_keeps_the_picture():
    settings = EditSettings(image=half_white(64), seed=4)
    found = followed(provenance.to_query(settings))
    assert found.settings == settings
    assert [error.kind for error in found.problems] == ["fill_no_mask"]


@pytest.mark.parametrize(
    "prompt",
    [
        "山水 画",
        "trees & snow | #1 in the sun: red=blue?",
        "100% café + naïve",
        "a | b:-0.5 | time 12:30:1",
        "<b>\"quoted\"</b> 'single' \\ back/slash ; ~",
        "🌊 the sea",
        "ends in spaces%20  and + plus",
    ],
)
def test_words_survive_a_link_and_a_picture_whatever_is_in_them(prompt: str, tmp_path: Path):
    settings = validate(TextSettings(prompt=prompt, negative_prompt=prompt))
    query = provenance.to_query(settings)
    assert followed(query).settings == settings
    assert query.isascii()
    assert not set(query) & set("#|\"<> '")
    path = saved(tmp_path / "p.png", facts("text", **dataclasses.asdict(settings)))
    assert provenance.read(path).settings == settings


def test_the_colours_of_a_palette_survive_a_link():
    settings = validate(ColorSettings(palette="#102040 55; gold 30 , rgb(200, 69, 47) 15"))
    assert "#" in settings.palette
    assert followed(provenance.to_query(settings)).settings == settings


@pytest.mark.parametrize("value", ["12", "007", " 12 ", "+3"])
def test_numbers_of_a_link_are_read_as_people_write_them(value: str):
    found = provenance.from_query({"tab": "color", "seed": value})
    assert found is not None
    assert found.settings.seed == int(value)


def test_a_number_keeps_its_last_bit():
    settings = validate(ColorSettings(guidance_scale=0.1 + 0.2, eta=1 / 3))
    assert followed(provenance.to_query(settings)).settings == settings


@pytest.mark.parametrize("name", WITH_PICTURES)
def test_a_link_that_would_hold_a_picture_is_refused(name: str):
    noisy = Image.effect_noise((100, 100), 80)
    pictured = {"color": "mask", "text": "image_prompt", "edit": "image"}[name]
    settings = dataclasses.replace(WITH_PICTURES[name], **{pictured: images.to_data_uri(noisy)})
    with pytest.raises(RecordError, match="at most 6000 are taken everywhere"):
        provenance.to_query(settings)


def test_the_longest_prompt_in_plain_letters_fits_into_a_link():
    settings = validate(TextSettings(prompt="tree " * 100, negative_prompt="snow " * 100))
    assert len(provenance.to_query(settings)) < provenance.MAX_LINK


def test_names_that_a_link_does_not_need_are_ignored():
    found = followed("tab=digits&digits=7&utm_source=mail&lang=zh&__theme=dark&settings=x")
    assert found.settings == DigitsSettings(digits="7")


def test_an_address_without_a_tab_tells_of_no_run():
    assert provenance.from_query({}) is None
    assert provenance.from_query({"lang": "zh", "color": "red"}) is None


# --- refusals ------------------------------------------------------------------------------------


def one_sentence(caught: pytest.ExceptionInfo[Any]) -> str:
    said = str(caught.value)
    assert said
    assert "\n" not in said
    assert not set(said) & set("<>")
    assert len(said) < 300
    return said


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, format="JPEG")
    return buffer.getvalue()


def cut_off() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 80).save(buffer, format="PNG")
    return buffer.getvalue()[:1500]


@pytest.mark.parametrize(
    "data",
    [b"", b"no picture at all", jpeg(), cut_off(), b"\x89PNG\r\n\x1a\n", b"<svg></svg>"],
    ids=["empty", "text", "renamed jpeg", "cut off", "head alone", "svg"],
)
def test_what_is_no_png_is_refused(data: bytes, tmp_path: Path):
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    with pytest.raises(RecordError) as caught:
        provenance.read(path)
    assert one_sentence(caught) == errors.MESSAGES["record_no_png"]


def test_a_file_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(RecordError) as caught:
        provenance.read(tmp_path / "gone.png")
    assert one_sentence(caught) == errors.MESSAGES["record_no_png"]


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path):
    with pytest.raises(RecordError):
        provenance.read(tmp_path)


@pytest.mark.parametrize("key", ["", "parameters", "Software"])
def test_a_picture_of_another_program_is_refused(key: str, tmp_path: Path):
    info = PngImagePlugin.PngInfo()
    if key:
        info.add_text(key, '{"settings": {"digits": "7"}}')
    path = tmp_path / "picture.png"
    Image.new("RGB", (4, 4)).save(path, pnginfo=info)
    with pytest.raises(RecordError) as caught:
        provenance.read(path)
    assert one_sentence(caught) == errors.MESSAGES["record_no_facts"]


@pytest.mark.parametrize(
    "told",
    [
        "",
        "no JSON",
        '{"settings": {"digits": "7"',
        "[]",
        "null",
        "7",
        '"settings"',
        "{}",
        '{"settings": null}',
        '{"settings": []}',
        '{"settings": "digits"}',
        "[" * 100_000,
        '{"a":' * 100_000,
        "7" * 5000,  # more digits than Python reads as a number
    ],
    ids=lambda told: told[:20] or "empty",
)
def test_facts_that_are_damaged_are_refused(told: str, tmp_path: Path):
    path = saved(tmp_path / "picture.png", told)
    with pytest.raises(RecordError) as caught:
        provenance.read(path)
    assert one_sentence(caught) == errors.MESSAGES["record_damaged"]


@pytest.mark.parametrize("compressed", [False, True])
def test_a_text_of_many_megabytes_is_refused_and_not_read(compressed: bool, tmp_path: Path):
    info = PngImagePlugin.PngInfo()
    told = json.dumps(facts("digits", digits="7") | {"more": "x" * 20_000_000})
    info.add_text(images.METADATA_KEY, told, zip=compressed)
    path = tmp_path / "picture.png"
    Image.new("RGB", (4, 4)).save(path, pnginfo=info)
    with pytest.raises(RecordError) as caught:
        provenance.read(path)
    one_sentence(caught)


def test_a_picture_that_is_too_large_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = saved(
        tmp_path / "wide.png", facts("digits", digits="7"), picture=Image.new("L", (8193, 1))
    )
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda self: pytest.fail("unpacked"))
    with pytest.raises(RecordError, match=r"at most 8192 px wide and high, got 8193 px") as caught:
        provenance.read(path)
    one_sentence(caught)


def test_a_picture_as_large_as_may_be_is_read(tmp_path: Path):
    path = saved(
        tmp_path / "wide.png", facts("digits", digits="7"), picture=Image.new("L", (8192, 1))
    )
    assert provenance.read(path).settings == DigitsSettings(digits="7")


@pytest.mark.parametrize(
    "tab", ["", "about", "Color", "__class__", 7, ["color"], {"color": 1}, True]
)
def test_a_tab_that_there_is_not_is_refused(tab: Any, tmp_path: Path):
    path = saved(tmp_path / "p.png", {"tab": tab, "settings": {"every": 2}})
    with pytest.raises(RecordError, match=f"tab must be one of {TABS}, got ") as caught:
        provenance.read(path)
    one_sentence(caught)


def test_a_tab_of_a_link_that_there_is_not_is_refused():
    with pytest.raises(RecordError, match="got '\\?script\\?'") as caught:
        provenance.from_query({"tab": "<script>"})
    one_sentence(caught)


@pytest.mark.parametrize("name", ["sampler", "__class__", "<img src=x>", "", "settings", "prompt"])
def test_a_setting_that_there_is_not_is_refused(name: str, tmp_path: Path):
    path = saved(tmp_path / "p.png", facts("digits", digits="7", **{name: 1}))
    with pytest.raises(RecordError, match="must be a setting of the tab digits") as caught:
        provenance.read(path)
    one_sentence(caught)


WRONG: list[tuple[str, str, Any]] = [
    ("color", "color", 7),
    ("color", "color", None),
    ("color", "guidance_scale", "strong"),
    ("color", "num_inference_steps", 10.5),
    ("color", "num_inference_steps", True),
    ("color", "num_images", [1]),
    ("color", "num_images", 10**400),
    ("color", "seed", {"a": 1}),
    ("color", "mask", "/etc/passwd"),
    ("color", "mask", 7),
    ("color", "palette", ["red"]),
    ("color", "method", ["fast"]),
    ("color", "region", "<b>left</b>"),
    ("text", "prompt", None),
    ("text", "prompt", {"a": ["b"]}),
    ("text", "image_prompt", "data:image/png;base64,AAAA"),
    ("text", "image_prompt", "https://example.org/a.png"),
    ("text", "clip_model", "ViT-L-14"),
    ("digits", "digits", 7),
    ("digits", "digits", []),
    ("digits", "blend_with", 8),
    ("digits", "cfg_scale", "nan"),
    ("digits", "cfg_scale", float("nan")),
    ("digits", "cfg_scale", float("inf")),
    ("digits", "conditioning", None),
]


@pytest.mark.parametrize(("tab", "name", "value"), WRONG, ids=lambda value: str(value)[:20])
def test_settings_of_wrong_types_are_refused_by_name(
    tab: str, name: str, value: Any, tmp_path: Path
):
    path = saved(tmp_path / "p.png", facts(tab, **{name: value}))
    with pytest.raises(SettingsError, match=f"^{name} must be ") as caught:
        provenance.read(path)
    one_sentence(caught)


def test_hostile_nesting_in_a_setting_is_refused(tmp_path: Path):
    deep: Any = "red"
    for _ in range(200):
        deep = [deep]
    path = saved(tmp_path / "p.png", facts("color", color=deep))
    with pytest.raises(SettingsError, match=r"^color must be ") as caught:
        provenance.read(path)
    one_sentence(caught)


@pytest.mark.parametrize(
    "query",
    [
        {"tab": "digits", "digits": "seven"},
        {"tab": "digits", "num_inference_steps": "1e9"},
        {"tab": "digits", "cfg_scale": "nan"},
        {"tab": "digits", "cfg_scale": "inf"},
        {"tab": "digits", "seed": "9" * 400},
        {"tab": "digits", "seed": "9" * 5000},
        {"tab": "digits", "eta": "0.5"},
        {"tab": "color", "num_images": "1.5"},
        {"tab": "color", "num_images": ""},
        {"tab": "color", "color": "<script>alert(1)</script>"},
        {"tab": "color", "start": "0.9", "stop": "0.1"},
        {"tab": "text", "prompt": ""},
        {"tab": "text", "guidance_scale": "0.7"},
        {"tab": "text", "mask": "data:", "prompt": "|"},
    ],
    ids=lambda query: str(query)[:50],
)
def test_a_link_with_a_wrong_value_tells_its_name_and_goes_on_without_it(query: dict[str, str]):
    found = provenance.from_query(query)
    assert found is not None
    assert found.problems
    for said in map(str, found.problems):
        assert any(said.startswith(f"{name} must be ") for name in query)
        assert len(said) < 300
    assert validate(found.settings) == found.settings


def test_a_link_keeps_what_agrees_when_values_contradict_each_other():
    query = {"tab": "color", "method": "fast", "eta": "0.5", "repeats": "2", "seed": "8"}
    found = provenance.from_query(query)
    assert found is not None
    assert (found.settings.seed, found.settings.method) == (8, "fast")
    assert [error.kind for error in found.problems] == ["fast_eta", "fast_repeats"]


@pytest.mark.parametrize("revision", [7, None, ["a"], {"b": 1}])
def test_a_revision_that_is_no_text_is_not_believed(revision: Any, tmp_path: Path):
    path = saved(tmp_path / "p.png", facts("digits", digits="7") | {"revision": revision})
    assert provenance.read(path).revisions == {}


@pytest.mark.parametrize("told", [{"digits-embedding": 7}, {"digits-embedding": ""}, {"a": ["b"]}])
def test_revisions_that_are_no_text_by_key_are_not_believed(told: Any, tmp_path: Path):
    path = saved(tmp_path / "p.png", facts("digits", digits="7") | {"revisions": told})
    assert provenance.read(path).revisions == {}


def test_a_picture_of_words_of_version_0_2_names_the_revisions_of_model_and_clip(tmp_path: Path):
    told = facts("text", prompt="the sea") | {"revision": "aa11", "clip_revision": "bb22"}
    found = provenance.read(saved(tmp_path / "p.png", told))
    assert found.revisions == {"paintings": "aa11", "clip-small": "bb22"}


def test_a_link_of_unknown_weights_says_nothing_of_them():
    for unknown in ({}, {"paintings": ""}, {"another": "ffff"}):
        assert provenance.to_query(ColorSettings(), unknown) == "tab=color&seed=0"


def test_a_link_without_the_revision_of_the_clip_still_names_that_of_the_model():
    found = followed("tab=text&prompt=the+sea&rev=aa11")
    assert found.revisions == {"paintings": "aa11"}


def test_a_random_seed_is_never_left_in_a_record(tmp_path: Path):
    path = saved(tmp_path / "p.png", facts("digits", digits="7", seed=-1))
    assert provenance.read(path).settings.seed >= 0


# --- pictures of before, and what a record knows -------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_pictures_of_the_first_versions_which_name_no_tab_are_understood(name: str, tmp_path: Path):
    settings = validate(ALL[name])
    old = {"model": "x", "revision": "0123456789ab", "settings": dataclasses.asdict(settings)}
    found = provenance.read(saved(tmp_path / "old.png", old))
    assert (found.tab, found.settings) == (kind_of(name), settings)


def test_a_picture_that_says_less_than_today_is_completed_with_defaults(tmp_path: Path):
    path = saved(tmp_path / "old.png", {"settings": {"color": "#102030", "seed": 4}})
    assert provenance.read(path).settings == ColorSettings(color="#102030", seed=4)


def test_the_version_is_that_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    (place,) = project["tool"]["setuptools"]["dynamic"]["version"].values()
    assert place == f"{provenance.__name__}.STUDIO_VERSION"
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert f"\n## {provenance.STUDIO_VERSION}\n" in changes
    assert provenance.versions()["studio"] == provenance.STUDIO_VERSION


def test_the_versions_are_those_of_what_draws():
    found = provenance.versions()
    assert torch.__version__.startswith(found["torch"])
    assert {"python", "diffusers", "open_clip_torch"} <= set(found)


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("name", RUNS)
def test_only_weights_that_are_others_here_are_named(name: str):
    last = last_of(RUNS[name])
    assert provenance.other_weights(last.revisions) == []
    assert provenance.other_weights({key: r[:7] for key, r in last.revisions.items()}) == []
    for key, here in last.revisions.items():
        found = provenance.other_weights({**last.revisions, key: "0" * 40})
        assert found == [provenance.OtherWeights(key, "0" * 12, here)]


def test_weights_that_are_not_on_this_machine_are_no_others():
    assert provenance.other_weights({"no-such-model": "0" * 12}) == []


# --- examples ------------------------------------------------------------------------------------


def assert_same_pictures(found: list[Image.Image], expected: list[Image.Image]) -> None:
    assert [(p.mode, p.size) for p in found] == [(p.mode, p.size) for p in expected]
    assert [p.tobytes() for p in found] == [p.tobytes() for p in expected]


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("name", ALL)
def test_an_example_comes_back_with_all_that_is_shown_of_it(name: str, tmp_path: Path):
    last = last_of(ALL[name])
    path = tmp_path / "example.png"
    example_files.save_example(last, provenance.facts_of(last), path)
    found = example_files.load_example(path, PREVIEWS[kind_of(name)])
    assert type(found) is type(last)
    assert found.finished
    apart = {"pictures", "unguided", "history"}
    for f in dataclasses.fields(last):
        if f.name not in apart:
            assert getattr(found, f.name) == getattr(last, f.name), f.name
    assert (found.score_before, found.score_after) == (last.score_before, last.score_after)
    assert_same_pictures(found.pictures, last.pictures)
    assert_same_pictures(found.unguided, last.unguided)
    assert found.history.gradients == last.history.gradients
    assert found.history.largest_change == last.history.largest_change
    assert len(found.history.moments) == len(last.history.moments)
    for mine, theirs in zip(found.history.moments, last.history.moments, strict=True):
        assert (mine.step, mine.t) == (theirs.step, theirs.t)
        assert_same_pictures(mine.noisy, theirs.noisy)
        assert_same_pictures(mine.predicted, theirs.predicted)
        assert_same_pictures(mine.change, theirs.change)
    for frame, moment in zip(found.history.frames, last.history.moments, strict=True):
        assert_same_pictures(images.to_pil(images.from_uint8(frame)), moment.predicted)


@pytest.mark.usefixtures("tiny_checkpoints")
def test_an_example_is_a_picture_like_any_other_and_brings_its_run_back(tmp_path: Path):
    last = last_of(RUNS["color"])
    path = tmp_path / "example.png"
    example_files.save_example(last, provenance.facts_of(last), path)
    assert provenance.read(path).settings == last.settings


@pytest.mark.usefixtures("tiny_checkpoints")
def test_an_example_that_is_missing_or_damaged_is_refused(tmp_path: Path):
    last = last_of(RUNS["digits"])
    path = tmp_path / "example.png"
    with pytest.raises(RecordError):
        example_files.load_example(path, digits.Preview)
    told = provenance.facts_of(last)
    for shown in (None, {}, {"mode": "L"}, [], "shown", {"preview": {}, "mode": "?"}):
        with pytest.raises(RecordError) as caught:
            example_files.load_example(saved(path, {**told, "shown": shown}), digits.Preview)
        one_sentence(caught)
    example_files.save_example(last, told, path)
    with pytest.raises(RecordError):
        example_files.load_example(path, color.Preview)


def test_a_hash_stands_for_a_picture_where_settings_are_shown():
    shown = provenance.without_pictures(validate(WITH_PICTURES["color"]))
    assert shown["mask"].startswith("sha256:")
    assert shown | {"mask": ""} == dataclasses.asdict(validate(WITH_PICTURES["color"])) | {
        "mask": ""
    }
    assert provenance.without_pictures(ColorSettings())["mask"] == ""


@pytest.mark.parametrize("text", ['{"settings": {"prompt": "\\ud800"}}', '{"sweep": "\\udfff"}'])
def test_a_record_that_is_not_valid_unicode_is_damaged(tmp_path: Path, text: str):
    entries = PngImagePlugin.PngInfo()
    entries.add_text(images.METADATA_KEY, text)
    path = tmp_path / "picture.png"
    Image.new("L", (4, 4)).save(path, pnginfo=entries)
    with pytest.raises(RecordError, match="damaged"):
        provenance.read(path)


@pytest.mark.filterwarnings("ignore")
def test_a_file_that_is_damaged_in_any_way_is_told_in_one_sentence(tmp_path: Path):
    path = tmp_path / "picture.png"
    for content in mutated_pictures(300, seed=11):
        path.write_bytes(content)
        with pytest.raises(RecordError):
            provenance.read(path)


def test_a_giant_is_refused_before_it_is_decoded(tmp_path: Path):
    path = tmp_path / "picture.png"
    Image.new("1", (8000, 8000)).save(path)
    with pytest.raises(RecordError, match="at most"):
        provenance.read(path)
