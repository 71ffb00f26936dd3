"""That a page in Chinese is all Chinese, and that languages touch neither pictures nor callers."""

from __future__ import annotations

import re

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tabs import i18n
from tests.browser.test_studio_in_the_browser import VISIBLE, english_only
from tests.browser.visits import DRAWING, TABS, arrive, set_slider, visit

NAMED = """() => [...document.querySelectorAll('[aria-label], [alt], [placeholder], [title]')]
  .filter(e => e.checkVisibility() && !e.closest('footer'))
  .flatMap(e => ['aria-label', 'alt', 'placeholder', 'title'].map(n => e.getAttribute(n)))
  .filter(Boolean)"""


def fragments() -> set[str]:
    """Parts of English sentences, between their places and signs, that no Chinese one has."""
    chinese = " ".join(i18n.table("zh").values())
    pieces = {
        piece.strip()
        for said in english_only()
        for piece in re.split(r"\{\w+\}|\*\*|`[^`]*`|[.:;,()]|\n", said)
    }
    return {p for p in pieces if len(p) > 8 and " " in p and p not in chinese}


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.parametrize("tab", DRAWING)
def test_no_english_of_the_tables_is_left_on_a_chinese_page(
    browser: Browser, served: str, tab: str
):
    found = visit(browser, served, tab=tab, locale="zh-CN")
    expect(found.part("draw")).to_have_text(i18n.translate("zh", f"{TABS[tab]}.run"))
    set_slider(found.page, f"{TABS[tab]}-num-inference-steps", 4)
    found.finish(said="完成")
    found.unfold("sweep", "explain", "advanced", *([] if tab == "Digits" else ["more"]))
    shown = set(found.page.evaluate(VISIBLE)) | set(found.page.evaluate(NAMED))
    whole = english_only() & shown
    assert not whole
    left = {(piece, text) for text in shown for piece in fragments() if piece in text}
    assert not left
    found.leave()


@pytest.mark.parametrize("query", ["?tab=about", "?tab=about&lang=zh"], ids=["browser", "link"])
def test_the_about_tab_is_chinese_also_for_one_who_arrives_there(
    browser: Browser, served: str, query: str
):
    locale = "en-GB" if "lang" in query else "zh-CN"
    found = arrive(browser, served, query, locale=locale)
    about = found.page.locator("#about-text")
    expect(about.locator("h2").first).to_have_text(re.compile("[一-鿿]"), timeout=10_000)
    left = {(piece, t) for t in found.page.evaluate(VISIBLE) for piece in fragments() if piece in t}
    assert not left
    found.leave()


@pytest.mark.usefixtures("tiny_checkpoints")
def test_an_english_page_turned_chinese_translates_a_stopped_or_restored_run(
    browser: Browser, served: str
):
    found = arrive(browser, served, "?tab=digits&digits=77&num_inference_steps=3&seed=5")
    found.tab = "Digits"
    expect(found.status).to_contain_text("Brought back")
    found.page.locator("#language").get_by_label("中文").check()
    expect(found.part("draw")).to_have_text(i18n.translate("zh", "digits.run"))
    expect(found.text).to_have_value("77")
    expect(found.number("seed")).to_have_value("5")
    found.finish(said="完成")
    found.page.locator("#language").get_by_label("English").check()
    expect(found.status).to_contain_text("Done in")
    assert (
        found.tiles.evaluate_all("all => all.map(img => img.alt)")
        == [
            "Handwritten digit 7",
            "The same seed without guidance",
        ]
        * 2
    )
    found.leave()


def test_callers_find_the_same_api_in_every_language(served: str):
    english, chinese = (
        httpx.get(served + "gradio_api/info", headers={"Accept-Language": language}).json()
        for language in ("en-GB", "zh-CN")
    )
    assert english["named_endpoints"]
    assert english == chinese
