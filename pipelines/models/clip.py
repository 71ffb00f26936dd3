"""CLIP models (Radford et al. 2021, arXiv:2103.00020): how well words fit a picture.

They come from open_clip, the bundled one and those of the Hub alike, and are used as guidance
needs them: differentiable from the picture on, with embeddings of text kept.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.core import devices, images
from pipelines.core.rules import SettingsError
from pipelines.models import checkpoints, hub
from pipelines.models.checkpoints import CLIPS, Checkpoint, CheckpointError

if TYPE_CHECKING:  # open_clip takes seconds to import, so it is imported when one is loaded
    from open_clip import CLIP

_KEPT_TEXTS = 1024
_WORD = re.compile(r"[^\W\d_]+")
_MERGES_FILE, _WORDS_FILE = "bpe_simple_vocab.txt.gz", "words.txt"


@dataclass(frozen=True)
class Views:
    """How a picture is looked at several times: random crops, each seen as a whole picture.

    Attributes:
        count: of crops.
        least_side: shortest side of a crop, as a share of the picture's; 1 is the whole picture.
        max_angle: that a crop is turned by, in radians.
        mirrored: whether half of them are.
        noise: standard deviation of what is added to them.
    """

    count: int
    least_side: float
    max_angle: float
    mirrored: bool
    noise: float


VIEWS = Views(count=4, least_side=0.6, max_angle=0.1, mirrored=True, noise=0.05)
COURSE_VIEWS = Views(count=4, least_side=0.28, max_angle=0.087, mirrored=True, noise=0.0)
"""The course's: a crop of 0.08 to 1 of the area, turned by up to 5 degrees."""


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
    _kept: _Kept = field(repr=False, compare=False, default_factory=lambda: _Kept())

    @property
    def device(self) -> torch.device:
        return self.mean.device


class _Kept:
    """Embeddings of the texts asked for last."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, text: str) -> Tensor | None:
        with self._lock:
            if text in self._of:
                self._of.move_to_end(text)
            return self._of.get(text)

    def put(self, text: str, embedding: Tensor) -> None:
        with self._lock:
            self._of[text] = embedding
            while len(self._of) > _KEPT_TEXTS:
                self._of.popitem(last=False)


_shelf: checkpoints.Shelf[Clip] = checkpoints.Shelf()


def load(key: str) -> Clip:
    """The CLIP, from memory if it was loaded before; those of the Hub are fetched if need be.

    Raises:
        ValueError: for an unknown key.
        CheckpointError: if its files are missing or damaged, or cannot be fetched.
    """
    if key not in CLIPS:
        raise ValueError(f"clip_model must be one of {', '.join(CLIPS)}, got {key!r}")
    return _shelf.get(key, lambda: _load(CLIPS[key]))


def unload_all() -> None:
    """Forgets every loaded CLIP, to free memory or to read changed files."""
    _shelf.clear()
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
    known = clip._kept.get(text)
    if known is not None:
        return known
    count = len(clip.tokenizer.encode(text))
    if count > clip.context_length - 2:
        most, key = clip.context_length - 2, clip.checkpoint.key
        raise SettingsError("prompt_tokens", name=name, maximum=most, clip_model=key, came=count)
    return encode_texts(clip, [text])[0]


def encode_texts(clip: Clip, texts: Sequence[str]) -> Tensor:
    """Embeddings `(n, d)` of sentences short enough, of length 1; kept for the next time."""
    found = {text: kept for text in texts if (kept := clip._kept.get(text)) is not None}
    missing = [text for text in dict.fromkeys(texts) if text not in found]
    if missing:
        with devices.device_lock(clip.device), torch.no_grad():
            tokens = clip.tokenizer(missing).to(clip.device)  # (m, l)
            embeddings = F.normalize(clip.model.encode_text(tokens), dim=-1)
        for text, embedding in zip(missing, embeddings, strict=True):
            clip._kept.put(text, embedding)
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


def random_views(
    x0: Tensor, views: Views, size_px: int, generators: Sequence[torch.Generator]
) -> Tensor:
    """Random crops of each picture, `(count, b, 3, size_px, size_px)`, differentiable.

    One crop alone is fooled by patterns that no person sees; patterns that fool many at once are
    much harder to find.

    Args:
        x0: `(b, 3, h, w)`.
        views: how they are drawn.
        size_px: side of a crop.
        generators: one per picture, on the CPU, so that its crops do not depend on the batch.
    """
    count, shape = views.count, (3, size_px, size_px)
    drawn = torch.stack([torch.rand(5, count, generator=g) for g in generators], dim=2)  # (5, k, b)
    noise = torch.stack([torch.randn(count, *shape, generator=g) for g in generators], dim=1)
    area = views.least_side**2
    side = (area + (1 - area) * drawn[0]).sqrt()
    angle = (2 * drawn[1] - 1) * views.max_angle
    mirrored = torch.where(drawn[2] < 0.5, -1.0, 1.0) if views.mirrored else torch.ones_like(side)
    shift = (2 * drawn[3:] - 1) * (1 - side)  # (2, k, b)
    repeated = x0.repeat(count, 1, 1, 1)  # (k * b, 3, h, w), views of one crop beside each other
    side, angle, mirrored, shift = (v.flatten(-2) for v in (side, angle, mirrored, shift))
    crops = images.crops(repeated, side, angle, mirrored, shift, size_px)
    return crops.unflatten(0, (count, len(x0))) + views.noise * noise.to(x0)
