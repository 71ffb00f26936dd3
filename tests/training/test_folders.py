"""A folder of pictures: every file is used, or counted with its reason; nothing is guessed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets.config
import pytest
import torch
from datasets import ClassLabel, Dataset
from PIL import Image

from tests.fakes.tiny_pictures import encoded, landscape, write_landscapes
from training.core import folders
from training.core.data import read_source
from training.core.file_kinds import LEFT_OUT
from training.core.folders import picture_folder
from training.digits.data import load_digits
from training.pictures.data import Pictures, load_pictures


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / ".cache")


def grey(level: int, kind: str = "PNG") -> bytes:
    return encoded(Image.new("RGB", (8, 8), (level, level, level)), kind)


def write(folder: Path, files: Mapping[str, bytes | str]) -> Path:
    """A folder of these files, by their relative names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def levels(data: Pictures) -> list[int]:
    """The grey of each picture, in order."""
    return data.take(torch.arange(len(data)))[:, 0, 0, 0].tolist()


def loaded(folder: Path, **options: Any) -> Pictures:
    return load_pictures(str(folder), image_size=8, **options)


@pytest.mark.parametrize(
    "names",
    [
        ["a.png", "b.png", "train.png"],
        ["a.png", "b.png", "test_shot.png"],
        ["a.png", "b.png", "validation-1.png"],
        ["a.png", "train/b.png", "train/c.png"],
        ["bus/a.png", "car/b.png", "plane/c.png", "train/d.png"],
        ["train/a.png", "test/b.png", "car/c.png"],
        ["train/a.png", "test/b.png", "z.png"],
        ["train/a.png", "train/b.png"],
        ["test/a.png", "val/b.png"],
        ["deep/deeper/train/a.png", "deep/deeper/test/b.png"],
        ["set [v1]/a.png", "b*?.png", "{x}/c.png", "d%20e.png", "ünïcode 花.png", "f::g.png"],
        ["data-00000-of-00001/a.png", "train-00000-of-00002.png"],
    ],
)
def test_every_picture_is_used_whatever_files_and_folders_are_called(
    names: list[str], tmp_path: Path
):
    folder = write(tmp_path / "set [v1]", {name: grey(i) for i, name in enumerate(sorted(names))})
    data = loaded(folder)
    assert levels(data) == list(range(len(names)))
    assert data.left_out == {}


@pytest.mark.parametrize("other", ["test", "val", "validation"])
def test_only_train_beside_other_splits_divides_a_folder(other: str, tmp_path: Path):
    files = {"train/a.png": grey(1), "train/b.png": grey(2), f"{other}/c.png": grey(3)}
    folder = write(tmp_path / "d", files | {"README.md": "words"})
    data = loaded(folder)
    assert levels(data) == [1, 2]
    assert levels(loaded(folder, split=other)) == [3]
    assert f"1 picture of the split {other}: not used" in list(data.folders[0].lines())
    with pytest.raises(ValueError, match=f"split 'dev'.*it has train, {other}"):
        loaded(folder, split="dev")


def test_class_folders_become_labels_with_names(tmp_path: Path):
    files = {"train/a.png": grey(1), "car/b.png": grey(2), "car/old/c.png": grey(3)}
    data = read_source(str(write(tmp_path / "d", files)), "train").data
    kind = data.features["label"]
    assert isinstance(kind, ClassLabel)
    assert kind.names == ["car", "train"]
    assert data["file_name"] == ["car/b.png", "car/old/c.png", "train/a.png"]
    assert list(data["label"]) == [0, 0, 1]
    write(tmp_path / "d", {"loose.png": grey(4)})
    assert "label" not in read_source(str(tmp_path / "d"), "train").data.column_names


def test_class_folders_below_a_split_become_labels(tmp_path: Path):
    files = {"train/kiwi/a.png": grey(1), "train/fig/b.png": grey(2), "test/kiwi/c.png": grey(3)}
    data = read_source(str(write(tmp_path / "d", files)), "train").data
    assert [data.features["label"].names[i] for i in data["label"]] == ["fig", "kiwi"]


def test_every_file_is_used_or_counted_with_its_reason(tmp_path: Path):
    files: dict[str, bytes | str] = {
        "a.png": grey(1),
        "b.avif": grey(2, "AVIF"),
        "c.webp": grey(3, "WEBP"),
        "d.GIF": grey(4, "GIF"),
        "e.tiff": grey(5, "TIFF"),
        "f.bmp": grey(6, "BMP"),
        "no suffix": grey(7, "JPEG"),
        "from a phone.heic": grey(8, "JPEG"),  # it is none
        "g.jpg": b"<html>404</html>",
        "h.png": b"",
        "i.heic": b"\0\0\0\x18ftypheic",
        "j.zip": b"PK",
        "k.tar.gz": b"",
        "l.mov": b"",
        "m.json": "{}",
        "a.txt": "a caption",
        "readme.txt": "no picture's",
        "table.csv": "a,b\n1,2\n",
        ".DS_Store": b"",
        ".git/HEAD": b"",
        "__MACOSX/._a.png": grey(0),
        "Thumbs.db": b"",
    }
    folder = write(tmp_path / "d", files)
    data = loaded(folder)
    assert sorted(levels(data)) == pytest.approx([1, 2, 3, 4, 5, 6, 7, 8], abs=2)
    assert data.skipped == 2
    expected = {"archive": 2, "format": 1, "video": 1, "caption": 1, "table": 1}
    assert data.left_out == expected | {"hidden": 4, "other": 1}
    (found,) = data.folders
    used = len(data) + data.skipped + found.sidecars.num_captions
    assert used + sum(data.left_out.values()) == found.num_files == len(files)
    lines = list(found.lines())
    assert lines[0] == "d: 22 files, 10 pictures to use"
    assert f"2 left out: {LEFT_OUT['archive']}" in lines


