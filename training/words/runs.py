"""A run's own copy of the CLIP that reads its words and pictures."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from huggingface_hub import save_torch_state_dict

from pipelines.models.clip_folder import Clip, open_folder
from pipelines.models.own_clips import (
    CONFIG_FILE,
    FOLDER,
    INDEX_FILE,
    MERGES_FILE,
    WORDS_FILE,
    weights_in,
)
from pipelines.models.table import CLIPS, Checkpoint
from training.cards.checkpoint import MAX_SHARD_SIZE
from training.cards.parts import FACTS_FILE
from training.clip.towers import stored
from training.pictures import start_models

FILES = (CONFIG_FILE, MERGES_FILE, WORDS_FILE)
"""What a CLIP has besides its weights."""

_WANTED_IF_THERE = (INDEX_FILE, FACTS_FILE)
_ROW = Checkpoint(
    key="clip",
    summary="the CLIP that a model reads words and pictures with",
    size_px=64,
    licence="",
    data="",
    weights="*.safetensors",
)


def take_clip(folder: Path, name: str, *, anew: bool = False) -> Clip:
    """Returns the CLIP of a run, copied into its folder when it begins.

    So the model goes on reading as it learned to, whatever becomes of the CLIP it was copied from.

    Args:
        folder: of the run.
        name: of a bundled CLIP, a folder that `train_clip` or this project wrote, or a conditional
            model, whose CLIP is taken.
        anew: whether a copy that is there is replaced: a run that was refused may have left one.

    Raises:
        ValueError: if there is none of that name.
    """
    own = folder / FOLDER
    if anew or not own.is_dir():
        _copy(_folder_of(name), own)
    return open_folder(_ROW, own)


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
    for file in (*FILES, FACTS_FILE):
        if (run / FOLDER / file).is_file():
            shutil.copyfile(run / FOLDER / file, folder / file)
    weights = {name: stored(value) for name, value in clip.model.state_dict().items()}
    save_torch_state_dict(
        weights, folder, filename_pattern="model{suffix}.safetensors", max_shard_size=MAX_SHARD_SIZE
    )


def origin_of(run: Path, name: str) -> dict[str, Any]:
    """Returns what is known of the CLIP of a run: its name, and what data it learned from.

    Args:
        run: its folder.
        name: that it was copied from; runs from before its facts were copied too have only that.

    Returns:
        Plain data: `name`, and `datasets` if these are known.
    """
    facts = _facts_in(run / FOLDER)
    if not facts and name in CLIPS:
        facts = _facts_in(CLIPS[name].folder)
    if "pairs" not in facts:
        return {"name": start_models.public_name(name)}
    runs = [facts, *facts.get("earlier", [])]
    read = (data for run in runs for data in run["recipe"].get("datasets", ()))
    return {"name": facts["name"], "datasets": list(dict.fromkeys((*facts["pairs"], *read)))}


def _facts_in(folder: Path) -> dict[str, Any]:
    try:
        facts = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _folder_of(name: str) -> Path:
    row = CLIPS.get(name)
    source = row.folder if row is not None and not row.repo_id else Path(name)
    if not (source / CONFIG_FILE).is_file():
        try:
            source = start_models.folder_of(name) / FOLDER
        except ValueError:  # no model either
            source = Path(name)
    try:
        files = (*FILES, *weights_in(source))
    except (OSError, ValueError):
        files = (*FILES, INDEX_FILE)
    missing = [file for file in files if not (source / file).is_file()]
    if missing:
        raise ValueError(
            "clip_model must be a bundled CLIP, a folder that train_clip wrote or a model that is "
            f"told words, got {name!r} without {missing[0]}"
        )
    return source


def _copy(source: Path, own: Path) -> None:
    """Copies the files whole or not at all."""
    temporary = own.with_suffix(".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    others = [name for name in _WANTED_IF_THERE if (source / name).is_file()]
    for file in (*FILES, *weights_in(source), *others):
        shutil.copyfile(source / file, temporary / file)
    shutil.rmtree(own, ignore_errors=True)
    os.replace(temporary, own)
