"""The towers of a small CLIP: their shapes, what they take, and their loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from open_clip import SimpleTokenizer
from torch import Tensor

from pipelines.core import images
from training.clip.recipe import Architecture

IMAGE_PX = 64
CONTEXT_LENGTH = 32
EMBED_DIM = 256
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
MAX_LOGIT_SCALE = 100.0

VISION: dict[str, dict[str, Any]] = {
    "resnet": {"layers": [2, 2, 2, 2], "width": 32, "head_width": 64, "image_size": IMAGE_PX},
    "regnet": {
        "timm_model_name": "regnetx_002",
        "timm_model_pretrained": False,
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": IMAGE_PX,
    },
}
TEXT: dict[str, dict[str, Any]] = {
    "resnet": {"width": 256, "heads": 4, "layers": 4},
    "regnet": {"width": 96, "heads": 4, "layers": 3},
}


def model_config(architecture: Architecture, vocab_size: int) -> dict[str, Any]:
    """What open_clip calls `model_cfg`."""
    text = {**TEXT[architecture], "context_length": CONTEXT_LENGTH, "vocab_size": vocab_size}
    return {"embed_dim": EMBED_DIM, "vision_cfg": VISION[architecture], "text_cfg": text}


def contrastive_loss(image: Tensor, text: Tensor, scale: Tensor, names: Tensor) -> Tensor:
    """CLIP's loss (Radford et al. 2021, arXiv:2103.00020), `()`.

    Pictures that are called the same are right answers to one another, not wrong ones.

    Args:
        image: `(b, d)`, of length 1.
        text: `(b, d)`, of length 1.
        scale: `()`, by which similarities are multiplied.
        names: `(b,)` int64, equal where the sentences are.
    """
    logits = scale * image @ text.T  # (b, b)
    same = (names[:, None] == names[None, :]).to(logits)
    wanted = same / same.sum(dim=1, keepdim=True)
    rows, columns = F.cross_entropy(logits, wanted), F.cross_entropy(logits.T, wanted)
    return (rows + columns) / 2


def encode_text(model: Any, tokens: Tensor) -> Tensor:
    """Sentences `(b, l)` to what `model.encode_text` makes of them, `(b, d)` of length 1.

    Most sentences are short and no token looks at a later one, so what follows the end of the
    longest is left out.

    Args:
        model: a `CLIP` of open_clip.
        tokens: `(b, l)` int64.
    """
    length = int(tokens.argmax(dim=-1).max()) + 1  # the end is the largest token
    mask = model.attn_mask
    kept = None if mask is None else mask[:length, :length]
    x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=kept))  # (b, l, w)
    ends = x[torch.arange(len(x), device=x.device), tokens.argmax(dim=-1)]
    return F.normalize(ends @ model.text_projection, dim=-1)


def tokenized(
    sentences: Sequence[Sequence[str]], tokenizer: SimpleTokenizer
) -> tuple[Tensor, Tensor, Tensor]:
    """All sentences one after the other: tokens `(m, l)`, where each picture's begin `(n + 1,)`,
    and a number for each different sentence `(m,)`."""
    flat = [text for texts in sentences for text in texts]
    counts = torch.tensor([0, *(len(texts) for texts in sentences)])
    numbers = {text: number for number, text in enumerate(dict.fromkeys(flat))}
    tokens = tokenizer(flat, context_length=CONTEXT_LENGTH).to(torch.int32)
    return tokens, counts.cumsum(0), torch.tensor([numbers[text] for text in flat])


def stored(value: Tensor) -> Tensor:
    """A weight as it is written: tables and matrices in half precision, the others in full."""
    half = value.is_floating_point() and value.ndim >= 2
    return (value.half() if half else value).cpu().contiguous()


def to_input(x0: Tensor) -> Tensor:
    """Pictures `(b, 3, h, w)` in [-1, 1] to what the model takes."""
    mean, std = (torch.tensor(v, device=x0.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return ((x0 + 1) / 2 - mean) / std


def centred(pixels: Tensor) -> Tensor:
    """`(n, 3, h, w)` uint8 to `(n, 3, IMAGE_PX, IMAGE_PX)` in [-1, 1]."""
    return F.interpolate(images.from_uint8(pixels), size=IMAGE_PX, mode="area")
