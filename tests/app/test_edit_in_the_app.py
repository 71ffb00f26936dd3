"""`/edit` through a real client: files and addresses, what comes back, and what is refused."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from pipelines.core import images, pictures
from pipelines.products.edit import PRODUCT, EditSettings
from pipelines.runs import provenance

pytestmark = pytest.mark.usefixtures("tiny_checkpoints")


@pytest.fixture
def client(served: str) -> Client:
    return Client(served, verbose=False)


def noisy(size: tuple[int, int] = (64, 64), mode: str = "RGB") -> Image.Image:
    bands = len(Image.new(mode, (1, 1)).getbands())
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], bands), np.uint8)
    return Image.fromarray(values.squeeze(), mode)


def half(size: tuple[int, int] = (64, 64), grey: int = 255) -> Image.Image:
    mask = Image.new("L", size)
    mask.paste(grey, (size[0] // 2, 0, *size))
    return mask


PICTURE, MASK = images.to_data_uri(noisy()), images.to_data_uri(half())
FEW: dict[str, Any] = {"image": PICTURE, "mask": MASK, "num_inference_steps": 2}


def edited(client: Client, **options: Any) -> tuple[list[Image.Image], dict[str, Any]]:
    files, info = client.predict(**FEW | options, api_name="/edit")
    return [Image.open(path) for path in files], info


def assert_kept(found: Image.Image, came: Image.Image, mask: Image.Image) -> None:
    """What is black in the mask is equal to the bit, and something else is not."""
    assert found.size == came.size
    differs = (np.asarray(found) != np.asarray(came.convert("RGB"))).any(axis=2)
    assert not (differs & (np.asarray(mask) == 0)).any()
    assert differs.any()


@pytest.mark.parametrize("task", ["fill", "restyle", "colorize", "sharpen", "vary"])
def test_every_task_gives_pictures_with_their_record_inside(client: Client, task: str):
    found, info = edited(client, task=task, num_images=2, seed=5, strength=0.7)
    assert info["step"] == info["total_steps"] == 2
    assert (info["seed"], info["model"]) == (5, "paintings")
    assert info["settings"]["image"] == pictures.digest(PICTURE)
    assert info["settings"]["mask"] == pictures.digest(MASK)
    assert info["settings"]["task"] == task
    assert info["score"] == "change"
    assert len(info["score_before"]) == len(info["score_after"]) == 2
    assert [len(step) for step in info["loss"]] == [2, 2]
    assert len(found) == 2
    for index, picture in enumerate(found):
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (64, 64))
        assert_kept(picture, noisy(), half())
        inside = json.loads(picture.info[images.METADATA_KEY])
        assert inside["tab"] == "edit"
        assert inside["picture"] == {"index": index, "of": 2}
        assert inside["settings"]["image"] == PICTURE  # a saved picture brings it back
        assert provenance.from_facts(inside).settings.mask == MASK


def test_api_and_python_give_the_same_pixels(client: Client):
    found, _ = edited(client, task="restyle", color="teal", seed=3)
    settings = EditSettings(**FEW, task="restyle", color="teal", seed=3)
    *_, last = PRODUCT.generate(settings)
    assert [p.tobytes() for p in found] == [p.tobytes() for p in last.pictures]


def test_files_and_addresses_are_the_same_picture_and_mask(client: Client, tmp_path: Path):
    noisy((200, 150)).save(tmp_path / "picture.png")
    half((200, 150)).save(tmp_path / "mask.png")
    files = {
        "image": handle_file(str(tmp_path / "picture.png")),
        "mask": handle_file(str(tmp_path / "mask.png")),
    }
    addresses = {
        "image": images.to_data_uri(noisy((200, 150))),
        "mask": images.to_data_uri(half((200, 150))),
    }
    (by_file,), told = edited(client, **files)
    (by_address,), _ = edited(client, **addresses)
    assert by_file.tobytes() == by_address.tobytes()
    assert told["settings"]["image"] == pictures.digest(addresses["image"])
    assert_kept(by_file, noisy((200, 150)), half((200, 150)))


def file_of(picture: Image.Image, kind: str, folder: Path, **options: Any) -> Any:
    path = folder / f"picture.{kind}"
    picture.save(path, **options)
    return handle_file(str(path))


@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        ("L", "png", {}),
        ("CMYK", "tiff", {}),
        ("P", "gif", {"save_all": True}),
        ("RGBA", "png", {}),
        ("RGB", "jpg", {"quality": 95}),
        ("RGB", "webp", {"lossless": True}),
    ],
    ids=lambda part: str(part),
)
def test_files_of_every_kind_are_edited_at_their_size(
    client: Client, mode: str, kind: str, options: dict[str, Any], tmp_path: Path
):
    size = (90, 70)
    picture = noisy(size, "L" if mode == "P" else mode).convert(mode)
    if mode == "RGBA":  # what is transparent is filled too, so it lies where the mask is
        picture.putalpha(Image.eval(half(size), lambda value: 255 - value // 2))
    frames = {"append_images": [Image.new("P", size)]} if kind == "gif" else {}
    file = file_of(picture, kind, tmp_path, **options, **frames)
    with Image.open(tmp_path / f"picture.{kind}") as stored:
        came = stored.convert("RGB")
    (found,), _ = edited(client, image=file, mask=images.to_data_uri(half(size)))
    assert_kept(found, came, half(size))


def test_a_transparent_ground_is_filled_without_a_mask(client: Client):
    picture = noisy(mode="RGBA")
    picture.putalpha(Image.eval(half(), lambda value: 255 - value))
    (found,), _ = edited(client, image=images.to_data_uri(picture), mask="")
    assert_kept(found, picture.convert("RGB"), half())


def test_a_call_with_few_values_over_plain_http_gets_the_defaults(served: str):
    calls = f"{served}gradio_api/call"
    given = {"image": PICTURE, "task": "restyle", "num_inference_steps": 1}
    begun = httpx.post(f"{calls}/v2/edit", json=given).json()["event_id"]
    answer = httpx.get(f"{calls}/edit/{begun}", timeout=60).text
    assert "event: complete" in answer
    assert '"strength": 0.5' in answer
    assert PICTURE not in answer


# --- what is refused -----------------------------------------------------------------------------


def plane(size: tuple[int, int], grey: int) -> str:
    return images.to_data_uri(Image.new("L", size, grey))


def no_picture(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


def cut_off() -> bytes:
    buffer = io.BytesIO()
    noisy((200, 200)).save(buffer, "PNG")
    return buffer.getvalue()[:5000]


BAD: list[dict[str, Any]] = [
    {"image": ""},
    {"image": None},
    {"image": 7},
    {"image": ["data:image/png;base64,AAAA"]},
    {"image": "/etc/passwd"},
    {"image": "http://127.0.0.1/a.png"},
    {"image": no_picture(b"")},
    {"image": no_picture(b"<svg></svg>")},
    {"image": no_picture(cut_off())},
    {"image": plane((8000, 8000), 9)},
    {"image": plane((1025, 1025), 9)},
    {"image": plane((10, 10), 9)},
    {"mask": ""},
    {"mask": None},
    {"mask": plane((63, 64), 255)},
    {"mask": plane((64, 64), 255)},
    {"mask": plane((64, 64), 0)},
    {"mask": images.to_data_uri(half()), "crop": "0, 0, 20"},
    {"mask": no_picture(b"GIF89a")},
    {"task": "unknown"},
    {"task": None},
    {"strength": 1.5},
    {"strength": -0.5},
    {"strength": "strong"},
    {"crop": "50, 50, 32"},
    {"crop": "all"},
    {"crop": 7},
    {"crop": "<b>0</b>, 0, 32"},
    {"factor": 3, "task": "sharpen"},
    {"factor": 1},
    {"factor": 2.5},
    {"repeats": 2, "method": "fast"},
    {"prompt": "snow:9"},
    {"color": "notacolour"},
    {"palette": "red 50, gold 60"},
    {"method": "course"},
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: str(bad)[:50])
def test_bad_input_gives_one_sentence_and_leaves_the_lane_free(client: Client, bad: dict[str, Any]):
    with pytest.raises(AppError) as caught:
        edited(client, **bad)
    sentence = str(caught.value)
    assert re.match(rf"^{next(iter(bad))} must [^\n<>]+, got [^\n<>]+$", sentence), sentence
    files, info = client.predict("1", num_inference_steps=1, api_name="/digits")
    assert len(files) == info["step"] == 1


@pytest.mark.parametrize("name", ["picture.png", "picture.jpg"])
def test_a_broken_file_is_told_as_one(client: Client, name: str, tmp_path: Path):
    path = tmp_path / name
    path.write_bytes(cut_off())
    with pytest.raises(AppError, match=r"^image must be a picture .+, got a damaged picture$"):
        edited(client, image=handle_file(str(path)))
    path.write_bytes(b"no picture at all")
    with pytest.raises(AppError, match=r"^image must be a picture .+, got a file that cannot be"):
        edited(client, image=handle_file(str(path)))
    assert edited(client)[1]["step"] == 2
