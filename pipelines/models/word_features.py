"""What a network that is conditional on words reads of a text and of a picture.

Word embeddings are those of a CLIP, before or after its transformer; its pooled embeddings of text
and picture lie in one space, so the network can take either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.core import devices
from pipelines.core.cache import Cache
from pipelines.diffusion.denoisers import Condition
from pipelines.models.clip_folder import Clip, open_folder
from pipelines.models.own_clips import FOLDER, Features
from pipelines.models.table import Checkpoint

_CACHED_TEXTS = 50_000
_OF_WORDS = ("encoder_hidden_states", "encoder_attention_mask")


@dataclass(frozen=True)
class TextFeatures:
    """What a network reads of texts.

    Attributes:
        words: `(b, l, w)`, of each token, the start and the end included.
        mask: `(b, l)` float, 1 for a token and 0 for padding.
        pooled: `(b, d)`, of length 1, of the whole text.
    """

    words: Tensor
    mask: Tensor
    pooled: Tensor


@torch.no_grad()
def text_features(model: Any, tokens: Tensor, features: Features) -> TextFeatures:
    """Returns what a CLIP makes of texts; what follows the end of the longest is left out.

    Args:
        model: a `CLIP` of open_clip, whose end token is the largest.
        tokens: `(b, l)` int64.
        features: which word embeddings.
    """
    ends = tokens.argmax(dim=1)  # (b,)
    length = int(ends.max()) + 1
    words = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    mask = model.attn_mask
    last = model.transformer(words, attn_mask=None if mask is None else mask[:length, :length])
    last = model.ln_final(last)  # (b, l, w)
    pooled = last[torch.arange(len(last), device=last.device), ends] @ model.text_projection
    seen = torch.arange(length, device=tokens.device) <= ends[:, None]
    chosen = words if features == "embeddings" else last
    return TextFeatures(chosen, seen.to(words.dtype), F.normalize(pooled, dim=1))


def joined_vector(text: Tensor, picture: Tensor, distrust: Tensor) -> Tensor:
    """Returns the vector that a network adds to its time embedding, `(b, 2 * d + 1)`.

    Embeddings of length 1 are made as long as standard normal vectors, which networks learn from
    sooner.

    Args:
        text: pooled embeddings of texts `(b, d)`, zeros for none.
        picture: embeddings of pictures `(b, d)`, zeros for none.
        distrust: how much noise was added to them, `(b,)` in [0, 1].
    """
    length = text.shape[1] ** 0.5
    return torch.cat([length * text, length * picture, distrust[:, None]], dim=1)


def distrusted(picture: Tensor, distrust: Tensor, noise: Tensor) -> Tensor:
    """Returns embeddings of pictures with noise, `(b, d)`.

    Args:
        picture: `(b, d)`, of length 1.
        distrust: length of the noise, `(b,)`: 0 is none, 1 is as long as the embedding.
        noise: standard normal, `(b, d)`.
    """
    return picture + distrust[:, None] * noise * picture.shape[1] ** -0.5


class Reader:
    """Makes the inputs of a network from sentences and pictures.

    Attributes:
        clip: reads both; its weights stay as they are.
        features: which of its word embeddings the network gets.
        dim: length of an embedding of a text or a picture.
    """

    def __init__(self, clip: Clip, features: Features):
        self.clip = clip
        self.features: Features = features
        self.dim = int(clip.model.text_projection.shape[1])  # pyright: ignore
        self._tokens: Cache[Tensor] = Cache(_CACHED_TEXTS)

    def words(self, texts: Sequence[str]) -> TextFeatures:
        """Returns the features of texts; the empty one is that of no words."""
        return text_features(self.clip.model, self._tokenized(texts), self.features)

    def _tokenized(self, texts: Sequence[str]) -> Tensor:
        known = {text: self._tokens.get(text) for text in texts}
        missing = [text for text, tokens in known.items() if tokens is None]
        if missing:
            made = self.clip.tokenizer(missing, context_length=self.clip.context_length)
            for text, tokens in zip(missing, made.to(torch.int32), strict=True):
                self._tokens.put(text, tokens.clone())  # a view would hold all of them
                known[text] = tokens
        rows = [tokens for text in texts if (tokens := known[text]) is not None]
        return torch.stack(rows).long().to(self.clip.device)

    def condition(
        self, texts: Sequence[str], picture: Tensor | None = None, distrust: Tensor | None = None
    ) -> Condition:
        """Returns the condition of texts and pictures, with the null that CFG needs.

        Words are padded to the context length, so that one graph of the network serves all texts.

        Args:
            texts: as in `inputs`.
            picture: as in `inputs`.
            distrust: as in `inputs`.
        """
        with devices.device_lock(self.clip.device), torch.no_grad():
            told, nothing = self.inputs(texts, picture, distrust), self.inputs([""] * len(texts))
        return Condition(self._padded(told), self._padded(nothing))

    def _padded(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns inputs whose words are as many as a text can have, `(b, context_length, ...)`."""
        length, padded = self.clip.context_length, dict(inputs)
        for name in _OF_WORDS:
            values = inputs[name]  # (b, l, ...)
            padded[name] = values.new_zeros(len(values), length, *values.shape[2:])
            padded[name][:, : values.shape[1]] = values
        return padded

    def inputs(
        self, texts: Sequence[str], picture: Tensor | None = None, distrust: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Returns what a network takes besides pictures and timesteps, by name.

        Args:
            texts: one for each picture; empty is none.
            picture: embeddings of pictures `(b, d)`, zeros for none; None is none at all.
            distrust: of these, `(b,)`.
        """
        read = self.words(texts)
        has_text = torch.tensor([bool(text) for text in texts], device=read.pooled.device)
        text = read.pooled * has_text[:, None]
        picture = torch.zeros_like(text) if picture is None else picture
        distrust = torch.zeros_like(text[:, 0]) if distrust is None else distrust
        return {
            "encoder_hidden_states": read.words,
            "encoder_attention_mask": read.mask,
            "class_labels": joined_vector(text, picture, distrust),
        }

    @torch.no_grad()
    def embedded(self, x0: Tensor) -> Tensor:
        """Returns embeddings of pictures, `(b, d)`, of length 1.

        Args:
            x0: `(b, 3, h, w)` in [-1, 1]; grey ones `(b, 1, h, w)` too.
        """
        x0, size = x0.expand(-1, 3, -1, -1), self.clip.size_px
        if x0.shape[-2:] != (size, size):
            x0 = F.interpolate(x0, (size, size), mode=self.clip.interpolation, antialias=True)
        normalized = ((x0 + 1) / 2 - self.clip.mean) / self.clip.std
        return self.clip.model.encode_image(normalized, normalize=True).float()


def load_reader(row: Checkpoint, folder: Path, config: Mapping[str, Any]) -> Reader:
    """Loads what reads words and pictures for a network; raises the errors of the libraries.

    Args:
        row: of the model.
        folder: of the model, with its CLIP in `clip/`.
        config: of the network.
    """
    clip = open_folder(replace(row, weights="*.safetensors"), folder / FOLDER)
    return Reader(clip, config.get("features", "embeddings"))
