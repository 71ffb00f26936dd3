"""Reading training data: what is refused, what is converted, what is held out."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets.config
import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image

from tests.fakes.tiny_pictures import encoded, landscape, write_kinds, write_landscapes, write_rows
from training.core.data import folder_name, hold_out
from training.core.decoding import opened
from training.digits.data import HUB_MNIST, Digits, default_mnist, load_digits, public_name
from training.pictures.data import fitted, load_pictures

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


def test_what_is_held_out_stays_the_same_from_version_to_version():
    assert hold_out(numbered(100), 4)[1].labels.tolist() == [44, 19, 93, 90]


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


@pytest.mark.parametrize("name", ["../shared/data/scenes", "/data/scenes/", "~/scenes"])
def test_a_card_names_only_the_last_part_of_a_local_folder(name: str):
    assert folder_name(name) == "scenes"
    assert folder_name("huggan/wikiart") == "huggan/wikiart"


def test_pictures_are_scaled_and_their_middle_square_is_kept(tmp_path: Path):
    wide = Image.new("RGB", (60, 20), "red")
    wide.paste("blue", (20, 0, 40, 20))
    name = write_rows(tmp_path / "d", [encoded(wide), encoded(wide.resize((600, 200)))])
    data = load_pictures(name, image_size=10)
    pixels = data.take(torch.tensor([1, 0]))
    assert pixels.shape == (2, 3, 10, 10)
    assert pixels.dtype == torch.uint8
    assert pixels[:, :, 1:-1, 1:-1].unique(dim=0).shape[0] == 1
    assert pixels[0, :, 5, 5].tolist() == [0, 0, 255]
    assert (len(data), data.skipped, data.enlarged) == (2, 0, 0)


def test_pictures_that_cannot_be_read_are_skipped_and_counted(tmp_path: Path):
    good = encoded(landscape(0))
    files = [good, good[: len(good) // 2], b"not a picture", None, b"", encoded(landscape(1))]
    data = load_pictures(write_rows(tmp_path / "d", files), image_size=8)
    assert (len(data), data.skipped) == (2, 4)
    expected = [fitted(landscape(i), 8, 3) for i in (0, 1)]
    found = data.take(torch.arange(2)).permute(0, 2, 3, 1)
    torch.testing.assert_close(found, torch.from_numpy(np.stack(expected)))


def test_rows_of_some_values_are_left_out(tmp_path: Path):
    name = write_kinds(tmp_path / "d", ["a tree", "People & Body", None, "flag", "a tree", "flag"])
    data = load_pictures(name, image_size=8, exclude="kind = People & Body, flag")
    assert data.take(torch.arange(len(data)))[:, 0, 0, 0].tolist() == [0, 2, 4]
    assert data.skipped == 0


def test_rows_that_a_pattern_describes_whole_are_in_focus(tmp_path: Path):
    name = write_kinds(tmp_path / "d", ["red heart", "heart", None, "Red Book", "hearts", "sacred"])
    data = load_pictures(name, image_size=8, focus="kind = red .*|hearts?")
    assert data.focused.tolist() == [True, True, False, True, True, False]
    assert data.select(torch.tensor([5, 0])).focused.tolist() == [False, True]
    assert not load_pictures(name, image_size=8).focused.any()


def test_of_a_column_of_lists_any_value_may_be_in_focus(tmp_path: Path):
    kinds = [["tree", "leaf"], [], None, ["leafless tree"]]
    rows = [{"bytes": encoded(landscape(i)), "path": None} for i in range(len(kinds))]
    features = Features({"image": ImageFeature(), "words": [Value("string")]})
    (tmp_path / "d").mkdir()
    data = Dataset.from_dict({"image": rows, "words": kinds}, features=features)
    data.to_parquet(tmp_path / "d" / TRAIN)
    found = load_pictures(str(tmp_path / "d"), image_size=8, focus="words=leaf")
    assert found.focused.tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    ("option", "written", "message"),
    [
        ("exclude", "flag", "exclude must be like 'column=value, value', got 'flag'"),
        ("exclude", "kind=", "exclude must be like 'column=value, value', got 'kind='"),
        ("exclude", "kind=,", "exclude must be like 'column=value, value', got 'kind=,'"),
        ("exclude", "sort=flag", "exclude must begin with one of image, kind, got 'sort'"),
        ("exclude", "kind=flag, boat", "exclude must name values of kind, got boat, which none"),
        ("exclude", "kind=flag,tree", "dataset_name must be a data set of pictures"),
        ("focus", "flag", "focus must be like 'column=pattern', got 'flag'"),
        ("focus", "kind=", "focus must be like 'column=pattern', got 'kind='"),
        ("focus", "sort=flag", "focus must begin with one of image, kind, got 'sort'"),
        ("focus", "kind=(flag", r"focus must end with a regular expression, got '\(flag'"),
        ("focus", "kind=boat", "focus must describe a part of the rows, got 'boat', which .* none"),
        ("focus", "kind=.*", "focus must describe a part of the rows, got '.*', which .* all"),
    ],
)
def test_rows_that_cannot_be_chosen_so_are_refused_in_one_sentence(
    tmp_path: Path, option: str, written: str, message: str
):
    name = write_kinds(tmp_path / "d", ["tree", "flag"])
    chosen: dict[str, Any] = {option: written}
    with pytest.raises(ValueError, match=message):
        load_pictures(name, image_size=8, **chosen)


def test_a_folder_of_pictures_is_read_and_files_that_are_none_are_skipped(tmp_path: Path):
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "a.png").write_bytes(encoded(landscape(0)))
    (folder / "b.jpg").write_bytes(encoded(landscape(1), "JPEG"))
    (folder / "c.jpg").write_bytes(b"<html>404</html>")
    data = load_pictures(str(folder), image_size=8)
    assert (len(data), data.skipped) == (2, 1)


def test_a_row_that_names_a_missing_file_is_skipped(tmp_path: Path):
    rows = [{"bytes": None, "path": str(tmp_path / "gone.png")}]
    rows.append({"bytes": encoded(landscape(0)), "path": None})
    features = Features({"image": {"bytes": Value("binary"), "path": Value("string")}})
    (tmp_path / "d").mkdir()
    Dataset.from_dict({"image": rows}, features=features).to_parquet(tmp_path / "d" / TRAIN)
    data = load_pictures(str(tmp_path / "d"), image_size=8)
    assert (len(data), data.skipped) == (1, 1)


def test_small_pictures_are_scaled_up_and_counted(tmp_path: Path):
    files = [encoded(Image.new("RGB", size, "red")) for size in ((4, 9), (8, 8), (1, 1))]
    data = load_pictures(write_rows(tmp_path / "d", files), image_size=8)
    assert data.enlarged == 2
    assert (data.take(torch.arange(3)) == torch.tensor([255, 0, 0]).view(3, 1, 1)).all()


def palette(transparent: bool) -> Image.Image:
    picture = Image.new("P", (4, 4), 1)
    picture.putpalette([0, 0, 0, 200, 100, 50])
    if transparent:
        picture.info["transparency"] = 1
    return picture


def turned() -> Image.Image:
    """Red above black once the camera's note "turned upside down" is obeyed."""
    picture = Image.new("RGB", (4, 4))
    picture.paste("red", (0, 2, 4, 4))
    picture.getexif()[0x0112] = 3
    return picture


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (Image.new("L", (4, 4), 100), (100, 100, 100)),
        (Image.new("1", (4, 4), 1), (255, 255, 255)),
        (Image.new("LA", (4, 4), (0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 255)), (255, 0, 0)),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 0)), (255, 255, 255)),
        (palette(transparent=False), (200, 100, 50)),
        (palette(transparent=True), (255, 255, 255)),
        (Image.fromarray(np.full((4, 4), 25700, np.uint16)), (100, 100, 100)),
        (Image.fromarray(np.full((4, 4), 65535, np.int32)), (255, 255, 255)),
        (Image.new("CMYK", (4, 4), (0, 255, 255, 0)), (255, 0, 0)),
        (turned(), (255, 0, 0)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else "",
)
def test_every_kind_of_picture_becomes_rgb(picture: Image.Image, expected: tuple[int, ...]):
    kind = "TIFF" if picture.mode in ("CMYK", "I") else "PNG"
    found = fitted(opened(encoded(picture, kind)), 4, 3)
    assert found.shape == (4, 4, 3)
    assert tuple(found[0, 0]) == expected


