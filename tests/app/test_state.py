"""That all that a page says follows from its settings, whichever way these came."""

from __future__ import annotations

import dataclasses
import html
import json
from typing import Any
from urllib.parse import parse_qsl

import gradio as gr
import pytest

from pipelines.core.rules import is_picture, validate
from pipelines.diffusion.methods import METHODS
from pipelines.products import PRODUCTS
from pipelines.products.settings import ColorSettings, DigitsSettings, TextSettings
from pipelines.runs import provenance, timing
from pipelines.runs.sweep import parse_axis, sweep
from tabs import common, examples, i18n, lane, marked, page, results, sweeps
from tabs.guidance_view import MethodControls
from tabs.latest_run import new_token, runs
from tabs.tab import Tab, estimate_of
from tests.app.test_chips import OTHERS, PICTURE, names, other_value
from tests.app.test_shell import Built, as_sent, build_page, text_in
from tests.unit.test_provenance import RUNS

COURSE = ColorSettings(method="course", guidance_scale=40.0, seed=3)


@pytest.fixture(scope="module")
def built() -> Built:
    return build_page()


@pytest.fixture(autouse=True)
def _fresh_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "estimator", timing.Estimator())


def values_after(tab: Tab, updates: dict[Any, Any]) -> list[Any]:
    """What an event of the tab gets once its controls were updated."""
    held = []
    for component in tab.held_inputs():
        update = updates[component]
        held.append(as_sent(update["value"] if isinstance(update, dict) else update))
    return held


def said(updates: dict[Any, Any]) -> dict[Any, Any]:
    """What updates say: no values, and nothing of what is open."""
    return {
        c: {k: v for k, v in u.items() if k not in ("value", "open", "__type__")}
        if isinstance(u, dict)
        else u
        for c, u in updates.items()
    }


# --- every way to the same state -----------------------------------------------------------------


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("language", i18n.LANGUAGES)
@pytest.mark.parametrize("name", [*RUNS, "course"])
def test_a_link_a_file_and_the_controls_say_the_same(built: Built, name: str, language: str):
    settings = validate(COURSE if name == "course" else RUNS[name])
    tab = built.tabs[provenance.tab_of(settings)]
    linked = built.opened(language, **dict(parse_qsl(provenance.to_query(settings))))
    restored = tab.shown(settings, language)
    by_controls = tab.state(tab.held(values_after(tab, restored)), language)
    for component in tab.state_outputs():
        expected = said(by_controls)[component]
        for update in (said(restored)[component], said(linked)[component]):
            if isinstance(expected, dict):
                assert expected.items() <= update.items()
            else:
                assert update == expected


def test_a_link_to_the_method_of_the_course_says_its_own_scale(built: Built):
    tab = built.tabs["color"]
    for language, told in (("en", "own scale"), ("zh", "自己的强度标度")):
        found = built.opened(language, tab="color", method="course", guidance_scale="40")
        strength = found[tab.controls["guidance_scale"]]
        assert told in strength["info"]
        assert "0.2" not in strength["info"]
        assert (strength["value"], strength["maximum"]) == (40, 200)
        described = i18n.translate(language, "method.course")
        assert found[tab.controls["method"]]["info"] == described
    back = tab.shown(ColorSettings(), "en")[tab.controls["guidance_scale"]]
    assert (back["maximum"], back["info"]) == (0.5, i18n.translate("en", "info.guidance_scale"))


def test_a_strength_beyond_the_usual_has_room_on_its_slider(built: Built):
    tab = built.tabs["color"]
    update = tab.shown(dataclasses.replace(COURSE, guidance_scale=500.0), "en")
    strength = tab.controls["guidance_scale"]
    assert update[strength]["maximum"] == 500
    assert strength.preprocess(500.0) == 500.0, "the rule of the setting judges it"


@pytest.mark.parametrize("model", ["paintings", "scenes", "emoji"])
def test_the_prompts_to_try_are_those_of_the_model_also_of_a_link(built: Built, model: str):
    tab = built.tabs["text"]
    found = built.opened("en", tab="text", model=model)
    rows = {name: part for name, part in tab.parts.items() if name.startswith("text-try-")}
    visible = [name for name, row in rows.items() if found[row]["visible"]]
    assert visible == [f"text-try-{model}"]


