"""Losses and methods of the user's own, tried before use; their faults are told by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipelines.core.errors import UserError
from pipelines.core.rules import Real
from pipelines.diffusion import losses, sampling
from pipelines.diffusion.guidance import Guide
from pipelines.diffusion.losses import Loss, PlainLoss, Projectable
from pipelines.diffusion.methods import Method, Pull
from pipelines.diffusion.noise import draw_noise, seeded
from pipelines.diffusion.sampling import StepContext
from pipelines.diffusion.solvers import SOLVERS, make_schedule

_TRIED_SHAPES = ((2, 3, 64, 64), (1, 3, 32, 32))
_TRIED_CONFIG = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
}
_TRIED_STEPS = 4
_ETA = Real(0.0, 1.0)


class OwnError(UserError):
    """Something of the user's own failed in a run; the message names it and its file."""


@dataclass(frozen=True)
class OwnLoss:
    """A loss of the user's own; what it returns is checked each time.

    Attributes:
        name: of its setting.
        path: of its file.
        loss: of the file.

    Raises:
        OwnError: when it is called, if it fails or returns something else than a loss does.
    """

    name: str
    path: str
    loss: Loss

    @property
    def polyak(self) -> float:
        """See `losses.Loss`."""
        return self.loss.polyak

    def __call__(self, x0: Tensor) -> Tensor:
        """Returns the loss of each image, `(b,)`; `x0` is `(b, c, h, w)`."""
        checked = PlainLoss(self.loss, self.polyak)
        return _named(self.name, self.path, lambda: checked(x0))


@dataclass(frozen=True)
class OwnProjectableLoss(OwnLoss):
    """A loss of the user's own whose nearest minimum is known in closed form."""

    def project(self, x0: Tensor) -> Tensor:
        """Returns the nearest pictures `(b, c, h, w)` with the least loss."""
        loss: Any = self.loss
        return _named(self.name, self.path, lambda: _same_shape(loss.project(x0.clone()), x0))


def own_loss(name: str, path: str, loss: Any) -> OwnLoss:
    """Returns a loss of a file, tried on pictures of two sizes.

    Raises:
        ValueError: if it is no loss, or fails.
    """
    plain = losses.of(loss)
    kind = OwnProjectableLoss if isinstance(plain, Projectable) else OwnLoss
    own = kind(name, path, plain)
    for shape in _TRIED_SHAPES:
        x0 = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
        try:
            own(x0.requires_grad_())
            if isinstance(own, OwnProjectableLoss):
                own.project(x0.detach())
        except OwnError as error:
            raise ValueError(f"{name} fails: {error.parts['reason']}") from error
    return own


def own_method(name: str, path: str, method: Any) -> Method:
    """Returns a method of a file, tried for a few steps; its faults are told by name.

    Raises:
        ValueError: one sentence about the first thing that is wrong.
    """
    if not isinstance(method, Method):
        raise ValueError(f"METHODS must be of type Method, got {method!r} for {name!r}")
    if method.solver not in SOLVERS:
        known = ", ".join(SOLVERS)
        raise ValueError(f"solver of {name} must be one of {known}, got {method.solver!r}")
    _ETA.check(f"eta of {name}", method.eta)
    if not 0 < method.default_scale <= method.max_scale < float("inf"):
        raise ValueError(
            f"scales of {name} must be 0 < default_scale <= max_scale, got "
            f"{method.default_scale} and {method.max_scale}"
        )
    step, push = (f and OwnStep(name, path, f) for f in (method.step, method.push))
    own = dataclasses.replace(method, step=step, push=push)
    try:
        _try(own)
    except Exception as error:  # whatever a method may do
        reason = error.parts["reason"] if isinstance(error, OwnError) else one_line(error)
        raise ValueError(f"{name} fails: {reason}") from error
    return own


@dataclass(frozen=True)
class OwnStep:
    """A step or push of a method of the user's own."""

    name: str
    path: str
    step: Callable[[Pull, StepContext, float], Tensor]

    def __call__(self, pull: Pull, context: StepContext, scale: float) -> Tensor:
        """Returns the displacement, `(b, c, h, w)`."""
        return _named(
            self.name,
            self.path,
            lambda: _same_shape(self.step(pull, context, scale), pull.gradient),
        )


def _tried_loss(x0: Tensor) -> Tensor:
    """A loss without a closed form, so that steps are taken."""
    return x0.square().mean(dim=(1, 2, 3))


def _try(method: Method) -> None:
    """Draws a few guided steps with a network that halves what it gets."""
    noise = draw_noise(seeded([0, 1]), (3, 16, 16))
    schedule = make_schedule(
        _TRIED_CONFIG, solver=method.solver, num_inference_steps=_TRIED_STEPS, device="cpu"
    )
    guide = Guide(
        method, [losses.Term(losses.Symmetry()), losses.Term(_tried_loss)], method.default_scale
    )
    steps = sampling.sample(
        lambda x_t, t: x_t / 2,
        noise,
        schedule,
        prediction_type="epsilon",
        eta=method.eta,
        generators=seeded([0, 1]),
        guide=guide,
    )
    for step in steps:
        _same_shape(step.x_prev, noise)


def _same_shape(values: Any, like: Tensor) -> Tensor:
    """Returns a tensor that must have the shape of another.

    Raises:
        ValueError: if it has not.
    """
    if not isinstance(values, Tensor) or values.shape != like.shape:
        got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"it must return a tensor of shape {tuple(like.shape)}, got {got}")
    return values


def _named(name: str, path: str, compute: Callable[[], Tensor]) -> Tensor:
    """Returns what a function of the user's own returns.

    Raises:
        OwnError: if it fails.
    """
    try:
        return compute()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever it may do
        raise OwnError("own_failed", name=name, path=path, reason=one_line(error)) from error


def one_line(error: BaseException) -> str:
    """Returns the message of an error on one line, or its kind if it has none."""
    return " ".join(str(error).split()) or type(error).__name__
