"""The controls of a product's settings, each laid out as its setting declares it."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.context import get_blocks_context

from pipelines.core import images
from pipelines.core.rules import MAX_SEED, declared, is_picture, rule
from pipelines.runs.product import Product
from tabs import common, i18n, uploads
from tabs.i18n import Translatable

WISH, MAIN = "wish", "main"
"""Groups of settings that do not unfold: beside the buttons, and below them."""

Controls = dict[str, Component]
Custom = Mapping[str, Callable[[], Component]]
"""Functions that lay out the control of a setting, in place of the one that it declares."""


def layout(product: Product, group: str, custom: Custom) -> Controls:
    """Lays out the controls of a group of settings; call inside `gr.Blocks`.

    Args:
        product: whose settings they are.
        group: as the settings declare it.
        custom: see `Custom`.
    """
    names = names_of(product, group)
    with _unfolding(product, group) if group not in (WISH, MAIN) else nullcontext():
        return {name: custom.get(name, lambda n=name: control(product, n))() for name in names}


def names_of(product: Product, group: str) -> list[str]:
    """Returns the names of the settings in a group, in their order."""
    fields = dataclasses.fields(product.settings)
    return [f.name for f in fields if f.metadata["group"] == group]


def text_of_tab(product: Product) -> str:
    """Returns the name of the first wish that is written, or else of the first; or empty."""
    wishes = names_of(product, WISH)
    written = [name for name in wishes if rule(product.settings, name).control == "text"]
    return next(iter([*written, *wishes]), "")


def thumbnails(product: Product) -> dict[str, Any]:
    """Returns the texts with the thumbnails of pictures by the name of their setting."""
    names = [f.name for f in dataclasses.fields(product.settings)]
    pictures = [name for name in names if is_picture(product.settings, name)]
    return {name: laid_out(thumbnail_id(product, name)) for name in pictures}


def sections(product: Product) -> dict[str, Any]:
    """Returns the parts of a tab that unfold, by the group of their settings, once laid out."""
    return {group: laid_out(section_id(product, group)) for group in groups(product)}


def section_id(product: Product, group: str) -> str:
    """Returns the element id of the part of a tab that unfolds."""
    return product.prefix + group


def section_title(product: Product, group: str, language: str, count: int) -> str:
    """Returns the title of a part that unfolds, with the number of its settings that are set."""
    title = i18n.translate(language, i18n.key_of(product, "group", group))
    if not count:
        return title
    return i18n.translate(language, "chips.count", title=title, count=count)


def groups(product: Product) -> list[str]:
    """Returns the groups of a product that unfold, the advanced one last."""
    found = dict.fromkeys(f.metadata["group"] for f in dataclasses.fields(product.settings))
    return sorted((g for g in found if g not in (WISH, MAIN)), key=lambda g: g == "advanced")


@contextmanager
def _unfolding(product: Product, group: str) -> Iterator[None]:
    title = Translatable(i18n.key_of(product, "group", group))
    with gr.Accordion(title, open=False, elem_id=section_id(product, group)):
        help_key = f"{product.name}.group_help.{group}"
        if help_key in i18n.table(i18n.DEFAULT):
            gr.Markdown(Translatable(help_key))
        yield


def control(product: Product, name: str, **options: Any) -> Component:
    """Returns the control of a setting.

    Args:
        product: that has the setting.
        name: of the setting.
        options: of the component, in place of those that follow from the setting.
    """
    make = _MAKERS[rule(product.settings, name).control]
    return make(product, name, texts(product, name) | options)


def texts(product: Product, name: str) -> dict[str, Any]:
    """Returns label, help and element id of a setting's control, as options of a component."""
    found: dict[str, Any] = {
        "label": Translatable(i18n.key_of(product, "setting", name)),
        "elem_id": element_id(product, name),
    }
    if declared(product.settings, name).metadata["help"]:
        found["info"] = Translatable(i18n.key_of(product, "info", name))
    return found


