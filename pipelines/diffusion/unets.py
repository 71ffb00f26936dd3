"""The networks: UNets with 2x2 space-to-depth, conditional on a class in three ways, or on words.

All of them take `(x_t, t)` and their condition by name and return the shape of `x_t`, so a sampler
can use any of them. Each is a diffusers model: `save_pretrained` and `from_pretrained` work as
usual.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin, UNet2DConditionModel, UNet2DModel
from diffusers.configuration_utils import FrozenDict, register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor, nn

_MOST_SEEN = 16
_HIDDEN = -1e4
"""Score of what is not attended to; finite, since rows of nothing but it must stay numbers."""


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


class Attention(nn.Module):
    """Multi-head attention of queries to a context (Vaswani et al. 2017, arXiv:1706.03762)."""

    def __init__(self, dim: int, context_dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.to_query = nn.Linear(dim, dim, bias=False)
        self.to_key = nn.Linear(context_dim, dim, bias=False)
        self.to_value = nn.Linear(context_dim, dim, bias=False)
        self.to_out = nn.Linear(dim, dim)

    def forward(
        self, x: Tensor, context: Tensor, bias: Tensor, pull: Tensor | None = None
    ) -> Tensor:
        """Returns what each query takes from the context, `(b, n, dim)`.

        Args:
            x: `(b, n, dim)`.
            context: `(b, l, context_dim)`.
            bias: added to the scores of all heads, `(b, 1, n or 1, l)`.
            pull: how much each query is drawn to each part of the context, in multiples of the
                highest score (eDiff-I, Balaji et al. 2022, arXiv:2211.01324, 5.3); `(b, 1, n, l)`.
        """
        if pull is not None:
            weights = self.weights(x, context, bias, pull)
            return self._out(weights @ self._heads(self.to_value(context)))
        query = self._heads(self.to_query(x))
        key, value = self._heads(self.to_key(context)), self._heads(self.to_value(context))
        return self._out(F.scaled_dot_product_attention(query, key, value, attn_mask=bias))

    def weights(
        self, x: Tensor, context: Tensor, bias: Tensor, pull: Tensor | None = None
    ) -> Tensor:
        """Returns how much each query attends to each part of the context, `(b, h, n, l)`.

        The last dimension sums to 1; arguments as in `forward`.
        """
        query, key = self._heads(self.to_query(x)), self._heads(self.to_key(context))
        scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
        if pull is not None:
            scores = scores + pull * scores.amax(dim=(2, 3), keepdim=True).clamp(min=0)
        return (scores + bias).softmax(dim=-1)

    def _out(self, taken: Tensor) -> Tensor:
        """`(b, h, n, d)` to `(b, n, dim)`."""
        return self.to_out(taken.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        """`(b, n, dim)` to `(b, h, n, dim / h)`."""
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


class WordLayer(nn.Module):
    """A transformer layer in which words see those before and after them."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.norm_in, self.norm_mid = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, dim, num_heads)
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)
        )
        self.norm_out = nn.LayerNorm(dim)

    def forward(self, words: Tensor, bias: Tensor) -> Tensor:
        """`(b, l, d)` to the same shape; `bias` as in `Attention`."""
        words = self.norm_in(words)  # embeddings are small beside what is added to them
        words = words + self.attention(words, words, bias)
        words = words + self.feed_forward(self.norm_mid(words))
        return self.norm_out(words)


