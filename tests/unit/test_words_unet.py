"""The network that is told words or a picture: what it begins as, and what it heeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipelines.diffusion.unets import Attention, SpaceToDepthUNet2DModel, WordsUNet2DModel
from tests.fakes.tiny_pictures import folded_unet

SHAPE = {"word_dim": 16, "vector_dim": 9, "num_word_heads": 2}
LEVELS = (False, True)


def network(seed: int = 0, **changes: Any) -> WordsUNet2DModel:
    torch.manual_seed(seed)
    begun = WordsUNet2DModel.from_unconditional(
        folded_unet(), **SHAPE, word_levels=LEVELS, **changes
    )
    return begun.eval().requires_grad_(False)


def trained(seed: int = 0) -> WordsUNet2DModel:
    """A network in which nothing is zero."""
    unet, generator = network(seed), torch.Generator().manual_seed(seed)
    for parameter in unet.parameters():
        parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return unet


def noisy(count: int = 2) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def told(count: int = 2, length: int = 5, seed: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "encoder_hidden_states": torch.randn(count, length, 16, generator=generator),
        "encoder_attention_mask": torch.ones(count, length),
        "class_labels": torch.randn(count, 9, generator=generator),
    }


@pytest.mark.parametrize("t", [torch.tensor(300), torch.tensor([300, 7]), 300])
def test_it_begins_as_the_unconditional_network(t: Any):
    begun, before = network(), folded_unet().eval()
    with torch.no_grad():
        assert torch.equal(begun(noisy(), t, **told()).sample, before(noisy(), t).sample)


def test_its_forward_is_that_of_its_parent_at_the_real_size():
    torch.manual_seed(0)
    before = SpaceToDepthUNet2DModel().eval()
    begun = WordsUNet2DModel.from_unconditional(before).eval()
    x = torch.randn(1, 3, 64, 64)
    inputs = (torch.randn(1, 4, 256), torch.ones(1, 4), torch.randn(1, 513))
    with torch.no_grad():
        expected = before(x, 500).sample
        assert torch.allclose(begun(x, 500, *inputs).sample, expected, atol=1e-5)
    assert len(begun.word_attentions) == 7
    added = sum(p.numel() for p in begun.new_parameters())
    assert 0.1 < added / sum(p.numel() for p in before.parameters()) < 0.3


@pytest.mark.parametrize("name", ["encoder_hidden_states", "class_labels"])
def test_it_heeds_words_and_the_vector_each(name: str):
    unet, one = trained(), told()
    other = one | {name: told(seed=3)[name]}
    assert not torch.allclose(unet(noisy(), 300, **one).sample, unet(noisy(), 300, **other).sample)


def test_padding_says_nothing():
    unet, short = trained(), told()
    padding = torch.randn(2, 3, 16)
    padded = short | {
        "encoder_hidden_states": torch.cat([short["encoder_hidden_states"], padding], dim=1),
        "encoder_attention_mask": torch.tensor([[1.0] * 5 + [0.0] * 3] * 2),
    }
    expected = unet(noisy(), 300, **short).sample
    assert torch.allclose(unet(noisy(), 300, **padded).sample, expected, atol=1e-5)


def test_each_picture_is_told_its_own():
    unet, both = trained(), told()
    together = unet(noisy(), 300, **both).sample
    for row in range(2):
        own = {name: value[row : row + 1] for name, value in both.items()}
        alone = unet(noisy()[row : row + 1], 300, **own).sample
        assert torch.allclose(together[row : row + 1], alone, atol=1e-5)


def test_a_word_sees_those_after_it():
    """Unlike in CLIP, whose tokens only look back."""
    layer = trained().word_layer
    words, bias = torch.randn(1, 4, 16), torch.zeros(1, 1, 1, 4)
    changed = words.clone()
    changed[:, 3] = torch.randn(16)
    assert not torch.allclose(layer(words, bias)[:, 0], layer(changed, bias)[:, 0])


def test_attention_is_that_of_pytorch():
    torch.manual_seed(0)
    ours, theirs = Attention(8, 8, 2), nn.MultiheadAttention(8, 2, batch_first=True)
    weights = (ours.to_query.weight, ours.to_key.weight, ours.to_value.weight)
    theirs.in_proj_weight.data = torch.cat([w.data for w in weights])
    theirs.in_proj_bias.data.zero_()
    theirs.out_proj.weight.data, theirs.out_proj.bias.data = (
        ours.to_out.weight.data,
        ours.to_out.bias.data,
    )
    x, context = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    expected, weights = theirs(x, context, context, average_attn_weights=False)
    bias = torch.zeros(2, 1, 1, 5)
    assert torch.allclose(ours(x, context, bias), expected, atol=1e-6)
    assert torch.allclose(ours.weights(x, context, bias), weights, atol=1e-6)
    no_pull = torch.zeros(2, 1, 3, 5)
    assert torch.allclose(ours(x, context, bias, no_pull), expected, atol=1e-6)


def test_it_is_saved_and_loaded_by_diffusers(tmp_path: Path):
    unet = trained()
    unet.save_pretrained(tmp_path)
    loaded = WordsUNet2DModel.from_pretrained(tmp_path, low_cpu_mem_usage=False)
    expected = unet(noisy(), 300, **told()).sample
    assert torch.equal(loaded(noisy(), 300, **told()).sample, expected)


def test_all_weights_are_reached_by_the_loss():
    unet = trained().train().requires_grad_(True)
    unet(noisy(), 300, **told()).sample.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in unet.parameters())
    named = {id(p) for p in unet.new_parameters()}
    shared = [name for name, p in unet.named_parameters() if id(p) not in named]
    assert set(shared) == set(dict(folded_unet().named_parameters()))
