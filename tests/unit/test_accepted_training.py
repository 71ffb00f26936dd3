"""The sections on training of the page of accepted forms: every example is what it says."""

from __future__ import annotations

import pytest

from benchmarks.accepted_training import FOLDERS, REFUSED_FOLDERS, becomes


def test_examples_become_what_they_should():
    found = {form: becomes(files) for form, files in FOLDERS}
    assert found["pictures"] == "2 pictures"
    assert found["one that is called train or test"] == "3 pictures"
    assert found["brackets in names"] == "2 pictures"
    assert found["class folders"] == "2 pictures; 2 class folders: car, train"
    assert found["a division"] == "1 picture; 1 picture of the split test: not used"
    assert found["a division with a picture beside it"] == "3 pictures"
    assert found["no suffix"] == "2 pictures"
    assert "1 left out: captions and texts" in found["captions"]
    assert found["other formats, archives, videos"].count("1 left out") == 3


@pytest.mark.parametrize("files", [files for _, files in REFUSED_FOLDERS])
def test_refused_examples_are_refused_in_one_sentence(files: str):
    with pytest.raises(
        ValueError, match=r"^dataset_name must be a folder of pictures, got 'photos'"
    ):
        becomes(files)
