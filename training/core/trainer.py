"""One training run: network, averaged weights, optimizer, and the step it is at."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar, cast

import torch
import typer
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from pipelines.core import devices
from training.core.fingerprint import OtherDataError, is_fingerprint
from training.core.learning_rate import learning_rate
from training.core.recipe import BaseRecipe

ADAM_BETAS = (0.9, 0.99)
MAX_GRADIENT_NORM = 1.0

R = TypeVar("R", bound=BaseRecipe)
N = TypeVar("N", bound=nn.Module)


class BaseTrainer(ABC, Generic[R, N]):
    """One run. A kind of training says what its loss is, how it is judged, and what is drawn.

    Everything random in a step follows from its number, so a run that was interrupted gives the
    same weights as one that was not.

    Attributes:
        recipe: what decides the weights.
        network: what is trained, as `accelerate` prepared it.
        step: optimizer steps done.
        seconds: spent in them, over all restarts.
        trained_on: the device the run began on, in words.
        extended_at: steps at which the finished run went on, with a new learning-rate schedule.
        restored: whether it goes on from a saved state.
        data_changed: whether a saved run was restored with other data than it began with.
    """

    weights_key: ClassVar[str] = "unet"
    """Name of the network's weights in a saved state."""

    def __init__(self, recipe: R, network: N, optimizer: Any, accelerator: Accelerator):
        self.recipe = recipe
        self.accelerator, self.device = accelerator, accelerator.device
        self.trained_on = describe_device(accelerator)
        self._averaged: N = deepcopy(network).eval().requires_grad_(False)
        self.ema = EMAModel(network.parameters(), decay=recipe.ema_decay, foreach=True)
        self.network, self.optimizer = accelerator.prepare(network, optimizer)
        self.step, self.seconds = 0, 0.0
        self.extended_at: list[int] = []
        self.restored = self.data_changed = False

    @abstractmethod
    def pass_loss(self, number: int) -> Tensor:
        """Returns the loss `()` of forward pass `number` of the step at work."""

    @abstractmethod
    def describe_data(self) -> str:
        """Returns the `fingerprint` of the data, also of those that are held out."""

    @cached_property
    def data_fingerprint(self) -> str:
        """Describes the data, so that a resumed run can tell when they are others."""
        return self.describe_data()

    @property
    def passes(self) -> int:
        """Forward passes per step."""
        return 1

    def extra_state(self) -> dict[str, Any]:
        """Returns what a saved state has besides, as plain data."""
        return {}

    def restore_extra(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `extra_state` saved."""

    def after_step(self) -> None:
        """Corrects the weights after the optimizer changed them."""

    def state(self) -> dict[str, Any]:
        """Returns everything that `restore` needs, as plain data and tensors."""
        scaler = self.accelerator.scaler
        return {
            "recipe": asdict(self.recipe),
            "step": self.step,
            "seconds": self.seconds,
            "trained_on": self.trained_on,
            "data": self.data_fingerprint,
            "extended_at": [*self.extended_at],
            **self.extra_state(),
            self.weights_key: self._bare_network().state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    def restore(self, state: Mapping[str, Any], *, any_data: bool = False) -> None:
        """Goes on from a saved state. One of an older version is accepted with a warning.

        Args:
            state: what `state` returned.
            any_data: whether the data may have changed, for a run that is not trained on.

        Raises:
            OtherDataError: if the data have changed.
            ValueError: if that state belongs to another recipe.
        """
        has_fingerprint = is_fingerprint(state.get("data"))
        self.recipe.check_same(state["recipe"], moved=has_fingerprint)
        self.data_changed = has_fingerprint and state["data"] != self.data_fingerprint
        if self.data_changed and not any_data:
            raise OtherDataError(state["data"], self.data_fingerprint)
        for warning in self._doubts(state):
            typer.echo(warning, err=True)
        self._bare_network().load_state_dict(state[self.weights_key])
        self.ema.load_state_dict(state["ema"])
        self.ema.to(self.device)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None and state.get("scaler"):
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step, self.seconds, self.restored = state["step"], state["seconds"], True
        self.trained_on = state.get("trained_on", self.trained_on)
        self.extended_at = [*state.get("extended_at", [])]
        self.restore_extra(state)

    def _doubts(self, state: Mapping[str, Any]) -> Iterable[str]:
        """Warns of what a saved state does not tell, or tells otherwise."""
        missing = self.recipe.missing_from(state["recipe"])
        if missing:
            yield (
                f"Warning: the saved run is from before there was {', '.join(missing)}; "
                "it goes on without"
            )
        if not is_fingerprint(state.get("data")):
            yield "Warning: the saved run does not tell its data; they are taken to be the same"
        if self.data_changed:
            yield "Warning: the data have changed since the run was saved; no errors are measured"

    def _bare_network(self) -> N:
        return self.accelerator.unwrap_model(self.network)

    def train_step(self) -> float:
        """Does one optimizer step; returns the mean loss over all processes.

        Raises:
            FloatingPointError: if the loss or its gradient is not finite; no weight has changed.
        """
        began = time.monotonic()
        self._set_learning_rate()
        loss = self._backward()
        norm = self.accelerator.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT_NORM)
        check_finite(
            loss,
            float(norm) if norm is not None else 0.0,
            step=self.step + 1,
            scaled=self.accelerator.scaler is not None,
        )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.after_step()
        self.ema.step(self.network.parameters())
        self.step += 1
        self.seconds += time.monotonic() - began
        return loss

    @property
    def schedule_start(self) -> int:
        """The step at which the learning-rate schedule began, 0 but for an extended run."""
        return self.extended_at[-1] if self.extended_at else 0

    def extend(self, max_steps: int) -> None:
        """Lets a finished run go on to `max_steps`, with a new learning-rate schedule."""
        self.extended_at.append(self.step)
        self.recipe = replace(self.recipe, max_steps=max_steps)

    def _set_learning_rate(self) -> None:
        recipe, start = self.recipe, self.schedule_start
        rate = learning_rate(
            self.step - start,
            peak=recipe.lr,
            warmup_steps=recipe.warmup_steps,
            max_steps=recipe.max_steps - start,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("factor", 1.0)

    def _backward(self) -> float:
        """Adds up the gradients of all passes; returns the mean loss over all processes."""
        loss = torch.zeros((), device=self.device)
        for number in range(self.passes):
            with self._gradients_shared(number + 1 == self.passes):
                part = self.pass_loss(number) / self.passes
                self.accelerator.backward(part)
            loss += part.detach()
        return cast(Tensor, self.accelerator.reduce(loss, "mean")).item()

    def _gradients_shared(self, last: bool) -> AbstractContextManager[Any]:
        """Lets processes exchange gradients once a step, in its last backward pass."""
        return nullcontext() if last else self.accelerator.no_sync(cast(nn.Module, self.network))

    @torch.no_grad()
    def averaged(self) -> N:
        """Returns the network with the averaged weights, for use and not for training."""
        self.ema.copy_to(self._averaged.parameters())
        live = self._bare_network().buffers()
        for mine, current in zip(self._averaged.buffers(), live, strict=True):
            mine.copy_(current)
        return self._averaged


def describe_device(accelerator: Accelerator) -> str:
    """Returns what a card calls the device, with the arithmetic if it is not float32."""
    precision, name = accelerator.mixed_precision, devices.describe_device(accelerator.device)
    return name if precision == "no" else f"{name}, {precision}"


def check_finite(loss: float, gradient_norm: float, *, step: int, scaled: bool = False) -> None:
    """Stops a run that has gone astray before it changes a weight.

    Args:
        loss: of this step.
        gradient_norm: of all weights.
        step: the one at work, from 1.
        scaled: whether a gradient scaler is at work, which meets infinite gradients on purpose and
            skips such steps itself.

    Raises:
        FloatingPointError: if one of them is not finite.
    """
    if math.isfinite(loss) and (scaled or math.isfinite(gradient_norm)):
        return
    raise FloatingPointError(
        f"loss must stay finite, got {loss} with a gradient of norm {gradient_norm} at step "
        f"{step}; start again with a lower lr"
    )