class WordAttention(nn.Module):
    """Adds to each position of a picture what it takes from the words, at first nothing."""

    def __init__(self, channels: int, word_dim: int, num_heads: int):
        super().__init__()
        self.norm = nn.GroupNorm(32, channels)
        self.attention = Attention(channels, word_dim, num_heads)
        for weights in self.attention.to_out.parameters():
            nn.init.zeros_(weights)

    def forward(self, x: Tensor, words: Tensor, bias: Tensor, pull: Tensor | None = None) -> Tensor:
        """Returns `(b, c, h, w)`.

        Args:
            x: `(b, c, h, w)`.
            words: `(b, l, d)`.
            bias: as in `Attention`.
            pull: of each word at each place, `(b, l, h, w)` at any resolution; see `Attention`.
        """
        taken = self.attention(self._positions(x), words, bias, _at_positions(pull, x))
        return x + taken.transpose(1, 2).unflatten(2, x.shape[-2:])

    def maps(self, x: Tensor, words: Tensor, bias: Tensor, pull: Tensor | None = None) -> Tensor:
        """Returns how much each place attends to each word, a mean over heads, `(b, l, h, w)`."""
        weights = self.attention.weights(self._positions(x), words, bias, _at_positions(pull, x))
        return weights.mean(dim=1).transpose(1, 2).unflatten(2, x.shape[-2:])

    def _positions(self, x: Tensor) -> Tensor:
        """`(b, c, h, w)` to `(b, h * w, c)`, row by row."""
        return self.norm(x).flatten(2).transpose(1, 2)


def _at_positions(pull: Tensor | None, x: Tensor) -> Tensor | None:
    """A pull `(b, l, h, w)` as `Attention` takes it, at the resolution of a picture `x`."""
    if pull is None:
        return None
    at_size = F.interpolate(pull.to(x.dtype), x.shape[-2:], mode="area")
    return at_size.flatten(2).transpose(1, 2)[:, None]  # (b, 1, h * w, l)


_UNCONDITIONAL = tuple(
    name
    for name in inspect.signature(SpaceToDepthUNet2DModel.__init__).parameters
    if name not in ("self", "num_class_embeds")
)
"""Arguments of the unconditional network."""


