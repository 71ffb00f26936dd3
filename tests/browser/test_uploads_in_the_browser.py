"""Files that cannot be used: told below their control in the language of the page."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from tabs import i18n
from tests.browser.visits import arrive

KINDS = ".png,.jpg,.jpeg,.webp,.gif,.bmp,.tif,.tiff,.avif"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    good = tmp_path / "good.png"
    Image.effect_noise((60, 60), 90).save(good)
    (tmp_path / "torn.png").write_bytes(good.read_bytes()[:60])
    (tmp_path / "photo.heic").write_bytes(bytes(4) + b"ftypheic" + bytes(99))
    (tmp_path / "large.png").write_bytes(good.read_bytes() + bytes(11 * 2**20))
    return tmp_path


@pytest.mark.parametrize("language", i18n.LANGUAGES)
def test_a_file_that_cannot_be_used_is_told_at_its_control_and_the_one_before_stays(
    browser: Browser, served: str, files: Path, language: str
):
    found = arrive(browser, served, f"?tab=text&lang={language}")
    found.tab = "Text"
    found.unfold("more")
    control, told = found.part("image-prompt"), found.part("image-prompt-message")
    upload, shown = control.locator("input[type=file]"), control.locator("img")
    with found.page.expect_file_chooser() as chooser:
        control.locator("button").last.click()
    assert upload.get_attribute("accept") == KINDS
    chooser.value.set_files(files / "good.png")
    expect(shown).to_have_count(1)
    before = shown.get_attribute("src")
    label = i18n.translate(language, "setting.image_prompt")
    damaged = i18n.table(language).get("error.damaged_picture", "a damaged picture")
    upload.set_input_files(files / "torn.png")
    expect(told).to_contain_text(f"“{label}”")
    expect(told).to_contain_text(damaged)
    for name, part in (("photo.heic", "photo.heic"), ("large.png", "10 MB")):
        upload.set_input_files(files / name)
        refused = found.page.locator(".upload-refused")
        expect(refused).to_have_count(1)
        expect(refused).to_contain_text(f"“{label}”")
        expect(refused).to_contain_text(part)
        expect(told).to_be_hidden()
    expect(found.page.get_by_test_id("toast-body")).to_have_count(0)
    expect(shown).to_have_count(1)
    assert shown.get_attribute("src") == before
    upload.set_input_files(files / "good.png")
    expect(found.page.locator(".upload-refused")).to_have_count(0)
    expect(told.locator("p")).to_have_count(0)
    found.leave()
