"""The networks: UNets with 2x2 space-to-depth, and three ways to condition on a class.

All of them take `(x_t, t, class_labels)` and return the shape of `x_t`, so a sampler can use any of
them. Each is a diffusers model: `save_pretrained` and `from_pretrained` work as usual.
"""

from __future__ import annotations

import inspect

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin, UNet2DConditionModel, UNet2DModel
from diffusers.configuration_utils import FrozenDict, register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor, nn


class LabelEmbedding(nn.Embedding):
    """A table of class embeddings that can also return mixtures of classes.

    The weights are those of a plain `nn.Embedding`, so checkpoints are interchangeable.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Returns the embedding of each image's class, or mixture of classes.

        Args:
            input: whole numbers `(b,)`, one class each; or floats `(b, num_embeddings)`, the
                weight of each class in the mixture (rows that sum to 1 keep the scale that the
                network was trained on).

        Returns:
            `(b, embedding_dim)`.
        """
        if input.is_floating_point():
            return input.to(self.weight.dtype) @ self.weight  # (b, dim)
        return super().forward(input)


def _space_to_depth(x: Tensor, patch_size: int) -> Tensor:
    """Folds each patch of pixels into channels: `(b, c, h, w)` to `(b, c*p*p, h/p, w/p)`."""
    return F.pixel_unshuffle(x, patch_size) if patch_size > 1 else x


def _depth_to_space(x: Tensor, patch_size: int) -> Tensor:
    """Returns the inverse of `_space_to_depth`."""
    return F.pixel_shuffle(x, patch_size) if patch_size > 1 else x


class _OwnConfig(ConfigMixin):
    """Saves only the arguments of the class itself, not those that its parent recorded."""

    def to_json_string(self) -> str:
        full_config = self._internal_dict
        own = inspect.signature(type(self).__init__).parameters
        self._internal_dict = FrozenDict({k: v for k, v in full_config.items() if k in own})
        try:
            return super().to_json_string()
        finally:
            self._internal_dict = full_config


class SpaceToDepthUNet2DModel(_OwnConfig, UNet2DModel):
    """A `UNet2DModel` that works on folded pixels; its input and output are not folded.

    With `patch_size=2` a 3x64x64 picture is folded to 12x32x32: a quarter of the positions, so a
    step costs about a third. Folded white noise is white noise, so schedules and losses need no
    change. With `num_class_embeds` it is class-conditional by an embedding that is added to the
    time embedding.

    `sample_size`, `in_channels` and `out_channels` are those of the pictures, before folding.
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int = 64,
        in_channels: int = 3,
        out_channels: int = 3,
        patch_size: int = 2,
        down_block_types: tuple[str, ...] = ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types: tuple[str, ...] = ("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        block_out_channels: tuple[int, ...] = (64, 128, 192),
        layers_per_block: int = 1,
        attention_head_dim: int = 64,
        dropout: float = 0.0,
        num_class_embeds: int | None = None,
    ):
        config = dict(self.config)
        super().__init__(
            sample_size=sample_size // patch_size,
            in_channels=in_channels * patch_size**2,
            out_channels=out_channels * patch_size**2,
            down_block_types=down_block_types,
            up_block_types=up_block_types,
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            attention_head_dim=attention_head_dim,
            dropout=dropout,
            num_class_embeds=num_class_embeds,
        )
        if num_class_embeds is not None:
            self.class_embedding = LabelEmbedding(num_class_embeds, block_out_channels[0] * 4)
        self.register_to_config(**config)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float | int,
        class_labels: Tensor | None = None,
        return_dict: bool = True,
    ) -> UNet2DOutput | tuple[Tensor]:
        """Like `UNet2DModel.forward`; height and width must be multiples of the total stride."""
        patch_size = self.config["patch_size"]
        folded = _space_to_depth(sample, patch_size)
        output = super().forward(folded, timestep, class_labels, return_dict=False)[0]
        output = _depth_to_space(output, patch_size)
        return UNet2DOutput(sample=output) if return_dict else (output,)


class ClassChannelsUNet(_OwnConfig, UNet2DModel):
    """Class-conditional by extra input channels: the course's `ClassConditionedUnet`.

    The label's embedding is repeated at every pixel and concatenated to the picture's channels.
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int = 28,
        in_channels: int = 1,
        out_channels: int = 1,
        num_class_embeds: int = 11,
        class_channels: int = 4,
        down_block_types: tuple[str, ...] = ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types: tuple[str, ...] = ("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        block_out_channels: tuple[int, ...] = (32, 64, 64),
        layers_per_block: int = 2,
        attention_head_dim: int = 64,
    ):
        config = dict(self.config)
        super().__init__(
            sample_size=sample_size,
            in_channels=in_channels + class_channels,
            out_channels=out_channels,
            down_block_types=down_block_types,
            up_block_types=up_block_types,
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            attention_head_dim=attention_head_dim,
        )
        self.label_embedding = LabelEmbedding(num_class_embeds, class_channels)
        self.register_to_config(**config)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float | int,
        class_labels: Tensor | None = None,
        return_dict: bool = True,
    ) -> UNet2DOutput | tuple[Tensor]:
        """Like `UNet2DModel.forward`, with `class_labels` for `LabelEmbedding`.

        Raises:
            ValueError: without `class_labels`.
        """
        if class_labels is None:
            raise ValueError("class_labels must be given: this network is class-conditional")
        height, width = sample.shape[-2:]
        planes = self.label_embedding(class_labels)[:, :, None, None]  # (b, class_channels, 1, 1)
        planes = planes.to(sample.dtype).expand(-1, -1, height, width)
        stacked = torch.cat([sample, planes], dim=1)  # (b, c + class_channels, h, w)
        return super().forward(stacked, timestep, return_dict=return_dict)