def tall_on_its_side() -> Image.Image:
    """Red above blue once the camera's note "turned by a quarter" is obeyed; 8 px wide, 4 high."""
    picture = Image.new("RGB", (8, 4), "red")
    picture.paste("blue", (4, 0, 8, 4))
    picture.getexif()[0x0112] = 6
    return picture


def test_files_of_every_kind_are_read(tmp_path: Path):
    deep = np.full((8, 8), 25700, np.uint16)
    files = [
        encoded(Image.new("L", (8, 8), 100)),
        encoded(Image.new("RGBA", (8, 8), (255, 0, 0, 0))),
        encoded(palette(transparent=False).resize((8, 8))),
        encoded(Image.fromarray(deep)),
        encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"),
        encoded(Image.new("RGB", (2, 3), "blue"), "WEBP"),
        encoded(Image.new("RGB", (8, 8), "lime"), "GIF"),
        encoded(tall_on_its_side()),
    ]
    data = load_pictures(write_rows(tmp_path / "d", files), image_size=4)
    assert (len(data), data.skipped, data.enlarged) == (len(files), 0, 1)
    pixels = data.take(torch.arange(len(files))).int()
    *plain, (red, blue) = [(p[:, 0, -1].tolist(), p[:, -1, 0].tolist()) for p in pixels]
    greys = [[100] * 3, [255] * 3, [200, 100, 50], [100] * 3]
    colours = [[254, 0, 0], [0, 0, 255], [0, 255, 0]]  # as JPEG keeps the first
    expected = [(colour, colour) for colour in greys + colours]
    torch.testing.assert_close(torch.tensor(plain), torch.tensor(expected), rtol=0, atol=2)
    torch.testing.assert_close([red, blue], [[255, 0, 0], [0, 0, 255]], rtol=0, atol=90)