def test_a_part_unfolds_where_a_link_an_example_or_a_file_sets_some_of_it(built: Built):
    tab = built.tabs["color"]
    more, advanced = tab.sections["more"], tab.sections["advanced"]
    found = built.opened("en", tab="color", palette="red 50, gold 50", symmetry="left-right")
    assert found[more] == {**found[more], "open": True, "label": "More to steer · 2 set"}
    assert "open" not in found[advanced]
    assert found[advanced]["label"] == "Advanced"
    chinese = built.opened("zh", tab="color", palette="red 50, gold 50")
    assert chinese[more]["label"] == "更多引导方式 · 已设 1 项"
    for name in examples.names(tab.product):
        settings = examples.load(tab.product, name).settings
        opened = tab.shown(settings, "en")[more].get("open", False)
        assert opened is bool(
            settings.palette
            or settings.symmetry != "none"
            or settings.region != "all"
            or settings.brightness >= 0
            or settings.contrast >= 0
            or settings.mask
        )
    assert "open" not in tab.state(vars(ColorSettings(palette="#FF0000 100")), "en")[more], (
        "what somebody sets by hand moves nothing"
    )


@pytest.mark.parametrize("name", PRODUCTS)
def test_every_chip_takes_its_setting_back(built: Built, name: str):
    tab = built.tabs[name]
    defaults = vars(tab.product.settings())
    remove = [f.fn for f in built.demo.fns.values() if f.name == "remove_setting"]
    assert len(remove) == len(PRODUCTS)
    steered = {"symmetry": "left-right", "guidance_scale": 0.3} if name == "digits" else {}
    for setting in OTHERS:
        if setting in tab.controls and setting in _chip_names(tab, defaults | steered, setting):
            values = {**defaults, **steered, setting: other_value(tab.product.settings, setting)}
            found = tab.without(setting, values, "en")
            control = found[tab.controls[setting]]
            is_upload = setting in tab.thumbnails and not isinstance(
                tab.controls[setting], gr.Textbox
            )
            assert control["value"] == (None if is_upload else defaults[setting])
            assert setting not in names(found[tab.chips])
            assert found.keys() <= {*tab.shown_outputs()}
            if setting in tab.thumbnails:
                assert found[tab.thumbnails[setting]] == ""
    for nothing in ("nothing", None, 7, {}, ["palette"]):
        assert tab.without(nothing, defaults, "en") == tab.state(defaults, "en")


def _chip_names(tab: Tab, base: dict[str, Any], setting: str) -> list[str]:
    value = other_value(tab.product.settings, setting)
    return names(tab.state({**base, setting: value}, "en")[tab.chips])


# --- another method ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "chosen", "strength", "stop", "expected"),
    [
        ("balanced", "thorough", 0.37, 0.8, (0.37, 0.8)),
        ("fast", "balanced", 0.0, 1.0, (0.0, 1.0)),
        ("balanced", "course", 0.37, 0.8, (8.0, 1.0)),
        ("course", "fast", 12.0, 1.0, (0.2, 0.8)),
        ("course", "fast", 0.3, 1.0, (0.2, 0.8)),
        ("course", "course", 12.0, 1.0, (12.0, 1.0)),
        ("balanced", "course", 0.2, 0.5, (8.0, 0.5)),
        ("no method", "thorough", 0.3, 0.8, (0.3, 0.8)),
    ],
)
def test_a_method_keeps_the_strength_unless_its_scale_is_another(
    before: str, chosen: str, strength: float, stop: float, expected: tuple[float, float]
):
    found = MethodControls(PRODUCTS["text"], 100)._chosen(chosen, before, strength, stop, "en")
    assert found[0] == chosen
    assert (found[1]["value"], found[2]) == expected
    assert found[1]["maximum"] == (100 if chosen == "course" else 0.5)


@pytest.mark.parametrize("wrong", [None, 7, "no method", ["course"]])
def test_a_method_that_is_none_changes_nothing(wrong: Any):
    found = MethodControls(PRODUCTS["text"], 100)._chosen(wrong, "balanced", 0.2, 0.8, "en")
    assert all("value" not in update for update in found)


def test_methods_of_two_scales_of_their_own_do_not_share_one(monkeypatch: pytest.MonkeyPatch):
    own = dataclasses.replace(METHODS["course"], max_scale=3.0, default_scale=1.5)
    monkeypatch.setitem(METHODS, "mine", own)
    controls = MethodControls(PRODUCTS["color"], 200)
    _, strength, _ = controls._chosen("mine", "course", 40.0, 1.0, "en")
    assert (strength["value"], strength["maximum"], strength["step"]) == (1.5, 3.0, 0.01)


# --- the estimate --------------------------------------------------------------------------------


