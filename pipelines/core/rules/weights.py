"""The grammar of weighted prompts: what in an entry such as `snow:0.5` is words, and what weight.

A weight is a number after the last colon of an entry, or of `(words:1.2)` around a whole entry.
Whole numbers on both sides of a colon are words (`12:30`, `4:3`), unless the words before end in a
colon and a number already: then the last number is the weight, as in `time 12:30:1`. Whatever else
looks like a weight is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pipelines.core.errors import SettingsError, show
from pipelines.core.typed import BARS, COLONS, DASHES, PLUSES, POINTS, plain, plain_number

MAX_WEIGHT = 5.0
_LEAST_WEIGHT = 1e-4

_COLON = f"[{COLONS}]"
_SIGN = f"[{PLUSES}{DASHES}]"
_POINT = f"[{POINTS}]"
_NUMBER = rf"(?:\d+(?:{_POINT}\d*)?|{_POINT}\d+)"
_BAR = re.compile(f"[{BARS}]")
_WEIGHT = re.compile(rf"\s*{_COLON}\s*(?P<weight>{_SIGN}?\s*{_NUMBER})$")
_RATIO = re.compile(rf"(?<=\d){_COLON}(?=\d)")
_URL = re.compile(r"://\S*$")
# A number that ends before the entry does: another weight, or a ratio.
_INNER = re.compile(
    rf"(?P<gap>\s*){_COLON}(?P<space>\s*){_SIGN}?\s*{_NUMBER}%?(?=\s*[,;、]|\s(?!{_COLON})|$)"
)
_BRACKETED = re.compile(rf"{_COLON}\s*{_SIGN}?\s*{_NUMBER}\s*[)\]}}>】」』〕》〉]")
_NETWORK = re.compile(rf"<\s*\w+\s*{_COLON}[^<>]*>")  # <lora:name:0.8>
_SIGNS_ALONE = rf"{_SIGN}+{_POINT}?|{_POINT}"
_BEGINS = rf"(?:{_SIGN}\s*)*{_POINT}?\d"
_OF_HUNDRED = r"(?:\s*[%‰])?"
_MALFORMED = re.compile(
    rf"(?<!\S)\S*(?<=[^\s\d]){_COLON}(?:{_BEGINS}\S*{_OF_HUNDRED}|{_SIGNS_ALONE})$"
    rf"|(?<!\S)\S*(?:\s*{_COLON}\s+|\s+{_COLON})"
    rf"{_BEGINS}(?:[\d,、%‰⁄/{POINTS}]| (?={_POINT}))*(?:[eE]{_SIGN}?\d+)?{_OF_HUNDRED}$"
    rf"|(?<!\S)\S*(?<=[^\s\d])\s*{_COLON}\s*[x×*]\s*{_NUMBER}$"
    rf"|^{_SIGN}?\s*(?:\d*{_POINT}\d+|(?<={_SIGN})\d+)\s*{_COLON}(?=[^\W\d]).*"
)
# A weight in brackets of its own, `snow:(1.2)`; after a space only with a point, as in no year.
_OPENING, _CLOSING = r"[(\[{<（【「『〔《〈]", r"[)\]}>）】」』〕》〉]"
_IN_BRACKETS = re.compile(
    rf"(?<!\S)\S*(?<=[^\s\d])(?:{_COLON}|{_COLON}\s+(?=\S\s*{_SIGN}?\s*\d*{_POINT}))"
    rf"{_OPENING}\s*(?P<weight>{_SIGN}?\s*{_NUMBER})\s*{_CLOSING}$"
)
_GLUED_WORD = re.compile(rf"[^\s\d{COLONS}]{_COLON}(?![DPp]$)\w[\w.,'{PLUSES}{DASHES}]*$")


@dataclass(frozen=True)
class Entry:
    """What stands between two bars of a prompt.

    Attributes:
        text: its words.
        weight: of the words; 1 where none is written.
        is_weighted: whether a weight is written.
    """

    text: str
    weight: float = 1.0
    is_weighted: bool = False


def split(prompt: str) -> list[str]:
    """Returns the parts of a prompt between bars, as they were typed."""
    return _BAR.split(prompt)


def read(name: str, typed: str) -> Entry:
    """Returns the words and the weight of an entry.

    Args:
        name: of the setting.
        typed: the entry, as people write it.

    Raises:
        SettingsError: if a part of it looks like a weight and is none.
    """
    written = " ".join(plain(typed).split())
    inside = _inside_parentheses(written)
    match = _WEIGHT.search(inside or written)
    if match is None or not (inside or _is_weight(match)):
        _refuse_bracketed_weights(name, written)
        _refuse_malformed_weight(name, written)
        _refuse_weight_in_brackets(name, written)
        _refuse_inner_weights(name, written)
        return Entry(written)
    _refuse_bracketed_weights(name, match.string[: match.start()])
    _refuse_inner_weights(name, match.string, before=match.start())
    return Entry(match.string[: match.start()], _value(match), is_weighted=True)


def read_all(name: str, typed: Iterable[str]) -> list[Entry]:
    """Returns the words and weights of all entries of a prompt.

    Raises:
        SettingsError: as `read`, or if some have weights and another ends in a word in the place
            of one, such as `snow:abc`.
    """
    entries = [read(name, entry) for entry in typed]
    if any(entry.is_weighted for entry in entries):
        for entry in entries:
            if not entry.is_weighted and _ends_in_glued_word(entry.text):
                raise SettingsError("prompt_word_as_weight", name=name, got=show(entry.text))
    return entries


def write(entry: Entry) -> str:
    """Returns the shortest text that `read` reads as an entry.

    A weight of 1 is left out, unless the words end in what might be taken for one.
    """
    text, weight = entry.text, f"{entry.weight:g}"
    forms = [f"{text}:{weight}", f"({text}:{weight})", f"{text} :{weight}"]
    is_clear = not (_WEIGHT.search(text) or _ends_in_glued_word(text))
    if entry.weight == 1 and (is_clear or not entry.is_weighted):
        forms.insert(0, text)
    return next(form for form in forms if _reads_as(form, entry))


def _ends_in_glued_word(text: str) -> bool:
    """Returns whether words end in a colon and a word in the place of a weight, `snow:abc`."""
    return bool(_GLUED_WORD.search(text)) and not _URL.search(text)


def _reads_as(form: str, entry: Entry) -> bool:
    try:
        found = read("prompt", form)
    except SettingsError:
        return False
    return (found.text, found.weight) == (entry.text, entry.weight)


def _value(match: re.Match[str]) -> float:
    value = float(plain_number(match["weight"]).replace(" ", ""))
    return round(value, 4) if abs(value) >= _LEAST_WEIGHT else 0.0


def _is_possible(weight: float) -> bool:
    return 0 < abs(weight) <= MAX_WEIGHT


def _is_weight(match: re.Match[str]) -> bool:
    """Returns whether a number after the last colon of an entry is a weight, and not words."""
    words, value = match.string[: match.start()], _value(match)
    if _URL.search(words):
        return _is_possible(value)  # http://localhost:7860
    if not _RATIO.match(match.string, match.start()):
        return True
    is_written_by_us = match["weight"] == f"{value:g}" and _WEIGHT.search(words)
    return _is_possible(value) and bool(_has_point(match) or is_written_by_us)


def _has_point(match: re.Match[str]) -> bool:
    return not set(POINTS).isdisjoint(match[0])


def _inside_parentheses(written: str) -> str:
    """Returns the `words:1.2` of an entry that is `(words:1.2)` as a whole, or else nothing."""
    depth, inside = 0, written[1:-1].strip()
    for i, character in enumerate(written):
        depth += (character == "(") - (character == ")")
        if depth <= 0 and i < len(written) - 1:
            return ""
    match = _WEIGHT.search(inside)
    if match is None or depth != 0:
        return ""
    is_ratio = _RATIO.match(inside, match.start()) and not _is_possible(_value(match))
    return "" if is_ratio else inside  # (12:30) is words


def _refuse_bracketed_weights(name: str, words: str) -> None:
    if _NETWORK.search(words) or not all(map(_is_whole_ratio, _BRACKETED.finditer(words))):
        raise SettingsError("prompt_brackets", name=name, got=show(words))


def _refuse_malformed_weight(name: str, written: str) -> None:
    """Refuses an entry that ends in a colon and what begins like a number and is none."""
    match = _MALFORMED.search(written)
    if match and "://" not in match[0]:
        raise SettingsError("prompt_number", name=name, got=show(match[0]))


def _refuse_weight_in_brackets(name: str, written: str) -> None:
    match = _IN_BRACKETS.search(written)
    if match and _is_possible(_value(match)):
        raise SettingsError("prompt_number", name=name, got=show(match[0]))


def _refuse_inner_weights(name: str, written: str, before: int | None = None) -> None:
    """Refuses weights that do not stand at the end of an entry.

    Args:
        name: of the setting.
        written: the entry.
        before: where its own weight begins; None without one.

    Raises:
        SettingsError: if there is one.
    """
    end = len(written[:before])
    inner = [m for m in _INNER.finditer(written) if m.end() < end and not _is_words(m)]
    is_sure = any(not m["gap"] and not m["space"] for m in inner)  # "cat :3 asleep" may be words
    if is_sure or (inner and len(inner) + (before is not None) > 1):
        raise SettingsError("prompt_bar", name=name, got=show(written[_word_before(inner[0]) :]))


def _is_words(match: re.Match[str]) -> bool:
    """Returns whether a colon and a number within an entry are a ratio, or of a URL."""
    word = match.string[_word_before(match) : match.start()]
    return bool(_RATIO.match(match.string, match.start())) or "://" in word


def _is_whole_ratio(match: re.Match[str]) -> bool:
    """Returns whether a colon and a number before a bracket are of a ratio such as (4:3)."""
    return bool(_RATIO.match(match.string, match.start())) and not _has_point(match)


def _word_before(match: re.Match[str]) -> int:
    """Returns where the word before a match begins."""
    return match.string.rfind(" ", 0, match.start()) + 1
