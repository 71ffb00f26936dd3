"""CLIP models (Radford et al. 2021, arXiv:2103.00020), which compare words and pictures.

All of them, bundled or from the Hub, are models of open_clip. Image embeddings are differentiable,
as guidance needs; text embeddings are cached.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from huggingface_hub import load_torch_model
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pipelines.core import devices
from pipelines.core.cache import Cache
from pipelines.core.errors import CheckpointError
from pipelines.core.rules import SettingsError
from pipelines.models import checkpoints, hub, integrity
from pipelines.models.memory import Models
from pipelines.models.passes import Encoding
from pipelines.models.table import CLIPS, Checkpoint
from pipelines.models.ways import Way

if TYPE_CHECKING:  # open_clip takes seconds to import, so only `open_folder` does
    from open_clip import CLIP

_CACHED_TEXT_BYTES = 4 * 2**20
_PIXELS_AT_ONCE = 32 * 64 * 64  # encoded together with gradients: about half a gigabyte
_LEAST_AT_ONCE = 8
_WORD = re.compile(r"[^\W\d_]+")
_INDEX_FILE = "model.safetensors.index.json"
_MERGES_FILE, _WORDS_FILE = "bpe_simple_vocab.txt.gz", "words.txt"


def _bytes(embedding: Tensor) -> int:
    return embedding.nbytes


@dataclass(frozen=True)
class Clip:
    """A CLIP in memory; its weights are shared and must not be changed.

    Attributes:
        checkpoint: its row of the table.
        model: on the device, frozen, in evaluation mode.
        tokenizer: of open_clip.
        size_px: side of its input pictures.
        mean: of its training pictures, `(3, 1, 1)`, for pixels in [0, 1].
        std: of its training pictures, `(3, 1, 1)`, for pixels in [0, 1].
        interpolation: mode for resizing pictures.
        context_length: maximum number of tokens, including those for start and end.
        words: the words of its training data; None if it saw nearly all words.
        revision: identifies the weights, a hash.
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
        repr=False, compare=False, default_factory=lambda: Cache(_CACHED_TEXT_BYTES, _bytes)
    )

    @property
    def network(self) -> nn.Module:
        """The network, whose weights take nearly all the memory."""
        return self.model

    def by(self, way: Way) -> Clip:
        """Returns the same model, whose pictures are encoded in a way."""
        encoding = self.encoding.by(way)
        if encoding is self.encoding:
            return self
        other = replace(self)
        other.__dict__["encoding"] = encoding
        return other

    @cached_property
    def encoding(self) -> Encoding:
        """The part that sees pictures, as a graph where that is wanted."""
        return Encoding(self.checkpoint.key, self.model.visual)

    @property
    def device(self) -> torch.device:
        return self.mean.device


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
    checkpoints.revision_of.cache_clear()


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


def open_folder(row: Checkpoint, folder: Path) -> Clip:
    """Loads a CLIP from a folder in open_clip's layout; raises the errors of the libraries.

    Its weights may also lie in several files with an index, as diffusers and transformers write.
    """
    import open_clip  # takes seconds to import

    name = f"local-dir:{folder}"
    loaded: Any = _in_files(folder) if (folder / _INDEX_FILE).is_file() else _in_one_file(folder)
    model: CLIP = (
        loaded.eval()
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
    words_file = folder / _WORDS_FILE
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
        words=frozenset(words_file.read_text("utf-8").split()) if words_file.is_file() else None,
        revision=checkpoints.revision_of(folder, row.weights),
    )


def _in_one_file(folder: Path) -> CLIP:
    import open_clip

    # create_model_and_transforms(pretrained=None) would return a random model and only warn.
    loaded: Any = open_clip.create_model_from_pretrained(
        f"local-dir:{folder}", return_transform=False
    )
    return loaded


def _in_files(folder: Path) -> CLIP:
    import open_clip

    model: Any = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    load_torch_model(model, folder, strict=True)
    return model


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
