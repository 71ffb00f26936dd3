"""One training run of an unconditional model of pictures: its steps, and how it is judged."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import asdict
from typing import Any, cast

import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler, UNet2DModel
from diffusers.training_utils import EMAModel
from PIL import Image
from torch import Tensor
from torch.nn import functional

from pipelines.core import images
from pipelines.diffusion import sampling
from pipelines.diffusion.denoisers import predict_x0
from pipelines.diffusion.noise import draw_noise, image_generators
from pipelines.diffusion.solvers import make_schedule
from training.core import loop
from training.core.backgrounds import draw_grounds, laid_on, turned
from training.core.data import Pictures, hold_out
from training.core.loop import ADAM_BETAS, MAX_GRADIENT_NORM, device_in_words
from training.pictures import start_models
from training.pictures.recipe import Recipe, held_out, steps_per_epoch

VALIDATION_TIMESTEPS = (100, 300, 500, 700, 900)
VALIDATION_BATCH = 32
SAMPLE_SOLVER = "dpm++"
SAMPLE_STEPS = 20
SAMPLE_COLUMNS = 8


def shown(focused: Tensor) -> Tensor:
    """The numbers of the pictures of an epoch: those in focus as often as comes nearest to a half.

    Args:
        focused: which of the pictures are, `(n,)` bool.

    Returns:
        `(m,)` int64, m >= n; none is left out.
    """
    often = focused.nonzero()[:, 0]
    others = len(focused) - len(often)
    times = max(1, round(others / max(1, len(often))))
    return torch.cat([torch.arange(len(focused)), often.repeat(times - 1)])


class Trainer:
    """One run: network, averaged weights, optimizer, and the step it is at.

    Everything random in a step comes from its number and from the slot of each picture in it, so
    a run gives the same weights (to rounding) however its steps are divided into processes and
    forward passes, and wherever it was interrupted.

    Attributes:
        recipe: what decides the weights.
        step: optimizer steps done.
        seconds: spent in them, over all restarts.
        trained_on: the device the run began on, in words.
        started_from: what is known of the start model's own training.
        skipped: pictures of the data that could not be read.
        enlarged: pictures of the data that were smaller and were scaled up.

    Raises:
        ValueError: if there are fewer pictures than one step takes.
    """

    def __init__(
        self,
        recipe: Recipe,
        unet: UNet2DModel,
        scheduler: DDPMScheduler,
        data: Pictures,
        accelerator: Accelerator,
    ):
        self.recipe = recipe
        self.device = accelerator.device
        self.trained_on = device_in_words(accelerator)
        self.accelerator = accelerator
        self.train, self.validation = hold_out(data, held_out(len(data)))
        self.skipped, self.enlarged = data.skipped, data.enlarged
        steps_per_epoch(recipe, len(data))  # or refused
        self._shown = shown(self.train.focused)
        self.scheduler = scheduler
        self.prediction = recipe.prediction
        self.alpha_bar = scheduler.alphas_cumprod.to(self.device)  # (num_timesteps,)
        unet.train().requires_grad_(True).to(self.device)
        self._averaged = deepcopy(unet).eval().requires_grad_(False)
        self.ema = EMAModel(unet.parameters(), decay=recipe.ema_decay, foreach=True)
        optimizer = torch.optim.AdamW(unet.parameters(), lr=recipe.lr, betas=ADAM_BETAS, fused=True)
        self.unet, self.optimizer = accelerator.prepare(unet, optimizer)
        self.step = 0
        self.seconds = 0.0
        self.started_from = start_models.lineage(recipe.start_model)

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as plain data and tensors."""
        scaler = self.accelerator.scaler
        return {
            "recipe": asdict(self.recipe),
            "step": self.step,
            "seconds": self.seconds,
            "trained_on": self.trained_on,
            "started_from": self.started_from,
            **start_models.configs(self._averaged, self.scheduler),
            "unet": self.accelerator.unwrap_model(self.unet).state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a saved state.

        Raises:
            ValueError: if that state belongs to another recipe.
        """
        self.recipe.check_same(state["recipe"])
        self.accelerator.unwrap_model(self.unet).load_state_dict(state["unet"])
        self.ema.load_state_dict(state["ema"])
        self.ema.to(self.device)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.trained_on = state["trained_on"]
        self.started_from = state.get("started_from", self.started_from)

    def train_step(self) -> float:
        """One optimizer step; returns the mean loss over all processes.

        Raises:
            FloatingPointError: if the loss or its gradient is not finite; no weight has changed.
        """
        began = time.monotonic()
        loop.set_learning_rate(self.optimizer, self.step, self.recipe)
        loss = torch.zeros((), device=self.device)
        for micro in range(self.recipe.grad_accumulation_steps):
            with self._gradients_shared(micro + 1 == self.recipe.grad_accumulation_steps):
                part = self._loss(*self._pictures(micro)) / self.recipe.grad_accumulation_steps
                self.accelerator.backward(part)
            loss += part.detach()
        mean_loss = cast(Tensor, self.accelerator.reduce(loss, "mean")).item()
        norm = self.accelerator.clip_grad_norm_(self.unet.parameters(), MAX_GRADIENT_NORM)
        loop.check_finite(
            mean_loss,
            float(norm) if norm is not None else 0.0,
            step=self.step + 1,
            scaled=self.accelerator.scaler is not None,
        )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.step(self.unet.parameters())
        self.step += 1
        self.seconds += time.monotonic() - began
        return mean_loss

    def _gradients_shared(self, last: bool) -> AbstractContextManager[Any]:
        """Processes exchange gradients once a step, in its last backward pass."""
        return nullcontext() if last else self.accelerator.no_sync(self.unet)

    def _pictures(self, micro: int) -> tuple[Tensor, Tensor, Tensor]:
        """`(x0, eps, t)` of one forward pass of this process in this step."""
        recipe = self.recipe
        generator = loop.step_generator(recipe.seed, self.step)
        everything = recipe.pictures_per_step
        places = loop.batch_indices(len(self._shown), everything, recipe.seed, self.step)
        chosen = self._shown[places]
        timesteps = loop.stratified_timesteps(everything, len(self.alpha_bar), generator)
        mirrored = torch.rand(everything, generator=generator) < (0.5 if recipe.flip else 0.0)
        rank = micro * recipe.num_processes + self.accelerator.process_index
        slots = torch.arange(rank * recipe.batch_size, (rank + 1) * recipe.batch_size)
        # Layers with dropout draw from the global state, which a resumed run must find again.
        torch.manual_seed((recipe.seed * 1_000_003 + self.step) * 1009 + rank)
        grounds = draw_grounds(everything, generator)[slots]
        turns, lots = torch.rand(2, everything, generator=generator)[:, slots]
        if recipe.recolor:
            turns = self.train.allowed_turns(chosen[slots], turns)
        turns = torch.where(lots < recipe.recolor, turns, 0.0)
        x0 = self._x0(self.train.take(chosen[slots]), grounds, turns)
        flips = mirrored[slots].to(self.device).view(-1, 1, 1, 1)
        x0 = torch.where(flips, x0.flip(-1), x0)
        eps = loop.slot_noise(recipe.seed, self.step, slots, x0.shape[1:], self.device)
        return x0, eps, timesteps[slots].to(self.device)

    def _x0(self, pixels: Tensor, grounds: Tensor, turns: Tensor) -> Tensor:
        """`(b, c, h, w)` in [-1, 1] on the device; transparent ones turned and on `grounds`."""
        pixels = pixels.to(self.device)
        if self.recipe.grounds == "white":  # as the data was read
            return images.from_uint8(pixels)
        if turns.any():
            pixels = turned(pixels, turns.to(self.device))
        return laid_on(pixels, grounds.to(self.device))

    def _loss(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = self._levels(t)
        output = self.unet(alpha * x0 + sigma * eps, t).sample
        target = loop.training_target(x0, eps, alpha, sigma, self.prediction)
        weights = loop.loss_weights(self.alpha_bar[t], self.prediction, self.recipe.snr_gamma)
        return (weights * (output.float() - target).square().mean(dim=(1, 2, 3))).mean()

    def _levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Signal and noise level of each timestep, `(b, 1, 1, 1)` each."""
        alpha_bar = self.alpha_bar[t].view(-1, 1, 1, 1)
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    def averaged(self) -> UNet2DModel:
        """The network with the averaged weights, for use and not for training."""
        self.ema.copy_to(self._averaged.parameters())
        return self._averaged

    def validate(self, timesteps: Sequence[int] = VALIDATION_TIMESTEPS) -> dict[int, float]:
        """Mean squared error of the predicted x0 in [-1, 1], per timestep, on held-out pictures."""
        if not len(self.validation):
            return {}
        unet = self.averaged()
        count = len(self.validation)
        generator = torch.Generator().manual_seed(1)
        eps_shape = (count, *self._shape())
        eps = torch.randn(eps_shape, generator=generator).to(self.device)
        pixels, grounds = self.validation.take(torch.arange(count)), draw_grounds(count, generator)
        x0 = self._x0(pixels, grounds, torch.zeros(count))
        levels = [t for t in timesteps if t < len(self.alpha_bar)]
        return {level: self._x0_error(unet, x0, eps, level) for level in levels}

    @torch.no_grad()
    def _x0_error(self, unet: UNet2DModel, x0: Tensor, eps: Tensor, level: int) -> float:
        errors = []
        for clean, noise in zip(
            x0.split(VALIDATION_BATCH), eps.split(VALIDATION_BATCH), strict=True
        ):
            t = torch.full((len(clean),), level, device=self.device)
            alpha, sigma = self._levels(t)
            x_t = alpha * clean + sigma * noise
            found = predict_x0(unet(x_t, t).sample, x_t, alpha, sigma, self.prediction)
            errors.append(functional.mse_loss(found, clean, reduction="none").mean(dim=(1, 2, 3)))
        return torch.cat(errors).mean().item()

    def _shape(self) -> tuple[int, int, int]:
        """Of one picture: channels, height, width."""
        size = self.recipe.image_size
        return (self._averaged.config["in_channels"], size, size)

    def draw_samples(self, count: int = 16) -> Image.Image:
        """A sheet of unguided pictures with the averaged weights, always from the same noise."""
        pictures = [picture for part in self.draw(count) for picture in images.to_pil(part)]
        return images.grid(pictures, columns=SAMPLE_COLUMNS)

    def draw(self, count: int) -> Iterator[Tensor]:
        """So many unguided pictures `(b, c, h, w)` in [-1, 1], in parts; see `draw_samples`."""
        unet = self.averaged()
        for first in range(0, count, VALIDATION_BATCH):
            generators = image_generators(first, min(VALIDATION_BATCH, count - first))
            noise = draw_noise(generators, self._shape()).to(self.device)
            scheduler = make_schedule(
                self.scheduler.config,
                solver=SAMPLE_SOLVER,
                num_inference_steps=SAMPLE_STEPS,
                device=self.device,
            )
            *_, last = sampling.sample(
                lambda x_t, t: unet(x_t, t).sample,
                noise,
                scheduler,
                prediction_type=self.prediction,
            )
            yield last.x_prev
