"""A short description of the data of a run, to tell when they have changed."""

from __future__ import annotations

import hashlib
import re

from torch import Tensor

_FORM = re.compile(r"[\d,]+ examples, sha256 [0-9a-f]{32}")


def fingerprint(count: int, *parts: Tensor | bytes | str) -> str:
    """Describes data by their number and by all that they hold, in order, not by where they lie.

    Args:
        count: of all examples.
        parts: pictures, labels, texts, or digests of them.
    """
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        if isinstance(content, Tensor):
            content = content.cpu().contiguous().numpy().tobytes()
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return f"{count:,} examples, sha256 {digest.hexdigest()[:32]}"


def is_fingerprint(text: object) -> bool:
    """Whether a text is a fingerprint of all data, not one of an older version of a few of them."""
    return isinstance(text, str) and _FORM.fullmatch(text) is not None


def check_unchanged(saved: object, got: str) -> None:
    """Checks that a run meets the data that it began with, as far as its state tells.

    Args:
        saved: fingerprint in the state; one of an older version tells nothing.
        got: of the data that were read.

    Raises:
        OtherDataError: if the data have changed.
    """
    if isinstance(saved, str) and is_fingerprint(saved) and saved != got:
        raise OtherDataError(saved, got)


class OtherDataError(ValueError):
    """A saved run meets other data than it began with.

    Args:
        saved: fingerprint of the data of the run.
        got: that of the data that were read.
        command: begins a new run with these; empty if it is not known.
    """

    def __init__(self, saved: str, got: str, command: str = "") -> None:
        self.saved, self.got = saved, got
        was, are = saved.rpartition(", sha256")[0], got.rpartition(", sha256")[0]
        now = f"{are}, other ones or in another order" if was == are else are
        super().__init__(
            f"dataset_name must be the data that the run began with, {was}, got {now}; give the "
            "old data back, or begin a new run" + (f":\n{command}" if command else "")
        )
