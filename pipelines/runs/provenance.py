"""The provenance of a picture: writes and reads its metadata, and links.

A picture carries everything that is needed to draw it again as one JSON text entry; a link carries
the same as a query. Both may come from anyone, so everything in them is checked.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode

import torch
from PIL import Image

from pipelines.core import devices, images, pictures
from pipelines.core.errors import Several, UserError
from pipelines.core.packages import installed
from pipelines.core.rules import as_before, is_needed_in_links, is_picture, show, validate
from pipelines.diffusion import plugins
from pipelines.models import checkpoints, ways
from pipelines.runs import links
from pipelines.runs.comparison import Preview

STUDIO_VERSION = "0.2.0"

MAX_LINK = 6000
"""Longest query, in characters, that every browser and server accepts."""

_PACKAGES = ("torch", "diffusers", "open_clip_torch", "openvino")
_BETWEEN_REVISIONS = "."  # in a link
_SHOWN_REVISION = 12
_HASH = "sha256:"
_WAY = re.compile(r"(PyTorch|OpenVINO) (fp32|fp16|bf16)")  # of this machine or of another

_MAX_FILE_PX = 8192
_MAX_FILE_AREA = 2**25
_MAX_FILE_BYTES = 50 * 2**20
_MAX_TEXT = 16_000_000


class RecordError(UserError):
    """A file or a link cannot be restored; the message is one sentence for users."""


@dataclass(frozen=True)
class Record:
    """A run, restored from a picture or a link.

    Attributes:
        tab: name of the product.
        settings: checked.
        revisions: of the weights that drew it, by key of the checkpoint; none that is unknown.
        facts: all metadata of the picture.
        picture: index and number of the pictures, if the settings draw more than this one.
        stopped: step, and number of steps, at which the run was stopped; None if it was not.
        problems: errors about values of a link that are left out.
    """

    tab: str
    settings: Any
    revisions: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    picture: tuple[int, int] | None = None
    stopped: tuple[int, int] | None = None
    problems: Sequence[UserError] = ()


@dataclass(frozen=True)
class OtherWeights:
    """A checkpoint that has other weights here than those that drew a picture.

    Attributes:
        key: of the checkpoint.
        needed: revision that drew the picture, as far as it is shown.
        here: revision on this machine, alike.
    """

    key: str
    needed: str
    here: str


class Recorded(Protocol):
    """What a record needs to know of a product; see `pipelines.runs.product.Product`."""

    @property
    def settings(self) -> type[Any]: ...
    @property
    def only_setting(self) -> str: ...
    @property
    def checkpoints(self) -> Callable[[Any], tuple[str, ...]]: ...


class Drawn(Protocol):
    """What was drawn, as far as a record tells: a preview, or a sweep."""

    @property
    def settings(self) -> Any: ...
    @property
    def model(self) -> str: ...
    @property
    def revision(self) -> str: ...
    @property
    def revisions(self) -> Mapping[str, str]: ...


_products: Mapping[str, Recorded] = {}


def register(products: Mapping[str, Recorded]) -> None:
    """Takes the products by name; later additions to the mapping count too."""
    global _products
    _products = products


def tab_of(settings: Any) -> str:
    """Returns the name of the product that settings belong to."""
    return next(name for name, p in _products.items() if isinstance(settings, p.settings))


def versions() -> dict[str, str]:
    """Returns the versions of the software; with others, pixels may differ in their last bit."""
    ours = {"studio": STUDIO_VERSION, "python": platform.python_version()}
    return ours | installed(_PACKAGES)


def facts_of(drawn: Drawn) -> dict[str, Any]:
    """Returns the metadata of the pictures of a run or a sweep, without their scores."""
    return {
        "tab": tab_of(drawn.settings),
        "model": drawn.model,
        "revision": drawn.revision,
        "revisions": drawn.revisions,
        "settings": _without_idle_plugins(drawn.settings),
        "versions": versions(),
        "computed": computed(getattr(drawn.settings, "computed_by", ways.MEASURED)),
    } | _own(plugins.used_by(drawn.settings))


def computed(by: str = ways.MEASURED) -> dict[str, Any]:
    """Returns how a run is computed; otherwise, pixels may differ in their last bit.

    Args:
        by: name of `ways.CHOICES`.
    """
    way = ways.asked(by, devices.device())
    return {"by": way.name, "threads": torch.get_num_threads()}


def computed_otherwise(record: Record) -> str:
    """Returns how the picture of a record was computed, if it would be otherwise here."""
    by = _computed_by(record.facts)
    asks = computed(getattr(record.settings, "computed_by", ways.MEASURED))["by"]
    return by if _WAY.fullmatch(by) and by != asks else ""


def _computed_by(facts: Mapping[str, Any]) -> str:
    """Returns the name of the way in which a picture was computed; empty if it is not told."""
    told, settings = facts.get("computed"), facts.get("settings")
    by = told.get("by") if isinstance(told, dict) else None
    if by is None and isinstance(settings, dict):
        by = settings.get("computed_by")
    return by if isinstance(by, str) else ""


def _as_computed(settings: Any, facts: Mapping[str, Any]) -> Any:
    """Returns settings that ask for the way in which a picture was computed, if it is possible."""
    by = _computed_by(facts)
    has_setting = any(field.name == "computed_by" for field in dataclasses.fields(settings))
    if by not in ways.possible(devices.device()) or not has_setting:
        return settings
    is_own = by == computed()["by"]
    return dataclasses.replace(settings, computed_by=ways.MEASURED if is_own else by)


def _own(used: Sequence[str]) -> dict[str, Any]:
    """Returns what metadata says of losses and methods of the user's own; nothing without."""
    return {"plugins": used, "plugin_files": plugins.files_of(used)} if used else {}


