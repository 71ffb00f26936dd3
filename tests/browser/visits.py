"""What the browser tests share: a Chromium, a visit to the page, and the hands of a visitor."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from pipelines.core import images

ARGUMENTS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
]
TIMEOUT_MS = 60_000
WIDE, NARROW = (1280, 900), (390, 844)
TABS = {"Colour": "color", "Text": "text", "Digits": "digits", "Edit": "edit", "About": "about"}
DRAWING = ("Colour", "Text", "Digits")
_MAKING_MS = 500


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's, or else Playwright's own."""
    system = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=system, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page at one of its tabs, and everything about it that must not happen."""

    page: Page
    tab: str
    problems: list[str] = field(default_factory=list)

    def watch(self, served: str) -> None:
        self.page.on("pageerror", lambda error: self.problems.append(f"page error: {error}"))
        self.page.on(
            "console",
            lambda m: self.problems.append(f"console: {m.text}") if m.type == "error" else None,
        )
        own = (served, "data:", "blob:", served.replace("http", "ws"))
        self.page.on(
            "request",
            lambda r: None if r.url.startswith(own) else self.problems.append(f"foreign: {r.url}"),
        )

    def part(self, name: str) -> Locator:
        """A component of the tab."""
        return self.page.locator(f"#{TABS[self.tab]}-{name}")

    def open_tab(self, tab: str) -> None:
        """Goes to a tab, whatever the language calls it."""
        self.page.locator(f"button[role=tab][data-tab-id={TABS[tab]}]").click()
        self.tab = tab
        self.part("text").first.wait_for()

    def unfold(self, *names: str) -> None:
        """Opens accordions."""
        for name in names:
            button = self.part(name).get_by_role("button").first
            if "open" not in str(button.get_attribute("class")).split():
                button.click()
                # What is in it is only made now, and its first values overwrite what is typed
                # in the very first moment, sooner than anybody could.
                self.page.wait_for_timeout(_MAKING_MS)

    @property
    def status(self) -> Locator:
        return self.part("status")

    @property
    def tiles(self) -> Locator:
        return self.part("result").locator("img")

    @property
    def text(self) -> Locator:
        return self.part("text").locator("input, textarea")

    def number(self, name: str) -> Locator:
        """The field of a slider or a number."""
        return self.part(name).locator("input[type=number]")

    def draw(self, wish: str) -> None:
        self.text.fill(wish)
        self.part("draw").click()

    def finish(self, wish: str | None = None, said: str = "Done in") -> None:
        """Draws, and waits until that is done."""
        with self.drawn_anew(said):
            if wish is not None:
                self.text.fill(wish)
            self.part("draw").click()

    @contextmanager
    def drawn_anew(self, said: str = "Done in") -> Iterator[None]:
        """Waits until a run is done that what is done inside begins."""
        self.status.locator("p").evaluate("line => line.classList.add('of-before')")
        yield
        expect(self.status.locator("p:not(.of-before)")).to_contain_text(said)

    def open_file(self, path: Path) -> None:
        """Opens a saved picture with the button above the tabs."""
        self.page.locator("#tools input[type=file]").set_input_files(path)

    def sources(self) -> list[str]:
        """What the pictures are."""
        return self.tiles.evaluate_all("all => all.map(img => img.src)")

    def width(self) -> int:
        """How wide the page is, with what one would have to scroll to."""
        return self.page.evaluate("document.documentElement.scrollWidth")

    def save(self, path: Path, button: str = "download") -> Path:
        """Downloads what a button offers."""
        with self.page.expect_download() as download:
            self.part(button).click()
        download.value.save_as(path)
        return path

    def leave(self) -> None:
        self.page.close()
        assert not self.problems


def visit(
    browser: Browser,
    served: str,
    size: tuple[int, int] = WIDE,
    dark: bool = False,
    tab: str = "Digits",
    locale: str = "en-GB",
) -> Visit:
    """A new visitor at a tab; `locale` is the language of the browser."""
    found = arrive(browser, served, f"?__theme={'dark' if dark else 'light'}", size, dark, locale)
    found.open_tab(tab)
    return found


def arrive(
    browser: Browser,
    served: str,
    query: str = "",
    size: tuple[int, int] = WIDE,
    dark: bool = False,
    locale: str = "en-GB",
) -> Visit:
    """A new visitor at an address, as the page opens there."""
    page = browser.new_page(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        accept_downloads=True,
        locale=locale,
        reduced_motion="reduce",  # a browser without a card spends its time on moving borders
    )
    page.set_default_timeout(TIMEOUT_MS)
    expect.set_options(timeout=TIMEOUT_MS)
    found = Visit(page, "Colour")
    found.watch(served)
    page.goto(served + query)
    page.locator("button[role=tab]").first.wait_for()
    page.wait_for_function("window.studio")  # until then nothing that is dropped is taken
    return found


def hasten(found: Visit, steps: int = 4) -> None:
    """Few steps, by the fast method."""
    set_slider(found.page, f"{TABS[found.tab]}-num-inference-steps", steps)
    if found.tab != "Digits":
        found.part("method").get_by_label("fast").check()
        expect(found.part("method")).to_contain_text("fast solver")


def set_slider(page: Page, elem_id: str, value: float) -> None:
    number = page.locator(f"#{elem_id} input[type=number]")
    number.fill(str(value))
    number.press("Tab")


def pixels_of(source: str) -> bytes:
    """The pixels of a picture of the page, without its record."""
    return images.from_data_uri(source).tobytes()


def facts_in(path: Path) -> dict[str, Any]:
    """What a saved picture says of itself."""
    with Image.open(path) as picture:
        picture.load()
        return json.loads(picture.info[images.METADATA_KEY])


def keep_screenshot(shown: Page | Locator, name: str, *, whole: bool = True) -> None:
    """Saves what a person would see, if `STUDIO_SCREENSHOTS` names a folder (`make pictures`).

    Args:
        shown: a page, or a part of one.
        name: of the file.
        whole: with what one would have to scroll to.
    """
    if folder := os.environ.get("STUDIO_SCREENSHOTS"):
        path = Path(folder) / f"{name}.png"
        if isinstance(shown, Page):
            shown.screenshot(path=path, full_page=whole)
        else:
            shown.screenshot(path=path)