class WordsUNet2DModel(SpaceToDepthUNet2DModel):
    """Conditional on words by cross-attention, and on what sums up words or a picture by a vector.

    Word embeddings pass through one transformer layer; after each block of some levels the
    picture's positions attend to them. The vector, embeddings of the whole text and of a picture
    side by side, is added to the time embedding. Both begin at zero, so a network made with
    `from_unconditional` first predicts what that one does (ControlNet, Zhang et al. 2023,
    arXiv:2302.05543).

    `features` and `conditions` change nothing here: they say which word embeddings of a CLIP the
    network learned to read, and what it was told.
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
        word_dim: int = 256,
        vector_dim: int = 513,
        word_levels: tuple[bool, ...] = (False, True, True),
        num_word_heads: int = 4,
        features: str = "embeddings",
        conditions: tuple[str, ...] = ("words", "picture"),
    ):
        config = dict(self.config)
        super().__init__(**{name: config[name] for name in _UNCONDITIONAL})
        levels = [c if seen else 0 for c, seen in zip(block_out_channels, word_levels, strict=True)]
        sites = _sites(levels, layers_per_block)
        self.word_layer = WordLayer(word_dim, num_word_heads)
        self.word_attentions = nn.ModuleList(
            WordAttention(channels, word_dim, num_word_heads) for channels in sites
        )
        time_dim = block_out_channels[0] * 4
        self.vector_embedding = nn.Sequential(
            nn.Linear(vector_dim, time_dim), nn.SiLU(), nn.Linear(time_dim, time_dim)
        )
        for weights in self.vector_embedding[-1].parameters():
            nn.init.zeros_(weights)
        self.register_to_config(**config)

    @classmethod
    def from_unconditional(cls, unet: SpaceToDepthUNet2DModel, **more: object) -> WordsUNet2DModel:
        """Returns a network that predicts what `unet` does, until it is trained.

        Args:
            unet: an unconditional network.
            more: `word_dim`, `vector_dim`, `num_word_heads` or `word_levels`, where they are
                others; positions of levels up to 16x16 attend to the words.
        """
        shared = {name: unet.config[name] for name in _UNCONDITIONAL}
        folded = unet.config["sample_size"] // unet.config["patch_size"]
        depth = len(unet.config["block_out_channels"])
        levels = [folded // 2**i <= _MOST_SEEN or i == depth - 1 for i in range(depth)]
        conditional = cls(**shared, **{"word_levels": tuple(levels), **more})
        conditional.load_state_dict(unet.state_dict(), strict=False)
        return conditional

    def new_parameters(self) -> list[nn.Parameter]:
        """Returns the weights that an unconditional network does not have."""
        modules = (self.word_layer, self.word_attentions, self.vector_embedding)
        return [p for module in modules for p in module.parameters()]

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        sample: Tensor,
        timestep: Tensor | float | int,
        encoder_hidden_states: Tensor,
        encoder_attention_mask: Tensor,
        class_labels: Tensor,
        word_pull: Tensor | None = None,
        return_dict: bool = True,
    ) -> UNet2DOutput | tuple[Tensor]:
        """Returns the prediction, `(b, c, h, w)`.

        Args:
            sample: noisy pictures `(b, c, h, w)`; height and width are multiples of the stride.
            timestep: `()` or `(b,)`.
            encoder_hidden_states: word embeddings `(b, l, word_dim)`.
            encoder_attention_mask: `(b, l)`, 1 for a word and 0 for padding.
            class_labels: `(b, vector_dim)`, zeros where there is nothing.
            word_pull: how much each place is drawn to each word, `(b, l, h, w)` at any
                resolution; see `Attention`.
            return_dict: whether to return an object with `sample`, or a tuple.
        """
        hide = (1 - encoder_attention_mask.to(sample.dtype)) * _HIDDEN
        bias = hide[:, None, None]  # (b, 1, 1, l)
        words = self.word_layer(encoder_hidden_states.to(sample.dtype), bias)
        emb = self._time(timestep, sample) + self.vector_embedding(class_labels.to(sample.dtype))
        x = _space_to_depth(sample, self.config["patch_size"])
        output = self._blocks(x, emb, words, bias, word_pull)
        output = _depth_to_space(output, self.config["patch_size"])
        return UNet2DOutput(sample=output) if return_dict else (output,)

    def _time(self, timestep: Tensor | float | int, sample: Tensor) -> Tensor:
        """Returns the time embedding, `(b, time_dim)`."""
        steps = torch.as_tensor(timestep, device=sample.device).expand(len(sample))
        return self.time_embedding(self.time_proj(steps).to(sample.dtype))

    def _blocks(
        self, x: Tensor, emb: Tensor, words: Tensor, bias: Tensor, pull: Tensor | None
    ) -> Tensor:
        """The UNet on folded pixels; like the parent's, with attention to the words."""
        seen = self.config["word_levels"]
        sites = iter(self.word_attentions)

        def told(x: Tensor, level: bool) -> Tensor:
            return next(sites)(x, words, bias, pull) if level else x

        x = self.conv_in(x)
        skips = [x]
        for block, level in zip(self.down_blocks, seen, strict=True):
            for resnet, attention in _layers(block):
                x = told(attention(resnet(x, emb)), level)
                skips.append(x)
            for downsample in _modules(block, "downsamplers"):
                x = downsample(x)
                skips.append(x)
        assert self.mid_block is not None
        x = told(self.mid_block(x, emb), seen[-1])
        for block, level in zip(self.up_blocks, reversed(seen), strict=True):
            for resnet, attention in _layers(block):
                x = resnet(torch.cat([x, skips.pop()], dim=1), emb)
                x = told(attention(x), level)
            for upsample in _modules(block, "upsamplers"):
                x = upsample(x)
        return self.conv_out(self.conv_act(self.conv_norm_out(x)))


def _sites(levels: Sequence[int], layers_per_block: int) -> list[int]:
    """Returns the channels after each layer that attends to words, in the order of a pass.

    Args:
        levels: channels of each level; 0 where nothing attends to words.
        layers_per_block: of the way down; each block of the way up has one more.
    """
    down = [channels for channels in levels for _ in range(layers_per_block)]
    up = [channels for channels in reversed(levels) for _ in range(layers_per_block + 1)]
    return [channels for channels in (*down, levels[-1], *up) if channels]


def _layers(block: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """Returns each residual layer of a block, with the self-attention after it."""
    resnets = _modules(block, "resnets")
    attentions = _modules(block, "attentions") or [nn.Identity()] * len(resnets)
    return list(zip(resnets, attentions, strict=True))


def _modules(block: nn.Module, name: str) -> list[nn.Module]:
    """Returns the modules in a list of a block; empty if it has none."""
    return list(getattr(block, name, None) or ())


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
