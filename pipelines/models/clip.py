"""CLIP models (Radford et al. 2021, arXiv:2103.00020): how well words fit a picture.

They come from open_clip, the bundled one and those of the Hub alike, and are used as guidance
needs them: differentiable from the picture on, with embeddings of text kept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.core import devices
from pipelines.core.cache import Cache
from pipelines.core.errors import CheckpointError
from pipelines.core.rules import SettingsError
from pipelines.models import checkpoints, hub
from pipelines.models.table import CLIPS, Checkpoint

if TYPE_CHECKING:  # open_clip takes seconds to import, so it is imported when one is loaded
    from open_clip import CLIP

_CACHED_TEXTS = 1024
_WORD = re.compile(r"[^\W\d_]+")
_MERGES_FILE, _WORDS_FILE = "bpe_simple_vocab.txt.gz", "words.txt"


@dataclass(frozen=True)
class Clip:
    """A CLIP in memory; its weights are shared and must not be changed.

    Attributes:
        checkpoint: its row of the table.
        model: on the device, frozen, in evaluation mode.
        tokenizer: from open_clip.
        size_px: side of the pictures that it takes.
        mean: of what it was trained on, `(3, 1, 1)`, for pictures in [0, 1].
        std: likewise.
        interpolation: how pictures of another size are resized.
        context_length: tokens of a sentence at most, two of which mark its ends.
        words: what it saw in training; None if that is nearly everything.
        revision: which weights these are.
    """

    checkpoint: Checkpoint
    model: CLIP
    tokenizer: Any
    size_px: int
    mean: Tensor
    std: Tensor
    interpolation: str
    context_length: int
    words: frozenset[str] | None
    revision: str
    _texts: Cache[Tensor] = field(
        repr=False, compare=False, default_factory=lambda: Cache(_CACHED_TEXTS)
    )

    @property
    def device(self) -> torch.device:
        return self.mean.device


_loaded: Cache[Clip] = Cache()


def load(key: str) -> Clip:
    """The CLIP, from memory if it was loaded before; those of the Hub are fetched if need be.

    Raises:
        ValueError: for an unknown key.
        CheckpointError: if its files are missing or damaged, or cannot be fetched.
    """
    if key not in CLIPS:
        raise ValueError(f"clip_model must be one of {', '.join(CLIPS)}, got {key!r}")
    return _loaded.get_or_make(key, lambda: _load(CLIPS[key]))


def unload_all() -> None:
    """Forgets every loaded CLIP, to free memory or to read changed files."""
    _loaded.clear()
    checkpoints.revision_of.cache_clear()


def _load(row: Checkpoint) -> Clip:
    folder = _fetched(row) if row.repo_id else _bundled(row)
    try:
        return open_folder(row, folder)
    except Exception as error:  # open_clip, safetensors and JSON each have errors of their own
        if row.repo_id:
            raise CheckpointError("hub_clip_damaged", key=row.key) from error
        raise CheckpointError("clip_damaged", key=row.key) from error


def _bundled(row: Checkpoint) -> Path:
    problem = checkpoints.problem_of(row)
    if problem:
        raise problem
    return row.folder


def _fetched(row: Checkpoint) -> Path:
    """The folder of a checkpoint of the Hub, in its cache."""
    try:
        return hub.fetch(row.key, row.repo_id, row.needed)
    except CheckpointError as error:
        reason = error.parts["reason"]
        raise CheckpointError("clip_unreachable", key=row.key, reason=reason) from error


def open_folder(row: Checkpoint, folder: Path) -> Clip:
    """A CLIP from a folder of open_clip's layout; errors are those of the libraries."""
    import open_clip  # takes seconds, hence not before the first CLIP is wanted

    name = f"local-dir:{folder}"
    # Never create_model_and_transforms(pretrained=None), which is a random model with a warning.
    made: Any = open_clip.create_model_from_pretrained(name, return_transform=False)
    model: CLIP = (
        made.eval()
        .requires_grad_(False)
        .to(
            devices.device(),
            memory_format=torch.channels_last,  # a third faster on a CPU
        )
    )
    config = open_clip.get_model_preprocess_cfg(model)
    merges = folder / _MERGES_FILE
    bpe_path = {"bpe_path": str(merges)} if merges.is_file() else {}
    tokenizer: Any = open_clip.get_tokenizer(name, None, None, **bpe_path)
    if tokenizer.vocab_size != model.vocab_size:
        raise ValueError("merges of another vocabulary")
    listed = folder / _WORDS_FILE
    size = config["size"]
    statistics = (torch.tensor(config[key]) for key in ("mean", "std"))
    mean, std = (values.view(3, 1, 1).to(devices.device()) for values in statistics)
    return Clip(
        checkpoint=row,
        model=model,
        tokenizer=tokenizer,
        size_px=size if isinstance(size, int) else size[0],
        mean=mean,
        std=std,
        interpolation=config["interpolation"],
        context_length=tokenizer.context_length,
        words=frozenset(listed.read_text("utf-8").split()) if listed.is_file() else None,
        revision=checkpoints.revision_of(folder, row.weights),
    )


def encode_images(clip: Clip, x0: Tensor) -> Tensor:
    """Embeddings of length 1, `(b, d)`, differentiable.

    Args:
        clip: the model.
        x0: `(b, 3, h, w)` in about [-1, 1]; scaled and normalised as the model wants it.
    """
    if x0.shape[-2:] != (clip.size_px, clip.size_px):
        size = (clip.size_px, clip.size_px)
        x0 = F.interpolate(x0, size, mode=clip.interpolation, antialias=True)
    seen = ((x0 + 1) / 2 - clip.mean) / clip.std
    with devices.autocast(clip.device):
        embeddings = clip.model.encode_image(seen)
    return F.normalize(embeddings.to(x0.dtype), dim=-1)


def encode_text(clip: Clip, text: str, name: str = "prompt") -> Tensor:
    """The embedding of a sentence, `(d,)`, of length 1; kept for the next time.

    Args:
        clip: the model.
        text: the sentence.
        name: what it is called where it is refused.

    Raises:
        SettingsError: if the sentence is longer than the model can read.
    """
    known = clip._texts.get(text)
    if known is not None:
        return known
    count = len(clip.tokenizer.encode(text))
    if count > clip.context_length - 2:
        most, key = clip.context_length - 2, clip.checkpoint.key
        raise SettingsError("prompt_tokens", name=name, maximum=most, clip_model=key, got=count)
    return encode_texts(clip, [text])[0]


def encode_texts(clip: Clip, texts: Sequence[str]) -> Tensor:
    """Embeddings `(n, d)` of sentences short enough, of length 1; kept for the next time."""
    found = {text: kept for text in texts if (kept := clip._texts.get(text)) is not None}
    missing = [text for text in dict.fromkeys(texts) if text not in found]
    if missing:
        with devices.device_lock(clip.device), torch.no_grad():
            tokens = clip.tokenizer(missing).to(clip.device)  # (m, l)
            embeddings = F.normalize(clip.model.encode_text(tokens), dim=-1)
        for text, embedding in zip(missing, embeddings, strict=True):
            clip._texts.put(text, embedding)
            found[text] = embedding
    return torch.stack([found[text] for text in texts])


def unseen_words(clip: Clip, text: str) -> list[str]:
    """Words of a text that the model never saw in training, in order, each once."""
    if clip.words is None:
        return []
    return [word for word in words_of(text) if word not in clip.words]


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, in order, each once."""
    return list(dict.fromkeys(_WORD.findall(text.lower())))
