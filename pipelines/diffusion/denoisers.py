"""Networks as the sampler calls them: `(x_t, t)` to a prediction, with condition and CFG inside.

A `Condition` tells a network what to draw: nothing, a class, words or a picture. The network gets
it as keyword arguments, so that all conditional networks have the same interface.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
        weight: of this condition, 1 is usual; below 0 the picture moves away from it.
        others: further conditions with weights of their own, whose inputs have the same shapes.
    """

    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    null: Mapping[str, Tensor] = field(default_factory=dict)
    weight: float = 1.0
    others: tuple[Condition, ...] = ()

    @property
    def is_composed(self) -> bool:
        """Whether the network must be asked without it, too, even without guidance."""
        return bool(self.others) or self.weight != 1

    def to(self, device: torch.device) -> Condition:
        """Returns the same condition on a device."""
        inputs, null = ({k: v.to(device) for k, v in p.items()} for p in (self.inputs, self.null))
        others = tuple(other.to(device) for other in self.others)
        return replace(self, inputs=inputs, null=null, others=others)


NO_CONDITION = Condition()


def composed(conditions: Sequence[tuple[float, Condition]]) -> Condition:
    """Returns several conditions with weights as one (Liu et al. 2022, arXiv:2206.01714).

    The network's output is `uncond + sum(weight * (cond - uncond))`.

    Args:
        conditions: one or more, whose inputs have the same shapes; the first one's null counts.
    """
    first, *others = (replace(condition, weight=weight) for weight, condition in conditions)
    return replace(first, others=tuple(others))


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
    unet: Network,
    condition: Condition = NO_CONDITION,
    cfg: Cfg | None = None,
    null: PlainPredictor | None = None,
) -> Predictor:
    """Returns the predictor of a network under a condition.

    With classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598) the output is
    `uncond + scale * (cond - uncond)`, both computed in one batch. Where guidance is off, the
    unconditional half is not computed, which halves the cost.

    Args:
        unet: takes `(x_t, t)` and the condition's inputs by name.
        condition: its other inputs; on the device of the network.
        cfg: None is off.
        null: predicts without the condition instead of the network itself, such as the
            unconditional model that it began as (arXiv:2503.20240).

    Raises:
        ValueError: if `cfg.scale` is not 1 and the condition has no null condition.
    """
    cfg = cfg or Cfg()
    if cfg.scale != 1 and not condition.null:
        raise ValueError(f"cfg_scale must be 1 without a condition, got {cfg.scale:g}")

    def predict(x_t: Tensor, t: Tensor) -> Tensor | CfgOutput:
        is_active = cfg.is_active(int(t))
        if not is_active and not condition.is_composed:
            return _in_parts(unet, x_t, t, condition.inputs)
        uncond, cond = _without_and_with(unet, x_t, t, condition, null)
        scale = cfg.scale if is_active else 1.0
        return CfgOutput(uncond + scale * (cond - uncond), cond, uncond)

    return predict


def _without_and_with(
    unet: Network, x_t: Tensor, t: Tensor, condition: Condition, null: PlainPredictor | None
) -> tuple[Tensor, Tensor]:
    """Returns what is predicted without a condition and with it, `(b, c, h, w)` each."""
    parts = [condition, *condition.others]
    asked = (
        [part.inputs for part in parts] if null else [condition.null, *(p.inputs for p in parts)]
    )
    inputs = {name: torch.cat([part[name] for part in asked]) for name in condition.inputs}
    outputs = _in_parts(unet, torch.cat([x_t] * len(asked)), t, inputs).chunk(len(asked))
    uncond, *conds = [null(x_t, t), *outputs] if null else outputs
    if not condition.is_composed:
        return uncond, conds[0]
    moves = (part.weight * (cond - uncond) for part, cond in zip(parts, conds, strict=True))
    return uncond, uncond + sum(moves)


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
