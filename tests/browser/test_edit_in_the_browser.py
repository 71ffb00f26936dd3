"""The Edit tab: a picture is brought, painted on by mouse, finger and keys, and edited."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, expect

from pipelines.core import images
from tests.browser.visits import (
    NARROW,
    WIDE,
    Visit,
    arrive,
    facts_in,
    hasten,
    keep_screenshot,
    set_slider,
    visit,
)

SIZE = (96, 64)
RED, BLUE = (200, 30, 30), (30, 60, 200)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture that is red at the left and blue at the right."""
    picture = Image.new("RGB", SIZE, RED)
    picture.paste(BLUE, (SIZE[0] // 2, 0, *SIZE))
    picture.save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def studio(browser: Browser, served: str) -> Iterator[Visit]:
    """The Edit tab in a wide window."""
    found = edit_tab(browser, served)
    yield found
    found.leave()


def edit_tab(browser: Browser, served: str, **options: object) -> Visit:
    found = visit(browser, served, tab="Edit", **options)  # pyright: ignore[reportArgumentType]
    found.page.locator(".easel").wait_for()
    return found


def canvas(found: Visit) -> Locator:
    return found.page.locator(".easel canvas")


def bring(found: Visit, path: Path) -> None:
    """Opens a file in the canvas, and waits until it is a setting."""
    before = held(found, "changed")
    found.page.locator("#canvas-file").set_input_files(path)
    expect(canvas(found)).to_be_visible()
    until(found, lambda: held(found, "changed") != before)


def held(found: Visit, name: str) -> str:
    """What a hidden field of the tab holds."""
    return found.part(name).locator("input, textarea").input_value()


def until(found: Visit, ready: Callable[[], bool], tries: int = 100) -> None:
    for _ in range(tries):
        if ready():
            return
        found.page.wait_for_timeout(50)
    raise AssertionError("it did not become so")


def picture_in(found: Visit) -> Image.Image:
    return images.from_data_uri(held(found, "image"))


def mask_in(found: Visit) -> np.ndarray:
    """The mask as numbers `(h, w)`; all 0 if there is none."""
    address = held(found, "mask")
    if not address:
        return np.zeros((SIZE[1], SIZE[0]), np.uint8)
    return np.asarray(images.from_data_uri(address).convert("L"))


def place(found: Visit, x: float, y: float) -> tuple[float, float]:
    """Where on the screen a point of the picture is, given as shares of it."""
    canvas(found).scroll_into_view_if_needed()
    box = canvas(found).bounding_box()
    assert box
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def drag(found: Visit, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draws a line with the mouse, and waits until it is a setting."""
    before = held(found, "changed")
    mouse = found.page.mouse
    mouse.move(*place(found, *start))
    mouse.down()
    mouse.move(*place(found, *end), steps=6)
    mouse.up()
    until(found, lambda: held(found, "changed") != before)


def press(found: Visit, name: str) -> None:
    before = held(found, "changed")
    found.part(name).click()
    until(found, lambda: held(found, "changed") != before)


def keys(found: Visit, *names: str) -> None:
    before = held(found, "changed")
    canvas(found).focus()
    for name in names:
        found.page.keyboard.press(name)
    until(found, lambda: held(found, "changed") != before)


def choose(found: Visit, tool: str) -> None:
    found.part("tool").get_by_label(tool).check()


def send_file(found: Visit, kind: str, path: Path, target: str) -> None:
    """Drops or pastes a file."""
    found.page.evaluate(
        """([kind, data, name, target]) => {
          const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));
          const files = new DataTransfer();
          files.items.add(new File([bytes], name, {type: 'image/png'}));
          const options = {bubbles: true, cancelable: true};
          const event = kind === 'paste'
            ? new ClipboardEvent('paste', {...options, clipboardData: files})
            : new DragEvent(kind, {...options, dataTransfer: files});
          document.querySelector(target).dispatchEvent(event);
        }""",
        [kind, base64.b64encode(path.read_bytes()).decode(), path.name, target],
    )


def test_a_picture_is_brought_by_button_drop_and_paste(studio: Visit, photo: Path, tmp_path: Path):
    with studio.page.expect_file_chooser() as chooser:
        studio.page.locator(".easel .empty").click()
    chooser.value.set_files(photo)
    until(studio, lambda: bool(held(studio, "image")))
    assert picture_in(studio).size == SIZE
    assert picture_in(studio).convert("RGB").getpixel((3, 3)) == RED
    for kind, size, target in (("drop", (40, 30), ".easel"), ("paste", (50, 20), "body")):
        Image.new("RGB", size, BLUE).save(tmp_path / "other.png")
        send_file(studio, kind, tmp_path / "other.png", target)
        until(studio, lambda size=size: picture_in(studio).size == size)
    press(studio, "undo")
    press(studio, "undo")
    until(studio, lambda: picture_in(studio).size == SIZE)
    assert studio.page.locator("#notice p").count() == 0, "no saved picture was opened"


def test_a_photograph_is_turned_upright_shrunk_and_loses_its_metadata(
    studio: Visit, tmp_path: Path
):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    Image.new("RGB", (2400, 1200), RED).save(tmp_path / "photo.jpg", exif=exif)
    bring(studio, tmp_path / "photo.jpg")
    assert picture_in(studio).size == (512, 1024)
    assert not picture_in(studio).getexif()
    assert b"Camera" not in base64.b64decode(held(studio, "image").partition(",")[2])
    expect(studio.page.locator(".easel .note")).to_contain_text("1200 × 2400 px")


def test_transparency_is_kept(studio: Visit, tmp_path: Path):
    picture = Image.new("RGBA", (40, 40), (*RED, 255))
    picture.paste((0, 0, 0, 0), (0, 0, 20, 40))
    picture.save(tmp_path / "emoji.png")
    bring(studio, tmp_path / "emoji.png")
    assert picture_in(studio).getpixel((5, 5)) == (0, 0, 0, 0)
    assert picture_in(studio).getpixel((30, 5)) == (*RED, 255)
    facts, note = studio.page.locator(".easel .facts"), studio.page.locator(".easel .note")
    expect(facts).to_contain_text("“Fill in” draws what is transparent")
    drag(studio, (0.8, 0.5), (0.9, 0.5))
    expect(note).to_contain_text("What is transparent is marked too")
    expect(facts).to_contain_text("% marked")


def test_what_cannot_be_used_is_told_in_one_sentence_and_nothing_is_lost(
    studio: Visit, photo: Path, tmp_path: Path
):
    bring(studio, photo)
    before, told = held(studio, "image"), studio.page.locator(".easel .error")
    Image.new("RGB", (200, 12), RED).save(tmp_path / "thin.png")
    (tmp_path / "torn.png").write_bytes(photo.read_bytes()[:60])
    (tmp_path / "photo.heic").write_bytes(bytes(4) + b"ftypheic" + bytes(99))
    (tmp_path / "words.txt").write_text("words")
    (tmp_path / "large.png").write_bytes(photo.read_bytes() + bytes(11 * 2**20))
    for name, sentence in {
        "thin.png": "at least 16 px wide and high, got 200 × 12 px",
        "torn.png": "torn.png is no picture that this browser can read",
        "photo.heic": "photo.heic is no picture that this browser can read",
        "words.txt": "words.txt is no picture that this browser can read",
        "large.png": "at most 10 MB, got 11.1 MB",
    }.items():
        studio.page.locator("#canvas-file").set_input_files(tmp_path / name)
        expect(told).to_contain_text(sentence)
        assert held(studio, "image") == before
    bring(studio, photo)
    expect(told).to_have_text("")
    studio.page.locator("#canvas-file").set_input_files(tmp_path / "words.txt")
    expect(told).to_contain_text("words.txt")
    studio.part("draw").click()
    expect(told).to_have_text("")
    refusal = studio.page.locator("[data-testid=toast-body]")
    expect(refusal).to_contain_text("Paint over what is to be drawn anew: nothing is marked yet.")


def test_the_mouse_paints_erases_inverts_and_takes_back(studio: Visit, photo: Path):
    bring(studio, photo)
    assert held(studio, "mask") == ""
    drag(studio, (0.2, 0.5), (0.4, 0.5))
    painted = mask_in(studio)
    assert painted.shape == (SIZE[1], SIZE[0])
    assert painted[32, 30] == 255
    assert painted[5, 80] == 0
    assert set(np.unique(painted)) == {0, 255}, "no soft edge, so that what is kept is known"
    expect(studio.part("chips")).to_contain_text("Mask")
    choose(studio, "Eraser")
    drag(studio, (0.3, 0.4), (0.3, 0.6))
    erased = mask_in(studio)
    assert erased[32, 29] == 0
    assert erased[32, 20] == 255
    press(studio, "invert")
    assert np.array_equal(mask_in(studio), 255 - erased)
    press(studio, "undo")
    press(studio, "undo")
    assert np.array_equal(mask_in(studio), painted)
    press(studio, "redo")
    assert np.array_equal(mask_in(studio), erased)
    press(studio, "clear")
    assert held(studio, "mask") == ""
    expect(studio.part("chips").locator(".chip")).to_have_count(0)


def test_grey_is_in_between(studio: Visit, photo: Path):
    bring(studio, photo)
    set_slider(studio.page, "edit-amount", 40)
    drag(studio, (0.2, 0.5), (0.6, 0.5))
    assert mask_in(studio)[32, 40] == 102
    keep_screenshot(studio.page, "edit-grey")


def test_a_chip_takes_the_mask_back_and_the_canvas_follows(studio: Visit, photo: Path):
    bring(studio, photo)
    drag(studio, (0.2, 0.5), (0.4, 0.5))
    studio.part("chips").locator("button[data-name=mask]").click()
    expect(studio.page.locator(".easel .facts")).to_contain_text("nothing marked")
    drag(studio, (0.8, 0.5), (0.9, 0.5))
    assert mask_in(studio)[32, 30] == 0, "the old mark does not come back"


def test_keys_paint_without_a_mouse(studio: Visit, photo: Path):
    bring(studio, photo)
    expect(canvas(studio)).to_be_focused()
    keys(studio, "Shift+ArrowRight", "Space")
    stamped = mask_in(studio)
    assert stamped[32, 48 + 16] == 255
    assert stamped[32, 20] == 0
    studio.page.keyboard.down("Enter")
    for _ in range(3):
        studio.page.keyboard.press("Shift+ArrowLeft")
    before = held(studio, "changed")
    studio.page.keyboard.up("Enter")
    until(studio, lambda: held(studio, "changed") != before)
    assert mask_in(studio)[32, 30] == 255, "a line while it is held"
    keys(studio, "Control+z")
    assert np.array_equal(mask_in(studio), stamped)
    keys(studio, "Control+Shift+Z")
    assert mask_in(studio)[32, 30] == 255
    studio.page.keyboard.press("e")
    expect(studio.part("tool").get_by_label("Eraser")).to_be_checked()
    studio.page.keyboard.press("]")
    expect(studio.number("size")).to_have_value("11")
    keys(studio, "i")
    keys(studio, "Delete")
    assert held(studio, "mask") == ""


def test_a_finger_paints_on_a_phone_and_the_page_scrolls_beside_the_canvas(
    browser: Browser, served: str, photo: Path
):
    context = browser.new_context(
        viewport={"width": NARROW[0], "height": NARROW[1]}, has_touch=True, is_mobile=True
    )
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(served)
    page.wait_for_function("window.studio?.canvas")
    found = Visit(page, "Edit")
    found.watch(served)
    page.locator("button[role=tab][data-tab-id=edit]").click()
    page.locator(".easel").wait_for()
    bring(found, photo)
    x, y = place(found, 0.5, 0.5)
    before, touch = held(found, "changed"), context.new_cdp_session(page)
    for kind, points in (
        ("touchStart", [{"x": x, "y": y}]),
        ("touchMove", [{"x": x + 40, "y": y + 3}]),
        ("touchEnd", []),
    ):
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    until(found, lambda: held(found, "changed") != before)
    assert mask_in(found)[33, 52] == 255
    action = "element => getComputedStyle(element).touchAction"
    assert canvas(found).evaluate(action) == "none"
    assert page.locator(".wish").last.evaluate(action) == "auto"
    assert found.width() == NARROW[0]
    heights = page.locator(".canvas-row button:visible").evaluate_all(
        "all => all.map(button => button.getBoundingClientRect().height)"
    )
    assert heights
    assert min(heights) >= 40
    keep_screenshot(page, "edit-phone")
    found.leave()
    context.close()


def test_a_border_is_added_transparent_or_marked(studio: Visit, photo: Path):
    bring(studio, photo)
    press(studio, "border")
    assert picture_in(studio).size == (144, 96)
    assert picture_in(studio).getpixel((2, 2)) == (0, 0, 0, 0)
    assert picture_in(studio).convert("RGB").getpixel((30, 20)) == RED
    assert held(studio, "mask") == ""
    press(studio, "undo")
    drag(studio, (0.4, 0.5), (0.5, 0.5))
    press(studio, "border")
    mask = mask_in(studio)
    assert mask.shape == (96, 144)
    assert mask[2, 2] == 255
    assert mask[48, 24 + 44] == 255
    assert mask[20, 30] == 0
    told = studio.page.locator(".easel .note")
    expect(told).to_contain_text("There is a border now")
    press(studio, "undo")
    expect(told).to_have_text("")


def test_undo_stops_at_the_first_picture(studio: Visit, photo: Path):
    bring(studio, photo)
    expect(studio.part("undo")).to_have_attribute("aria-disabled", "true")
    canvas(studio).focus()
    studio.page.keyboard.press("Control+z")
    studio.part("undo").click(force=True)
    expect(canvas(studio)).to_be_visible()
    drag(studio, (0.2, 0.5), (0.4, 0.5))
    expect(studio.part("undo")).to_have_attribute("aria-disabled", "false")
    press(studio, "undo")
    assert picture_in(studio).size == SIZE
    expect(studio.part("redo")).to_have_attribute("aria-disabled", "false")


def test_a_border_of_a_large_picture_makes_it_smaller_first(studio: Visit, tmp_path: Path):
    Image.new("RGB", (1000, 500), RED).save(tmp_path / "large.png")
    bring(studio, tmp_path / "large.png")
    press(studio, "border")
    width, height = picture_in(studio).size
    assert 1000 < width <= 1024
    assert abs(width / height - 2) < 0.02
    expect(studio.page.locator(".easel .note")).to_contain_text("made smaller")


def test_colours_are_taken_from_the_picture(studio: Visit, photo: Path):
    bring(studio, photo)
    studio.unfold("more")
    choose(studio, "Pick a colour")
    studio.page.mouse.click(*place(studio, 0.9, 0.5))
    color = studio.part("color").locator("input, textarea")
    expect(color).to_have_value(images.to_hex(BLUE))
    expect(studio.part("chips")).to_contain_text("Mean colour")
    press(studio, "take-palette")
    palette = studio.part("palette").locator("input, textarea")
    expect(palette).to_have_value("#C81E1E 50, #1E3CC8 50")


def test_a_colour_is_picked_before_its_control_is_unfolded(studio: Visit, photo: Path):
    bring(studio, photo)
    choose(studio, "Pick a colour")
    studio.page.mouse.click(*place(studio, 0.9, 0.5))
    expect(studio.part("chips")).to_contain_text("Mean colour")
    studio.unfold("more")
    expect(studio.part("color").locator("input, textarea")).to_have_value(images.to_hex(BLUE))


def test_the_square_moves_and_grows_by_pointer_and_keys(studio: Visit, tmp_path: Path):
    Image.effect_noise((200, 100), 60).save(tmp_path / "wide.png")
    bring(studio, tmp_path / "wide.png")
    studio.unfold("more")
    crop = studio.part("crop").locator("input, textarea")
    expect(crop).to_have_value("")
    choose(studio, "Square")
    drag(studio, (0.5, 0.5), (0.75, 0.5))
    expect(crop).to_have_value("100, 0, 100")
    drag(studio, (0.5, 0.0), (0.75, 0.5))
    expect(crop).to_have_value("150, 50, 50")
    keys(studio, "ArrowLeft", "Shift+ArrowUp")
    expect(crop).to_have_value("147, 26, 50")
    keys(studio, "[")
    expect(crop).to_have_value("152, 31, 40")
    crop.fill("10, 20, 30")
    expect(studio.part("chips")).to_contain_text("10, 20, 30")
    studio.page.wait_for_timeout(400)  # the canvas follows what is typed
    keys(studio, "ArrowRight")
    expect(crop).to_have_value("13, 20, 30")
    studio.part("chips").locator("button[data-name=crop]").click()
    expect(crop).to_have_value("")


def test_a_task_shows_what_it_has_and_keeps_everything(studio: Visit, photo: Path):
    bring(studio, photo)
    drag(studio, (0.2, 0.5), (0.4, 0.5))
    before = held(studio, "image"), held(studio, "mask")
    for task, sentence, shown in (
        ("Restyle", "in the manner of the model", "strength"),
        ("Sharpen", "tiny or badly blurred pictures", "factor"),
        ("Vary", "neighbours", "strength"),
        ("Colour in", "light and dark", ""),
        ("Fill in", "keeps the rest", ""),
    ):
        studio.part("task").get_by_label(task).check()
        expect(studio.part("task")).to_contain_text(sentence)
        for name in ("strength", "factor"):
            expect(studio.part(name)).to_be_visible(visible=name == shown)
    assert (held(studio, "image"), held(studio, "mask")) == before


def test_nothing_of_the_picture_is_sent_before_paint(studio: Visit, photo: Path):
    sent: list[str] = []
    studio.page.on("request", lambda r: sent.append(r.post_data or ""))
    bring(studio, photo)
    drag(studio, (0.2, 0.5), (0.4, 0.5))
    studio.part("task").get_by_label("Restyle").check()
    expect(studio.part("task")).to_contain_text("in the manner of the model")
    assert not any("data:image" in body for body in sent)


def fill_in(found: Visit, photo: Path) -> None:
    """Marks a part of the picture, and draws it anew in few steps."""
    bring(found, photo)
    drag(found, (0.4, 0.5), (0.6, 0.5))
    set_slider(found.page, "edit-num-inference-steps", 3)
    with found.drawn_anew():
        found.part("draw").click()


def test_what_is_not_marked_comes_back_to_the_bit_and_the_file_brings_it_back(
    tiny_checkpoints: Path, studio: Visit, photo: Path, tmp_path: Path
):
    fill_in(studio, photo)
    mask, given = mask_in(studio), np.asarray(Image.open(photo))
    saved = studio.save(tmp_path / "edited.png")
    edited = np.asarray(Image.open(saved).convert("RGB"))
    assert edited.shape == given.shape
    assert np.array_equal(edited[mask == 0], given[mask == 0])
    assert not np.array_equal(edited[mask > 0], given[mask > 0])
    alts = studio.tiles.evaluate_all("all => all.map(image => image.alt)")
    assert alts == ["The edited picture", "The picture as it was"]
    expect(studio.part("scores")).to_contain_text("of 255")
    keep_screenshot(studio.page, "edit")
    studio.page.reload()
    studio.page.wait_for_function("window.studio")
    studio.open_file(saved)
    expect(studio.status).to_contain_text("Brought back")
    expect(canvas(studio)).to_be_visible()
    expect(studio.page.locator(".easel .facts")).to_contain_text("96 × 64 px")
    drag(studio, (0.1, 0.1), (0.12, 0.1))
    assert np.array_equal(np.asarray(picture_in(studio).convert("RGB")), given)
    assert np.array_equal(mask_in(studio)[20:], mask[20:]), "the mask of the file is there too"


def test_with_live_on_letting_the_brush_go_draws_what_the_canvas_shows(
    tiny_checkpoints: Path, studio: Visit, photo: Path, begun: list[str], tmp_path: Path
):
    set_slider(studio.page, "edit-num-inference-steps", 3)
    studio.part("live").locator("input").check()
    bring(studio, photo)
    studio.page.wait_for_timeout(500)
    assert not begun, "nothing is marked yet"
    with studio.drawn_anew():
        drag(studio, (0.4, 0.5), (0.6, 0.5))
    mask = mask_in(studio)
    with studio.drawn_anew():
        drag(studio, (0.4, 0.2), (0.6, 0.2))
    settings = facts_in(studio.save(tmp_path / "live.png"))["settings"]
    drawn = np.asarray(images.from_data_uri(settings["mask"]).convert("L"))
    assert np.array_equal(drawn, mask_in(studio))
    assert not np.array_equal(drawn, mask)
    assert len(begun) == 2
    with studio.drawn_anew():
        press(studio, "undo")
    assert len(begun) == 3
    studio.part("live").locator("input").uncheck()
    press(studio, "redo")
    studio.page.wait_for_timeout(500)
    assert len(begun) == 3, "live is off"


def test_a_result_is_saved_without_the_picture_that_it_came_from(
    tiny_checkpoints: Path, studio: Visit, photo: Path, tmp_path: Path
):
    fill_in(studio, photo)
    saved = studio.save(tmp_path / "private.png", "private")
    settings = facts_in(saved)["settings"]
    assert settings["image"].startswith("sha256:")
    assert settings["mask"].startswith("sha256:")
    assert b"data:image" not in saved.read_bytes()
    studio.open_file(saved)
    expect(studio.page.locator("#notice")).to_contain_text("left out of this file")


def test_every_result_can_be_edited(tiny_checkpoints: Path, browser: Browser, served: str):
    found = visit(browser, served, tab="Colour")
    expect(found.page.locator("#color-result .edit-this")).to_have_count(0)
    hasten(found)
    found.finish()
    source = found.sources()[0]
    found.page.locator("#color-result .edit-this").click()
    found.tab = "Edit"
    expect(canvas(found)).to_be_visible()
    expect(canvas(found)).to_be_focused()
    until(found, lambda: bool(held(found, "image")))
    assert picture_in(found).convert("RGB").tobytes() == images.from_data_uri(source).tobytes()
    assert held(found, "mask") == ""
    drag(found, (0.2, 0.5), (0.6, 0.5))
    set_slider(found.page, "edit-num-inference-steps", 3)
    with found.drawn_anew():
        found.part("draw").click()
    edited = found.sources()[0]
    found.page.locator("#edit-result .edit-this").click()
    until(found, lambda: held(found, "mask") == "")
    assert picture_in(found).convert("RGB").tobytes() == images.from_data_uri(edited).tobytes()
    found.leave()


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("dark", [False, True])
def test_the_tab_speaks_every_language_and_fits_a_phone(
    browser: Browser, served: str, photo: Path, language: str, dark: bool
):
    query = f"?lang={language}&__theme={'dark' if dark else 'light'}"
    found = arrive(browser, served, query, NARROW, dark)
    found.open_tab("Edit")
    found.page.locator(".easel").wait_for()
    keep_screenshot(found.page, f"edit-empty-{language}-{dark}")
    bring(found, photo)
    drag(found, (0.2, 0.5), (0.6, 0.5))
    facts = {"en": "marked", "zh": "已涂抹"}[language]
    expect(found.page.locator(".easel .facts")).to_contain_text(facts)
    label = {"en": "The picture to edit", "zh": "要编辑的图片"}[language]
    assert (canvas(found).get_attribute("aria-label") or "").startswith(label)
    assert found.width() == NARROW[0]
    keep_screenshot(found.page, f"edit-{language}-{dark}")
    found.leave()


@pytest.mark.parametrize(
    ("locale", "size", "words"),
    [
        ("en-GB", WIDE, ("Drop a picture here", "The picture to edit", "Arrow keys")),
        ("zh-CN", NARROW, ("把图片拖到这里", "要编辑的图片", "方向键")),
    ],
)
def test_the_empty_canvas_says_what_to_do_at_first_load_on_a_slow_page(
    browser: Browser, served: str, locale: str, size: tuple[int, int], words: tuple[str, str, str]
):
    page = browser.new_page(
        viewport={"width": size[0], "height": size[1]}, locale=locale, reduced_motion="reduce"
    )
    page.set_default_timeout(60_000)
    page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": 4})
    found = Visit(page, "Edit")
    found.watch(served)
    page.goto(served)
    page.locator("button[role=tab]").first.wait_for()
    found.open_tab("Edit")
    empty, label, help_line = words
    expect(page.locator(".easel .empty")).to_contain_text(empty)
    expect(page.locator(".easel canvas")).to_have_attribute("aria-label", re.compile(f"^{label}"))
    expect(page.locator("#canvas-help")).to_contain_text(help_line)
    found.leave()
