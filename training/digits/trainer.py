"""One training run of a class-conditional digit model: its recipe, its steps, how it is judged."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler, ModelMixin
from diffusers.training_utils import EMAModel
from PIL import Image
from torch import Tensor
from torch.nn import functional

from pipelines.core import images
from pipelines.core.rules import MAX_SEED, Choice, Real, Whole
from pipelines.diffusion import sampling
from pipelines.diffusion.denoisers import classifier_free_guidance, predict_x0
from pipelines.diffusion.noise import draw_noise, image_generators
from pipelines.diffusion.solvers import make_schedule
from pipelines.diffusion.unets import CLASS_UNETS
from pipelines.products.settings import DigitsSettings
from training.core import loop
from training.core.data import Digits, hold_out
from training.core.loop import ADAM_BETAS, MAX_GRADIENT_NORM, Prediction, device_in_words

Conditioning = Literal["channels", "embedding", "cross-attention"]

NUM_CLASSES = 10
NULL_CLASS = NUM_CLASSES
IMAGE_SIZE = 28
NUM_TIMESTEPS = 1000
VALIDATION_TIMESTEPS = (100, 300, 500, 700, 900)
VALIDATION_PICTURES = 500
VALIDATION_BATCH = 100
SAMPLE_ROWS = 3

# Width and depth of each network; everything not named is the default of its class.
NETWORKS: dict[str, dict[str, Any]] = {
    "channels": {},
    "embedding": {
        "sample_size": IMAGE_SIZE,
        "in_channels": 1,
        "out_channels": 1,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (64, 96),
        "attention_head_dim": 96,
        "num_class_embeds": NUM_CLASSES + 1,
    },
    "cross-attention": {},
}

_RULES = {
    "conditioning": Choice(get_args(Conditioning)),
    "max_steps": Whole(1, 10_000_000),
    "batch_size": Whole(1, 60_000),
    "lr": Real(1e-8, 1.0),
    "warmup_steps": Whole(0, 10_000_000),
    "ema_decay": Real(0.0, 1.0),
    "label_dropout": Real(0.0, 1.0),
    "prediction": Choice(get_args(Prediction)),
    "snr_gamma": Real(0.0, 1e6),
    "seed": Whole(0, MAX_SEED),
}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights; saved with them.

    Attributes:
        conditioning: how the network learns of the label.
        dataset_name: Hub id or folder.
        max_steps: optimizer steps; one step is one batch.
        batch_size: pictures per step; larger learns less per picture, smaller less per second.
        lr: peak learning rate of AdamW; halve it if the loss jumps.
        warmup_steps: steps to reach it.
        ema_decay: of the averaged weights that are saved; nearer to 1 for longer runs.
        label_dropout: share of labels replaced by the null class, for classifier-free guidance.
        prediction: what the network predicts: epsilon, v_prediction or sample.
        snr_gamma: min-SNR clamp, 0 is off.
        seed: of everything random.

    Raises:
        ValueError: one sentence on the first value that is wrong.
    """

    conditioning: Conditioning
    dataset_name: str
    max_steps: int
    batch_size: int
    lr: float
    warmup_steps: int
    ema_decay: float
    label_dropout: float
    prediction: Prediction
    snr_gamma: float
    seed: int

    def __post_init__(self) -> None:
        for name, rule in _RULES.items():
            rule.check(name, getattr(self, name))

    def check_same(self, saved: Mapping[str, Any]) -> None:
        """Refuses to go on from a run of another recipe.

        Raises:
            ValueError: naming what differs.
        """
        differing = [f.name for f in fields(self) if saved.get(f.name) != getattr(self, f.name)]
        if differing:
            raise ValueError(
                "output must be an empty folder or one of the same recipe, "
                f"got a run with another {', '.join(differing)}"
            )


def noise_scheduler(prediction: Prediction) -> DDPMScheduler:
    """The course's schedule for digits: 1,000 steps, cosine."""
    return DDPMScheduler(
        num_train_timesteps=NUM_TIMESTEPS,
        beta_schedule="squaredcos_cap_v2",
        prediction_type=prediction,
    )


def make_network(conditioning: Conditioning) -> ModelMixin:
    """A new network; its weights come from the global random state."""
    return CLASS_UNETS[conditioning](**NETWORKS[conditioning])


def check_digits(data: Digits) -> None:
    """Refuses data that the networks here are not made for.

    Raises:
        ValueError: unless pictures are 28x28 and labels 0 to 9.
    """
    height, width = data.pixels.shape[2:]
    low, high = int(data.labels.min()), int(data.labels.max())
    if (height, width) != (IMAGE_SIZE, IMAGE_SIZE) or low < 0 or high >= NUM_CLASSES:
        raise ValueError(
            f"data must be pictures of {IMAGE_SIZE}x{IMAGE_SIZE} px labelled 0 to "
            f"{NUM_CLASSES - 1}, got {width}x{height} px labelled {low} to {high}"
        )