class ClassCrossAttentionUNet(_OwnConfig, UNet2DConditionModel):
    """Class-conditional by cross-attention, as Stable Diffusion is text-conditional.

    Each class has a short sequence of learned tokens that the picture's positions attend to. With
    one token the softmax would always be 1, so there are several.
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int = 28,
        in_channels: int = 1,
        out_channels: int = 1,
        patch_size: int = 2,
        num_class_embeds: int = 11,
        tokens_per_class: int = 4,
        cross_attention_dim: int = 64,
        down_block_types: tuple[str, ...] = ("DownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type: str = "UNetMidBlock2DCrossAttn",
        up_block_types: tuple[str, ...] = ("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels: tuple[int, ...] = (64, 64),
        layers_per_block: int = 1,
        num_heads: int = 2,
    ):
        config = dict(self.config)
        super().__init__(
            sample_size=sample_size // patch_size,
            in_channels=in_channels * patch_size**2,
            out_channels=out_channels * patch_size**2,
            down_block_types=down_block_types,
            mid_block_type=mid_block_type,
            up_block_types=up_block_types,
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            cross_attention_dim=cross_attention_dim,
            attention_head_dim=num_heads,  # diffusers' old name for the number of heads
        )
        self.label_embedding = LabelEmbedding(
            num_class_embeds, tokens_per_class * cross_attention_dim
        )
        self.register_to_config(**config)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        sample: Tensor,
        timestep: Tensor | float | int,
        class_labels: Tensor | None = None,
        return_dict: bool = True,
    ) -> UNet2DOutput | tuple[Tensor]:
        """Like the other networks here; the tokens are looked up from `class_labels`.

        Raises:
            ValueError: without `class_labels`.
        """
        if class_labels is None:
            raise ValueError("class_labels must be given: this network is class-conditional")
        patch_size = self.config["patch_size"]
        tokens = self.label_embedding(class_labels)  # (b, tokens * dim)
        tokens = tokens.unflatten(1, (self.config["tokens_per_class"], -1))  # (b, tokens, dim)
        folded = _space_to_depth(sample, patch_size)
        output = super().forward(folded, timestep, tokens.to(sample.dtype), return_dict=False)[0]
        output = _depth_to_space(output, patch_size)
        return UNet2DOutput(sample=output) if return_dict else (output,)


CLASS_UNETS: dict[str, type[ModelMixin]] = {
    "channels": ClassChannelsUNet,
    "embedding": SpaceToDepthUNet2DModel,
    "cross-attention": ClassCrossAttentionUNet,
}
