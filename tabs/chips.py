"""What is in force over the button that draws: a chip for every setting that one may overlook.

Nothing is listed here. A setting is overlooked easily unless it stands among the main ones, is the
first wish of its tab or the first in words, or a wish with a slider or buttons; whether it is in
force follows from what it declares.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import gradio as gr

from pipelines.core import images
from pipelines.core.rules import (
    SettingsError,
    in_force,
    is_picture,
    is_set,
    overruled_by,
    rule,
    show,
    without_effect,
)
from pipelines.runs.product import Product
from tabs import controls, i18n

_SIDE_PX = 48
_LONGEST_ADDRESS = 40_000
_ADDRESS = re.compile(r"data:image/png;base64,[A-Za-z0-9+/=]+")

_SCRIPT = """
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-name]');
  if (button) trigger('click', {name: button.dataset.name});
});
"""


@dataclass(frozen=True)
class Held:
    """What the controls of a tab hold.

    Attributes:
        settings: checked one by one; the default where a control holds what is not accepted, and a
            thumbnail in place of each picture.
        wrong: what is not accepted, by name.
    """

    settings: Any
    wrong: dict[str, Any] = field(default_factory=dict)


def held(product: Product, values: dict[str, Any]) -> Held:
    """Returns what controls hold, from their values by name; pictures are thumbnails."""
    checked, wrong = {}, {}
    for setting in fields(product.settings):
        value = values[setting.name]
        if is_picture(product.settings, setting.name):
            checked[setting.name] = value if isinstance(value, str) else ""
            continue
        try:
            checked[setting.name] = rule(product.settings, setting.name).check(setting.name, value)
        except SettingsError:
            wrong[setting.name] = value
    return Held(product.settings(**checked), wrong)


def thumbnail(address: str) -> str:
    """Returns a picture as a small one in a data address; empty stays empty."""
    if not address:
        return ""
    picture = images.from_data_uri(address)
    picture.thumbnail((_SIDE_PX, _SIDE_PX))
    return images.to_data_uri(picture)


def build(product: Product) -> gr.HTML:
    """Lays out the place of the chips; call inside `gr.Blocks`."""
    return gr.HTML(js_on_load=_SCRIPT, elem_id=f"{product.prefix}chips")


def count(product: Product, group: str, found: Held) -> int:
    """Returns how many settings of a group are set."""
    names = controls.names_of(product, group)
    return sum(name in found.wrong or is_set(found.settings, name) for name in names)


def overlooked(product: Product) -> list[str]:
    """Returns the names of the settings that one does not see anyway."""
    wishes = controls.names_of(product, controls.WISH)
    seen = {*wishes[:1], controls.text_of_tab(product)}
    seen |= {n for n in wishes if rule(product.settings, n).control in ("radio", "slider")}
    seen |= {*controls.names_of(product, controls.MAIN)}
    return [f.name for f in fields(product.settings) if f.name not in seen]


def chips(product: Product, found: Held, language: str) -> str:
    """Returns the chips as HTML, and a line for each setting that leaves others without effect.

    Empty if nothing is set.
    """
    shown = {*in_force(found.settings), *found.wrong}
    names = [name for name in overlooked(product) if name in shown]
    items = "".join(f'<li class="chip">{_chip(product, found, n, language)}</li>' for n in names)
    label = html.escape(i18n.translate(language, "chips.title"))
    row = f'<ul class="chips" aria-label="{label}">{items}</ul>' if items else ""
    return row + _lines(product, found, language)


def _chip(product: Product, found: Held, name: str, language: str) -> str:
    """Returns name and value of a setting, and the button that takes it back."""
    remove = i18n.translate(language, "chips.remove", name=_inside(product, language, name))
    remove = html.escape(remove)
    return (
        f"<span>{html.escape(_title(product, found, name, language))}</span>"
        f"{_value(product, found, name, language)}"
        f'<button type="button" data-name="{name}" aria-label="{remove}" title="{remove}">'
        '<span aria-hidden="true">✕</span></button>'
    )


def _title(product: Product, found: Held, name: str, language: str) -> str:
    """Returns the name of a setting, and what it stands in place of, if it is a wish."""
    wishes = controls.names_of(product, controls.WISH)
    title = i18n.short_name(product, language, name)
    for wish in wishes:
        if overruled_by(found.settings, wish) == name:
            other = _inside(product, language, wish)
            return i18n.translate(language, "chips.instead", name=title, other=other)
    return title


def _lines(product: Product, found: Held, language: str) -> str:
    """Returns what is set in vain, as HTML: one line per setting that overrules it."""
    vain = without_effect(found.settings)
    names = [name for name in overlooked(product) if name in vain and name not in found.wrong]
    lines = []
    for other in dict.fromkeys(vain[name] for name in names):
        texts = [i18n.short_name(product, language, n) for n in names if vain[n] == other]
        overruling = f"{i18n.short_name(product, language, other)} {_text(found, other, language)}"
        line = i18n.translate(
            language, "chips.in_vain", names=texts, other=" ".join(overruling.split())
        )
        lines.append(f'<p class="in-vain">{html.escape(line)}</p>')
    return "".join(lines)


def _inside(product: Product, language: str, name: str) -> str:
    """Returns the name of a setting as it stands inside a sentence; acronyms stay capital."""
    text = i18n.short_name(product, language, name)
    return text if text[:2].isupper() else text[:1].lower() + text[1:]


def _value(product: Product, found: Held, name: str, language: str) -> str:
    """Returns the value of a setting as HTML: a picture, colours, or a text."""
    if name in found.wrong:
        return _short(show(found.wrong[name]))
    value = getattr(found.settings, name)
    if is_picture(product.settings, name):
        is_shown = len(value) <= _LONGEST_ADDRESS and _ADDRESS.fullmatch(value)
        return f'<img src="{value}" alt="">' if is_shown else ""
    colors = rule(product.settings, name).colors(value)
    if colors:
        return _swatch(colors, value)
    return _short(_text(found, name, language))


def _short(text: str) -> str:
    escaped = html.escape(text)
    return f'<b title="{escaped}">{escaped}</b>'


def _swatch(colors: Sequence[tuple[str, float]], text: str) -> str:
    parts = "".join(f'<i style="background: {c}; flex-grow: {share:g}"></i>' for c, share in colors)
    escaped = html.escape(text)
    return (
        f'<span class="colors" role="img" aria-label="{escaped}" title="{escaped}">{parts}</span>'
    )


def _text(found: Held, name: str, language: str) -> str:
    """Returns the value of a setting as text; empty for pictures."""
    value = getattr(found.settings, name)
    if is_picture(found.settings, name):
        return ""
    if isinstance(value, str):
        known = f"choice.{value}" in i18n.table(i18n.DEFAULT)
        is_choice = rule(found.settings, name).control == "radio"
        return i18n.translate(language, f"choice.{value}") if is_choice and known else value
    return f"{value:g}"
