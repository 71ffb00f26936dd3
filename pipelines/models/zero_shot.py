"""CLIP as a zero-shot classifier (Radford et al. 2021, arXiv:2103.00020, section 3.1).

The similarity of a picture to a sentence says little by itself: some pictures are similar to every
sentence. It says more whether a picture is more similar to the sentence than to the names of other
things. The seed search uses this comparison.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipelines.models import clip
from pipelines.models.clip import Clip

_THINGS_TEXT = """
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
THINGS = tuple(_THINGS_TEXT.split())
"""Everyday things that a picture may show instead of what the prompt names."""

_SAME_MEANING = 0.9
"""Sentences with at least this cosine mean the same thing."""


def others(model: Clip, prompts: Sequence[str]) -> Tensor:
    """Returns the embeddings `(n, d)` of sentences about things not in the prompts; n may be 0.

    Args:
        model: the CLIP.
        prompts: sentences, at least one.
    """
    words = clip.words_of(" ".join(prompts))
    named = {form for word in words for form in (word, word.removesuffix("s"))}
    sentences = [f"a {thing}" for thing in THINGS if thing not in named]
    embeddings = clip.encode_texts(model, sentences)
    nearest = (embeddings @ clip.encode_texts(model, prompts).T).amax(dim=1)  # (r,)
    return embeddings[nearest < _SAME_MEANING]


def log_odds(model: Clip, wanted: Tensor, others: Tensor) -> Tensor:
    """Returns the CLIP's log-odds of the target against all other things, `(b,)`.

    Args:
        model: the CLIP, for its temperature.
        wanted: cosine of each picture with the target, `(b,)`.
        others: cosines of each picture with other things, `(b, n)`.
    """
    temperature = model.model.logit_scale.exp()
    return temperature * wanted - torch.logsumexp(temperature * others, dim=1)
