"""What the tests of picture training share: tiny networks, pictures and data sets."""

from __future__ import annotations

import io
import resource
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from PIL import Image
from typer.testing import CliRunner

from pipelines.diffusion.unets import SpaceToDepthUNet2DModel
from training.core.held_out import ANY_TURN
from training.pictures.data import Pictures

SIZE = 16
NUM_PICTURES = 60
HELD_OUT = 6
OLD_NAMES = {
    "attentions.0.to_q": "attentions.0.query",
    "attentions.0.to_k": "attentions.0.key",
    "attentions.0.to_v": "attentions.0.value",
    "attentions.0.to_out.0": "attentions.0.proj_attn",
}


def stock_unet(**changes: Any) -> UNet2DModel:
    """A `UNet2DModel` of diffusers, small enough for a test."""
    torch.manual_seed(0)
    options: dict[str, Any] = {
        "sample_size": SIZE,
        "block_out_channels": (16, 16),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "down_block_types": ("DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D"),
    }
    return UNet2DModel(**options | changes)


def folded_unet(**changes: Any) -> SpaceToDepthUNet2DModel:
    """The project's own network, small enough for a test."""
    torch.manual_seed(0)
    options: dict[str, Any] = {
        "sample_size": SIZE,
        "block_out_channels": (32, 32),
        "down_block_types": ("DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D"),
        "attention_head_dim": 8,
    }
    return SpaceToDepthUNet2DModel(**options | changes)


def save_stock(folder: Path, **scheduler: Any) -> str:
    """A start model in the layout of a diffusers pipeline."""
    DDPMPipeline(stock_unet(), DDPMScheduler(**scheduler)).save_pretrained(folder)
    return str(folder)


def save_folded(folder: Path) -> str:
    """A start model of the project's own kind."""
    folded_unet().save_pretrained(folder / "unet")
    DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction"
    ).save_pretrained(folder / "scheduler")
    return str(folder)


def save_flat(folder: Path) -> str:
    """A start model in the layout of older ones: all at the root, pickled, names since changed."""
    source = Path(save_stock(folder.parent / f"{folder.name}-new"))
    folder.mkdir()
    shutil.copy(source / "unet" / "config.json", folder)
    shutil.copy(source / "scheduler" / "scheduler_config.json", folder)
    weights = stock_unet().state_dict()
    for new, old in OLD_NAMES.items():
        weights = {name.replace(new, old): value for name, value in weights.items()}
    torch.save(weights, folder / "diffusion_pytorch_model.bin")
    return str(folder)


def encoded(picture: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, exif=picture.getexif())
    return buffer.getvalue()


def landscape(seed: int) -> Image.Image:
    """A bright sky over a dark ground, 24×20 px."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 60, (20, 24, 3), dtype=np.uint8)
    pixels[: generator.integers(6, 14), :, 2] += 180
    return Image.fromarray(pixels)


def write_rows(folder: Path, files: Sequence[bytes | None], column: str = "image") -> str:
    """A data set with one column of pictures; None is a row without one."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [None if file is None else {"bytes": file, "path": None} for file in files]
    features = Features({column: ImageFeature(), "title": Value("string")})
    data = {column: rows, "title": [str(i) for i in range(len(rows))]}
    Dataset.from_dict(data, features=features).to_parquet(folder / "train.parquet")
    return str(folder)


def write_landscapes(folder: Path, count: int = NUM_PICTURES) -> str:
    return write_rows(folder, [encoded(landscape(i)) for i in range(count)])


def write_captioned(folder: Path, captions: Sequence[str]) -> str:
    """A data set of landscapes with a caption each."""
    pictures = [encoded(landscape(i)) for i in range(len(captions))]
    features = Features({"image": ImageFeature(), "caption": Value("string")})
    rows = [{"bytes": file, "path": None} for file in pictures]
    folder.mkdir(parents=True)
    data = Dataset.from_dict({"image": rows, "caption": [*captions]}, features=features)
    data.to_parquet(folder / "train.parquet")
    return str(folder)


def write_kinds(folder: Path, kinds: Sequence[str | None]) -> str:
    """A data set of one picture of each kind, its number as its grey."""
    files = [encoded(Image.new("RGB", (8, 8), (i, i, i))) for i in range(len(kinds))]
    features = Features({"image": ImageFeature(), "kind": Value("string")})
    rows = {"image": [{"bytes": file, "path": None} for file in files], "kind": [*kinds]}
    folder.mkdir(parents=True)
    Dataset.from_dict(rows, features=features).to_parquet(folder / "train.parquet")
    return str(folder)


def pictures(count: int = NUM_PICTURES, focused: int = 0) -> Pictures:
    """Prepared pictures of noise, in memory; the first of them are in focus."""
    generator = np.random.default_rng(0)
    rows = [generator.integers(0, 256, SIZE * SIZE * 3, dtype=np.uint8) for _ in range(count)]
    data = {
        "pixels": [row.tobytes() for row in rows],
        "focused": [number < focused for number in range(count)],
        "enlarged": [False] * count,
        "turns": [ANY_TURN] * count,
        "digest": [row.tobytes()[:16] for row in rows],
        "told": [""] * count,
    }
    return Pictures(Dataset.from_dict(data), SIZE, 3)


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums in another order differ, and Adam's first steps make that large."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def little_room(size: int) -> Iterator[None]:
    """No file may grow beyond that many bytes, as if the disk were full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def invoke(main: object, *arguments: str):
    """What a command prints and answers, run in this process."""
    app = typer.Typer()
    app.command()(main)  # pyright: ignore[reportArgumentType]
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "400", "NO_COLOR": "1"})