def element_id(product: Product, name: str) -> str:
    """Returns the element id of a setting's control; the first wish in words is the tab's text."""
    if name == text_of_tab(product):
        return f"{product.prefix}text"
    # `stop` is that of the Stop button.
    return product.prefix + {"stop": "guide-until"}.get(name, name.replace("_", "-"))


class Slider(gr.Slider, metaclass=uploads.WithoutStub):
    """Like `gr.Slider`, but events get any number; the rule of the setting says what is wrong.

    Its ends follow from other settings, so a value may come before the ends that it fits.
    """

    is_template = True  # the page shows it as its parent

    def preprocess(self, payload: Any) -> Any:
        """Returns the value as it came."""
        return payload


def _slider(product: Product, name: str, options: dict[str, Any]) -> gr.Slider:
    bounds, default = rule(product.settings, name), getattr(product.settings, name)
    usual = {
        "minimum": min(bounds.minimum, default),  # -1 is off
        "maximum": bounds.maximum,
        "value": default,
        "step": bounds.step,
    }
    return Slider(**usual | options)


def _radio(product: Product, name: str, options: dict[str, Any]) -> gr.Radio:
    names, default = rule(product.settings, name).options, getattr(product.settings, name)
    return gr.Radio(**{"choices": labelled(names), "value": default} | options)


def labelled(names: tuple[str, ...]) -> list[tuple[str, str]]:
    """Returns `(label, name)` pairs; a name without a translation is its own label."""
    known = i18n.table(i18n.DEFAULT)
    return [(Translatable(f"choice.{n}") if f"choice.{n}" in known else n, n) for n in names]


def _text(product: Product, name: str, options: dict[str, Any]) -> gr.Textbox:
    return gr.Textbox(**{"value": getattr(product.settings, name)} | options)


def _picture(product: Product, name: str, options: dict[str, Any]) -> gr.Image:
    """Lays out an upload, and the text that holds its thumbnail; see `assets/studio.js`."""
    options.pop("info", None)
    gr.Textbox("", visible=False, elem_id=thumbnail_id(product, name))
    return uploads.picture_upload(**options)


def thumbnail_id(product: Product, name: str) -> str:
    """Returns the element id of the text with the thumbnail of a picture, as a data address."""
    return f"{element_id(product, name)}-thumbnail"


def _seed(product: Product, name: str, options: dict[str, Any]) -> gr.Number:
    """Lays out a seed field, and a button that puts a random seed into it."""
    with gr.Row(equal_height=True, elem_classes="seed-row"):
        default = getattr(product.settings, name)
        seed = gr.Number(**{"value": default, "min_width": 120} | options)
        button = gr.Button(
            Translatable("shared.new_seed"),
            size="sm",
            elem_id=f"{product.prefix}new-seed",
            min_width=100,
        )
    button.click(random_seed, outputs=seed, **common.INSTANT_EVENT)
    return seed


_MAKERS: dict[str, Callable[[Product, str, dict[str, Any]], Component]] = {
    "slider": _slider,
    "radio": _radio,
    "text": _text,
    "picture": _picture,
    "seed": _seed,
}


def laid_out(elem_id: str) -> Any:
    """Returns the component with an element id, of the app that is being laid out."""
    context = get_blocks_context()
    blocks = context.blocks.values() if context else ()
    return next(block for block in blocks if block.elem_id == elem_id)


def random_seed() -> int:
    """Returns a random seed for the seed field."""
    return secrets.randbelow(MAX_SEED + 1)


def update(settings: Any, name: str, control: Component | None = None) -> dict[str, Any]:
    """Returns the update that sets a control to the value of its setting.

    Args:
        settings: checked.
        name: of the setting.
        control: that of the setting; a text holds the address of a picture.
    """
    value = getattr(settings, name)
    if is_picture(type(settings), name) and not isinstance(control, gr.Textbox):
        value = images.from_data_uri(value) if value else None
    return gr.update(value=value)
