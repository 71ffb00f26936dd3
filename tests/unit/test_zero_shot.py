"""Telling pictures apart by what else they may show."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from pipelines.models import clip, zero_shot
from pipelines.models.zero_shot import THINGS


def test_things_are_named_once_and_in_words_that_the_bundled_clip_knows():
    model = clip.load("clip-small")
    assert len(THINGS) == len(set(THINGS)) > 100
    assert clip.unseen_words(model, " ".join(THINGS)) == []


def remaining(prompt: str) -> set[str]:
    """The things that are another thing than a prompt."""
    model = clip.load("clip-small")
    found = zero_shot.others(model, [prompt])  # (n, d)
    every = clip.encode_texts(model, [f"a {thing}" for thing in THINGS])
    return {
        thing
        for thing, embedding in zip(THINGS, every, strict=True)
        if torch.isclose(found, embedding).all(dim=1).any()
    }


def test_what_a_prompt_names_or_nearly_means_is_no_other_thing():
    assert not {"car"} & remaining("a blue car")
    assert not {"heart"} & remaining("Hearts")
    assert not {"portrait", "woman"} & remaining("a portrait of a woman")
    assert not {"ship", "landscape"} & remaining("ships on the sea")  # one named, one meant
    assert {"heart", "leaf", "fish"} <= remaining("a blue car")


def test_pictures_are_likelier_the_nearer_they_are_and_the_less_they_are_anything_else():
    model = clip.load("clip-small")
    asked = torch.tensor([0.5, 0.6, 0.5])
    cosines = torch.tensor([[0.1, 0.2], [0.1, 0.2], [0.1, 0.6]])
    plain, nearer, cluttered = zero_shot.log_odds(model, asked, cosines).tolist()
    assert cluttered < plain < nearer


def test_log_odds_are_those_of_a_softmax_over_the_prompt_and_the_others():
    model = clip.load("clip-small")
    embeddings = normalize(torch.randn(6, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    cosines = embeddings[:2] @ embeddings[2:].T  # (2, 4): the prompt and three others
    probability = (cosines * model.model.logit_scale.exp()).softmax(dim=1)[:, 0]
    odds = probability / (1 - probability)
    found = zero_shot.log_odds(model, cosines[:, 0], cosines[:, 1:])
    torch.testing.assert_close(found, odds.log(), rtol=1e-4, atol=1e-4)
