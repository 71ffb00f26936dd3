"""CLIP models (Radford et al. 2021, arXiv:2103.00020), which compare words and pictures.

All of them, bundled or from the Hub, are models of open_clip. Image embeddings are differentiable,
as guidance needs; text embeddings are cached.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pipelines.core import devices
from pipelines.core.errors import CheckpointError
from pipelines.core.rules import SettingsError
from pipelines.models import checkpoints, hub, integrity
from pipelines.models.clip_folder import Clip, open_folder
from pipelines.models.memory import Models
from pipelines.models.table import CLIPS, Checkpoint

_PIXELS_AT_ONCE = 32 * 64 * 64  # encoded together with gradients: about half a gigabyte
_LEAST_AT_ONCE = 8
_WORD = re.compile(r"[^\W\d_]+")

_loaded = Models("clip")


def load(key: str) -> Clip:
    """Returns a CLIP; loads it on first use, from the Hub if it is not bundled.

    Raises:
        ValueError: for an unknown key.
        CheckpointError: if its files are missing or damaged, or cannot be fetched.
    """
    if key not in CLIPS:
        raise ValueError(f"clip_model must be one of {', '.join(CLIPS)}, got {key!r}")
    return _loaded.get_or_load(key, lambda: _load(CLIPS[key]))


def unload_all() -> None:
    """Drops all loaded CLIPs, to free memory or to read changed files."""
    _loaded.clear()
    integrity.revision_of.cache_clear()


def _load(row: Checkpoint) -> Clip:
    folder = _fetched(row) if row.repo_id else _bundled(row)
    try:
        return open_folder(row, folder)
    except checkpoints.NOT_OF_FILES:
        raise
    except Exception as error:  # open_clip, safetensors and JSON each have errors of their own
        if row.repo_id:
            raise CheckpointError("hub_clip_damaged", key=row.key) from error
        raise CheckpointError("clip_damaged", key=row.key) from error


def _bundled(row: Checkpoint) -> Path:
    problem = checkpoints.problem_of(row)
    if problem:
        raise problem
    checkpoints.check_files(row)
    return row.folder


def _fetched(row: Checkpoint) -> Path:
    """Fetches a checkpoint from the Hub and returns its folder in the cache."""
    try:
        folder = hub.fetch(row.key, row.repo_id, row.needed)
    except CheckpointError as error:
        reason = error.parts["reason"]
        raise CheckpointError("clip_unreachable", key=row.key, reason=reason) from error
    integrity.check_fetched(row.key, [folder / name for name in row.needed])
    return folder


def encode_images(clip: Clip, x0: Tensor) -> Tensor:
    """Returns the embeddings of pictures, `(b, d)`, of length 1, differentiable.

    Args:
        clip: the model.
        x0: `(b, 3, h, w)` in about [-1, 1]; is resized and normalised for the model.
    """
    if x0.shape[-2:] != (clip.size_px, clip.size_px):
        size = (clip.size_px, clip.size_px)
        x0 = F.interpolate(x0, size, mode=clip.interpolation, antialias=True)
    normalized = ((x0 + 1) / 2 - clip.mean) / clip.std
    with devices.autocast(clip.device, clip.encoding.precision):
        embeddings = _encoded(clip, normalized)
    return F.normalize(embeddings.to(x0.dtype), dim=-1)


def _encoded(clip: Clip, pictures: Tensor) -> Tensor:
    """Returns the embeddings of pictures that are ready for the model, not normalised.

    With gradients, many pictures together would take gigabytes. They are then encoded in parts, and
    the backward pass computes each part again (gradient checkpointing, Chen et al. 2016).
    """
    if (embeddings := clip.encoding(pictures)) is not None:
        return embeddings
    encode = clip.model.encode_image
    at_once = max(_LEAST_AT_ONCE, _PIXELS_AT_ONCE // clip.size_px**2)
    if len(pictures) <= at_once or not (torch.is_grad_enabled() and pictures.requires_grad):
        return encode(pictures)
    parts = [checkpoint(encode, part, use_reentrant=False) for part in pictures.split(at_once)]
    return torch.cat(cast("list[Tensor]", parts))


def encode_text(clip: Clip, text: str, name: str = "prompt") -> Tensor:
    """Returns the embedding of a sentence, `(d,)`, of length 1; caches it.

    Args:
        clip: the model.
        text: the sentence.
        name: of the setting, for the error.

    Raises:
        SettingsError: if the sentence is longer than the model can read.
    """
    cached = clip._texts.get(text)
    if cached is not None:
        return cached
    count = len(clip.tokenizer.encode(text))
    if count > clip.context_length - 2:
        most, key = clip.context_length - 2, clip.checkpoint.key
        raise SettingsError("prompt_tokens", name=name, maximum=most, clip_model=key, got=count)
    return encode_texts(clip, [text])[0]


def encode_texts(clip: Clip, texts: Sequence[str]) -> Tensor:
    """Returns the embeddings `(n, d)`, of length 1, of short enough sentences; caches them."""
    embedded = {text: cached for text in texts if (cached := clip._texts.get(text)) is not None}
    missing = [text for text in dict.fromkeys(texts) if text not in embedded]
    if missing:
        with devices.device_lock(clip.device), torch.no_grad():
            tokens = clip.tokenizer(missing).to(clip.device)  # (m, l)
            embeddings = F.normalize(clip.model.encode_text(tokens), dim=-1)
        for text, embedding in zip(missing, embeddings, strict=True):
            clip._texts.put(text, embedding.clone())  # a view would hold all of them
            embedded[text] = embedding
    return torch.stack([embedded[text] for text in texts])


def unseen_words(clip: Clip, text: str) -> list[str]:
    """Returns the words of a text that are not in the model's training data, each once."""
    words = words_of(text)
    unreadable = unreadable_words(clip.checkpoint, words)
    known = words if clip.words is None else clip.words
    return [word for word in words if word in unreadable or word not in known]


def unreadable_words(checkpoint: Checkpoint, words: Sequence[str]) -> list[str]:
    """Returns the words in a script that the language of a CLIP is not written in."""
    return [w for w in words if checkpoint.english_only and not _is_latin(w)]


def _is_latin(word: str) -> bool:
    names = (unicodedata.name(letter, "") for letter in word if letter.isalpha())
    return all(name.startswith(("LATIN", "MODIFIER")) for name in names)


def words_of(text: str) -> list[str]:
    """Returns the words of a text in lower case and in order, each once."""
    return list(dict.fromkeys(_WORD.findall(text.lower())))
