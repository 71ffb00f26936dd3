"""Networks under a condition: classes, words and pictures enter by one door, and CFG is in it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel, UNet2DModel
from torch import Tensor, nn

from pipelines.diffusion.denoisers import (
    NO_CONDITION,
    Cfg,
    CfgOutput,
    Condition,
    class_condition,
    composed,
    denoiser,
    picture_condition,
    text_condition,
)
from tests.conftest import TINY

T = torch.tensor(400)
WIDTHS = {"block_out_channels": (32, 32), "layers_per_block": 1, "sample_size": 16}


def classes() -> tuple[nn.Module, Condition]:
    return TINY["embedding"](), class_condition(torch.eye(11)[[3, 7]])


def words() -> tuple[nn.Module, Condition]:
    unet = UNet2DConditionModel(
        in_channels=1,
        out_channels=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=24,
        attention_head_dim=8,
        **WIDTHS,
    )
    tokens = torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(1))
    return unet, text_condition(tokens, torch.zeros(5, 24))


def picture() -> tuple[nn.Module, Condition]:
    unet = UNet2DModel(
        in_channels=1,
        out_channels=1,
        class_embed_type="identity",
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        **WIDTHS,
    )
    embedding = torch.randn(2, 128, generator=torch.Generator().manual_seed(2))
    return unet, picture_condition(embedding, torch.zeros(128))


KINDS = {"class": classes, "text": words, "picture": picture}
every_kind = pytest.mark.parametrize("kind", KINDS)


def made(kind: str) -> tuple[nn.Module, Condition, Tensor]:
    torch.manual_seed(0)
    unet, condition = KINDS[kind]()
    side = 28 if kind == "class" else 16
    x_t = torch.randn(2, 1, side, side, generator=torch.Generator().manual_seed(3))
    return unet.eval().requires_grad_(False), condition, x_t


@every_kind
def test_a_condition_decides_what_is_predicted(kind: str):
    unet, condition, x_t = made(kind)
    nothing = Condition(condition.null, condition.null)
    with_it, without = (denoiser(unet, c)(x_t, T) for c in (condition, nothing))
    assert isinstance(with_it, Tensor)
    assert isinstance(without, Tensor)
    assert (with_it - without).abs().max() > 3e-7  # untrained networks care little


@every_kind
def test_guidance_is_the_formula_of_diffusers_for_every_condition(kind: str):
    unet, condition, x_t = made(kind)
    cond = denoiser(unet, condition)(x_t, T)
    uncond = denoiser(unet, Condition(condition.null, condition.null))(x_t, T)
    guided = denoiser(unet, condition, Cfg(3.0))(x_t, T)
    assert isinstance(guided, CfgOutput)
    assert isinstance(cond, Tensor)
    assert isinstance(uncond, Tensor)
    torch.testing.assert_close(guided.conditional, cond, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(guided.output, uncond + 3 * (cond - uncond), atol=1e-4, rtol=1e-3)


@every_kind
def test_an_image_does_not_depend_on_its_batch(kind: str):
    unet, condition, x_t = made(kind)
    together = denoiser(unet, condition)(x_t, T)
    first = Condition({name: value[:1] for name, value in condition.inputs.items()})
    alone = denoiser(unet, first)(x_t[:1], T)
    assert isinstance(together, Tensor)
    torch.testing.assert_close(alone, together[:1], atol=1e-5, rtol=1e-4)


def test_guidance_counts_between_two_timesteps_alone():
    unet, condition, x_t = made("class")
    predict = denoiser(unet, condition, Cfg(2.0, first_t=700, last_t=300))
    for t, guided in ((999, False), (701, False), (700, True), (300, True), (299, False)):
        assert isinstance(predict(x_t, torch.tensor(t)), CfgOutput) is guided


def test_guidance_without_a_condition_is_refused():
    unet, _, _ = made("class")
    with pytest.raises(ValueError, match=r"cfg_scale must be 1 without a condition, got 2"):
        denoiser(unet, NO_CONDITION, Cfg(2.0))


def predicted(kind: str, condition: Condition, x_t: Tensor, **options: Any) -> CfgOutput:
    torch.manual_seed(0)
    unet, _ = KINDS[kind]()
    result = denoiser(unet.eval().requires_grad_(False), condition, **options)(x_t, T)
    assert isinstance(result, CfgOutput)
    return result


@every_kind
def test_several_conditions_pull_with_their_weights(kind: str):
    unet, condition, x_t = made(kind)
    other = Condition({k: v.flip(0) for k, v in condition.inputs.items()}, condition.null)
    uncond = denoiser(unet, Condition(condition.null, condition.null))(x_t, T)
    one, two = (denoiser(unet, c)(x_t, T) for c in (condition, other))
    assert isinstance(uncond, Tensor)
    assert isinstance(one, Tensor)
    assert isinstance(two, Tensor)
    both = composed([(0.7, condition), (-0.4, other)])
    expected = uncond + 0.7 * (one - uncond) - 0.4 * (two - uncond)
    alone = predicted(kind, both, x_t)
    torch.testing.assert_close(alone.output, expected, atol=1e-5, rtol=1e-4)
    guided = predicted(kind, both, x_t, cfg=Cfg(3.0))
    torch.testing.assert_close(
        guided.output, uncond + 3 * (expected - uncond), atol=1e-4, rtol=1e-3
    )


def test_one_condition_of_weight_1_is_that_condition():
    unet, condition, x_t = made("text")
    alone, same = (denoiser(unet, c)(x_t, T) for c in (condition, composed([(1.0, condition)])))
    assert isinstance(alone, Tensor)
    assert isinstance(same, Tensor)
    assert torch.equal(alone, same)


def test_conditions_of_one_weight_share_the_pull():
    """Twice the same with half the weight is once the same."""
    unet, condition, x_t = made("class")
    halves = composed([(0.5, condition), (0.5, condition)])
    expected = denoiser(unet, condition, Cfg(4.0))(x_t, T)
    assert isinstance(expected, CfgOutput)
    shared = denoiser(unet, halves, Cfg(4.0))(x_t, T)
    assert isinstance(shared, CfgOutput)
    torch.testing.assert_close(shared.output, expected.output, atol=1e-5, rtol=1e-4)


@every_kind
def test_another_network_can_be_the_null(kind: str):
    unet, condition, x_t = made(kind)
    cond = denoiser(unet, condition)(x_t, T)
    assert isinstance(cond, Tensor)
    guided = denoiser(unet, condition, Cfg(3.0), null=lambda x, t: 0.1 * x)(x_t, T)
    assert isinstance(guided, CfgOutput)
    torch.testing.assert_close(guided.unconditional, 0.1 * x_t)
    expected = 0.1 * x_t + 3 * (cond - 0.1 * x_t)
    torch.testing.assert_close(guided.output, expected, atol=1e-4, rtol=1e-3)


def test_the_other_network_is_not_asked_where_guidance_is_off():
    unet, condition, x_t = made("class")

    def never(x_t: Tensor, t: Tensor) -> Tensor:
        raise AssertionError

    predict = denoiser(unet, condition, Cfg(3.0, first_t=300), null=never)
    assert isinstance(predict(x_t, T), Tensor)


def test_a_composed_condition_moves_to_a_device_with_all_its_parts():
    _, condition, _ = made("class")
    moved = composed([(0.7, condition), (-0.4, condition)]).to(torch.device("meta"))
    assert moved.weight == 0.7
    assert [other.weight for other in moved.others] == [-0.4]
    assert all(v.device.type == "meta" for v in moved.others[0].inputs.values())
