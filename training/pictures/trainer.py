"""Trains an unconditional model of pictures: its loss, and how it is judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler, UNet2DModel
from PIL import Image
from torch import Tensor

from pipelines.core import images
from pipelines.diffusion import sampling
from pipelines.diffusion.denoisers import Predictor
from pipelines.diffusion.noise import draw_noise, image_generators
from pipelines.diffusion.solvers import make_schedule
from training.core.backgrounds import composited, draw_backgrounds, hue_rotated
from training.core.batches import batch_indices, slot_noise, step_generator
from training.core.data import hold_out
from training.core.objective import (
    VALIDATION_TIMESTEPS,
    Objective,
    report_x0_errors,
    stratified_timesteps,
)
from training.core.reporting import Reporter
from training.core.trainer import (
    ADAM_BETAS,
    BaseTrainer,
)
from training.pictures import start_models
from training.pictures.data import Pictures
from training.pictures.recipe import Recipe, num_held_out, steps_per_epoch

VALIDATION_BATCH = 32
SAMPLE_SOLVER = "dpm++"
SAMPLE_STEPS = 20
SAMPLE_COLUMNS = 8
NUM_JUDGED = 16
"""Pictures on the sheet that a judgement draws."""


def focus_repeated(focused: Tensor) -> Tensor:
    """Returns the numbers of the pictures of an epoch, about half of them of those in focus.

    Args:
        focused: which of the pictures are, `(n,)` bool.

    Returns:
        `(m,)` int64, m >= n; none is left out.
    """
    often = focused.nonzero()[:, 0]
    others = len(focused) - len(often)
    times = max(1, round(others / max(1, len(often))))
    return torch.cat([torch.arange(len(focused)), often.repeat(times - 1)])


class Trainer(BaseTrainer[Recipe, UNet2DModel]):
    """Trains an unconditional network.

    Everything random in a step comes from its number and from the slot of each picture in it, so
    a run gives the same weights (to rounding) however its steps are divided into processes and
    forward passes.

    Attributes:
        started_from: what is known of the start model's own training.
        left_out: files of the folders that are not used, by reason.
        num_captions: pictures of the folders that have a caption.
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
        self.train, self.validation = hold_out(data, num_held_out(len(data)))
        self._data = data
        self.left_out, self.num_captions = data.left_out, data.num_captions
        self.skipped, self.enlarged = data.skipped, data.enlarged
        steps_per_epoch(recipe, len(data))  # or refused
        self._order = focus_repeated(self.train.focused)
        self.scheduler = scheduler
        alpha_bar = scheduler.alphas_cumprod.to(accelerator.device)  # (num_timesteps,)
        self.objective = Objective(alpha_bar, recipe.prediction, recipe.snr_gamma)
        self.started_from = start_models.lineage(recipe.start_model)
        unet.train().requires_grad_(True).to(accelerator.device)
        groups = self._parameter_groups(unet, recipe)
        optimizer = torch.optim.AdamW(groups, lr=recipe.lr, betas=ADAM_BETAS, fused=True)
        super().__init__(recipe, unet, optimizer, accelerator)

    def _parameter_groups(self, unet: UNet2DModel, recipe: Recipe) -> list[dict[str, Any]]:
        """Returns the weights that are trained, as the optimizer takes them."""
        return [{"params": list(unet.parameters())}]

    @property
    def unet(self) -> UNet2DModel:
        """The network that is trained."""
        return self.network

    @property
    def passes(self) -> int:
        return self.recipe.grad_accumulation_steps

    def describe_data(self) -> str:
        return self._data.fingerprint()

    def extra_state(self) -> dict[str, Any]:
        configs = start_models.configs(self._averaged, self.scheduler)
        return {"started_from": self.started_from, **configs}

    def restore_extra(self, state: Mapping[str, Any]) -> None:
        self.started_from = state.get("started_from", self.started_from)

    def pass_loss(self, number: int) -> Tensor:
        return self._loss(*self._examples(number))

    def _examples(self, micro: int) -> tuple[Tensor, Tensor, Tensor, Mapping[str, Tensor]]:
        """Returns `(x0, eps, t)` of one forward pass of this process in this step, and the
        network's inputs besides."""
        recipe = self.recipe
        generator = step_generator(recipe.seed, self.step)
        step_size = recipe.pictures_per_step
        indices = self._chosen(generator)
        timesteps = stratified_timesteps(step_size, len(self.objective.alpha_bar), generator)
        mirrored = torch.rand(step_size, generator=generator) < (0.5 if recipe.flip else 0.0)
        rank = micro * recipe.num_processes + self.accelerator.process_index
        slots = torch.arange(rank * recipe.batch_size, (rank + 1) * recipe.batch_size)
        # Layers with dropout draw from the global state, which a resumed run must find again.
        torch.manual_seed((recipe.seed * 1_000_003 + self.step) * 1009 + rank)
        backgrounds = draw_backgrounds(step_size, generator)[slots]
        turns, lots = torch.rand(2, step_size, generator=generator)[:, slots]
        if recipe.recolor:
            turns = self.train.allowed_turns(indices[slots], turns)
        turns = torch.where(lots < recipe.recolor, turns, 0.0)
        x0, inputs = self._shown(slots, indices[slots], backgrounds, turns)
        flips = mirrored[slots].to(self.device).view(-1, 1, 1, 1)
        x0 = torch.where(flips, x0.flip(-1), x0)
        eps = slot_noise(recipe.seed, self.step, slots, x0.shape[1:], self.device)
        return x0, eps, timesteps[slots].to(self.device), inputs

    def _shown(
        self, slots: Tensor, indices: Tensor, backgrounds: Tensor, turns: Tensor
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Returns the pictures of some slots of this step, and the network's inputs besides.

        Args:
            slots: `(b,)` int64.
            indices: the pictures' numbers, `(b,)` int64.
            backgrounds: behind transparent ones, `(b, 3, 1, 1)` in [-1, 1].
            turns: of their hues, `(b,)`.
        """
        return self._x0(self.train.take(indices), backgrounds, turns), {}

    def _chosen(self, generator: torch.Generator) -> Tensor:
        """Returns the numbers of the pictures of this step, `(pictures_per_step,)`."""
        step_size = self.recipe.pictures_per_step
        places = batch_indices(len(self._order), step_size, self.recipe.seed, self.step)
        return self._order[places]

    def _x0(self, pixels: Tensor, backgrounds: Tensor, turns: Tensor) -> Tensor:
        """Returns `(b, c, h, w)` in [-1, 1]; transparent ones hue-rotated and on `backgrounds`."""
        pixels = pixels.to(self.device)
        if self.recipe.grounds == "white":  # as the data was read
            return images.from_uint8(pixels)
        if turns.any():
            pixels = hue_rotated(pixels, turns.to(self.device))
        return composited(pixels, backgrounds.to(self.device))

    def _loss(self, x0: Tensor, eps: Tensor, t: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        output = self.network(self.objective.noised(x0, eps, t), t, **inputs).sample
        return self.objective.loss(output, x0, eps, t)

    def validate(self, timesteps: Sequence[int] = VALIDATION_TIMESTEPS) -> dict[int, float]:
        """Returns the mean squared error of the predicted x0 per timestep, on held-out pictures."""
        if self.data_changed or not len(self.validation):
            return {}
        unet = self.averaged()
        count = len(self.validation)
        generator = torch.Generator().manual_seed(1)
        eps_shape = (count, *self.shape())
        eps = torch.randn(eps_shape, generator=generator).to(self.device)
        pixels = self.validation.take(torch.arange(count))
        x0 = self._x0(pixels, draw_backgrounds(count, generator), torch.zeros(count))
        error = self.objective.x0_error
        return {
            level: error(
                lambda x_t, t, rows: unet(x_t, t, **self.inputs_for(rows)).sample,
                x0,
                eps,
                level,
                batch_size=VALIDATION_BATCH,
            )
            for level in timesteps
            if level < len(self.objective.alpha_bar)
        }

    def inputs_for(self, rows: Tensor) -> Mapping[str, Tensor]:
        """Returns the network's inputs besides, for held-out pictures `(b,)` int64."""
        return {}

    def judge(self, reporter: Reporter) -> dict[str, Any]:
        """Reports errors on held-out pictures and a sheet of samples; returns the errors."""
        figures = report_x0_errors(self.validate(), reporter, self.step)
        reporter.picture("samples", self.draw_samples(), self.step)
        return figures

    def predictor(self, unet: UNet2DModel, numbers: Tensor) -> Predictor:
        """Returns what draws the samples of those numbers, `(b,)` int64."""
        return lambda x_t, t: unet(x_t, t).sample

    def shape(self) -> tuple[int, int, int]:
        """Returns channels, height and width of a picture."""
        size = self.recipe.image_size
        return (self._averaged.config["in_channels"], size, size)

    def draw_samples(self, count: int = NUM_JUDGED) -> Image.Image:
        """Draws a sheet of unguided pictures with the averaged weights, from the same noise."""
        pictures = [picture for part in self.draw(count) for picture in images.to_pil(part)]
        return images.grid(pictures, columns=SAMPLE_COLUMNS)

    def draw(self, count: int) -> Iterator[Tensor]:
        """Draws so many unguided pictures `(b, c, h, w)` in [-1, 1], in parts."""
        unet = self.averaged()
        for first in range(0, count, VALIDATION_BATCH):
            generators = image_generators(first, min(VALIDATION_BATCH, count - first))
            noise = draw_noise(generators, self.shape()).to(self.device)
            scheduler = make_schedule(
                self.scheduler.config,
                solver=SAMPLE_SOLVER,
                num_inference_steps=SAMPLE_STEPS,
                device=self.device,
            )
            *_, last = sampling.sample(
                self.predictor(unet, torch.arange(first, first + len(noise))),
                noise,
                scheduler,
                prediction_type=self.objective.prediction,
            )
            yield last.x_prev
