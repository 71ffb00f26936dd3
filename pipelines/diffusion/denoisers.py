"""Networks as the sampler calls them: `(x_t, t)` to a prediction, with condition and CFG inside.

A `Condition` tells a network what to draw: nothing, a class, words or a picture. The network gets
it as keyword arguments, so that all conditional networks have the same interface.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pipelines.core import devices

_MAX_BATCH = 32


@dataclass(frozen=True)
class CfgOutput:
    """The output of a network under classifier-free guidance, and its two parts.

    Attributes:
        output: `(b, c, h, w)`, with guidance.
        conditional: `(b, c, h, w)`, with the condition and without guidance.
        unconditional: `(b, c, h, w)`, without the condition.
    """

    output: Tensor
    conditional: Tensor
    unconditional: Tensor


Predictor = Callable[[Tensor, Tensor], Tensor | CfgOutput]
"""`(x_t (b, c, h, w), t ())` to the network's output `(b, c, h, w)`: eps, v or x0."""

Network = Callable[..., Any]
"""`(x_t, t)` and the inputs of a condition by name to what has the output as `sample`."""

PlainPredictor = Callable[[Tensor, Tensor], Tensor]
"""A predictor without classifier-free guidance."""


@dataclass(frozen=True)
class Condition:
    """The inputs of a network besides the noisy images and the timestep.

    Attributes:
        inputs: keyword arguments of the network, `(b, ...)` each; empty is unconditional.
        null: the same arguments for the null condition, which the network learned by dropping the
            condition in training; classifier-free guidance needs it.
    """

    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    null: Mapping[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> Condition:
        """Returns the same condition on a device."""
        parts = (self.inputs, self.null)
        return Condition(*({k: v.to(device) for k, v in part.items()} for part in parts))


NO_CONDITION = Condition()


def class_condition(weights: Tensor) -> Condition:
    """Returns the condition for classes, or for mixtures of them.

    Args:
        weights: `(b, num_classes + 1)` float, the share of each class in an image; the last column
            is the null class, learned by dropping labels.
    """
    null = torch.zeros_like(weights)
    null[:, -1] = 1.0
    return Condition({"class_labels": weights}, {"class_labels": null})


def text_condition(tokens: Tensor, null_tokens: Tensor) -> Condition:
    """Returns the condition for words that the picture attends to (cross-attention).

    Args:
        tokens: `(b, l, d)` float, token features of the words.
        null_tokens: `(l, d)` float, token features of the empty text.
    """
    null = null_tokens.expand_as(tokens)
    return Condition({"encoder_hidden_states": tokens}, {"encoder_hidden_states": null})


def picture_condition(embedding: Tensor, null_embedding: Tensor) -> Condition:
    """Returns the condition for similarity to a picture, added to the time embedding.

    Args:
        embedding: `(b, d)` float, of the picture.
        null_embedding: `(d,)` float, for no picture.
    """
    null = null_embedding.expand_as(embedding)
    return Condition({"class_labels": embedding}, {"class_labels": null})


@dataclass(frozen=True)
class Cfg:
    """Strength of classifier-free guidance, and the interval of timesteps in which it is on.

    Attributes:
        scale: 1 is off, 0 ignores the condition, above 1 exaggerates it.
        first_t: the noisiest timestep that is guided; None is the noisiest of the run.
        last_t: the cleanest timestep that is guided (Kynkäänniemi et al. 2024, arXiv:2404.07724).
    """

    scale: float = 1.0
    first_t: int | None = None
    last_t: int = 0

    def is_active(self, t: int) -> bool:
        """Returns whether a step that starts at timestep `t` is guided."""
        return self.scale != 1 and self.last_t <= t and (self.first_t is None or t <= self.first_t)


def denoiser(
    unet: Network, condition: Condition = NO_CONDITION, cfg: Cfg | None = None
) -> Predictor:
    """Returns the predictor of a network under a condition.

    With classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598) the output is
    `uncond + scale * (cond - uncond)`, both computed in one batch. Where guidance is off, the
    unconditional half is not computed, which halves the cost.

    Args:
        unet: takes `(x_t, t)` and the condition's inputs by name.
        condition: its other inputs; on the device of the network.
        cfg: None is off.

    Raises:
        ValueError: if `cfg.scale` is not 1 and the condition has no null condition.
    """
    cfg = cfg or Cfg()
    if cfg.scale != 1 and not condition.null:
        raise ValueError(f"cfg_scale must be 1 without a condition, got {cfg.scale:g}")

    def predict(x_t: Tensor, t: Tensor) -> Tensor | CfgOutput:
        if not cfg.is_active(int(t)):
            return _in_parts(unet, x_t, t, condition.inputs)
        pairs = {k: torch.cat([condition.null[k], v]) for k, v in condition.inputs.items()}
        outputs = _in_parts(unet, torch.cat([x_t, x_t]), t, pairs)
        uncond, cond = outputs.chunk(2)  # (b, c, h, w) each
        return CfgOutput(uncond + cfg.scale * (cond - uncond), cond, uncond)

    return predict


def unconditional(unet: Network) -> PlainPredictor:
    """Returns the predictor of a network that takes only `(x_t, t)`."""
    return lambda x_t, t: _in_parts(unet, x_t, t, {})


def classifier_free_guidance(unet: Network, class_labels: Tensor, cfg_scale: float) -> Predictor:
    """Returns a class-conditional network's predictor; `class_labels` as in `class_condition`."""
    return denoiser(unet, class_condition(class_labels), Cfg(cfg_scale))


def _in_parts(unet: Network, x_t: Tensor, t: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    """Runs the network on a batch of any size, a few images at a time, to bound memory."""
    with devices.autocast(x_t.device):
        outputs = [
            unet(x_t[part], t, **{name: value[part] for name, value in inputs.items()}).sample
            for first in range(0, len(x_t), _MAX_BATCH)
            for part in [slice(first, first + _MAX_BATCH)]
        ]
    return torch.cat(outputs).to(x_t.dtype)


def predict_x0(
    output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor, prediction_type: str
) -> Tensor:
    """Returns the clean images that a network's output implies, not clamped.

    Args:
        output: `(b, c, h, w)`.
        x_t: `(b, c, h, w)`.
        alpha: signal level, `()` or broadcastable.
        sigma: noise level, `()` or broadcastable.
        prediction_type: "epsilon", "v_prediction" (Salimans & Ho 2022, arXiv:2202.00512, eq. 9)
            or "sample".

    Raises:
        ValueError: for an unknown prediction type.
    """
    match prediction_type:
        case "epsilon":
            return (x_t - sigma * output) / alpha
        case "v_prediction":
            return alpha * x_t - sigma * output
        case "sample":
            return output
    raise ValueError(
        f"prediction_type must be epsilon, v_prediction or sample, got {prediction_type!r}"
    )
