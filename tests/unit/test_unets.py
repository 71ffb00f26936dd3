"""The networks: space-to-depth, three ways to take a class, and diffusers' own save and load."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from diffusers import ModelMixin, UNet2DModel
from torch import Tensor, nn
from torch.nn import functional

from pipelines.diffusion.unets import CLASS_UNETS, LabelEmbedding, SpaceToDepthUNet2DModel

N = TypeVar("N", bound=nn.Module)

CONDITIONINGS = sorted(CLASS_UNETS)
# Two channels in each of the 32 groups of a group norm: alone in its group, a channel would lose
# what the embedding of label and timestep adds to it.
TINY: dict[str, dict[str, Any]] = {
    "channels": {
        "block_out_channels": (32, 32, 32),
        "layers_per_block": 1,
        "attention_head_dim": 32,
    },
    "embedding": {
        "sample_size": 28,
        "in_channels": 1,
        "out_channels": 1,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (64, 64),
        "num_class_embeds": 11,
    },
    "cross-attention": {"block_out_channels": (32, 32)},
}


def tiny(conditioning: str) -> ModelMixin:
    torch.manual_seed(0)
    return CLASS_UNETS[conditioning](**TINY[conditioning])


def perturbed(network: N, seed: int = 0) -> N:
    """The network with noise on every weight, so that nothing in it is zero by initialisation."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return network.eval().requires_grad_(False)


@pytest.fixture(params=CONDITIONINGS)
def network(request: pytest.FixtureRequest) -> nn.Module:
    return perturbed(tiny(request.param))


@pytest.fixture
def x_t() -> Tensor:
    return torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(1))


T = torch.tensor([10, 500, 990])
LABELS = torch.tensor([0, 7, 10])


def test_space_to_depth_is_the_plain_network_on_folded_pictures():
    blocks: dict[str, Any] = {
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (32, 32),
        "layers_per_block": 1,
        "attention_head_dim": 32,
    }
    folding = SpaceToDepthUNet2DModel(
        sample_size=16, in_channels=3, out_channels=3, patch_size=2, **blocks
    )
    perturbed(folding)
    plain = UNet2DModel(sample_size=8, in_channels=12, out_channels=12, **blocks).eval()
    plain.load_state_dict(folding.state_dict())
    x_t = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = plain(functional.pixel_unshuffle(x_t, 2), T[:2]).sample  # (2, 12, 8, 8)
    found = folding(x_t, T[:2]).sample
    torch.testing.assert_close(found, functional.pixel_shuffle(expected, 2))


def test_the_output_has_the_shape_of_the_pictures(network: nn.Module, x_t: Tensor):
    assert network(x_t, T, LABELS).sample.shape == x_t.shape
    assert network(x_t, T, LABELS, return_dict=False)[0].shape == x_t.shape


def test_one_timestep_may_stand_for_all_pictures(network: nn.Module, x_t: Tensor):
    once = network(x_t, torch.tensor(500), LABELS).sample
    torch.testing.assert_close(once, network(x_t, torch.full((3,), 500), LABELS).sample)


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_a_saved_network_gives_the_same_output_without_any_warning(
    conditioning: str, x_t: Tensor, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    network = perturbed(tiny(conditioning))
    network.save_pretrained(tmp_path)
    logging.getLogger("diffusers").addHandler(caplog.handler)
    try:
        loaded = CLASS_UNETS[conditioning].from_pretrained(tmp_path, low_cpu_mem_usage=False)
    finally:
        logging.getLogger("diffusers").removeHandler(caplog.handler)
    assert not caplog.records
    torch.testing.assert_close(
        loaded(x_t, T, LABELS).sample, network(x_t, T, LABELS).sample, rtol=0, atol=0
    )


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_the_saved_configuration_is_the_one_seen_from_outside(conditioning: str, tmp_path: Path):
    tiny(conditioning).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["sample_size"], config["in_channels"], config["out_channels"]) == (28, 1, 1)
    assert config["_class_name"] == CLASS_UNETS[conditioning].__name__
    assert "act_fn" not in config  # an argument of the parent class only


def test_a_label_may_be_a_number_or_weights_of_the_classes(network: nn.Module, x_t: Tensor):
    weights = functional.one_hot(LABELS, 11).float()
    by_number, by_weights = network(x_t, T, LABELS).sample, network(x_t, T, weights).sample
    torch.testing.assert_close(by_weights, by_number, rtol=1e-4, atol=1e-5)


def test_every_network_reacts_to_its_label(network: nn.Module, x_t: Tensor):
    one, other = network(x_t, T, LABELS).sample, network(x_t, T, (LABELS + 1) % 11).sample
    difference = (one - other).square().mean(dim=(1, 2, 3)).sqrt()  # (3,)
    assert (difference > 1e-3 * one.square().mean().sqrt()).all()


def test_a_network_without_a_label_is_refused(network: nn.Module, x_t: Tensor):
    with pytest.raises(ValueError, match="class_labels"):
        network(x_t, T)


def test_a_label_of_one_picture_does_not_reach_the_others(network: nn.Module, x_t: Tensor):
    changed = LABELS.clone()
    changed[0] = 5
    before, after = network(x_t, T, LABELS).sample, network(x_t, T, changed).sample
    torch.testing.assert_close(after[1:], before[1:], rtol=1e-4, atol=1e-5)


def test_mixed_weights_mix_the_embeddings():
    embedding = LabelEmbedding(11, 8)
    weights = torch.zeros(1, 11)
    weights[0, 3], weights[0, 8] = 0.25, 0.75
    three, eight = embedding(torch.tensor([3, 8]))
    torch.testing.assert_close(embedding(weights)[0], 0.25 * three + 0.75 * eight)


def test_a_label_embedding_takes_the_weights_of_a_plain_embedding():
    plain, mixable = nn.Embedding(11, 8), LabelEmbedding(11, 8)
    mixable.load_state_dict(plain.state_dict())
    torch.testing.assert_close(mixable(LABELS), plain(LABELS), rtol=0, atol=0)
    plain.load_state_dict(mixable.state_dict())
