"""CLIP as a zero-shot classifier (Radford et al. 2021, arXiv:2103.00020, section 3.1).

How near a picture is to a sentence says little by itself: some pictures are near to every sentence.
Whether a picture is nearer to the sentence than to the names of other things says more, and is what
seeds are chosen by.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipelines.models import clip
from pipelines.models.clip import Clip

_LISTED = """
    face heart leaf flower tree fish car star moon circle square book cloud apple sun house dog cat
    bird horse boat ship mountain sea river street building church bridge man woman child crowd
    portrait landscape sketch drawing painting fruit bread cake cup bottle table chair bed door
    window clock phone computer camera key lock letter box bag hat shoe shirt dress ball ring crown
    flag sign arrow number button triangle cross snowflake fire water rain snow lightning mushroom
    pumpkin corn egg cheese pizza candy rocket train bus truck bicycle plane balloon gift drum
    guitar trumpet hammer knife sword shield skull ghost robot monkey rabbit bear pig cow frog snake
    turtle bee butterfly spider shell feather grass cactus rose tower castle tent lamp candle
    umbrella glasses hand eye mouth ear nose
"""
THINGS = tuple(_LISTED.split())
"""What a picture may show instead of what it should: everyday things of every kind."""

_SAME_MEANING = 0.9
"""Cosine of two sentences from which on a picture of one is no mistake for the other."""


def others(model: Clip, prompts: Sequence[str]) -> Tensor:
    """Embeddings `(n, d)` of sentences about other things than prompts are about; n may be 0.

    Args:
        model: that reads them.
        prompts: sentences, at least one; what they name is not another thing.
    """
    words = clip.words_of(" ".join(prompts))
    named = {form for word in words for form in (word, word.removesuffix("s"))}
    rest = [f"a {thing}" for thing in THINGS if thing not in named]
    found = clip.encode_texts(model, rest)
    nearest = (found @ clip.encode_texts(model, prompts).T).amax(dim=1)  # (r,)
    return found[nearest < _SAME_MEANING]


def log_odds(model: Clip, asked: Tensor, cosines: Tensor) -> Tensor:
    """How sure the CLIP is that pictures show what was asked and nothing else, `(b,)`.

    Args:
        model: whose temperature counts.
        asked: cosine of each picture with what was asked, `(b,)`.
        cosines: of each picture with other things, `(b, n)`.
    """
    temperature = model.model.logit_scale.exp()
    return temperature * asked - torch.logsumexp(temperature * cosines, dim=1)