def _bases(product: Any) -> list[Any]:
    own: dict[str, dict[str, Any]] = {
        "digits": {"symmetry": "left-right", "guidance_scale": 0.3},
        "edit": {"image": PICTURE, "task": "restyle", "color": "teal"},
    }
    steered = own.get(product.name, {})
    methods = [m for m in product.settings.methods if m != "course"]
    return [
        product.settings(**steered, method=method, num_inference_steps=12) for method in methods
    ]


@pytest.mark.parametrize("product", PRODUCTS.values(), ids=list(PRODUCTS))
def test_whatever_changes_the_work_is_told_to_the_estimate_and_changes_it(
    built: Built, product: Any, monkeypatch: pytest.MonkeyPatch
):
    tab = built.tabs[product.name]
    asked = [f for f in built.demo.fns.values() if f.name == "update_state"]
    triggers = {target for f in asked for target, event in f.targets if event == "change"}
    changed = set()
    for base in _bases(product):
        work = product.work(validate(base))
        monkeypatch.setattr(timing, "estimator", timing.Estimator())
        timing.estimator.note(work, 30.0)
        before = estimate_of(product, "en", _plain(base))
        for field in dataclasses.fields(product.settings):
            if is_picture(product.settings, field.name):
                continue
            for value in _others(product.settings, field.name):
                try:
                    other = validate(dataclasses.replace(base, **{field.name: value}))
                except ValueError:
                    continue
                if product.work(other).evaluations != work.evaluations:
                    changed.add(field.name)
                    assert tab.controls[field.name]._id in triggers, field.name
                    assert estimate_of(product, "en", _plain(other)) != before, field.name
    assert {"num_inference_steps", "guidance_scale", "start"} <= changed


def _others(kind: Any, name: str) -> list[Any]:
    zero = [0.0] if name in ("guidance_scale", "stop") else []
    return [*zero, *([other_value(kind, name)] if name not in ("prompt", "digits") else [])]


def _plain(settings: Any) -> list[Any]:
    fields = dataclasses.fields(settings)
    return [getattr(settings, f.name) for f in fields if not is_picture(type(settings), f.name)]


def test_a_thorough_run_without_strength_is_estimated_as_one_without_guidance():
    product = PRODUCTS["color"]
    guided = ColorSettings(method="thorough")
    timing.estimator.note(product.work(validate(guided)), 60.0)
    off = dataclasses.replace(guided, guidance_scale=0.0)
    assert estimate_of(product, "en", _plain(guided)) == "About 60 s on this device"
    seconds = float(estimate_of(product, "en", _plain(off)).split()[1])
    assert seconds < 25


# --- another language ----------------------------------------------------------------------------

LINES = [
    common.status_line(i18n.translate("en", "status.restored")),
    common.status_line(i18n.translate("en", "status.failed")),
    common.status_line(i18n.translate("en", "status.stopped", step=3, total=20), done=3, total=20),
    common.status_line(
        i18n.translate(
            "en",
            "status.restored_other",
            weights=[
                i18n.translate("en", "status.weights", key=k, needed="a", here="b")
                for k in ("paintings", "clip-small")
            ],
        )
    ),
    results.failure_updates("en", lane.Overtime(i18n.translate("en", "status.stopping")))["status"],
]


@pytest.mark.parametrize("line", LINES, ids=[text_in(line)[:30] for line in LINES])
def test_a_line_on_the_page_is_said_in_another_language_and_back(line: str):
    chinese = marked.translated(line, "zh")
    assert chinese != line
    assert not any(
        "a" <= c <= "z"
        for c in text_in(chinese)
        .replace("paintings", "")
        .replace("clip-small", "")
        .replace("（此处为 b）", "")
        .replace(" a", "")
    )
    assert marked.translated(chinese, "en") == line


def test_an_error_on_the_page_is_said_in_another_language(built: Built):
    found = built.opened("en", tab="digits", digits="1234x")[built.head.notice]
    fresh = built.opened("zh", tab="digits", digits="1234x")[built.head.notice]
    assert marked.translated(found, "zh") == fresh
    assert text_in(fresh).startswith("“要绘制的数字” 必须是 1 到 64 个字符")


@pytest.mark.parametrize(
    "source",
    [
        "no json",
        {},
        {"key": "no.key", "values": {}},
        {"key": "status.step", "values": 7},
        {"key": ["status.ready"], "values": {}},
        {"error": "no_error", "values": {}},
        {"error": "start_stop", "values": {"start": "x"}},
        [{"key": "status.ready", "values": {}}],
        7,
    ],
    ids=str,
)
def test_what_is_no_text_of_ours_stays_as_it_came(source: Any):
    sent = source if isinstance(source, str) else json.dumps(source)
    line = f'<p data-source="{html.escape(sent)}">Ready.</p>'
    assert marked.translated(line, "zh") == line
    assert marked.translated(None, "zh") == ""