class Trainer:
    """One run: network, averaged weights, optimizer, and the step it is at.

    Attributes:
        recipe: what decides the weights.
        step: optimizer steps done.
        seconds: spent in them, over all restarts.
        trained_on: the device the run began on, in words.
    """

    def __init__(self, recipe: Recipe, data: Digits, accelerator: Accelerator):
        check_digits(data)
        self.recipe = recipe
        self.device = accelerator.device
        self.trained_on = device_in_words(accelerator)
        self.accelerator = accelerator
        self.train, self.validation = hold_out(data, VALIDATION_PICTURES)
        self.scheduler = noise_scheduler(recipe.prediction)
        self.alpha_bar = self.scheduler.alphas_cumprod.to(self.device)  # (1000,)
        torch.manual_seed(recipe.seed)
        unet = make_network(recipe.conditioning).to(self.device)
        self.ema = EMAModel(unet.parameters(), decay=recipe.ema_decay, foreach=True)
        optimizer = torch.optim.AdamW(unet.parameters(), lr=recipe.lr, betas=ADAM_BETAS)
        self.unet, self.optimizer = accelerator.prepare(unet, optimizer)
        self.step = 0
        self.seconds = 0.0

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as plain data and tensors."""
        return {
            "recipe": asdict(self.recipe),
            "step": self.step,
            "seconds": self.seconds,
            "trained_on": self.trained_on,
            "unet": self.accelerator.unwrap_model(self.unet).state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
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
        self.step, self.seconds = state["step"], state["seconds"]
        self.trained_on = state.get("trained_on", self.trained_on)

    def train_step(self) -> float:
        """One optimizer step; returns the loss.

        Raises:
            FloatingPointError: if the loss or its gradient is not finite; no weight has changed.
        """
        began = time.monotonic()
        loop.set_learning_rate(self.optimizer, self.step, self.recipe)
        loss = self._loss(loop.step_generator(self.recipe.seed, self.step))
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self.unet.parameters(), MAX_GRADIENT_NORM)
        loop.check_finite(
            loss.item(),
            float(norm) if norm is not None else 0.0,
            step=self.step + 1,
            scaled=self.accelerator.scaler is not None,
        )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.step(self.unet.parameters())
        self.step += 1
        self.seconds += time.monotonic() - began
        return loss.item()

    def _loss(self, generator: torch.Generator) -> Tensor:
        recipe = self.recipe
        chosen = loop.batch_indices(len(self.train), recipe.batch_size, recipe.seed, self.step)
        batch = self.train.select(chosen)
        x0 = images.from_uint8(batch.pixels)  # (b, 1, 28, 28)
        eps = torch.randn(x0.shape, generator=generator)
        t = loop.stratified_timesteps(recipe.batch_size, NUM_TIMESTEPS, generator)  # (b,)
        dropped = torch.rand(len(t), generator=generator) < recipe.label_dropout
        labels = torch.where(dropped, NULL_CLASS, batch.labels).to(self.device)
        x0, eps, t = x0.to(self.device), eps.to(self.device), t.to(self.device)
        alpha, sigma = self._levels(t)
        output = self.unet(alpha * x0 + sigma * eps, t, labels).sample
        target = loop.training_target(x0, eps, alpha, sigma, recipe.prediction)
        weights = loop.loss_weights(self.alpha_bar[t], recipe.prediction, recipe.snr_gamma)
        return (weights * (output.float() - target).square().mean(dim=(1, 2, 3))).mean()

    def _levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Signal and noise level of each timestep, `(b, 1, 1, 1)` each."""
        alpha_bar = self.alpha_bar[t].view(-1, 1, 1, 1)
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    def averaged(self) -> ModelMixin:
        """A copy of the network with the averaged weights, for use and not for training."""
        unet = make_network(self.recipe.conditioning).to(self.device)
        self.ema.copy_to(unet.parameters())
        return unet.eval().requires_grad_(False)

    def validate(self) -> dict[int, float]:
        """Mean squared error of the predicted x0 in [-1, 1], per timestep, on held-out pictures."""
        unet = self.averaged()
        x0 = images.from_uint8(self.validation.pixels).to(self.device)  # (n, 1, 28, 28)
        eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1)).to(self.device)
        return {level: self._x0_error(unet, x0, eps, level) for level in VALIDATION_TIMESTEPS}

    @torch.no_grad()
    def _x0_error(self, unet: ModelMixin, x0: Tensor, eps: Tensor, level: int) -> float:
        t = torch.full((len(x0),), level, device=self.device)  # (n,)
        labels = self.validation.labels.to(self.device)
        alpha, sigma = self._levels(t)
        x_t = alpha * x0 + sigma * eps
        batches = zip(*(values.split(VALIDATION_BATCH) for values in (x_t, t, labels)), strict=True)
        output = torch.cat([unet(*batch).sample for batch in batches])
        found = predict_x0(output, x_t, alpha, sigma, self.recipe.prediction)
        return functional.mse_loss(found, x0).item()

    def draw_samples(self) -> Image.Image:
        """Three rows of 0-9 at the app's default settings, crisp, always from the same noise."""
        settings = DigitsSettings()
        wanted = torch.arange(NUM_CLASSES).repeat(SAMPLE_ROWS)  # (30,)
        labels = functional.one_hot(wanted, NUM_CLASSES + 1).float().to(self.device)
        generators = image_generators(0, len(wanted))
        noise = draw_noise(generators, (1, IMAGE_SIZE, IMAGE_SIZE)).to(self.device)
        *_, last = sampling.sample(
            classifier_free_guidance(self.averaged(), labels, settings.cfg_scale),
            noise,
            make_schedule(
                self.scheduler.config,
                solver=settings.solver,
                num_inference_steps=settings.num_inference_steps,
                device=self.device,
            ),
            prediction_type=self.recipe.prediction,
        )
        return images.grid(images.to_pil(last.x_prev), columns=NUM_CLASSES, scale=3)
