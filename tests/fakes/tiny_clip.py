"""A CLIP of open_clip's own kind, small enough for tests, with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import torch

from pipelines.models.own_clips import CONFIG_FILE
from training.clip import vocabulary
from training.clip.exporting import save_weights

MESSAGES = (
    "a landscape with trees",
    "a portrait of a woman",
    "ships on the sea",
    "a red rose, people in the snow",
)
TEXT = {"context_length": 16, "width": 16, "heads": 2, "layers": 1}
VISION = {"layers": [1, 1, 1, 1], "width": 8, "head_width": 16, "image_size": 32}
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]


def save(folder: Path) -> Path:
    """Writes the folder that `clip.load` reads, the same every time."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = vocabulary.make_tokenizer(MESSAGES * vocabulary.LEAST_OCCURRENCES, folder)
    config = {
        "embed_dim": 16,
        "vision_cfg": VISION,
        "text_cfg": TEXT | {"vocab_size": tokenizer.vocab_size},
    }
    torch.manual_seed(0)
    save_weights(open_clip.CLIP(**config).eval(), folder)
    preprocess = {"size": 32, "mode": "RGB", "mean": MEAN, "std": STD}
    written = {"model_cfg": config, "preprocess_cfg": preprocess}
    (folder / CONFIG_FILE).write_text(json.dumps(written), encoding="utf-8")
    return folder