def test_values_that_a_browser_sends_are_escaped():
    source = {"key": "status.fetching", "values": {"name": "<b>", "done": 1, "total": 2}}
    line = f'<p data-source="{html.escape(json.dumps(source))}">x</p>'
    assert "<b>" not in marked.translated(line, "en")


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("steps", [2, 1], ids=["finished", "stopped"])
def test_a_language_reaches_all_that_a_tab_shows(built: Built, steps: int):
    tab = built.tabs["digits"]
    settings = DigitsSettings(digits="7", num_inference_steps=2, cfg_start=0.3)
    stream = tab.product.run(settings)
    last = [next(stream) for _ in range(steps)][-1]
    token = runs.announce(new_token())
    runs.remember(token, last)
    stopped = i18n.translate("en", "status.stopped", step=1, total=2)
    timing.estimator.note(tab.product.work(validate(settings)), 3.0)
    values = [
        *(token, common.status_line(stopped), "", ""),
        *values_after(tab, tab.shown(settings, "en")),
    ]
    found = tab.translated_with("zh", values)
    assert text_in(found[tab.result.status]) == i18n.translate(
        "zh", "status.stopped", step=1, total=2
    )
    assert 'class="status translated"' in found[tab.result.status]
    assert "评判网络" in found[tab.result.scores]
    assert "手写数字 7" in found[tab.result.pictures]
    assert "CFG 起点" in found[tab.chips]
    assert found[tab.sections["advanced"]]["label"] == "高级设置 · 已设 1 项"
    assert "在此设备上约需" in found[tab.estimate]
    assert runs.language(token, "en") == "zh", "a run that goes on says the rest in it"


@pytest.mark.usefixtures("tiny_checkpoints")
def test_a_sweep_on_the_page_follows_the_language(built: Built):
    tab = built.tabs["digits"]
    settings = DigitsSettings(digits="7", num_inference_steps=1)
    rows, columns = (parse_axis(DigitsSettings, n, "1, 2") for n in ("cfg_scale", "seed"))
    *_, state = sweep(settings, rows, columns, lambda cell: tab.product.run(cell, compare=False))
    token = runs.announce(new_token())
    runs.remember(token, state)
    status = sweeps._update(tab.product, state, "en")[0]
    found = sweeps.translated(tab.sweep, tab.product, "zh", token, status)
    assert state.num_bytes > 0
    assert "完成，用时" in found[tab.sweep.status]
    assert "CFG 强度 ↓" in found[tab.sweep.grid]
    assert 'alt="CFG 强度 1，种子 1"' in found[tab.sweep.grid]
    nothing = sweeps.translated(tab.sweep, tab.product, "zh", "", "")
    assert set(nothing) == {tab.sweep.status}


@pytest.mark.usefixtures("tiny_checkpoints")
def test_the_files_of_a_run_keep_the_names_of_their_buttons_in_another_language(built: Built):
    tab = built.tabs["digits"]
    *_, last = tab.product.run(DigitsSettings(digits="7", num_inference_steps=2))
    token = runs.announce(new_token())
    runs.remember(token, last)
    buttons = [tab.result.download, tab.result.animation]
    translated = {button: i18n.translation_update(button, "zh") for button in buttons}
    found = page._merged(translated, tab.translated("zh", token))
    for button, key in ((tab.result.download, "save"), (tab.result.animation, "animation")):
        assert found[button]["label"] == i18n.translate("zh", f"shared.{key}")
        assert found[button]["value"].endswith((".png", ".webp"))


def test_a_page_that_nobody_knows_speaks_the_language_of_its_run():
    token = new_token()
    runs.speak(token, "zh")
    assert runs.language(token, "en") == "en"
    assert runs.language(None, "zh") == "zh"


def test_the_noise_before_the_first_run_is_named_in_the_language(built: Built):
    tab = built.tabs["text"]
    assert "纯噪声" in built.opened("zh")[tab.result.pictures]
    assert tab.result.pictures not in tab.translated("zh", new_token()), "a run may be shown"


def test_the_text_tab_can_be_asked_for_all_it_holds(built: Built):
    tab = built.tabs["text"]
    held = tab.held([*range(len(tab.held_inputs()))])
    assert set(held) == {f.name for f in dataclasses.fields(TextSettings)}
