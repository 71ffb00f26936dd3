"""A picture is the same pixels on the page and over the API, in every format and form."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from gradio.data_classes import ImageData
from gradio.utils import get_upload_folder
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import app
from pipelines.core import pictures
from pipelines.core.rules import SettingsError, rule
from pipelines.products import PRODUCTS
from pipelines.products.settings import ColorSettings
from tabs import i18n, uploads

SIDE = 24


def quarters() -> Image.Image:
    """White above, grey at the left below, black at the right below."""
    picture = Image.new("L", (SIDE, SIDE), 255)
    picture.paste(90, (0, SIDE // 2, SIDE // 2, SIDE))
    picture.paste(0, (SIDE // 2, SIDE // 2, SIDE, SIDE))
    return picture


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


def turned() -> bytes:
    """A JPEG that lies on its side, and says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(quarters().convert("RGB").transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif)


def scaled(dtype: Any, largest: float) -> bytes:
    grey = np.asarray(quarters()).astype(float) / 255 * largest
    return saved(Image.fromarray(grey.astype(dtype)), "TIFF")


FILES: dict[str, bytes] = {
    "a.png": saved(quarters(), "PNG"),
    "a.jpg": saved(quarters(), "JPEG"),
    "a.webp": saved(quarters(), "WEBP", lossless=True),
    "a.gif": saved(quarters(), "GIF"),
    "a.bmp": saved(quarters(), "BMP"),
    "a.tiff": saved(quarters(), "TIFF"),
    "a.avif": saved(quarters().convert("RGB"), "AVIF"),
    "turned.jpg": turned(),
    "sixteen.png": saved(Image.fromarray((np.asarray(quarters()).astype(np.uint16)) * 257), "PNG"),
    "sixteen.tiff": scaled(np.uint16, 65535),
    "float.tiff": scaled(np.float32, 1.0),
}
EXACT = ("a.png", "a.webp", "a.gif", "a.bmp", "a.tiff", "sixteen.png", "sixteen.tiff", "float.tiff")


@pytest.fixture
def client(served: str, tiny_checkpoints: Path) -> Client:
    return Client(served, verbose=False)


def on_the_page(name: str) -> str:
    """The setting of a file that a visitor chooses."""
    folder = Path(get_upload_folder()) / "of-a-test"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(FILES[name])
    control = uploads.PictureUpload.preprocess
    value = control(uploads.PictureUpload, ImageData(path=str(folder / name)))  # type: ignore[arg-type]
    return rule(ColorSettings, "mask").check("mask", value)


def over_the_api(client: Client, mask: Any) -> str:
    """The hash of the setting that the app drew with."""
    _, info = client.predict(mask=mask, num_inference_steps=1, api_name="/color")
    return info["settings"]["mask"]


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_the_same_picture_on_the_page_as_a_file_and_as_an_address(
    client: Client, name: str, tmp_path: Path
):
    expected = pictures.digest(on_the_page(name))
    path = tmp_path / name
    path.write_bytes(FILES[name])
    assert over_the_api(client, handle_file(str(path))) == expected
    address = "data:image/x;base64," + base64.b64encode(FILES[name]).decode()
    assert over_the_api(client, address) == expected


@pytest.mark.parametrize("name", FILES)
def test_every_format_holds_the_picture_that_was_put_in(name: str):
    address = rule(ColorSettings, "mask").check("mask", on_the_page(name))
    found = np.asarray(pictures.open_picture(address, name="mask").convert("L"), int)
    tolerance = 0 if name in EXACT else 12
    assert np.abs(found - np.asarray(quarters(), int)).max() <= tolerance