def test_captions_and_metadata_become_columns(tmp_path: Path):
    rows = [{"file_name": "b.png", "stars": 3}, {"file_name": "gone.png", "stars": 1}]
    files = {
        "a.png": grey(1),
        "a.txt": "\ufeffa red tulip\n",
        "b.png": grey(2),
        "b.caption": "two tulips",
        "sub/c.png": grey(3),
        "sub/metadata.csv": "file_name,artist,year\nc.png,Monet,1890\n",
        "metadata.jsonl": "\n".join(map(json.dumps, rows)),
    }
    folder = write(tmp_path / "d", files)
    data = read_source(str(folder), "train").data
    assert list(data["text"]) == ["a red tulip", "two tulips", None]
    assert list(data["stars"]) == [None, 3, None]
    assert list(data["year"]) == [None, None, 1890]
    assert list(data["artist"]) == [None, None, "Monet"]
    found = loaded(folder)
    assert levels(loaded(folder, exclude="artist=Monet")) == [1, 2]
    assert loaded(folder, focus="text=a red.*").focused.tolist() == [True, False, False]
    assert found.num_captions == 2
    assert found.left_out == {"row": 1}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata.csv", "name,artist\na.png,Monet\n"),
        ("metadata.csv", ""),
        ("metadata.csv", "\0\xff"),
        ("metadata.jsonl", "[1]\n"),
        ("metadata.jsonl", "not json\n"),
    ],
)
def test_metadata_that_cannot_be_read_is_counted(name: str, content: str, tmp_path: Path):
    data = loaded(write(tmp_path / "d", {"a.png": grey(1), name: content}))
    assert (len(data), data.left_out) == (1, {"metadata": 1})


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "which is empty"),
        ({"a.txt": "words"}, "without one: 1 captions and texts"),
        ({"a.zip": b"PK", "b.txt": ""}, "with 1 archive: unpack it"),
        ({"a.heic": b"", "b.heic": b""}, "without one: 2 pictures of formats that are not read"),
        ({".a.png": b""}, "without one: 1 hidden files"),
    ],
)
def test_a_folder_without_pictures_is_refused_in_one_sentence(
    files: dict[str, bytes | str], sentence: str, tmp_path: Path
):
    with pytest.raises(ValueError, match=sentence) as error:
        loaded(write(tmp_path / "d", files))
    assert str(error.value).startswith("dataset_name must be a folder of pictures, got '")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("a.zip", "got '.*a.zip', an archive: unpack it"),
        ("a.png", "got '.*a.png', a file"),
        ("gone", "must be a folder that can be read, got '.*gone': No such file"),
        ("", "must be a Hub id or a folder, got nothing"),
    ],
)
def test_what_is_no_folder_is_refused_in_one_sentence(name: str, sentence: str, tmp_path: Path):
    write(tmp_path, {"a.zip": b"PK", "a.png": grey(1)})
    with pytest.raises(ValueError, match=sentence):
        load_pictures(str(tmp_path / name) if name else "", image_size=8)


def test_a_folder_that_cannot_be_opened_is_refused_or_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = write(tmp_path / "d", {"a.png": grey(1), "closed/b.png": grey(2)})
    scan = os.scandir

    def closed(path: Any) -> Any:
        if str(path).endswith(closed_name):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(folders.os, "scandir", closed)
    closed_name = "closed"
    assert loaded(folder).left_out == {"closed": 1}
    closed_name = "/d"
    with pytest.raises(ValueError, match=r"that can be read, got .*: Permission denied"):
        loaded(folder)


def test_links_lead_nowhere_twice(tmp_path: Path):
    outside = write(tmp_path / "outside", {"c.png": grey(3)})
    folder = write(tmp_path / "d", {"a.png": grey(1), "z/b.png": grey(2)})
    (folder / "loop").symlink_to(folder)
    (folder / "again").symlink_to(folder / "z")
    (folder / "out").symlink_to(outside)
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    data = loaded(folder)
    assert levels(data) == [1, 3, 2]
    assert data.left_out == {"link": 3}
    found = picture_folder(folder)
    assert found is not None
    assert next(found.lines()) == "d: 6 files, 3 pictures to use"


def test_what_is_no_file_is_not_opened(tmp_path: Path):
    folder = write(tmp_path / "d", {"a.png": grey(1)})
    os.mkfifo(folder / "pipe.png")
    assert loaded(folder).left_out == {"other": 1}


