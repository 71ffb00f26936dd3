"""What pictures and models are accepted: rows for a page of the documents, by the rules themselves.

Each part is `(title, about, check, accepted, refused)`: `check` returns what becomes of an example,
and raises the `UserError` that refuses it; a row is a form in words and the name of an example.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel
from PIL import Image

from pipelines.core import pictures
from pipelines.diffusion.schedules import alphas_cumprod
from pipelines.models import own_checkpoints

Rows = tuple[tuple[str, str], ...]
Part = tuple[str, str, Callable[[str], str], Rows, Rows]

_SIDE = 24
_WEIGHTS = "diffusion_pytorch_model.safetensors"


def _gradient() -> np.ndarray:
    """Returns grey values `(h, w)` from 0 to 1."""
    return np.tile(np.linspace(0, 1, _SIDE), (_SIDE, 1))


def _file(kind: str, values: np.ndarray | None = None, **options: Any) -> bytes:
    """Returns a file of a format of Pillow; values other than 8 bits as they are."""
    grey = (_gradient() * 255).astype(np.uint8) if values is None else values
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, format=kind, **options)
    return buffer.getvalue()


def _turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return _file("JPEG", np.zeros((12, _SIDE), np.uint8), exif=exif)


def _address(head: str = "data:image/png;base64,") -> str:
    return head + base64.b64encode(_file("PNG")).decode()


_PICTURES: dict[str, Callable[[], bytes | str]] = {
    **{f"a.{kind.lower()}": lambda kind=kind: _file(kind) for kind in pictures.FORMATS},
    "16-bit.png": lambda: _file("PNG", (_gradient() * 65535).astype(np.uint16)),
    "float.tiff": lambda: _file("TIFF", _gradient().astype(np.float32)),
    "turned.jpeg": _turned,
    "data:image/png;base64,...": _address,
    "DATA:IMAGE/PNG;BASE64,...": lambda: _address("DATA:IMAGE/PNG;BASE64,"),
    "data:image/png;base64,...%3D": lambda: "data:image/png;base64," + quote(_address()[22:], ""),
    "data:image/png;base64,... without =": lambda: _address().rstrip("="),
    "photo.heic": lambda: bytes(4) + b"ftypheic" + bytes(99),
    "torn.png": lambda: _file("PNG")[:60],
    "empty.png": bytes,
    "text.png": lambda: b"a text",
    "drawing.svg": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "large.png": lambda: _file("PNG") + bytes(pictures.MAX_BYTES),
    "wide.png": lambda: _file("PNG", np.zeros((1, pictures.MAX_SIDE_PX + 1), np.uint8)),
    "iVBORw0KGgo...": lambda: _address()[22:],
    "http://a.b/c.png": lambda: "http://a.b/c.png",
}


def check_picture(example: str) -> str:
    """Returns size, mode and darkest and lightest grey of an example, as the app reads it."""
    picture = pictures.open_picture(_PICTURES[example](), name="mask")
    low, high = np.asarray(picture).min(), np.asarray(picture).max()
    return f"{picture.width} x {picture.height} px, {picture.mode}, {low} to {high}"


PICTURES: Part = (
    "Pictures",
    "For `mask` and `image_prompt`, the same on the page, over the API (as an address, or as a "
    "file by `gradio_client.handle_file`) and in saved files. "
    "The first frame counts, EXIF turns it upright, and 16 bits and floats are scaled to 8 bits.",
    check_picture,
    (
        *((kind, f"a.{kind.lower()}") for kind in pictures.FORMATS),
        ("16 bits", "16-bit.png"),
        ("floats from 0 to 1", "float.tiff"),
        ("lying on its side by EXIF", "turned.jpeg"),
        ("a data address", "data:image/png;base64,..."),
        ("in capitals", "DATA:IMAGE/PNG;BASE64,..."),
        ("escaped as in an URL", "data:image/png;base64,...%3D"),
        ("without padding", "data:image/png;base64,... without ="),
    ),
    (
        ("HEIC", "photo.heic"),
        ("a damaged file", "torn.png"),
        ("an empty file", "empty.png"),
        ("another kind of file", "text.png"),
        ("drawings", "drawing.svg"),
        ("more than 10 MB", "large.png"),
        ("too wide", "wide.png"),
        ("base64 alone", "iVBORw0KGgo..."),
        ("an address on the web", "http://a.b/c.png"),
    ),
)


def _unet() -> UNet2DModel:
    return UNet2DModel(
        sample_size=32,
        block_out_channels=(32,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        layers_per_block=1,
    )


def _change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _only_variant(folder: Path) -> None:
    (folder / "unet" / _WEIGHTS).unlink()
    unet: Any = _unet()
    unet.to(torch.float16).save_pretrained(folder / "unet", variant="fp16")


def _pickles(folder: Path) -> None:
    (folder / "unet" / _WEIGHTS).unlink()
    _unet().save_pretrained(folder / "unet", safe_serialization=False)


def _network(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: _change(folder / "unet" / "config.json", **changes)


def _scheduler(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: _change(folder / "scheduler" / "scheduler_config.json", **changes)


_MODELS: dict[str, Callable[[Path], None]] = {
    "unet/ and scheduler/": lambda folder: None,
    "diffusion_pytorch_model.fp16.safetensors": _only_variant,
    "diffusion_pytorch_model.bin": _pickles,
    "v_prediction": _scheduler(prediction_type="v_prediction"),
    **{
        f"beta_schedule {name}": _scheduler(beta_schedule=name)
        for name in ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace")
    },
    "rescale_betas_zero_snr": _scheduler(rescale_betas_zero_snr=True),
    "no weights": lambda folder: (folder / "unet" / _WEIGHTS).unlink(),
    "no config.json": lambda folder: (folder / "unet" / "config.json").unlink(),
    "num_class_embeds 10": _network(num_class_embeds=10),
    "in_channels 1": _network(in_channels=1),
    "sample_size 8": _network(sample_size=8),
    "UNet2DConditionModel": _network(_class_name="UNet2DConditionModel"),
    "prediction_type flow": _scheduler(prediction_type="flow"),
    "num_train_timesteps 100": _scheduler(num_train_timesteps=100),
}


def check_model(example: str) -> str:
    """Returns size, prediction and weights of an example, as they are found in its folder."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        _unet().save_pretrained(folder / "unet")
        DDPMScheduler().save_pretrained(folder / "scheduler")
        _MODELS[example](folder)
        own = own_checkpoints.find("mine", str(folder), fetch=False)
        last = float(alphas_cumprod(own.scheduler_config)[-1])
    kind = "safetensors" if own.weights.safetensors else "bin"
    variant = f" {own.weights.variant}" if own.weights.variant else ""
    prediction = own.scheduler_config["prediction_type"]
    return f"{own.size_px} px, {prediction}, {kind}{variant}, last alpha_bar {last:.1e}"


