"""The small vocabulary: known words are CLIP's own tokens, and nothing is unknown."""

from __future__ import annotations

from pathlib import Path

import pytest
from open_clip import SimpleTokenizer

from pipelines.models.own_clips import MERGES_FILE, WORDS_FILE
from training.clip import vocabulary
from training.clip.vocabulary import LEAST_OCCURRENCES, make_tokenizer

MESSAGES = (
    "A child in a pink dress is climbing up a set of stairs",
    "mississippi banana, onomatopoeia: photographers' 1920s harbour",
    "Vincent van Gogh's sunflowers — Café größe 日本 don't",
)
RARE = "an extraordinarily rhododendron"


@pytest.fixture(scope="module")
def whole() -> SimpleTokenizer:
    return SimpleTokenizer()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocabulary")
    make_tokenizer(MESSAGES * LEAST_OCCURRENCES + (RARE,) * (LEAST_OCCURRENCES - 1), folder)
    return folder


@pytest.fixture
def small(folder: Path) -> SimpleTokenizer:
    return SimpleTokenizer(bpe_path=str(folder / MERGES_FILE))


def pieces(text: str, tokenizer: SimpleTokenizer) -> list[str]:
    return [tokenizer.decoder[token] for token in tokenizer.encode(text)]


def test_words_that_are_kept_become_the_same_pieces_as_in_clip(
    small: SimpleTokenizer, whole: SimpleTokenizer
):
    for sentence in MESSAGES:
        assert pieces(sentence, small) == pieces(sentence, whole)
    assert "stairs</w>" in pieces(MESSAGES[0], small)


def test_the_vocabulary_is_far_smaller_and_numbered_without_gaps(small: SimpleTokenizer):
    assert sorted(small.decoder) == list(range(small.vocab_size))
    assert small.vocab_size < 1000
    assert small.all_special_ids == [small.vocab_size - 2, small.vocab_size - 1]


def test_a_rare_word_falls_into_more_pieces_than_in_clip(
    small: SimpleTokenizer, whole: SimpleTokenizer
):
    assert len(small.encode("rhododendron")) > len(whole.encode("rhododendron"))


@pytest.mark.parametrize("text", ["xylophone", "你好", "smile 😀", "@#%&", "42nd", "rhododendron"])
def test_text_that_it_never_saw_still_has_tokens_that_say_it(text: str, small: SimpleTokenizer):
    tokens = small.encode(text)
    assert max(tokens) < small.vocab_size
    assert small.decode(tokens).replace(" ", "") == text.replace(" ", "")


def test_the_words_listed_are_those_seen_often_enough(folder: Path):
    words = (folder / WORDS_FILE).read_text(encoding="utf-8").splitlines()
    assert {"child", "stairs", "banana", "café", "größe", "a"} <= set(words)
    assert "rhododendron" not in words
    assert "extraordinarily" not in words
    assert all(word.isalnum() and word == word.lower() for word in words)
    assert words == sorted(set(words))


def test_a_word_is_counted_however_it_is_written(tmp_path: Path):
    make_tokenizer(["Rose, rose", "ROSE."], tmp_path)
    assert (tmp_path / WORDS_FILE).read_text(encoding="utf-8") == "rose\n"


def test_the_files_are_the_same_every_time(folder: Path, tmp_path: Path):
    texts = MESSAGES * LEAST_OCCURRENCES + (RARE,) * (LEAST_OCCURRENCES - 1)
    make_tokenizer(reversed(texts), tmp_path)
    for name in (MERGES_FILE, WORDS_FILE):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_what_is_returned_reads_as_what_was_written(tmp_path: Path):
    made = make_tokenizer(MESSAGES * LEAST_OCCURRENCES, tmp_path)
    read = SimpleTokenizer(bpe_path=str(tmp_path / MERGES_FILE))
    assert made.encoder == read.encoder
    assert made.encode(MESSAGES[0]) == read.encode(MESSAGES[0])


def test_sentences_too_few_to_keep_a_word_still_make_a_tokenizer(tmp_path: Path):
    made = make_tokenizer(["hello"], tmp_path)
    assert made.vocab_size == 2 * 256 + 2
    assert made.decode(made.encode("hello")).strip() == "hello"


def test_merges_come_in_the_order_of_clip(whole: SimpleTokenizer):
    merges = vocabulary.merges_for(["stairs", "banana", "mississippi"], whole)
    ranks = [whole.bpe_ranks[merge] for merge in merges]
    assert ranks == sorted(set(ranks))