def test_a_name_that_is_not_unicode_is_counted(tmp_path: Path):
    folder = write(tmp_path / "d", {"a.png": grey(1)})
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.png")).write_bytes(grey(2))
    assert loaded(folder).left_out == {"name": 1}


def test_a_folder_of_tables_is_read_as_before(tmp_path: Path):
    folder = tmp_path / "d"
    write_landscapes(folder, 3)
    write(folder, {"preview.png": grey(1), "preview-2.png": grey(2)})
    assert picture_folder(folder) is None
    data = loaded(folder)
    assert (len(data), data.folders) == (3, ())


def test_a_table_without_pictures_does_not_hide_the_pictures(tmp_path: Path):
    folder = write(tmp_path / "d", {"a.png": grey(1), "b.png": grey(2)})
    Dataset.from_dict({"number": [1, 2, 3]}).to_parquet(folder / "numbers.parquet")
    data = loaded(folder)
    assert (levels(data), data.left_out) == ([1, 2], {"table": 1})


def test_a_changed_file_is_noticed(tmp_path: Path):
    folder = write(tmp_path / "d", {"a.png": grey(1), "b.png": grey(2)})
    before = loaded(folder)
    write(folder, {"b.png": grey(9)})
    os.utime(folder / "b.png", ns=(10**18, 10**18))
    assert levels(loaded(folder)) == [1, 9]
    assert levels(before) == [1, 2]


def test_what_was_prepared_is_not_prepared_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = write(tmp_path / "d", {f"{i}.png": grey(i) for i in range(5)})
    first = loaded(folder)
    monkeypatch.setattr("training.pictures.data.opened", lambda _: pytest.fail("opened again"))
    assert levels(loaded(folder)) == levels(first)
    assert first.rows.cache_files


def test_the_fingerprint_knows_pictures_and_order_and_not_the_place(tmp_path: Path):
    files = {f"{name}.png": grey(i) for i, name in enumerate("abcdefgh")}
    same = loaded(write(tmp_path / "one", files)).fingerprint()
    assert loaded(write(tmp_path / "two", files)).fingerprint() == same
    write(tmp_path / "two", {"note.txt": "words"})
    assert loaded(tmp_path / "two").fingerprint() == same
    removed = {name: content for name, content in files.items() if name != "d.png"}
    swapped = files | {"a.png": files["b.png"], "b.png": files["a.png"]}
    others = [files | {"i.png": grey(9)}, removed, files | {"e.png": grey(99)}, swapped]
    found = [loaded(write(tmp_path / f"o{i}", o)).fingerprint() for i, o in enumerate(others)]
    assert len({same, *found}) == 5


@pytest.mark.parametrize(
    ("option", "value", "kept"),
    [
        ("exclude", "label=kiwi", [1, 3]),
        ("exclude", "label=1", [1, 3]),
        ("exclude", "label=fig, lemon, sour", [2]),
        ("focus", "label=KIWI", [2]),
        ("focus", "label=0|1", [1, 2]),
    ],
)
def test_classes_are_chosen_by_name_or_number(
    option: str, value: str, kept: list[int], tmp_path: Path
):
    files = {"fig/a.png": grey(1), "kiwi/b.png": grey(2), "lemon, sour/c.png": grey(3)}
    data = loaded(write(tmp_path / "d", files), **{option: value})
    chosen = [level for level, f in zip(levels(data), data.focused, strict=True) if f]
    assert (levels(data) if option == "exclude" else chosen) == kept


def test_a_class_that_is_not_there_is_refused_by_name(tmp_path: Path):
    folder = write(tmp_path / "d", {"fig/a.png": grey(1), "kiwi/b.png": grey(2)})
    with pytest.raises(ValueError, match=r"exclude must name values of label, got melon, which"):
        loaded(folder, exclude="label=melon")


def test_folders_of_digits_count_by_their_names(tmp_path: Path):
    files = {"3/a.png": grey(1), "7/b.png": grey(2), "7/c.png": grey(3)}
    data = load_digits(str(write(tmp_path / "d", files)), "train")
    assert data.labels.tolist() == [3, 7, 7]
    assert data.pixels[:, 0, 0, 0].tolist() == [1, 2, 3]
    write(tmp_path / "d", {"other/d.png": grey(4)})
    with pytest.raises(ValueError, match=r"whose label is a digit 0 to 9, got .* with 'other' in"):
        load_digits(str(tmp_path / "d"), "train")


def test_pictures_of_every_format_are_landscapes_alike(tmp_path: Path):
    picture = landscape(1).resize((64, 64))
    kinds = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "bmp": "BMP", "tif": "TIFF"}
    kinds |= {"avif": "AVIF"}
    files = {f"{suffix}.{suffix}": encoded(picture, kind) for suffix, kind in kinds.items()}
    data = loaded(write(tmp_path / "d", files))
    found = data.take(torch.arange(len(files))).float()
    assert ((found - found[2]).abs().mean(dim=(1, 2, 3)) < 12).all()