MODELS: Part = (
    "Models",
    "For `STUDIO_CHECKPOINTS`, `name=folder` or `name=Hub id` with commas between: an "
    "unconditional `UNet2DModel` of diffusers with its scheduler. The path of a folder may have "
    "spaces, and commas if the folder is there. Weights are read when a model is first used; NaN "
    "in them is told after the first step. Training begins from such models, and writes them.",
    check_model,
    (
        ("a folder", "unet/ and scheduler/"),
        ("a variant alone", "diffusion_pytorch_model.fp16.safetensors"),
        ("pickles, of which no code is run", "diffusion_pytorch_model.bin"),
        ("another prediction", "v_prediction"),
        *((name, name) for name in _MODELS if name.startswith("beta_schedule")),
        ("no signal at the end", "rescale_betas_zero_snr"),
    ),
    (
        ("missing weights", "no weights"),
        ("a missing config", "no config.json"),
        ("classes", "num_class_embeds 10"),
        ("grey pictures", "in_channels 1"),
        ("tiny pictures", "sample_size 8"),
        ("another network", "UNet2DConditionModel"),
        ("another prediction", "prediction_type flow"),
        ("few timesteps", "num_train_timesteps 100"),
    ),
)

PARTS: tuple[Part, ...] = (PICTURES, MODELS)
