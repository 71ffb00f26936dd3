"""What is known of each picture, and the sentences that a conditional model reads of it."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from datasets import ClassLabel, Dataset

from training.core import captions, held_out
from training.core.data import LABEL
from training.core.sidecars import TEXT

Told = Mapping[str, Any]
"""Facts of a picture; `kind` says which: emoji, painting, label, text; empty is nothing."""

_WRITTEN = ("captions", "caption", TEXT)
_COLUMNS = {
    "emoji": ("set", "name", "keywords", "category"),
    "painting": ("artist", "title", "style", "genre"),
}
_KINDS = {"emoji": "emoji", "paintings": "painting"}
_LABELS = {"scenes": captions.SCENES, "flowers": captions.FLOWERS}
_TRIES = 4
_ANIMALS = "Animals & Nature"
GROUND_SHARE = 0.2
"""How often the colour behind a picture is told."""

# Titles that say so are left out, and so is that genre: the model is not taught these words.
_NUDITY = re.compile(
    r"\b(nudes?|nudity|naked|bathers?|bathing|odalisques?|undress\w*|topless|erotic\w*|breasts?|"
    r"nus?|nue|desnud\w*|nackt\w*|leda|danae|venus|susanna)\b",
    re.IGNORECASE,
)


def tell(data: Dataset, name: str) -> list[str]:
    """Returns what is known of each row of a data set, as JSON; empty texts for nothing.

    Args:
        data: with the columns of a known data set, with `captions`, `caption` or `text`, or with
            classes as `label`.
        name: Hub id or name of a local folder.
    """
    kind = _KINDS.get(held_out.kind_of(name), "")
    if kind and set(_COLUMNS[kind]) <= set(data.column_names):
        return [_json(kind, row) for row in data.select_columns(list(_COLUMNS[kind]))]
    written = next((column for column in _WRITTEN if column in data.column_names), "")
    if written:
        return [_json("text", {"texts": _texts(value)}) for value in data[written]]
    if LABEL in data.column_names:
        return [_json("text", {"texts": texts}) for texts in _class_names(data, name)]
    return [""] * len(data)


def _json(kind: str, row: Any) -> str:
    facts = {"kind": kind, **row}
    return json.dumps(facts) if facts.get("texts", True) else ""


def _texts(value: Any) -> list[str]:
    several = value if isinstance(value, list) else [value]
    return [text.strip(" .") for text in several if isinstance(text, str) and text.strip(" .")]


def _class_names(data: Dataset, name: str) -> list[list[str]]:
    """What people call the class of each row."""
    kind, known = data.features[LABEL], _LABELS.get(name)
    if known is not None:
        return [list(known.get(label, ())) for label in data[LABEL]]
    if not isinstance(kind, ClassLabel):
        return [[]] * len(data)
    names = [name.replace("_", " ").replace("-", " ").strip() for name in kind.names]
    named = [[f"a {name}", name] if name and not name.isdigit() else [] for name in names]
    return [named[label] if label is not None and label >= 0 else [] for label in data[LABEL]]


def read(told: str) -> Told:
    """Returns the facts of one row that `tell` wrote."""
    return json.loads(told) if told else {"kind": ""}


def name_of(told: Told) -> str:
    """Returns what pictures have in common that are drawings of the same; empty if nothing."""
    return held_out.normalised(told["name"]) if told["kind"] == "emoji" else ""


def sentence(
    told: Told, colors: Sequence[str], ground: str, turned: bool, chance: random.Random
) -> str:
    """Returns one sentence on a picture, never a held-out wording; empty if nothing is known.

    Args:
        told: facts of the picture.
        colors: names of its colours, those that fill most first.
        ground: name of the colour behind it; empty if it has none.
        turned: whether its hues were turned, so that its name may say a wrong colour.
        chance: decides which facts are told, and how.
    """
    held = held_out.load()
    for _ in range(_TRIES):
        said = _said(told, colors, turned, chance)
        if said and ground and chance.random() < GROUND_SHARE:
            said += f" on a {ground} {chance.choice(('background', 'ground'))}"
        if not held.has_wording(said):
            return said
    return told.get("name", "")


def _said(told: Told, colors: Sequence[str], turned: bool, chance: random.Random) -> str:
    match told["kind"]:
        case "emoji":
            return emoji(told, colors, turned, chance)
        case "painting":
            return captions.painting(decent(told), colors, chance)
        case "text":
            return chance.choice(told["texts"])
    return ""


def emoji(told: Told, colors: Sequence[str], turned: bool, chance: random.Random) -> str:
    """Returns one sentence on an emoji: mostly its plain name, often its colour."""
    lot = chance.random()
    words = [word for word in told["keywords"] if word.isascii()]
    name = _everyday(told) if chance.random() < 0.35 else plain_name(told)
    if colors and (turned or lot < 0.3):
        color = chance.choice((colors[0], colors[0].split()[-1]))
        name = f"{color} {captions.without_color(name)}"
    elif words and lot < 0.4:
        name = ", ".join([name, *chance.sample(words, min(2, len(words)))])
    elif words and lot < 0.48:
        name = chance.choice(words)
    named = with_article(name) if chance.random() < 0.65 else name
    return chance.choice(("{}", "{}", "an emoji of {}", "a drawing of {}")).format(named)


def phrase(told: Told, colors: Sequence[str], turned: bool, chance: random.Random) -> str:
    """Returns what an emoji is in a few words, without an article: "red heart", "cat"."""
    name = _everyday(told)
    plain = captions.without_color(name)
    if not colors or (not turned and chance.random() < 0.4):
        return name if not turned else plain
    return f"{colors[0].split()[-1]} {plain}"


def plain_name(told: Told) -> str:
    """Returns the name of an emoji; of an animal's face that of the animal."""
    is_animal = told["category"] == _ANIMALS
    return told["name"].removesuffix(" face") if is_animal else told["name"]


def _everyday(told: Told) -> str:
    """What people would call an emoji, or its name where there is no such word."""
    everyday = captions.everyday(told)
    if not everyday or (everyday == "face" and told["category"] == _ANIMALS):
        return plain_name(told)
    return everyday


def with_article(name: str) -> str:
    """Returns a name after "a" or "an", a plural as it is."""
    if name.endswith("s") and not name.endswith(("ss", "us")):
        return name
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def decent(told: Told) -> Told:
    """Returns the facts of a painting without those that speak of nudity."""
    changed = dict(told)
    if told["genre"] == "nude_painting":
        changed["genre"] = None
    if _NUDITY.search(told["title"] or ""):
        changed["title"] = None
    return changed
