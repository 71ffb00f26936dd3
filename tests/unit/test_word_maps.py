"""Where words act: maps of attention, and places that words belong to."""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.diffusion.denoisers import Cfg, CfgOutput, Condition, denoiser
from pipelines.diffusion.word_maps import MAP_PX, painted, watched
from tests.unit.test_words_unet import noisy, told, trained

T = torch.tensor(300)
ALPHA_BAR = torch.linspace(0.999, 0.001, 1000)


def places(words: int = 5, word: int = 2) -> Tensor:
    """The left half of the picture belongs to one word."""
    marked = torch.zeros(2, words, 8, 8)
    marked[:, word, :, :4] = 1
    return marked


def test_the_words_of_a_place_sum_to_1():
    unet = trained()
    with watched(unet) as maps:
        unet(noisy(), T, **told())
    assert maps.latest.shape == (2, 5, MAP_PX, MAP_PX)
    assert torch.allclose(maps.latest.sum(dim=1), torch.ones(2, MAP_PX, MAP_PX), atol=1e-5)
    assert maps.latest.std() > 0


def test_watching_changes_nothing_and_ends():
    unet = trained()
    before = unet(noisy(), T, **told()).sample
    with watched(unet) as maps:
        assert torch.equal(unet(noisy(), T, **told()).sample, before)
        first = maps.latest
        unet(-noisy(), T, **told())
        second = maps.latest
    assert not torch.equal(first, second)
    unet(noisy(), T, **told())
    assert torch.equal(maps.latest, second)


def test_padding_gets_no_attention():
    unet, inputs = trained(), told()
    inputs["encoder_attention_mask"] = torch.tensor([[1.0, 1.0, 1.0, 0.0, 0.0]] * 2)
    with watched(unet) as maps:
        unet(noisy(), T, **inputs)
    assert maps.latest[:, 3:].abs().max() == 0


def test_a_place_attends_more_to_the_word_that_belongs_there():
    unet = trained()
    with watched(unet) as maps:
        unet(noisy(), T, **told())
        free = maps.latest[:, 2]
        painted(unet, ALPHA_BAR, 3.0)(noisy(), T, word_places=places(), **told())
        drawn = maps.latest[:, 2]
    left, right = slice(0, MAP_PX // 2 - 2), slice(MAP_PX // 2 + 2, None)
    gained = drawn - free
    assert (gained[..., left].mean(dim=(1, 2)) > 0).all()
    assert gained[..., left].mean() > 5 * gained[..., right].abs().mean()


def test_without_strength_or_places_nothing_changes():
    unet = trained()
    expected = unet(noisy(), T, **told()).sample
    for strength, where in ((0.0, places()), (3.0, torch.zeros(2, 5, 8, 8))):
        found = painted(unet, ALPHA_BAR, strength)(noisy(), T, word_places=where, **told()).sample
        assert torch.allclose(found, expected, atol=1e-5)


def test_words_are_drawn_to_their_places_while_there_is_much_noise():
    unet = trained()
    changes = []
    for t in (20, 500, 950):
        plain = unet(noisy(), torch.tensor(t), **told()).sample
        network = painted(unet, ALPHA_BAR, 3.0)
        drawn = network(noisy(), torch.tensor(t), word_places=places(), **told()).sample
        changes.append((drawn - plain).abs().mean().item())
    assert changes[0] < changes[1] < changes[2]


def test_places_are_part_of_a_condition_under_guidance():
    unet = trained()
    null = {name: torch.zeros_like(value) for name, value in told().items()}
    null["encoder_attention_mask"] = told()["encoder_attention_mask"]
    condition = Condition(
        told() | {"word_places": places()}, null | {"word_places": torch.zeros(2, 5, 8, 8)}
    )
    guided = denoiser(painted(unet, ALPHA_BAR, 3.0), condition, Cfg(2.0))(noisy(), T)
    assert isinstance(guided, CfgOutput)
    free = unet(noisy(), T, **null).sample
    assert torch.allclose(guided.unconditional, free, atol=1e-5)
    assert not torch.allclose(guided.conditional, unet(noisy(), T, **told()).sample, atol=1e-4)
