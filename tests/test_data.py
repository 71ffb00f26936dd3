"""Reading training data: what is refused, what is converted, what is held out."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import datasets.config
import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image

from training.data import HUB_MNIST, Digits, default_mnist, hold_out, load_digits, public_name

TRAIN = "train.parquet"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def write(folder: Path, pictures: Sequence[Image.Image], labels: Sequence[int]) -> str:
    """A data set in MNIST's columns."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"bytes": png(picture), "path": None} for picture in pictures]
    features = Features({"image": ImageFeature(), "label": Value("int64")})
    data = Dataset.from_dict({"image": rows, "label": list(labels)}, features=features)
    data.to_parquet(folder / TRAIN)
    return str(folder)


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def test_pictures_and_labels_come_as_they_are_in_the_file(tmp_path: Path):
    pixels = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
    data = load_digits(write(tmp_path / "d", [Image.fromarray(p) for p in pixels], [7, 0]), "train")
    torch.testing.assert_close(data.pixels, torch.from_numpy(pixels)[:, None])
    torch.testing.assert_close(data.labels, torch.tensor([7, 0]))
    assert len(data) == 2


def test_colour_pictures_become_grey(tmp_path: Path):
    colours = [Image.new("RGB", (28, 28), colour) for colour in ((90, 90, 90), (255, 0, 0))]
    data = load_digits(write(tmp_path / "d", colours, [0, 1]), "train")
    assert data.pixels.shape == (2, 1, 28, 28)
    assert data.pixels[:, 0, 0, 0].tolist() == [90, 76]  # red weighs 0.299


def test_a_folder_that_is_not_there_is_refused_in_one_sentence(tmp_path: Path):
    with pytest.raises(ValueError, match=r"dataset_name must be .* got '.*nowhere'") as error:
        load_digits(str(tmp_path / "nowhere"), "train")
    assert "\n" not in str(error.value)


def test_a_damaged_file_is_refused_in_one_sentence(tmp_path: Path):
    (tmp_path / TRAIN).write_bytes(b"PAR1 and nothing more")
    with pytest.raises(ValueError, match=r"dataset_name must be .* that can be read"):
        load_digits(str(tmp_path), "train")


def test_a_split_that_is_not_there_is_refused_by_name(tmp_path: Path):
    name = write(tmp_path / "d", [Image.new("L", (28, 28))], [0])
    with pytest.raises(ValueError, match="split 'test'"):
        load_digits(name, "test")


def test_a_missing_column_is_refused_naming_those_that_are_there(tmp_path: Path):
    Dataset.from_dict({"picture": [1], "label": [2]}).to_parquet(tmp_path / TRAIN)
    with pytest.raises(ValueError, match=r"columns image and label, got .* with picture, label"):
        load_digits(str(tmp_path), "train")


def test_pictures_of_several_sizes_are_refused(tmp_path: Path):
    pictures = [Image.new("L", (28, 28)), Image.new("L", (32, 28))]
    with pytest.raises(ValueError, match=r"pictures of one size, got .* with 2 sizes"):
        load_digits(write(tmp_path / "d", pictures, [0, 1]), "train")


def numbered(count: int) -> Digits:
    """Pictures whose only pixel is their number."""
    return Digits(torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1), torch.arange(count))


def test_held_out_pictures_are_not_trained_on_and_none_is_lost():
    rest, held = hold_out(numbered(100), 30)
    assert (len(rest), len(held)) == (70, 30)
    assert sorted([*rest.labels.tolist(), *held.labels.tolist()]) == list(range(100))


def test_a_picture_keeps_its_label_when_some_are_held_out():
    for part in hold_out(numbered(100), 30):
        torch.testing.assert_close(part.pixels.flatten().long(), part.labels)


def test_the_same_seed_holds_out_the_same_pictures():
    data = numbered(100)
    torch.testing.assert_close(hold_out(data, 30)[1].labels, hold_out(data, 30)[1].labels)
    assert hold_out(data, 30, seed=1)[1].labels.tolist() != hold_out(data, 30)[1].labels.tolist()


def test_holding_out_everything_is_refused():
    with pytest.raises(ValueError, match="more than 100 pictures, got 100"):
        hold_out(numbered(100), 100)


def test_mnist_is_read_from_the_data_folder_if_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("STUDIO_DATA", str(tmp_path))
    assert default_mnist() == HUB_MNIST
    (tmp_path / "mnist").mkdir()
    assert default_mnist() == str(tmp_path / "mnist")


@pytest.mark.parametrize("name", ["../shared/data/mnist", "/data/mnist", "~/mnist", HUB_MNIST])
def test_a_card_never_names_a_local_folder(name: str):
    assert public_name(name) == HUB_MNIST


def test_a_card_names_another_data_set_of_the_hub_as_it_is():
    assert public_name("someone/digits") == "someone/digits"