def changed_plugins(record: Record) -> list[str]:
    """Returns the losses and methods of the user's own that drew it from another file than here."""
    recorded = record.facts.get("plugin_files")
    return plugins.changed(recorded) if isinstance(recorded, dict) else []


def progress_of(preview: Preview) -> dict[str, Any]:
    """Returns how far a run got, as metadata; nothing of a finished one."""
    steps = {"step": preview.step, "of": preview.total_steps}
    return {} if preview.finished else {"stopped": steps}


def _without_idle_plugins(settings: Any) -> dict[str, Any]:
    """Returns settings by name, without losses of the user's own that are off."""
    values, own = dataclasses.asdict(settings), plugins.losses_of(settings)
    return {name: v for name, v in values.items() if name not in own or v}


def _check_plugins(used: Any) -> None:
    """Checks that the losses and methods of somebody's own that a run used are here too.

    Raises:
        RecordError: if one is not.
    """
    missing = [name for name in used if name not in plugins.names()]
    if missing:
        raise RecordError("record_plugin", got=show(missing[0]))


def without_pictures(settings: Any) -> dict[str, Any]:
    """Returns settings by name; in place of a picture stands its hash, and "" without one."""
    return {
        name: pictures.digest(value) if value and is_picture(type(settings), name) else value
        for name, value in dataclasses.asdict(settings).items()
    }


