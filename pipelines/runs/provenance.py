"""What a finished run leaves behind: the facts inside a picture, and a link; and the way back.

A picture carries everything that is needed to draw it again as one JSON text entry; a link carries
the same as a query. Both come from anywhere, so nothing in them is believed before it is checked.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import torch
from PIL import Image
from torch import Tensor

from pipelines.core import images
from pipelines.core.errors import UserError
from pipelines.core.rules import (
    Real,
    Whole,
    rule,
    show,
    validate,
)
from pipelines.models import checkpoints
from pipelines.runs.comparison import Preview
from pipelines.runs.history import History, Moment

PreviewT = TypeVar("PreviewT", bound=Preview)

STUDIO_VERSION = "0.2.0"
PRODUCTS: dict[str, type[Any]] = {}
"""Settings of each product by the name of its tab; `pipelines.products` fills it."""

MAX_LINK = 6000
"""Characters of a query that every browser and server takes."""

_PACKAGES = ("torch", "diffusers", "open_clip_torch")
_SHOWN = ("pictures", "unguided")
_OF_MOMENTS = ("noisy", "predicted", "change")
# What examples written by version 0.2 call some of it.
_RENAMED = {"sureness": "confidence", "unguided_sureness": "unguided_confidence"}
_COLUMNS = 12  # of the sheet of an example
_MAX_FILE_PX = 8192
_MAX_TEXT = 4_000_000


class RecordError(UserError):
    """A file or a link cannot be taken back in; the message is one sentence for people."""


@dataclass(frozen=True)
class Record:
    """A run as a picture or a link tells of it.

    Attributes:
        tab: key of `PRODUCTS`.
        settings: checked.
        revision: of the weights it was drawn with; empty if unknown.
        facts: all that the picture says.
    """

    tab: str
    settings: Any
    revision: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


def tab_of(settings: Any) -> str:
    """The product that settings belong to."""
    return next(tab for tab, kind in PRODUCTS.items() if isinstance(settings, kind))


def versions() -> dict[str, str]:
    """Of what draws: with others, or on another device, pixels may differ in their last bit."""
    found = {"studio": STUDIO_VERSION, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def facts_of(preview: Preview) -> dict[str, Any]:
    """What a picture says of the run that drew it, besides its scores."""
    return {
        "tab": tab_of(preview.settings),
        "model": preview.model,
        "revision": preview.revision,
        "settings": dataclasses.asdict(preview.settings),
        "versions": versions(),
    }


def read(path: str | Path) -> Record:
    """The run that drew a picture.

    Raises:
        RecordError: if it is no picture, has no facts inside, or those of something else.
        SettingsError: if a setting inside is wrong.
    """
    return from_facts(read_facts(path))


def read_facts(path: str | Path) -> dict[str, Any]:
    """All that a picture says of itself, as it stands there.

    Raises:
        RecordError: if it is no picture, or says nothing that can be understood.
    """
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            if max(picture.size) > _MAX_FILE_PX:
                raise RecordError("record_too_large", got=max(picture.size), most=_MAX_FILE_PX)
            picture.load()  # text may stand behind the pixels
            text = picture.info.get(images.METADATA_KEY)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise RecordError("record_no_png") from None
    if text is None:
        raise RecordError("record_no_facts")
    try:
        facts = json.loads(text) if len(text) <= _MAX_TEXT else None
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise RecordError("record_damaged")
    return facts


def from_facts(facts: Mapping[str, Any]) -> Record:
    """The run that facts tell of.

    Raises:
        RecordError: if they are not of a run of this studio.
        SettingsError: if a setting is wrong.
    """
    given = facts.get("settings")
    if not isinstance(given, dict):
        raise RecordError("record_damaged")
    # Pictures saved before there was such an entry are told by what only they can be told.
    tab = facts.get("tab") or next((t for t in _TELLING if _TELLING[t] in given), "")
    revision = facts.get("revision")
    return Record(
        tab=_known_tab(tab),
        settings=_settings(_known_tab(tab), given),
        revision=revision if isinstance(revision, str) else "",
        facts=facts,
    )


_TELLING = {"text": "prompt", "digits": "digits", "color": "color"}


def to_query(settings: Any, revision: str = "") -> str:
    """Settings as the query of a link: what is not at its default, and the seed.

    Raises:
        RecordError: if they do not fit into one, as pictures do not.
    """
    given = {
        f.name: getattr(settings, f.name)
        for f in dataclasses.fields(settings)
        if f.name == "seed" or getattr(settings, f.name) != f.default
    }
    named = {"tab": tab_of(settings), **given} | ({"rev": revision} if revision else {})
    query = urlencode(named)
    if len(query) > MAX_LINK:
        raise RecordError("record_link_too_long", got=len(query), most=MAX_LINK)
    return query


def from_query(query: Mapping[str, str]) -> Record | None:
    """The run that a link tells of; None if it tells of none.

    Raises:
        RecordError: if it names a tab or a setting that there is not.
        SettingsError: if a setting is wrong.
    """
    if "tab" not in query:
        return None
    tab = _known_tab(query["tab"])
    kind = PRODUCTS[tab]
    names = {f.name for f in dataclasses.fields(kind)}
    given = {n: _typed(kind, n, v) for n, v in query.items() if n in names}
    return Record(tab=tab, settings=_settings(tab, given), revision=query.get("rev", ""))


def _typed(kind: type[Any], name: str, text: str) -> Any:
    """A value of a query as the type of its setting; what is no number is left to the rules."""
    number = {Whole: int, Real: float}
    wanted = next((number[r] for r in number if isinstance(rule(kind, name), r)), str)
    try:
        return wanted(text)
    except ValueError:
        return text


def _known_tab(tab: Any) -> str:
    if not isinstance(tab, str) or tab not in PRODUCTS:
        raise RecordError("record_tab", accepted=", ".join(PRODUCTS), got=show(tab))
    return tab


def _settings(tab: str, given: Mapping[str, Any]) -> Any:
    kind = PRODUCTS[tab]
    unknown = set(given) - {f.name for f in dataclasses.fields(kind)}
    if unknown:
        raise RecordError("record_unknown", got=show(min(unknown)), tab=tab)
    return validate(kind(**given))


def revision_here(found: Record) -> str:
    """Of the weights that would draw a record's run now; empty if that is not known."""
    model = getattr(found.settings, "model", None) or f"digits-{found.settings.conditioning}"
    row = next((row for row in checkpoints.describe() if row["key"] == model), None)
    return row["revision"] if row else ""


