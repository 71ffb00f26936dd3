"""A small vocabulary for a small CLIP, in the format of open_clip's own tokenizer.

CLIP's table of 49,408 tokens would be most of a small model. Of its merges only those are kept that
some word of the training sentences uses; every such word becomes the same tokens as in CLIP, only
numbered anew, and any other text still has tokens, though more and shorter ones.
"""

from __future__ import annotations

import gzip
import itertools
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import regex
from open_clip import SimpleTokenizer

from pipelines.models.own_clips import MERGES_FILE, WORDS_FILE

LEAST_OCCURRENCES = 3  # of a word, to be kept whole
_HEADER = "#version: 0.2"


def make_tokenizer(texts: Iterable[str], folder: Path) -> SimpleTokenizer:
    """open_clip's tokenizer with the vocabulary of some texts.

    Writes `MERGES_FILE` and `WORDS_FILE`, the words that occur, into the folder.
    """
    whole = SimpleTokenizer()
    words = _save_words(texts, whole, folder)
    save_merges(merges_for(words, whole), folder)
    return load_tokenizer(folder)


def take_tokenizer(start: Path, texts: Iterable[str], folder: Path) -> SimpleTokenizer:
    """The tokenizer of a model to go on from; what words occur now is written anew."""
    shutil.copyfile(start / MERGES_FILE, folder / MERGES_FILE)
    _save_words(texts, SimpleTokenizer(), folder)
    return load_tokenizer(folder)


def load_tokenizer(folder: Path) -> SimpleTokenizer:
    """The tokenizer whose files lie in a folder."""
    return SimpleTokenizer(bpe_path=str(folder / MERGES_FILE))


def _save_words(texts: Iterable[str], whole: SimpleTokenizer, folder: Path) -> list[str]:
    """The words that occur often enough to be kept, which are written."""
    counted = words_of(texts, whole)
    words = sorted(word for word, count in counted.items() if count >= LEAST_OCCURRENCES)
    known = "\n".join(word for word in words if word.isalnum()) + "\n"
    (folder / WORDS_FILE).write_text(known, encoding="utf-8")
    return words


def words_of(texts: Iterable[str], tokenizer: SimpleTokenizer) -> Counter[str]:
    """How often each word, as the tokenizer splits them, occurs."""
    counted: Counter[str] = Counter()
    for text in texts:
        counted.update(regex.findall(tokenizer.pat, tokenizer.clean_fn(text)))
    return counted


def merges_for(words: Iterable[str], tokenizer: SimpleTokenizer) -> list[tuple[str, str]]:
    """The merges, in CLIP's order, that its tokenizer makes in these words."""
    used: set[tuple[str, str]] = set()
    for word in words:
        letters = "".join(tokenizer.byte_encoder[byte] for byte in word.encode("utf-8"))
        parts = (*letters[:-1], letters[-1] + "</w>")
        while len(parts) > 1:
            pairs = list(itertools.pairwise(parts))
            best = min(pairs, key=lambda pair: tokenizer.bpe_ranks.get(pair, float("inf")))
            if best not in tokenizer.bpe_ranks:
                break
            used.add(best)
            parts = _merged(parts, best)
    return sorted(used, key=tokenizer.bpe_ranks.__getitem__)


def _merged(parts: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """`parts` with every occurrence of `pair`, from the left, joined."""
    joined: list[str] = []
    position = 0
    while position < len(parts):
        here = parts[position : position + 2]
        joined.append("".join(pair) if here == pair else parts[position])
        position += 2 if here == pair else 1
    return tuple(joined)


def save_merges(merges: Iterable[tuple[str, str]], folder: Path) -> Path:
    """Writes what `open_clip.SimpleTokenizer` takes as `bpe_path`; the same bytes every time."""
    lines = [_HEADER, *(" ".join(pair) for pair in merges)]
    path = folder / MERGES_FILE
    path.write_bytes(gzip.compress("\n".join(lines).encode("utf-8"), mtime=0))
    return path
