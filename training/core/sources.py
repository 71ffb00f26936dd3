"""What is known of the data sets of pictures: what they show, and their terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["", "emoji", "paintings"]


@dataclass(frozen=True)
class Source:
    """What is known of a data set.

    Attributes:
        title: what its pictures are.
        terms: one sentence.
        licence: name of these terms on the Hub, where none of its own licences fits.
        subset_of: the data set on the Hub that a folder holds a part of.
        warning: what its pictures pass on to the model; empty is nothing special.
        kind: which of its rows are held out: emoji by set and name, paintings by artist and title;
            empty is none.
    """

    title: str
    terms: str
    licence: str
    subset_of: str = ""
    warning: str = ""
    kind: Kind = ""


_NUDES = "Leave out what the paintings show: some of them are nudes."

# by the name of a local folder or by Hub id
SOURCES = {
    "wikiart": Source(
        title="paintings from WikiArt",
        terms="The paintings are works dated or judged out of copyright in the US (made 1929 or "
        "before); the file collection is for non-commercial research.",
        licence="non-commercial-research",
        subset_of="huggan/wikiart",
        warning=_NUDES,
        kind="paintings",
    ),
    "huggan/wikiart": Source(
        title="paintings from WikiArt",
        terms="The file collection is for non-commercial research; works of the last hundred years "
        "may be in copyright.",
        licence="non-commercial-research",
        warning=_NUDES,
        kind="paintings",
    ),
    "paintings-256": Source(
        title="paintings from PeopleArt",
        terms="The paintings are works made 1929 or before; the file collection is for "
        "non-commercial research.",
        licence="non-commercial-research",
        warning=_NUDES,
        kind="paintings",
    ),
    "scenes": Source(
        title="Intel scene images (buildings, forest, glacier, mountain, sea, street)",
        terms="The terms of the Intel scene images are unclear: research.",
        licence="research",
    ),
    "emoji": Source(
        title="Noto and Blob emoji",
        terms="Noto and Blob emoji are under Apache 2.0.",
        licence="apache-2.0",
        kind="emoji",
    ),
    "emoji-more": Source(
        title="Fluent, Twemoji and FxEmoji emoji",
        terms="Fluent emoji are under the MIT licence (Microsoft), Twemoji under CC BY 4.0 "
        "(Twitter and jdecked, https://creativecommons.org/licenses/by/4.0), FxEmoji under Apache "
        "2.0 (Mozilla). Who passes these weights on names them.",
        licence="cc-by-4.0",
        kind="emoji",
    ),
}
OF_CLIPS = SOURCES | {
    "flickr8k": Source(
        title="photographs of Flickr8k, with sentences that people wrote",
        terms="Flickr8k is for non-commercial research.",
        licence="non-commercial-research",
    ),
    "flowers": Source(
        title="photographs of flowers",
        terms="The photographs of flowers are under CC BY 2.0.",
        licence="cc-by-2.0",
    ),
}
"""With those that only CLIPs learned from; a user's own folder may well be called `flowers`."""

FREE = ("apache-2.0", "cc-by-2.0", "cc-by-4.0")
"""Licences that allow every use, those that ask for less first."""

_STRICTEST = "non-commercial-research"

OTHER = Source(
    title="",
    terms="The terms are those of the data set.",
    licence="that-of-the-data-set",
)


def strictest(licences: Sequence[str]) -> str:
    """The licence that holds for a model made with data of several.

    That for non-commercial research asks for most of those with a name here; of others that are not
    free, it is the first.
    """
    unfree = [licence for licence in licences if licence not in FREE]
    if _STRICTEST in unfree:
        return _STRICTEST
    return unfree[0] if unfree else max(licences, key=FREE.index)