def save_example(preview: Any, facts: Mapping[str, Any], path: Path) -> None:
    """Writes a finished run with all that is shown of it as one PNG, a sheet of tiles.

    Args:
        preview: finished.
        facts: what a saved picture of it says.
        path: of the file.
    """
    moments = preview.history.moments
    tiles = [picture for name in _SHOWN for picture in getattr(preview, name)]
    tiles += [tile for m in moments for name in _OF_MOMENTS for tile in getattr(m, name)]
    kept = {f.name for f in dataclasses.fields(preview)} - {*_SHOWN, "settings", "history"}
    shown = {
        "preview": {name: getattr(preview, name) for name in sorted(kept)},
        "mode": preview.pictures[0].mode,
        "moments": [[m.step, m.t] for m in moments],
        "gradients": preview.history.gradients,
        "largest_change": preview.history.largest_change,
    }
    sheet = images.grid([t.convert("RGB") for t in tiles], columns=_COLUMNS, gap=0)
    path.write_bytes(images.to_png(images.with_metadata(sheet, {**facts, "shown": shown})))


def load_example(path: Path, kind: type[PreviewT]) -> PreviewT:
    """The finished run that `save_example` wrote.

    Args:
        path: of the file, one of this repository's.
        kind: of preview.

    Raises:
        RecordError: if it is missing or damaged.
    """
    facts = read_facts(path)
    found = from_facts(facts)
    try:
        return _rebuilt(facts["shown"], found, path, kind)
    except (KeyError, TypeError, ValueError, StopIteration):
        raise RecordError("record_damaged") from None


def _rebuilt(shown: Any, found: Record, path: Path, kind: type[PreviewT]) -> PreviewT:
    count = getattr(found.settings, "num_images", 0) or len(found.settings.digits)
    number = (len(_SHOWN) + len(_OF_MOMENTS) * len(shown["moments"])) * count
    with Image.open(path) as sheet:
        side = sheet.width // min(_COLUMNS, number)
        tiles = _cut(sheet.convert(shown["mode"]), side)
        heat_tiles = _cut(sheet.convert("RGB"), side)
    pictures, unguided = tiles[:count], tiles[count : 2 * count]
    history = History(gradients=shown["gradients"], largest_change=shown["largest_change"])
    for i, (step, t) in enumerate(shown["moments"]):
        first = (len(_SHOWN) + len(_OF_MOMENTS) * i) * count
        noisy, predicted = tiles[first : first + count], tiles[first + count : first + 2 * count]
        change = heat_tiles[first + 2 * count : first + 3 * count]
        history.moments.append(Moment(step, t, noisy, predicted, change))
        history.frames.append(torch.cat([_pixels(picture) for picture in predicted]))
    stored: dict[str, Any] = shown["preview"]
    facts = {_RENAMED.get(name, name): value for name, value in stored.items()}
    return kind(
        **facts,
        pictures=pictures,
        unguided=unguided,
        settings=found.settings,
        history=history,
    )


def _cut(sheet: Image.Image, side: int) -> list[Image.Image]:
    places = itertools.product(range(0, sheet.height, side), range(0, sheet.width, side))
    return [sheet.crop((left, top, left + side, top + side)) for top, left in places]


def _pixels(picture: Image.Image) -> Tensor:
    """`(1, c, h, w)`, 8 bits."""
    pixels = images.to_uint8(images.to_tensor(picture))
    return pixels[:, :1] if picture.mode == "L" else pixels
