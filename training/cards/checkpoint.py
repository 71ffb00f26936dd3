"""Writes a checkpoint folder: weights, samples, facts, and the model card."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from diffusers import DDPMScheduler, ModelMixin
from PIL import Image

from pipelines.models import integrity
from training.cards.model_card import write_card
from training.cards.parts import FACTS_FILE, FIGURES_FILE, SAMPLES_FILE

# Files stay under 9 MB, header included.
MAX_SHARD_SIZE = "8MB"
WEIGHTS = ("*.safetensors", "unet/*.safetensors", "clip/*.safetensors")


def save_model(unet: ModelMixin, scheduler: DDPMScheduler, folder: Path) -> None:
    """Writes network and schedule in diffusers' layout."""
    unet.save_pretrained(folder / "unet", max_shard_size=MAX_SHARD_SIZE)
    scheduler.save_pretrained(folder / "scheduler")


def write_checkpoint(
    folder: Path,
    save: Callable[[], object],
    facts: Mapping[str, Any],
    samples: Image.Image | None = None,
) -> None:
    """Writes weights, samples, facts and card; figures that measured other weights are deleted.

    Args:
        folder: to write to.
        save: writes the weights in there.
        facts: what the card says.
        samples: a sheet of pictures, if the model draws any.

    Raises:
        OSError: if the disk is full, for instance.
        SafetensorError: likewise, while the weights are written.
    """
    before = _weights(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save()
    if samples is not None:
        samples.save(folder / SAMPLES_FILE)
    text = json.dumps(facts, indent=2) + "\n"
    (folder / FACTS_FILE).write_text(text, encoding="utf-8")
    for path in _paths(folder):
        path.chmod(0o644)  # safetensors lets nobody else read them
    if _weights(folder) != before:
        (folder / FIGURES_FILE).unlink(missing_ok=True)
    write_card(folder)
    integrity.replaced(folder)


def _paths(folder: Path) -> list[Path]:
    return sorted(path for pattern in WEIGHTS for path in folder.glob(pattern))


def _weights(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in _paths(folder)}
