"""A CLIP in memory, and how it is loaded from a folder in open_clip's layout."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import load_torch_model
from torch import Tensor, nn

from pipelines.core import devices
from pipelines.core.cache import Cache
from pipelines.models.integrity import revision_of
from pipelines.models.own_clips import CONFIG_FILE, MERGES_FILE, WEIGHTS_FILE, WORDS_FILE
from pipelines.models.passes import Encoding
from pipelines.models.table import Checkpoint
from pipelines.models.ways import Way

if TYPE_CHECKING:  # open_clip takes seconds to import, so only `open_folder` does
    from open_clip import CLIP

_CACHED_TEXT_BYTES = 4 * 2**20


class VocabularyError(ValueError):
    """The tokens of a CLIP's vocabulary are not those that its network was trained on."""


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
    def networks(self) -> tuple[nn.Module, ...]:
        """The network, whose weights take nearly all the memory."""
        return (self.model,)

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


def open_folder(row: Checkpoint, folder: Path) -> Clip:
    """Loads a CLIP from a folder in open_clip's layout; raises the errors of the libraries.

    Its weights may also lie in several files with an index, as diffusers and transformers write.
    """
    import open_clip  # takes seconds to import

    name = f"local-dir:{folder}"
    in_one_file = (folder / WEIGHTS_FILE).is_file()
    loaded: Any = _in_one_file(folder) if in_one_file else _in_files(folder)
    model: CLIP = (
        loaded.eval()
        .requires_grad_(False)
        .to(
            devices.device(),
            memory_format=torch.channels_last,  # a third faster on a CPU
        )
    )
    config = open_clip.get_model_preprocess_cfg(model)
    merges = folder / MERGES_FILE
    bpe_path = {"bpe_path": str(merges)} if merges.is_file() else {}
    tokenizer: Any = open_clip.get_tokenizer(name, None, None, **bpe_path)
    if tokenizer.vocab_size != model.vocab_size:
        raise VocabularyError("merges of another vocabulary")
    words_file = folder / WORDS_FILE
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
        revision=revision_of(folder, row.weights),
    )


def _in_one_file(folder: Path) -> CLIP:
    import open_clip

    # create_model_and_transforms(pretrained=None) would return a random model and only warn.
    loaded: Any = open_clip.create_model_from_pretrained(
        f"local-dir:{folder}", return_transform=False
    )
    return loaded


def _in_files(folder: Path) -> CLIP:
    from open_clip import CLIP, set_model_preprocess_cfg
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    # Its own loader would look for one file, and warn of a random model.
    config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    model: Any = CLIP(**config["model_cfg"])
    preprocess = {"size": model.visual.image_size} | config["preprocess_cfg"]
    set_model_preprocess_cfg(model, merge_preprocess_dict(PreprocessCfg(), preprocess))
    load_torch_model(model, folder, strict=True)
    return model
