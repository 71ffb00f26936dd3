"""What the pages explain: in both languages, with code that stands in the files it names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from pipelines.core import devices
from pipelines.diffusion import plugins
from pipelines.models import checkpoints, ways
from pipelines.products import PRODUCTS
from pipelines.runs.explanation import Excerpt
from tabs import about, explain, i18n

ROOT = Path(__file__).resolve().parents[2]
TABS = tuple(PRODUCTS)
FENCE = re.compile(r"```python\n# (?P<file>\S+), \S+\n(?P<code>.*?)\n```", re.DOTALL)
CHINESE = re.compile(r"[\u4e00-\u9fff]")
PLACE = re.compile(r"\{(\w+)\}")

every_tab = pytest.mark.parametrize("tab", TABS)
every_language = pytest.mark.parametrize("language", i18n.LANGUAGES)


def own_keys(language: str) -> set[str]:
    """Keys of what the explanations and the About page say."""
    own = re.compile(rf"(about|explain)\..+|({'|'.join(TABS)})\.(idea|symbols|caption\..+)")
    titles = {"about.title", "explain.title"}
    return {key for key in i18n.table(language) if own.fullmatch(key)} - titles


def documented(x: int) -> int:
    """One.

    Two.
    """
    if x:
        # Three.

        y = (
            x,
            1,
        )
        return sum(y)

    def inner() -> int:
        """Four."""
        return 4

    return inner()


@every_tab
@every_language
def test_every_line_of_code_stands_in_the_file_that_is_named(tab: str, language: str):
    found = list(FENCE.finditer(explain.page(PRODUCTS[tab], language)))
    assert len(found) == len(PRODUCTS[tab].explanation.excerpts)
    for fence in found:
        source = [line.strip() for line in (ROOT / fence["file"]).read_text().splitlines()]
        code = [line.strip() for line in fence["code"].splitlines()]
        assert set(code) <= set(source)
        assert "" not in code


@every_tab
def test_the_code_of_a_tab_is_short_and_has_no_docstrings(tab: str):
    code = "\n".join(excerpt.code for excerpt in PRODUCTS[tab].explanation.excerpts)
    assert 6 <= len(code.splitlines()) <= 12
    assert '"""' not in code
    assert max(len(line) for line in code.splitlines()) <= 100


def test_an_excerpt_has_the_lines_from_its_first_statement_to_the_end_of_its_last():
    excerpt = Excerpt("", documented, "y = ", "return sum")
    assert excerpt.code == "y = (\n    x,\n    1,\n)\nreturn sum(y)"
    assert excerpt.file == "tests/app/test_explain.py"


def test_an_excerpt_of_one_statement_has_all_of_it_but_the_docstring():
    assert Excerpt("", documented, "def inner").code == ("def inner() -> int:\n    return 4")


def test_the_last_statement_is_looked_for_behind_the_first():
    assert Excerpt("", documented, "def inner", "return").code == (
        "def inner() -> int:\n    return 4"
    )
    assert Excerpt("", documented, "y = ", "return inner").code.endswith("return inner()")


def test_code_that_is_gone_is_missed_by_name():
    with pytest.raises(LookupError, match="documented has no statement that begins with 'z = '"):
        _ = Excerpt("", documented, "z = ").code


@every_tab
@every_language
def test_equations_stand_between_dollars_and_their_braces_match(tab: str, language: str):
    parts = explain.page(PRODUCTS[tab], language).split("$$")
    assert len(parts) % 2 == 1
    equations = parts[1::2]
    assert len(equations) >= 2
    for equation in equations:
        assert equation.count("{") == equation.count("}")
        assert len(re.findall(r"\\left\W", equation)) == equation.count(r"\right")


@every_tab
def test_the_code_and_the_addresses_are_the_same_in_every_language(tab: str):
    pages = [explain.page(PRODUCTS[tab], language) for language in i18n.LANGUAGES]
    addresses = [re.findall(r"\]\((https://[^)\s]+)\)", page) for page in pages]
    assert addresses[0] == addresses[1]
    assert len(addresses[0]) >= 6
    assert FENCE.findall(pages[0]) == FENCE.findall(pages[1])


@every_tab
def test_every_tab_leads_to_the_course_and_to_both_solvers(tab: str):
    page = explain.page(PRODUCTS[tab], "en")
    assert "https://github.com/huggingface/diffusion-models-class/tree/main/unit2" in page
    assert "https://arxiv.org/abs/2010.02502" in page
    assert "https://arxiv.org/abs/2211.01095" in page


@pytest.mark.parametrize(
    ("tab", "paper"),
    [
        ("color", "[DPS](https://arxiv.org/abs/2209.14687)"),
        ("color", "[MPGD](https://arxiv.org/abs/2311.16424)"),
        ("text", "[CLIP](https://arxiv.org/abs/2103.00020)"),
        ("text", "[TFG](https://arxiv.org/abs/2409.15761)"),
        ("digits", "[Classifier-free guidance](https://arxiv.org/abs/2207.12598)"),
    ],
)
def test_each_tab_leads_to_its_papers(tab: str, paper: str):
    assert paper in explain.page(PRODUCTS[tab], "en")


def test_both_languages_say_the_same_things():
    assert own_keys("en") == own_keys("zh")
    assert len(own_keys("en")) > 50


def test_both_languages_have_the_same_places_for_values():
    places = [
        {key: set(PLACE.findall(i18n.table(at)[key])) for key in own_keys("en")}
        for at in i18n.LANGUAGES
    ]
    assert places[0] == places[1]