WHOLE = base64.b64encode(FILES["a.png"]).decode()
FORMS = {
    "line breaks": "data:image/png;base64,"
    + "\r\n".join(WHOLE[i : i + 40] for i in range(0, 999, 40)),
    "capitals": f"DATA:IMAGE/PNG;BASE64,{WHOLE}",
    "escaped": f"data:image/png;base64,{quote(WHOLE, safe='')}",
    "no padding": f"data:image/png;base64,{WHOLE.rstrip('=')}",
    "url alphabet": f"data:image/png;base64,{WHOLE.replace('+', '-').replace('/', '_')}",
    "no kind": f"data:;base64,{WHOLE}",
    "a character set": f"data:image/png;charset=utf-8;base64,{WHOLE}",
    "bytes": f"data:application/octet-stream;base64,{WHOLE}",
    "space around": f"  data:image/png;base64,{WHOLE}\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_every_clear_form_of_an_address_is_read(form: str):
    expected = rule(ColorSettings, "mask").check("mask", f"data:image/png;base64,{WHOLE}")
    assert rule(ColorSettings, "mask").check("mask", FORMS[form]) == expected


def test_addresses_in_capitals_and_in_a_file_are_taken_over_the_api(client: Client):
    expected = pictures.digest(rule(ColorSettings, "mask").check("mask", FORMS["no padding"]))
    assert over_the_api(client, FORMS["capitals"]) == expected
    assert over_the_api(client, FORMS["escaped"]) == expected


@pytest.mark.parametrize(
    "wrong",
    [WHOLE, "data:text/plain;base64,aGVsbG8=", "data:image/png,abc", "http://a/b.png", "a.png"],
)
def test_what_is_not_clear_is_refused_over_the_api(client: Client, wrong: str):
    with pytest.raises(AppError, match=r"^mask must be a picture \(PNG, JPEG, .+ got '"):
        over_the_api(client, wrong)


def test_a_mask_that_is_not_square_is_told_with_the_size_that_it_had():
    large = saved(Image.new("L", (3000, 1500), 255), "PNG")
    with pytest.raises(SettingsError, match="got 3000 x 1500 px"):
        rule(ColorSettings, "mask").check("mask", large)
    exif = Image.Exif()
    exif[0x0112] = 6
    on_its_side = saved(Image.new("L", (3000, 1500), 255), "JPEG", exif=exif)
    with pytest.raises(SettingsError, match="got 1500 x 3000 px"):
        rule(ColorSettings, "mask").check("mask", on_its_side)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "got an empty file"),
        (b"hello", "got a file that cannot be read"),
        (FILES["a.png"][:60], "got a damaged picture"),
        (b"\0\0\0\x18ftypheic" + bytes(99), "got a HEIC picture: save it as JPEG or PNG"),
    ],
)
def test_a_file_that_cannot_be_used_leaves_the_one_before(
    content: bytes, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(uploads, "get_upload_folder", lambda: str(tmp_path))
    product, path, before = PRODUCTS["text"], tmp_path / "x.png", str(tmp_path / "before.png")
    path.write_bytes(content)
    value, kept, message = uploads.checked(product, "image_prompt", path, before, "en")
    assert value == {"__type__": "update", "value": before}
    assert kept == {"__type__": "update"}
    assert message.startswith('<p role="alert">“A picture to be like” must be a picture')
    assert message.endswith(f"{told}</p>")
    chinese = uploads.checked(product, "image_prompt", path, "", "zh")[2]
    assert i18n.translate("zh", "setting.image_prompt") in chinese


@pytest.mark.parametrize("named", ["/etc/passwd", "../x.png", "", 7, None, "\0"])
def test_only_an_uploaded_file_comes_back_whatever_the_page_says_it_kept(
    named: Any, tmp_path: Path
):
    path = tmp_path / "x.png"
    path.write_bytes(b"hello")
    value = uploads.checked(PRODUCTS["color"], "mask", path, named, "en")[0]
    assert value == {"__type__": "update", "value": None}


def test_no_component_makes_every_client_hold_a_connection():
    """With a state on the server, programs that call the API would not end."""
    assert not app.build_demo().get_config_file()["connect_heartbeat"]


def test_a_file_that_can_be_used_is_kept_and_takes_the_message_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(uploads, "get_upload_folder", lambda: str(tmp_path))
    product, path = PRODUCTS["color"], tmp_path / "x.png"
    path.write_bytes(FILES["a.png"])
    assert uploads.checked(product, "mask", path, "", "en")[1:] == [str(path), ""]
    stays = uploads.checked(product, "mask", path, str(path), "en")
    assert stays == [{"__type__": "update"}] * 3, "a message about another file stays"
    assert uploads.checked(product, "mask", "", str(path), "en")[1:] == ["", ""]
