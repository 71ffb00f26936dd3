"""What is known of the data sets of pictures: what they show, and their terms."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """What is known of a data set.

    Attributes:
        title: what its pictures are.
        terms: one sentence.
        licence: name of these terms on the Hub, where none of its own licences fits.
        subset_of: the data set on the Hub that a folder holds a part of.
        warning: what its pictures pass on to the model; empty is nothing special.
    """

    title: str
    terms: str
    licence: str
    subset_of: str = ""
    warning: str = ""


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
    ),
    "huggan/wikiart": Source(
        title="paintings from WikiArt",
        terms="The file collection is for non-commercial research; works of the last hundred years "
        "may be in copyright.",
        licence="non-commercial-research",
        warning=_NUDES,
    ),
    "scenes": Source(
        title="Intel scene images (buildings, forest, glacier, mountain, sea, street)",
        terms="The terms of the Intel scene images are unclear: research.",
        licence="research",
    ),
    "emoji": Source(
        title="Noto and Blob emoji",
        terms="The emoji are under Apache 2.0.",
        licence="apache-2.0",
    ),
}
FREE = ("apache-2.0",)
"""Licences that allow every use."""

OTHER = Source(
    title="",
    terms="The terms are those of the data set.",
    licence="that-of-the-data-set",
)