@every_language
def test_no_sentence_is_empty(language: str):
    assert all(i18n.table(language)[key].strip() for key in own_keys(language))


def test_what_is_said_in_chinese_is_chinese():
    names = {
        "about.trained.digits-embedding",
        "about.trained.digits-cross-attention",
        "about.trained.digits-channels",
    }
    said = own_keys("zh") - names
    assert [key for key in said if not CHINESE.search(i18n.table("zh")[key])] == []
    assert [key for key in own_keys("en") if CHINESE.search(i18n.table("en")[key])] == []


@every_language
def test_every_sentence_is_said_somewhere(language: str, monkeypatch: pytest.MonkeyPatch):
    said: set[str] = set()
    say = i18n.translate

    def noted(language: str, key: str, **values: Any) -> str:
        said.add(key)
        return say(language, key, **values)

    monkeypatch.setattr(i18n, "translate", noted)
    monkeypatch.setattr(devices, "describe_device", lambda: "CPU, 2 threads")
    measured = ways.Measured("this", "PyTorch fp32", {"PyTorch fp32": 30.0}, {})
    monkeypatch.setattr(ways, "measured", lambda: measured)
    rows = [row | {"available": "Hub:" not in row["source"]} for row in checkpoints.describe()]
    monkeypatch.setattr(checkpoints, "describe", lambda: rows)
    monkeypatch.setattr(plugins, "PLUGINS", (plugins.Plugin("mine.py", "0" * 64),))
    monkeypatch.setattr(plugins, "clashes", lambda plugin: ["seed"])
    for tab in TABS:
        explain.page(PRODUCTS[tab], language)
    about.text(language)
    assert own_keys(language) <= said


@every_language
def test_nothing_is_left_open_in_a_text(language: str):
    for page in (about.text(language), *(explain.page(PRODUCTS[tab], language) for tab in TABS)):
        prose = "".join(FENCE.sub("", page).split("$$")[::2])
        assert PLACE.findall(prose) == []


def test_the_english_page_says_of_checkpoints_what_the_endpoint_says():
    page = about.text("en")
    for row in about.endpoint():
        begins = f"| `{row['key']}` | {row['summary']} | {row['size_px']} | {row['data']} |"
        assert f"{begins} {row['licence']} |" in page


def test_the_chinese_page_says_what_checkpoints_are_in_chinese():
    page = about.text("zh")
    assert "| `paintings` | 绘画，由 scenes 微调而来 | 64 |" in page
    assert "| MNIST | CC BY-SA 3.0 | 随应用提供 |" in page


def own_model(**changes: Any) -> dict[str, Any]:
    row = {
        "key": "mine-v1.5",
        "summary": "cats",
        "size_px": 32,
        "licence": "research",
        "data": "my cats",
        "source": "folder: cats",
        "revision": "0123456789ab",
        "available": True,
        "problem": "",
    }
    return row | changes


@every_language
def test_a_model_of_ones_own_is_described_in_its_own_words(
    language: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(checkpoints, "describe", lambda: [own_model()])
    licence = {"en": "research", "zh": "仅供研究"}[language]
    row = f"| `mine-v1.5` | cats | 32 | my cats | {licence} | folder: cats | 0123456789ab |"
    assert row in about.text(language).splitlines()


def test_a_description_cannot_break_the_table_or_bring_html(monkeypatch: pytest.MonkeyPatch):
    broken = own_model(summary="a | b\n<b>c</b>")
    monkeypatch.setattr(checkpoints, "describe", lambda: [broken])
    assert r"| a \| b &lt;b&gt;c&lt;/b&gt; | 32 |" in about.text("en")


def test_a_broken_checkpoint_says_what_is_wrong_and_one_of_the_hub_that_it_is_fetched(
    monkeypatch: pytest.MonkeyPatch,
):
    rows = [
        own_model(available=False, problem="Its files are missing."),
        own_model(available=False, problem="Is fetched.", source="Hub: me/mine"),
    ]
    monkeypatch.setattr(checkpoints, "describe", lambda: rows)
    english, chinese = about.text("en"), about.text("zh")
    assert "| Its files are missing. |" in english
    assert "| Hub: me/mine, fetched when it is first used |" in english
    assert "| Hub: me/mine，首次使用时下载 |" in chinese


@pytest.mark.parametrize(
    ("device", "shown"),
    [
        ("CPU, 2 threads", "CPU，2 个线程"),
        ("CPU, 1 thread", "CPU, 1 thread"),
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3"),
    ],
)
def test_the_device_is_named_in_the_language(
    device: str, shown: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(devices, "describe_device", lambda: device)
    assert shown in about.text("zh")
    assert device in about.text("en")


def test_the_limits_and_the_versions_stand_on_the_page():
    page = about.text()
    assert "8 pictures of a colour or 64 digits, 250 steps" in page
    for name in ("Python 3.", "torch ", "diffusers ", "open_clip_torch ", "gradio "):
        assert re.search(re.escape(name) + r"\d", page)
    assert "8 张彩色图像或 64 个数字，250 步" in about.text("zh")


def test_the_about_tab_follows_its_opening_and_the_language():
    with gr.Blocks() as demo:
        language = gr.Radio([(name, key) for key, name in i18n.LANGUAGES.items()], value="zh")
        with gr.Tab("About") as tab:
            about.build(tab, language)
    (filled,) = [f for f in demo.fns.values() if f.fn is about.text]
    assert set(filled.targets) == {(tab._id, "select"), (language._id, "change")}
    assert filled.inputs == [language]
