"""What a rule is, how a setting declares one, and `validate`, which applies them.

Settings are frozen dataclasses; each field carries a rule. Controls, API, links, sweeps and command
line all read from these rules what a setting accepts.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Sequence
from dataclasses import field
from typing import Any, ClassVar, Protocol, Self, TypeVar

MAX_SEED = 2**32 - 1
RANDOM_SEED = -1
NONE = "none"
"""What people write for an empty value, where several values are written in one text."""


class Rule(ABC):
    """The values that one setting accepts, and how they are written and chosen.

    Attributes:
        control: kind of the control: "slider", "radio", "text", "seed" or "picture".
        may_be_empty: whether "" is accepted, and is off.
        contains_commas: whether a value may contain commas, so that they separate no values.
    """

    control: ClassVar[str] = "text"
    may_be_empty: ClassVar[bool] = False
    contains_commas: ClassVar[bool] = False

    @abstractmethod
    def check(self, name: str, value: Any) -> Any:
        """Returns the value, converted to the type of the setting.

        Raises:
            SettingsError: one sentence that names the setting, what is accepted and what was given.
        """

    def parse(self, text: str) -> Any:
        """Returns the value that a text stands for; `check` refuses what stands for none."""
        return text

    def check_list(self, name: str, text: str) -> None:  # noqa: B027
        """Checks that a list of values can be read in one way alone.

        Args:
            name: of the setting.
            text: the list, with the commas, semicolons and points of ASCII.

        Raises:
            SettingsError: if its commas or points may mean two things.
        """

    def values(self, name: str, entry: str, most: int) -> list[Any]:
        """Returns the checked values that an entry of a list stands for; a range has several.

        Args:
            name: of the setting.
            entry: as people write it.
            most: values that a range may have.

        Raises:
            SettingsError: if a value is not accepted, or a range has too few or too many.
        """
        is_empty = entry == NONE and self.may_be_empty
        return [self.check(name, "" if is_empty else self.parse(entry))]

    @property
    @abstractmethod
    def accepts(self) -> str:
        """What is accepted, in a few English words for callers of the API."""

    def schema(self) -> dict[str, Any]:
        """Returns what JSON Schema can say of the accepted values, besides their type."""
        return {}

    def colors(self, value: Any) -> list[tuple[str, float]]:
        """Returns the colours `#RRGGBB` of a checked value, with shares of sum 1, if any."""
        return []

    @abstractmethod
    def suggestions(self, current: Any) -> Sequence[str]:
        """Returns a few values to compare with each other, as people write them.

        Args:
            current: value of the setting.
        """


def with_current(current: str, others: Sequence[str]) -> list[str]:
    """Returns the current value without separators of values, then the others."""
    first = " ".join(current.replace(";", ",").split()) or NONE
    return [first, *(other for other in others if other != first)]


Suggested = Sequence[str] | Callable[[Any], Sequence[str]]
"""Values to compare, as people write them, or a function from settings to them."""


Overruled = Callable[[Any], str]
"""A function from settings to the name of the one that leaves a setting without effect, or ""."""


def setting(
    default: Any,
    rule: Rule,
    label: str = "",
    help: str = "",
    *,
    short: str = "",
    group: str = "main",
    suggested: Suggested | None = None,
    in_sweeps: bool = True,
    needs: Sequence[str] = (),
    overruled: Overruled | None = None,
    absent: Any = None,
) -> Any:
    """Returns a dataclass field of a setting, from which control, API, link and sweep follow.

    Args:
        default: value where none is given.
        rule: what it accepts.
        label: English name for people; empty is the name of the setting in words.
        help: English line below the control, a few words; may be empty.
        short: English name where there is little room; empty is the label.
        group: part of the page that its control stands in: "wish", "main", or the name of a part
            that unfolds, "more", "advanced" or one of the product's own.
        suggested: values to compare in a sweep; None is what the rule suggests.
        in_sweeps: whether the setting can change along an axis of a sweep; pictures cannot.
        needs: names of settings of which at least one must be set, or this one has no part in a
            run; empty needs none.
        overruled: see `Overruled`; None is never.
        absent: what pictures and links without it mean, for they are older; None is the default.
    """
    metadata = {
        "rule": rule,
        "label": label,
        "help": help,
        "group": group,
        "suggested": suggested,
        "in_sweeps": in_sweeps and rule.control != "picture",
        "short": short,
        "needs": tuple(needs),
        "overruled": overruled,
        "absent": absent,
    }
    return field(default=default, metadata=metadata)


def meaning_of(settings: type[Any], name: str) -> str:
    """Returns what a setting means, as the docstring of its class says under `Attributes`.

    Without a docstring it is the label.
    """
    attributes = inspect.cleandoc(settings.__doc__ or "").partition("Attributes:\n")[2]
    found = re.search(rf"(?m)^    {name}: (.+(?:\n {{8,}}.+)*)", attributes)
    return " ".join(found[1].split()) if found else f"{label_of(settings, name)}."


def label_of(settings: Any, name: str) -> str:
    """Returns the English name of a setting for people."""
    return declared(settings, name).metadata["label"] or name.replace("_", " ").capitalize()


def declared(settings: Any, name: str) -> Any:
    """Returns the dataclass field of a setting, whose metadata `setting` describes."""
    return next(f for f in dataclasses.fields(settings) if f.name == name)


def rule(settings: Any, name: str) -> Any:
    """Returns the rule of a setting, for instance to read a slider's bounds."""
    return declared(settings, name).metadata["rule"]


def is_picture(settings: Any, name: str) -> bool:
    """Returns whether a setting is a picture."""
    return rule(settings, name).control == "picture"


class Settings(Protocol):
    """The type that `validate` takes: a frozen dataclass whose fields each carry a rule."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def seed(self) -> int: ...

    @property
    def count(self) -> int:
        """Number of pictures that a run with these settings draws."""
        ...

    def of_one_picture(self) -> Self:
        """Returns the settings of the first picture alone.

        Raises:
            SettingsError: if the settings say wrongly which one that is.
        """
        ...

    def check_together(self) -> None:
        """Checks settings against each other.

        Raises:
            SettingsError: if two settings contradict each other.
        """
        ...


S = TypeVar("S", bound=Settings)


def validate(settings: S) -> S:
    """Returns the settings, each checked and converted; a seed of -1 becomes a random one.

    Raises:
        SettingsError: one sentence about the first setting that is wrong.
    """
    values = {
        f.name: f.metadata["rule"].check(f.name, getattr(settings, f.name))
        for f in dataclasses.fields(settings)
    }
    values["seed"] = drawn_seed(values["seed"])
    checked = dataclasses.replace(settings, **values)
    checked.check_together()
    return checked


def as_before(settings: S, given: Container[str]) -> S:
    """Returns settings as they were meant before those existed that are not given.

    Args:
        settings: of an older picture or link.
        given: names of the settings that it has.
    """
    values = {
        f.name: f.metadata["absent"]
        for f in dataclasses.fields(settings)
        if f.name not in given and is_needed_in_links(settings, f.name)
    }
    return dataclasses.replace(settings, **values)


def is_needed_in_links(settings: Any, name: str) -> bool:
    """Returns whether a link without a setting would mean something else than its default."""
    metadata = declared(settings, name).metadata
    if metadata["absent"] is None:
        return False
    return metadata["overruled"] is None or not metadata["overruled"](settings)


def drawn_seed(seed: int) -> int:
    """Returns the seed, or a random one for `RANDOM_SEED`."""
    return secrets.randbelow(2**31) if seed == RANDOM_SEED else seed
