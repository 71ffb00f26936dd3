"""Trainings of a few seconds: the real commands with tiny networks and tiny data."""

from __future__ import annotations

import io
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from datasets import ClassLabel, Dataset, Features, Value
from datasets import Image as ImageFeature
from datasets import List as ListOf
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from PIL import Image

from training import finetune_model, train_clip, train_digits
from training.clip import pairs, towers
from training.digits import trainer as digit_trainer
from training.pictures import exporting as picture_exporting

STEPS = 100
TRAINERS = ("digits", "pictures", "clip")
_COUNT = 60
_STICKERS = 24


def write_data(folder: Path) -> None:
    """Writes the data of all trainers."""
    text = Value("string")
    labels = [i % 10 for i in range(_COUNT)]
    digits = {"image": [_noise(i, "L", 28) for i in range(_COUNT)], "label": labels}
    _write(folder / "digits", digits, {"label": ClassLabel(num_classes=10)})
    pictures = [_noise(i, "RGB", 24) for i in range(_COUNT)]
    _write(folder / "pictures", {"image": pictures}, {})
    stickers = {
        "image": [_noise(i, "RGBA", pairs.STORED_PX) for i in range(_STICKERS)],
        "set": ["noto"] * _STICKERS,
        "name": [f"{'red' if i % 2 else 'blue'} mouse" for i in range(_STICKERS)],
        "keywords": [["mouse", "smile"]] * _STICKERS,
        "category": ["Animals & Nature"] * _STICKERS,
    }
    columns = {"set": text, "name": text, "keywords": ListOf(text), "category": text}
    _write(folder / "clip" / "emoji", stickers, columns)
    network = UNet2DModel(
        sample_size=16,
        block_out_channels=(16, 16),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    DDPMPipeline(network, DDPMScheduler()).save_pretrained(folder / "start")


def _noise(seed: int, mode: str, size: int) -> dict[str, Any]:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 4), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, format="PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def _write(folder: Path, rows: Mapping[str, list[Any]], columns: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True)
    features = Features({"image": ImageFeature(), **columns})
    Dataset.from_dict(dict(rows), features=features).to_parquet(folder / "train.parquet")


def options(trainer: str, data: Path, run: Path) -> list[str]:
    """Returns the command line of a run that saves after every step."""
    common = {"max_steps": STEPS, "batch_size": 4, "seed": 3, "warmup_steps": 2, "threads": 1}
    own: dict[str, dict[str, Any]] = {
        "digits": {
            "conditioning": "channels",
            "dataset_name": data / "digits",
            "output": run,
            "save_every": 1,
            "log_samples_every": 10_000,
        },
        "pictures": {
            "start_model": data / "start",
            "resume": None,
            "dataset_name": data / "pictures",
            "image_size": 16,
            "model_save_name": run,
            "save_model_every": 1,
            "log_samples_every": 10_000,
            "report_to": "none",
        },
        "clip": {
            "architecture": "resnet",
            "datasets": "emoji",
            "data_folder": data / "clip",
            "half_formed_by": "",
            "mixed_precision": "no",
            "model_save_name": run,
            "save_every": 1,
            "judge_every": 10_000,
            "report_to": "none",
        },
    }
    values = common | own[trainer]
    flags = {name: name.replace("_", "-") for name in values}
    return [
        f"--{flags[name]}" if value is None else f"--{flags[name]}={value}"
        for name, value in values.items()
    ]


def train(trainer: str, arguments: Sequence[str], log: str, most_bytes: int = 0) -> None:
    """Runs a trainer in this process, which it ends.

    Args:
        trainer: one of `TRAINERS`.
        arguments: of its command line.
        log: file for what it prints.
        most_bytes: size of the largest file that it can write; 0 is no limit.
    """
    output = open(log, "a", buffering=1)  # noqa: SIM115 (open until the process ends)
    sys.stdout = sys.stderr = output
    torch.set_num_threads(1)
    if most_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    _make_tiny()
    commands = {
        "digits": train_digits.main,
        "pictures": finetune_model.main,
        "clip": train_clip.main,
    }
    app = typer.Typer(add_completion=False)
    app.command()(commands[trainer])
    app(list(arguments), prog_name=trainer)


def _make_tiny() -> None:
    network: Any = {
        "block_out_channels": (32, 32, 32),
        "layers_per_block": 1,
        "attention_head_dim": 32,
    }
    vision: Any = {"layers": [1, 1, 1, 1], "width": 8, "head_width": 16}
    vision["image_size"] = towers.IMAGE_PX
    replacements: list[tuple[Any, str, Any]] = [
        (digit_trainer, "NETWORKS", {"channels": network}),
        (digit_trainer, "VALIDATION_PICTURES", 20),
        (digit_trainer, "SAMPLE_ROWS", 1),
        (picture_exporting, "NUM_SAMPLES", 4),
        (pairs, "HELD_OUT", {"emoji": 0}),
        (towers, "EMBED_DIM", 16),
        (towers, "VISION", {"resnet": vision}),
        (towers, "TEXT", {"resnet": {"width": 16, "heads": 2, "layers": 1}}),
    ]
    for module, name, value in replacements:
        setattr(module, name, value)
