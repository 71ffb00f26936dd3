"""A run's own copy of the CLIP that reads its words and pictures."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from huggingface_hub import save_torch_state_dict

from pipelines.models import clip
from pipelines.models.clip import Clip
from pipelines.models.table import CLIPS, Checkpoint
from training.cards.checkpoint import MAX_SHARD_SIZE
from training.clip.towers import stored

FOLDER = "clip"
WEIGHTS_FILE = "open_clip_model.safetensors"
FILES = (
    "open_clip_config.json",
    WEIGHTS_FILE,
    "bpe_simple_vocab.txt.gz",
    "words.txt",
)
_ROW = Checkpoint(
    key="clip",
    summary="the CLIP that a model reads words and pictures with",
    size_px=64,
    licence="",
    data="",
    needed=FILES,
    weights=WEIGHTS_FILE,
)


def take_clip(folder: Path, name: str) -> Clip:
    """Returns the CLIP of a run, copied into its folder when it begins.

    So the model goes on reading as it learned to, whatever becomes of the CLIP it was copied from.

    Args:
        folder: of the run.
        name: of a bundled CLIP, or a folder that `train_clip` or this project wrote.

    Raises:
        ValueError: if there is none of that name.
    """
    own = folder / FOLDER
    if not own.is_dir():
        _copy(_folder_of(name), own)
    return clip.open_folder(_ROW, own)


def save_clip(clip: Clip, run: Path, checkpoint: Path) -> None:
    """Writes the CLIP of a run into a checkpoint's folder, in half precision and small files.

    Args:
        clip: of the run.
        run: its folder.
        checkpoint: to write to.

    Raises:
        OSError: if the disk is full, for instance.
    """
    folder = checkpoint / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for file in FILES:
        if file != WEIGHTS_FILE:
            shutil.copyfile(run / FOLDER / file, folder / file)
    weights = {name: stored(value) for name, value in clip.model.state_dict().items()}
    save_torch_state_dict(
        weights, folder, filename_pattern="model{suffix}.safetensors", max_shard_size=MAX_SHARD_SIZE
    )


def _folder_of(name: str) -> Path:
    row = CLIPS.get(name)
    source = row.folder if row is not None and not row.repo_id else Path(name)
    missing = [file for file in FILES if not (source / file).is_file()]
    if missing:
        raise ValueError(
            f"clip_model must be a bundled CLIP or a folder that train_clip wrote, got {name!r} "
            f"without {missing[0]}"
        )
    return source


def _copy(source: Path, own: Path) -> None:
    """Copies the files whole or not at all."""
    temporary = own.with_suffix(".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for file in FILES:
        shutil.copyfile(source / file, temporary / file)
    os.replace(temporary, own)