def with_hashes(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the metadata of a picture with hashes in place of the pictures in its settings."""
    kind = _products[facts["tab"]].settings
    settings = {
        name: pictures.digest(value) if value and is_picture(kind, name) else value
        for name, value in facts["settings"].items()
    }
    return {**facts, "settings": settings}


def read(path: str | Path) -> Record:
    """Reads the run that drew a picture.

    Raises:
        RecordError: if the file is not a picture, or has no metadata of this studio.
        SettingsError: if a setting in it is wrong.
    """
    return from_facts(read_facts(path))


def read_facts(path: str | Path) -> dict[str, Any]:
    """Reads all metadata of a picture; does not check it.

    Raises:
        RecordError: if the file is not a picture, or has no readable metadata.
    """
    text = _metadata_text(Path(path))
    if text is None:
        raise RecordError("record_no_facts")
    try:
        facts = json.loads(text) if len(text) <= _MAX_TEXT else None
        json.dumps(facts, ensure_ascii=False).encode()  # lone surrogates cannot be sent anywhere
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise RecordError("record_damaged")
    return facts


def _metadata_text(path: Path) -> str | None:
    """Returns the text entry of a PNG with its metadata, or None; measures the file first."""
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise RecordError("record_no_png")
        with Image.open(path, formats=("PNG",)) as picture:
            if max(picture.size) > _MAX_FILE_PX or picture.width * picture.height > _MAX_FILE_AREA:
                raise RecordError("record_too_large", got=max(picture.size), most=_MAX_FILE_PX)
            with pictures.decoding():
                picture.load()  # text may follow the pixels
            text = picture.info.get(images.METADATA_KEY)
    except UserError:
        raise
    except Exception as error:  # on damaged files Pillow raises nearly everything that there is
        raise RecordError("record_no_png") from error
    return text if isinstance(text, str) else None


def from_facts(facts: Mapping[str, Any]) -> Record:
    """Returns the run that metadata describes.

    Raises:
        RecordError: if it does not describe a run of this studio.
        SettingsError: if a setting is wrong.
    """
    values = facts.get("settings")
    if not isinstance(values, dict):
        raise RecordError("record_damaged")
    used = facts.get("plugins", [])
    _check_plugins(used if isinstance(used, list) else [])
    # Old pictures have no entry "tab"; a setting that only one tab has tells which one it was.
    tab = _known_tab(facts.get("tab") or _product_of_settings(values))
    settings = _as_computed(_settings(tab, _possible(values)), facts)
    revisions, stopped = _revisions(tab, settings, facts), _numbers(facts, "stopped", "step")
    picture = _numbers(facts, "picture", "index")  # drawn with the others: alone it may differ
    picture = picture if picture and picture[1] == settings.count else None
    return Record(tab, settings, revisions, facts, picture, stopped)


def _possible(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings by name, without a way to compute that this machine does not have."""
    by = values.get("computed_by")
    if by not in ways.WAYS or by in ways.possible(devices.device()):
        return dict(values)
    return {name: value for name, value in values.items() if name != "computed_by"}


def place_of(settings: Any, index: int) -> dict[str, Any]:
    """Returns which picture of a run one is, from 0, as metadata; nothing of the only one."""
    return {"picture": {"index": index, "of": settings.count}} if settings.count > 1 else {}


def _numbers(facts: Mapping[str, Any], entry: str, first: str) -> tuple[int, int] | None:
    """Returns two numbers of an entry, of which the first is less; None if there are none."""
    told = facts.get(entry)
    if not isinstance(told, dict):
        return None
    number, of = told.get(first), told.get("of")
    if not (isinstance(number, int) and isinstance(of, int)):
        return None
    return (number, of) if 0 <= number < of else None


def _revisions(tab: str, settings: Any, facts: Mapping[str, Any]) -> dict[str, str]:
    """Returns the revisions that metadata names, by key of the checkpoint."""
    told = facts.get("revisions")
    if not isinstance(told, dict):  # version 0.2 had an entry for each
        old = (facts.get("revision"), facts.get("clip_revision"))
        told = dict(zip(_checkpoints(tab, settings), old, strict=False))
    return {key: value for key, value in told.items() if value and isinstance(value, str)}


def _checkpoints(tab: str, settings: Any) -> tuple[str, ...]:
    return _products[tab].checkpoints(settings)


def _product_of_settings(values: Mapping[str, Any]) -> str:
    """Returns the product of settings by name, as far as they tell; empty if they tell none."""
    told = [name for name, product in _products.items() if product.only_setting in values]
    known = {n: {f.name for f in dataclasses.fields(_products[n].settings)} for n in told}
    return next((n for n in told if known[n] >= set(values)), next(iter(told), ""))


def to_query(
    settings: Any, revisions: Mapping[str, str] | None = None, *, stopped: int | None = None
) -> str:
    """Returns settings as the query of a link: the seed and all that differ from the default.

    Args:
        settings: checked.
        revisions: of the weights that drew the picture, by key of the checkpoint.
        stopped: step at which the run was stopped; None if it was not.

    Raises:
        RecordError: if the query is too long, for instance with a picture.
    """
    changed = {
        f.name: getattr(settings, f.name)
        for f in dataclasses.fields(settings)
        if f.name == "seed"
        or getattr(settings, f.name) != f.default
        or is_needed_in_links(settings, f.name)
    }
    entries = {"tab": tab_of(settings), **changed}
    told = [(revisions or {}).get(key, "") for key in _checkpoints(entries["tab"], settings)]
    if any(told):
        entries["rev"] = _BETWEEN_REVISIONS.join(told)
    if used := plugins.used_by(settings):
        entries["plugins"] = " ".join(used)
    if stopped is not None:
        entries["stopped"] = stopped
    query = urlencode(entries)
    if len(query) > MAX_LINK:
        raise RecordError("record_link_too_long", got=len(query), most=MAX_LINK)
    return query


def from_query(query: Mapping[str, str]) -> Record | None:
    """Returns the run that a link describes, without its wrong values; None if it describes none.

    Raises:
        RecordError: if it names an unknown tab.
    """
    if "tab" not in query:
        return None
    tab = _known_tab(query["tab"])
    _check_plugins(query.get("plugins", "").split())
    settings, problems = links.usable_settings(_products[tab].settings, query)
    told = query.get("rev", "").split(_BETWEEN_REVISIONS)
    revisions = dict(zip(_checkpoints(tab, settings), told, strict=False))
    return Record(
        tab,
        settings,
        {key: value for key, value in revisions.items() if value},
        stopped=_stopped_at(query.get("stopped", ""), settings),
        problems=problems,
    )


def _stopped_at(text: str, settings: Any) -> tuple[int, int] | None:
    """Returns step and number of steps of a link to a stopped run; None for any other."""
    total = settings.num_inference_steps
    is_step = text.isdecimal() and len(text) < 5 and int(text) < total
    return (int(text), total) if is_step else None


def _known_tab(tab: Any) -> str:
    if not isinstance(tab, str) or tab not in _products:
        raise RecordError("record_tab", accepted=Several(_products), got=show(tab))
    return tab


def check_has_tab(record: Record, tabs: Container[str]) -> None:
    """Checks that one of the tabs shown can show a run.

    Raises:
        RecordError: if its product has none.
    """
    if record.tab not in tabs:
        raise RecordError("record_without_tab", got=record.tab)


def _settings(tab: str, values: Mapping[str, Any]) -> Any:
    kind = _products[tab].settings
    unknown = set(values) - {f.name for f in dataclasses.fields(kind)}
    if unknown:
        raise RecordError("record_unknown", got=show(min(unknown)), tab=tab)
    for name, value in values.items():
        if is_picture(kind, name) and isinstance(value, str) and value.startswith(_HASH):
            raise RecordError("record_left_out", name=name)
    return as_before(validate(kind(**values)), values)


def other_weights(revisions: Mapping[str, str]) -> list[OtherWeights]:
    """Returns the checkpoints that have other weights here; none that is not on this machine.

    Args:
        revisions: of the weights that drew a picture, by key; the beginning of each is enough.
    """
    here = {row["key"]: row["revision"] for row in checkpoints.describe()}
    return [
        OtherWeights(key, needed[:_SHOWN_REVISION], here[key][:_SHOWN_REVISION])
        for key, needed in revisions.items()
        if here.get(key) and not here[key].startswith(needed)
    ]
