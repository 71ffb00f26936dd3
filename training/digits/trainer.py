"""Trains a class-conditional digit model: its network, its loss, and how it is judged."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler, ModelMixin
from PIL import Image
from torch import Tensor
from torch.nn import functional

from pipelines.core import images
from pipelines.diffusion import sampling
from pipelines.diffusion.denoisers import classifier_free_guidance
from pipelines.diffusion.noise import draw_noise, image_generators
from pipelines.diffusion.solvers import make_schedule
from pipelines.diffusion.unets import CLASS_UNETS
from pipelines.products.settings import DigitsSettings
from training.core.batches import batch_indices, step_generator
from training.core.data import hold_out
from training.core.fingerprint import fingerprint
from training.core.objective import (
    VALIDATION_TIMESTEPS,
    Objective,
    Prediction,
    report_x0_errors,
    stratified_timesteps,
)
from training.core.reporting import Reporter
from training.core.trainer import ADAM_BETAS, BaseTrainer
from training.digits.data import Digits
from training.digits.recipe import Conditioning, Recipe

NUM_CLASSES = 10
NULL_CLASS = NUM_CLASSES
IMAGE_SIZE = 28
NUM_TIMESTEPS = 1000
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


def noise_scheduler(prediction: Prediction) -> DDPMScheduler:
    """Returns the course's schedule for digits: 1,000 steps, cosine."""
    return DDPMScheduler(
        num_train_timesteps=NUM_TIMESTEPS,
        beta_schedule="squaredcos_cap_v2",
        prediction_type=prediction,
    )


def make_network(conditioning: Conditioning) -> ModelMixin:
    """Makes a new network; its weights come from the global random state."""
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


class Trainer(BaseTrainer[Recipe, ModelMixin]):
    """Trains a network on pictures and labels, some of which are left out."""

    def __init__(self, recipe: Recipe, data: Digits, accelerator: Accelerator):
        check_digits(data)
        self.train, self.validation = hold_out(data, VALIDATION_PICTURES)
        self.scheduler = noise_scheduler(recipe.prediction)
        alpha_bar = self.scheduler.alphas_cumprod.to(accelerator.device)  # (1000,)
        self.objective = Objective(alpha_bar, recipe.prediction, recipe.snr_gamma)
        torch.manual_seed(recipe.seed)
        unet = make_network(recipe.conditioning).to(accelerator.device)
        optimizer = torch.optim.AdamW(unet.parameters(), lr=recipe.lr, betas=ADAM_BETAS)
        super().__init__(recipe, unet, optimizer, accelerator)

    @property
    def unet(self) -> Any:
        """The network that is trained."""
        return self.network

    def describe_data(self) -> str:
        parts = (self.train, self.validation)
        tensors = (tensor for part in parts for tensor in (part.pixels, part.labels))
        return fingerprint(sum(map(len, parts)), *tensors)

    def pass_loss(self, number: int) -> Tensor:
        recipe, generator = self.recipe, step_generator(self.recipe.seed, self.step)
        indices = batch_indices(len(self.train), recipe.batch_size, recipe.seed, self.step)
        batch = self.train.select(indices)
        x0 = images.from_uint8(batch.pixels)  # (b, 1, 28, 28)
        eps = torch.randn(x0.shape, generator=generator)
        t = stratified_timesteps(recipe.batch_size, NUM_TIMESTEPS, generator)  # (b,)
        dropped = torch.rand(len(t), generator=generator) < recipe.label_dropout
        labels = torch.where(dropped, NULL_CLASS, batch.labels).to(self.device)
        x0, eps, t = x0.to(self.device), eps.to(self.device), t.to(self.device)
        output = self.network(self.objective.noised(x0, eps, t), t, labels).sample
        return self.objective.loss(output, x0, eps, t)

    def validate(self) -> dict[int, float]:
        """Returns the mean squared error of the predicted x0 per timestep, on held-out pictures."""
        if self.data_changed:
            return {}
        unet: Any = self.averaged()
        labels = self.validation.labels.to(self.device)
        x0 = images.from_uint8(self.validation.pixels).to(self.device)  # (n, 1, 28, 28)
        eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1)).to(self.device)

        def predict(x_t: Tensor, t: Tensor, rows: Tensor) -> Tensor:
            return unet(x_t, t, labels[rows]).sample

        error = self.objective.x0_error
        return {
            level: error(predict, x0, eps, level, batch_size=VALIDATION_BATCH)
            for level in VALIDATION_TIMESTEPS
        }

    def judge(self, reporter: Reporter) -> dict[str, Any]:
        """Reports errors on held-out pictures and a sheet of samples; returns the errors."""
        figures = report_x0_errors(self.validate(), reporter, self.step)
        reporter.picture("samples", self.draw_samples(), self.step)
        return figures

    def draw_samples(self) -> Image.Image:
        """Draws three rows of 0-9 at the app's default settings, always from the same noise."""
        settings = DigitsSettings()
        digits = torch.arange(NUM_CLASSES).repeat(SAMPLE_ROWS)  # (30,)
        labels = functional.one_hot(digits, NUM_CLASSES + 1).float().to(self.device)
        generators = image_generators(0, len(digits))
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
