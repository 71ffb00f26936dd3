"""Pictures stay what they were in version 0.2, and the comparison tells if they do not."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import same_pictures
from benchmarks.same_pictures import Difference, compared, is_accepted, largest

pytestmark = pytest.mark.slow

needs_history = pytest.mark.skipif(
    not same_pictures.has_baseline(),
    reason=f"the history lacks commit {same_pictures.BASELINE} of version 0.2 (a shallow clone?)",
)


def write(path: Path, arrays: dict[str, Any]) -> Path:
    """A file as `same_pictures_draw.py` writes it."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, np.asarray(values))  # pyright: ignore[reportArgumentType]
    return path


def only(tmp_path: Path, before: dict[str, Any], after: dict[str, Any]) -> Difference:
    """The difference of two files of one case."""
    files = [write(tmp_path / f"{i}.npz", arrays) for i, arrays in enumerate((before, after))]
    (found,) = compared(*files)
    return found


def test_equal_files_are_equal_in_every_case(tmp_path: Path):
    picture = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    arrays = {
        "color: a, b/pictures": picture,
        "color: a, b/losses": np.array([[0.1], [np.nan]]),
        "steps: c, eta 0.4/x0": np.zeros((2, 1, 3, 2, 2), np.float32),
    }
    files = [write(tmp_path / f"{i}.npz", arrays) for i in range(2)]
    found = list(compared(*files))
    assert [row.case for row in found] == ["color: a, b", "steps: c, eta 0.4"]
    assert all(row.equal for row in found)
    assert all(is_accepted(row, tolerance=0, rewrite=False) for row in found)
    assert all(is_accepted(row, tolerance=0, rewrite=True) for row in found)


def test_one_pixel_that_differs_by_one_is_found(tmp_path: Path):
    before = np.full((1, 2, 2, 3), 255, np.uint8)
    after = before.copy()
    after[0, 1, 1, 2] = 254
    found = only(tmp_path, {"color: a/unguided": before}, {"color: a/unguided": after})
    assert found.pictures == 1
    assert not is_accepted(found, tolerance=0, rewrite=False)
    assert is_accepted(found, tolerance=1, rewrite=False)
    assert is_accepted(found, tolerance=0, rewrite=True)


@pytest.mark.parametrize(
    ("kind", "steps_of_255", "accepted"),
    [("color", 1, True), ("color", 2, False), ("digits", 2, False), ("text", 90, True)],
)
def test_a_rewrite_may_round_colors_and_digits_and_words_are_only_reported(
    kind: str, steps_of_255: float, accepted: bool
):
    found = Difference(f"{kind}: a", pictures=steps_of_255)
    assert is_accepted(found, tolerance=0, rewrite=True) is accepted


@pytest.mark.parametrize(
    ("first_step", "path", "accepted"),
    [(0.9e-5, 0.9e-3, True), (1.1e-5, 0.9e-3, False), (0.9e-5, 1.1e-3, False)],
)
def test_a_rewrite_must_keep_the_first_step_and_the_path(
    first_step: float, path: float, accepted: bool
):
    found = Difference("steps: a", first_step=first_step, path=path)
    assert is_accepted(found, tolerance=0, rewrite=True) is accepted


def test_a_step_that_differs_is_found_where_it_is(tmp_path: Path):
    before = np.zeros((3, 1, 3, 2, 2), np.float32)
    after = before.copy()
    after[2, 0, 1, 0, 0] = 0.01
    found = only(tmp_path, {"steps: a/x0": before}, {"steps: a/x0": after})
    assert (found.first_step, found.path) == (0, pytest.approx(0.01))
    assert not is_accepted(found, tolerance=1, rewrite=False)  # 1.3 steps of 255
    assert is_accepted(found, tolerance=2, rewrite=False)


def test_a_number_that_differs_is_found_though_the_pictures_are_equal(tmp_path: Path):
    same = {"color: a/pictures": np.zeros((1, 2, 2, 3), np.uint8)}
    losses = "color: a/losses"
    found = only(tmp_path, same | {losses: [0.5]}, same | {losses: [0.5000001]})
    assert found.numbers == pytest.approx(1e-7)
    assert not is_accepted(found, tolerance=0, rewrite=False)


@pytest.mark.parametrize(
    ("after", "problem"),
    [
        ({"color: b/pictures": [1]}, "only one tree has this case"),
        ({"color: a/losses": [1]}, "only one tree has losses, pictures"),
        ({"color: a/error": np.frombuffer(b"KeyError: x", np.uint8)}, "this tree: KeyError: x"),
    ],
)
@pytest.mark.parametrize("rewrite", [False, True])
def test_a_case_that_one_tree_lacks_is_never_accepted(
    after: dict[str, Any], problem: str, rewrite: bool, tmp_path: Path
):
    files = [
        write(tmp_path / "0.npz", {"color: a/pictures": [1]}),
        write(tmp_path / "1.npz", after),
    ]
    found = list(compared(*files))
    assert {row.problem for row in found} == {problem}
    assert not any(is_accepted(row, tolerance=255, rewrite=rewrite) for row in found)


@pytest.mark.parametrize(
    ("a", "b", "apart"),
    [
        ([1.0, np.nan], [1.0, np.nan], 0.0),
        ([1.0, np.nan], [1.5, np.nan], 0.5),
        ([1.0], [np.nan], np.inf),
        ([np.inf], [np.inf], 0.0),
        ([np.inf], [-np.inf], np.inf),
        ([1.0], [1.0, 2.0], np.inf),
        ([], [], 0.0),
    ],
)
def test_the_largest_difference_counts_what_is_not_finite(
    a: list[float], b: list[float], apart: float
):
    assert largest(np.array(a), np.array(b)) == apart


def test_a_zero_of_another_sign_is_not_equal_bit_for_bit(tmp_path: Path):
    found = only(tmp_path, {"steps: a/x0": [[0.0]]}, {"steps: a/x0": [[-0.0]]})
    assert not found.equal
    assert is_accepted(found, tolerance=0, rewrite=True)


def worktrees() -> str:
    return same_pictures.git("worktree", "list", "--porcelain").stdout.decode()


@needs_history
def test_the_temporary_worktree_is_removed_even_after_an_error():
    folders: list[Path] = []

    def fail_inside() -> None:
        with same_pictures.worktree_of(same_pictures.BASELINE) as tree:
            assert (tree / "pipelines" / "color.py").is_file()
            assert str(tree) in worktrees()
            (tree / "left.txt").write_text("left behind")
            folders.append(tree)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert str(folders[0]) not in worktrees()
    assert not folders[0].exists()


@needs_history
@pytest.mark.timeout(600)
@pytest.mark.thorough
def test_pictures_numbers_and_steps_are_those_of_version_0_2():
    with same_pictures.worktree_of(same_pictures.BASELINE) as tree:
        found = same_pictures.differences(tree, quick=True)
    accepted = [is_accepted(row, tolerance=0, rewrite=False) for row in found]
    assert {row.kind for row in found} == {"color", "text", "digits", "steps"}
    assert all(accepted), "\n" + same_pictures.table(found, accepted)
