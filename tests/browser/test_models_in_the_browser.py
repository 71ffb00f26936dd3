"""A model of the user's own, on the page."""

from __future__ import annotations

from pathlib import Path

import pytest
from diffusers import DDPMScheduler
from playwright.sync_api import Browser, expect

from tests.browser.visits import facts_in, hasten, visit
from tests.conftest import serve
from tests.fakes.tiny_pictures import stock_unet


@pytest.mark.usefixtures("tiny_checkpoints")
def test_a_model_of_the_users_own_is_offered_and_paints(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    stock_unet(sample_size=32).save_pretrained(tmp_path / "cats" / "unet")
    DDPMScheduler().save_pretrained(tmp_path / "cats" / "scheduler")
    monkeypatch.setenv("STUDIO_CHECKPOINTS", f"my-cats={tmp_path / 'cats'}")
    with serve() as url:
        for tab in ("Colour", "Text"):
            found = visit(browser, url, tab=tab)
            hasten(found)
            found.part("model").get_by_label("my-cats").check()
            found.finish("gold")
            expect(found.status).to_contain_text("seed 0, my-cats")
            size = "img => [img.naturalWidth, img.naturalHeight]"
            assert found.tiles.first.evaluate(size) == [32, 32]
            saved = found.save(tmp_path / f"{tab}.png")
            assert facts_in(saved)["settings"]["model"] == "my-cats"
            found.leave()