def test_pictures_become_grey_for_a_grey_network():
    found = fitted(Image.new("RGB", (4, 4), (255, 0, 0)), 4, 1)
    assert found.shape == (4, 4, 1)
    assert found[0, 0, 0] == 76


def test_the_only_column_of_pictures_is_found_whatever_its_name(tmp_path: Path):
    name = write_rows(tmp_path / "d", [encoded(landscape(0))], column="painting")
    assert len(load_pictures(name, image_size=8)) == 1
    assert len(load_pictures(name, image_size=8, image_column="painting")) == 1


@pytest.mark.parametrize("bare", [True, False])
def test_encoded_pictures_without_a_mark_of_their_kind_are_found(bare: bool, tmp_path: Path):
    file = encoded(landscape(0))
    plain = {"bytes": Value("binary"), "path": Value("string")}
    features = Features({"picture": Value("binary") if bare else plain})
    rows = [file if bare else {"bytes": file, "path": None}]
    (tmp_path / "d").mkdir()
    Dataset.from_dict({"picture": rows}, features=features).to_parquet(tmp_path / "d" / TRAIN)
    assert len(load_pictures(str(tmp_path / "d"), image_size=8)) == 1


def test_a_wrong_column_is_refused_naming_those_that_are_there(tmp_path: Path):
    name = write_rows(tmp_path / "d", [encoded(landscape(0))])
    with pytest.raises(ValueError, match="image_column must be one of image, got 'title'"):
        load_pictures(name, image_size=8, image_column="title")
    (tmp_path / "other").mkdir()
    Dataset.from_dict({"text": ["a"], "label": [2]}).to_parquet(tmp_path / "other" / TRAIN)
    with pytest.raises(ValueError, match=r"a column of pictures, got .* with text, label"):
        load_pictures(str(tmp_path / "other"), image_size=8)


def test_one_of_two_columns_of_pictures_must_be_chosen(tmp_path: Path):
    rows = [{"bytes": encoded(landscape(0)), "path": None}]
    features = Features({"image": ImageFeature(), "mask": ImageFeature()})
    data = Dataset.from_dict({"image": rows, "mask": rows}, features=features)
    name = str(tmp_path / "d")
    (tmp_path / "d").mkdir()
    data.to_parquet(tmp_path / "d" / TRAIN)
    with pytest.raises(ValueError, match="must be one of image, mask, got 'nothing'"):
        load_pictures(name, image_size=8)
    assert len(load_pictures(name, image_size=8, image_column="mask")) == 1


def test_data_without_any_readable_picture_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"data set of pictures, got .* none of 2 can be read"):
        load_pictures(write_rows(tmp_path / "d", [b"x", None]), image_size=8)


def test_preparing_in_several_processes_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name = write_landscapes(tmp_path / "d", 12)
    alone = load_pictures(name, image_size=8)
    monkeypatch.setattr("training.pictures.data._processes", lambda _: 2)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "other")
    together = load_pictures(name, image_size=8)
    order = torch.arange(12)
    torch.testing.assert_close(together.take(order), alone.take(order), rtol=0, atol=0)


def test_a_part_of_the_pictures_keeps_their_order(tmp_path: Path):
    data = load_pictures(write_landscapes(tmp_path / "d", 12), image_size=8)
    part = data.select(torch.tensor([7, 2, 9]))
    expected = data.take(torch.tensor([9, 7]))
    torch.testing.assert_close(part.take(torch.tensor([2, 0])), expected, rtol=0, atol=0)
