"""Draws what sentences say: unguided, guided by CLIP, and with a conditional network.

The same seeds everywhere, so that the pictures of two ways differ in nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from benchmarks.text import Lab, name_of
from pipelines.core import devices
from pipelines.diffusion import sampling
from pipelines.diffusion.denoisers import Cfg, denoiser, unconditional
from pipelines.diffusion.noise import draw_noise, seeded
from pipelines.diffusion.schedules import Schedule
from pipelines.diffusion.solvers import make_schedule
from pipelines.models import checkpoints
from pipelines.models.word_features import Reader
from pipelines.products.settings import TextSettings
from training.core.state import load_state
from training.pictures import start_models
from training.pictures.recipe import Recipe
from training.words.runs import take_clip

SOLVER = "dpm++"


@dataclass(frozen=True)
class WordsModel:
    """A network that is told words.

    Attributes:
        name: of the checkpoint or the run.
        unet: on the device, frozen, in evaluation mode.
        scheduler_config: configuration for `solvers.make_schedule`.
        reader: makes the network's inputs.
        about: its weights in a few words.
    """

    name: str
    unet: nn.Module
    scheduler_config: Mapping[str, Any]
    reader: Reader
    about: str


def load_model(key: str) -> WordsModel:
    """Returns a checkpoint that is told words.

    Raises:
        ValueError: if it is unknown or unconditional.
        CheckpointError: if its files are missing or damaged.
    """
    loaded = checkpoints.load(key)
    if loaded.reader is None:
        raise ValueError(f"model must be a checkpoint that is told words, got {key!r}")
    config = loaded.scheduler_config
    return WordsModel(key, loaded.unet, config, loaded.reader, f"weights {loaded.revision}")


def load_run(folder: Path) -> WordsModel:
    """Returns the averaged weights of a training run, finished or not.

    Raises:
        ValueError: if the folder holds no run of a model that is told words.
    """
    state = load_state(folder)
    recipe = Recipe.from_saved(state["recipe"]) if state else None
    if state is None or recipe is None or not recipe.conditions:
        raise ValueError(f"run must be the folder of a run that is told words, got {folder}")
    unet, scheduler = start_models.rebuilt(state)
    unet.load_state_dict(state["unet"])
    averaged = EMAModel(unet.parameters())
    averaged.load_state_dict(state["ema"])
    averaged.copy_to(unet.parameters())
    network = cast(nn.Module, unet.eval().requires_grad_(False))
    reader = Reader(take_clip(folder, recipe.clip_model), recipe.features)
    seen = state["step"] * recipe.pictures_per_step
    about = f"averaged weights after {seen:,} pictures"
    return WordsModel(
        folder.name, network.to(devices.device()), dict(scheduler.config), reader, about
    )


@dataclass(frozen=True)
class Conditioned:
    """A way to draw with a conditional network.

    Attributes:
        cfg_scale: of classifier-free guidance; 1 is off.
        from_sibling: whether the unconditional model stands for the null, not the network itself.
        start: share of the steps after which guidance begins.
        stop: share of the steps after which it ends.
        num_inference_steps: number of denoising steps.
    """

    cfg_scale: float
    from_sibling: bool = False
    start: float = 0.0
    stop: float = 1.0
    num_inference_steps: int = 20

    @property
    def name(self) -> str:
        """Its name in tables."""
        null = ", null of `emoji`" if self.from_sibling else ""
        during = f", at {self.start:.0%} to {self.stop:.0%} of the steps"
        during = "" if (self.start, self.stop) == (0, 1) else during
        return f"conditioned, CFG {self.cfg_scale:g}{null}{during}"

    def cfg(self, schedule: Schedule) -> Cfg:
        """Returns the guidance in timesteps; it is off where no step is left."""
        first, end = (round(share * len(schedule)) for share in (self.start, self.stop))
        timesteps = schedule.timesteps.tolist()[first:end]
        return Cfg(self.cfg_scale, timesteps[0], timesteps[-1]) if timesteps else Cfg()


@dataclass(frozen=True)
class Unguided:
    """The unconditional model without words, with solver and steps of some settings."""

    settings: TextSettings
    name: str = "unguided"


@dataclass(frozen=True)
class Guided:
    """The unconditional model, guided by CLIP."""

    settings: TextSettings

    @property
    def name(self) -> str:
        """Its name in tables."""
        return f"guided by CLIP, {name_of(self.settings)}"


Way = Unguided | Guided | Conditioned


@dataclass
class Cost:
    """What pictures cost.

    Attributes:
        pictures: number of finished pictures.
        evaluations: pictures that went through a network.
        differentiated: those of them that were differentiated, which costs about two more each.
        seconds: of all together.
    """

    pictures: int = 0
    evaluations: int = 0
    differentiated: int = 0
    seconds: float = 0.0

    def describe(self) -> str:
        """Returns the evaluations of one picture, those with a gradient apart."""
        if not self.pictures:
            return ""
        passes, back = self.evaluations / self.pictures, self.differentiated / self.pictures
        return f"{passes:.0f}" + (f" + {back:.0f} back" if back else "")


class Studio:
    """Draws sentences in any way; keeps the pictures, so that no one is drawn twice.

    Args:
        model: the conditional network.
        lab: the unconditional model and the CLIP that guides it.
        seed: of the first picture of each sentence.
    """

    def __init__(self, model: WordsModel, lab: Lab, seed: int):
        self.model, self.lab, self.seed = model, lab, seed
        self.costs: dict[str, Cost] = {}
        self._drawn: dict[tuple[str, str, int], Tensor] = {}

    def draw(self, way: Way, text: str, num_images: int) -> Tensor:
        """Returns pictures of a sentence, `(n, 3, h, w)` in [-1, 1]."""
        key = (way.name, "" if isinstance(way, Unguided) else text, num_images)
        if key not in self._drawn:
            cost = self.costs.setdefault(way.name, Cost())
            with counted((self.model.unet, self.lab.loaded.unet), cost):
                self._drawn[key] = self._new(way, text, num_images).cpu()
            cost.pictures += num_images
        return self._drawn[key]

    def _new(self, way: Way, text: str, num_images: int) -> Tensor:
        if isinstance(way, Conditioned):
            return self._conditioned(way, [text] * num_images)
        self.lab.num_images = num_images
        if isinstance(way, Guided):
            return self.lab.guided(way.settings, text)
        run = self.lab.run(replace(way.settings, seed=self.seed, num_images=num_images))
        *_, last = run.unguided().steps()
        return last.x_prev.clamp(-1, 1)

    def _conditioned(self, way: Conditioned, texts: Sequence[str]) -> Tensor:
        model, device = self.model, next(self.model.unet.parameters()).device
        schedule = make_schedule(
            model.scheduler_config,
            solver=SOLVER,
            num_inference_steps=way.num_inference_steps,
            device=device,
        )
        size = self.lab.loaded.checkpoint.size_px
        noise = draw_noise(seeded([self.seed + i for i in range(len(texts))]), (3, size, size))
        condition = model.reader.condition(texts).to(device)
        null = unconditional(self.lab.loaded.unet) if way.from_sibling else None
        *_, last = sampling.sample(
            denoiser(model.unet, condition, way.cfg(schedule), null),
            noise.to(device),
            schedule,
            prediction_type=model.scheduler_config["prediction_type"],
        )
        return last.x_prev.clamp(-1, 1)


@contextmanager
def counted(networks: Sequence[nn.Module], cost: Cost) -> Iterator[None]:
    """Adds to the cost what networks do, and how long it takes."""

    def count(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        sample = output[0] if isinstance(output, tuple) else output.sample
        cost.evaluations += len(inputs[0])
        cost.differentiated += len(inputs[0]) * int(sample.requires_grad)

    hooks = [network.register_forward_hook(count) for network in networks]
    began = time.perf_counter()
    try:
        yield
    finally:
        cost.seconds += time.perf_counter() - began
        for hook in hooks:
            hook.remove()
