"""Colour guidance: settings to a stream of guided pictures, each beside the unguided one."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from PIL import Image
from torch import Tensor

from pipelines import checkpoints, colorimetry, guidance, images, losses, sampling
from pipelines.settings import OFF, ColorSettings, palette_entries, validate

_REMEMBERED_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Preview:
    """The state of a run after one step.

    Attributes:
        pictures: one per image; the predicted clean picture, after the last step the result.
        unguided: the same of the same seeds without guidance.
        step: steps done, from 1.
        total_steps: steps of the run.
        seconds: since the run began.
        settings: as checked, with the seed that was drawn.
        model: key of the checkpoint.
        revision: of its weights.
        losses: per step done, one value per image: of what the network predicts.
        unguided_losses: the same without guidance.
        failed_steps: steps in which guidance left an image alone: its gradient was not finite.
        score_before: per unguided picture the distance to the target, see `score`.
        score_after: the same per guided picture.
    """

    pictures: list[Image.Image]
    unguided: list[Image.Image]
    step: int
    total_steps: int
    seconds: float
    settings: ColorSettings
    model: str
    revision: str
    losses: list[list[float]]
    unguided_losses: list[list[float]]
    failed_steps: list[int]
    score_before: list[float]
    score_after: list[float]

    @property
    def finished(self) -> bool:
        return self.step == self.total_steps


def region_of(settings: ColorSettings, size_px: int) -> Tensor | None:
    """The mask `(h, w)` of the part that the colour is for; None is all."""
    if settings.mask:
        return _read_mask(settings.mask, size_px)
    return losses.region_mask(settings.region, size_px, size_px)


@lru_cache(maxsize=4)  # it is asked for in every step, by every picture's score
def _read_mask(address: str, size_px: int) -> Tensor:
    """`(h, w)`, 1 at its brightest, so that a spot smaller than a pixel still counts."""
    mask = losses.resized_mask(images.to_mask(images.from_data_uri(address)), size_px, size_px)
    return mask / mask.amax()


def color_loss(settings: ColorSettings, size_px: int) -> losses.Loss:
    """The loss of the colour, or of the palette in its place."""
    color = images.color_to_tensor(settings.color)  # (3,)
    if settings.method == "course" or settings.loss == "pixels":
        return losses.TargetColor(color)
    mask = region_of(settings, size_px)
    if not settings.palette:
        return losses.MeanColor(color, mask)
    entries = palette_entries(settings.palette)
    colors = torch.stack([images.color_to_tensor(color) for color, _ in entries])  # (k, 3)
    return losses.Palette(colors, torch.tensor([share for _, share in entries]), mask)


def terms_of(settings: ColorSettings, size_px: int) -> list[losses.Term]:
    """Everything that the picture is pulled towards; the colour has the last word."""
    extras: list[losses.Loss] = []
    if settings.symmetry != "none":
        extras.append(losses.Symmetry(settings.symmetry))
    if settings.contrast != OFF:
        extras.append(losses.Contrast(2 * settings.contrast))  # [0, 1] to [-1, 1]
    if settings.brightness != OFF:
        extras.append(losses.Brightness(2 * settings.brightness - 1))
    weighted = [losses.Term(loss, settings.extras_weight) for loss in extras]
    return [*weighted, losses.Term(color_loss(settings, size_px))]


def score(picture: Image.Image, settings: ColorSettings) -> float:
    """How far a picture is from its target.

    CIEDE2000 of the mean colour (of the region) to the wanted one; for a palette, the root of its
    loss in steps of 255.
    """
    if settings.palette:
        pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
        pixels = pixels.view(1, picture.height, picture.width, 3).permute(0, 3, 1, 2)
        loss = color_loss(settings, picture.width)(images.from_uint8(pixels))
        return float(loss.sqrt()) * 127.5
    found = images.mean_rgb(picture, region_of(settings, picture.width))
    return colorimetry.difference(found, images.parse_color(settings.color))


def mean_color(picture: Image.Image, settings: ColorSettings) -> str:
    """The mean colour of the picture, or of the region, as `#RRGGBB`."""
    found = images.mean_rgb(picture, region_of(settings, picture.width))
    return images.to_hex([round(value) for value in found])


def generate(settings: ColorSettings) -> Iterator[Preview]:
    """Draws guided and unguided pictures of the same seeds, yielding once per step.

    Raises:
        ValueError: if a setting is wrong; raised at once, before any step.
        CheckpointError: if the checkpoint cannot be loaded; likewise.
    """
    settings = validate(settings)
    loaded = checkpoints.load(settings.model)
    return _generate(settings, loaded)


def _generate(settings: ColorSettings, loaded: checkpoints.Loaded) -> Iterator[Preview]:
    began = time.monotonic()
    run = _Run(settings, loaded)
    for guided, unguided in zip(run.guided(), run.unguided(), strict=True):
        run.note(guided, unguided)
        last = guided.index + 1 == guided.total
        pictures = images.to_pil(guided.x_prev if last else guided.x0)
        plain = images.to_pil(unguided.x0)
        yield Preview(
            pictures=pictures,
            unguided=plain,
            step=guided.index + 1,
            total_steps=guided.total,
            seconds=time.monotonic() - began,
            settings=settings,
            model=loaded.checkpoint.key,
            revision=loaded.revision,
            losses=list(run.losses),
            unguided_losses=list(run.unguided_losses),
            failed_steps=list(run.failed_steps),
            score_before=[score(picture, settings) for picture in plain],
            score_after=[score(picture, settings) for picture in pictures],
        )


@dataclass(frozen=True)
class _Plain:
    """One step of an unguided run, as it is remembered.

    Attributes:
        x0: `(b, c, h, w)`, the predicted clean images; after the last step the result.
        x0_network: `(b, c, h, w)`, not clamped.
    """

    x0: Tensor
    x0_network: Tensor


@dataclass
class _Run:
    """Both runs of the same noise, and what is noted of them."""

    settings: ColorSettings
    loaded: checkpoints.Loaded
    losses: list[list[float]] = field(default_factory=list)
    unguided_losses: list[list[float]] = field(default_factory=list)
    failed_steps: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.method = guidance.METHODS[self.settings.method]
        self.eta = self.method.eta if self.settings.eta == OFF else self.settings.eta
        self.terms = terms_of(self.settings, self.loaded.checkpoint.size_px)
        self._loss = losses.total(self.terms)

    def guided(self) -> Iterator[sampling.SampleStep]:
        settings = self.settings
        return self._sample(
            guidance.Guide(
                self.method,
                self.terms,
                settings.guidance_scale,
                start=settings.start,
                stop=settings.stop,
                every=settings.every,
                repeats=settings.repeats or None,
            )
        )

    def unguided(self) -> Iterator[_Plain]:
        """From memory if a run of the same seed and settings was finished before."""
        settings = self.settings
        key = (
            self.loaded.revision,
            self.method.solver,
            self.eta,
            settings.seed,
            settings.num_images,
            settings.num_inference_steps,
        )
        remembered = _memory.get(key)
        if remembered is not None:
            yield from remembered
            return
        steps: list[_Plain] = []
        for step in self._sample(None):
            last = step.index + 1 == step.total
            steps.append(_Plain(step.x_prev if last else step.x0, step.x0_network))
            if last:
                _memory.put(key, steps)
            yield steps[-1]

    def _sample(self, guide: guidance.Guide | None) -> Iterator[sampling.SampleStep]:
        settings, loaded = self.settings, self.loaded
        size_px = loaded.checkpoint.size_px
        device = next(loaded.unet.parameters()).device
        generators = sampling.image_generators(settings.seed, settings.num_images)
        noise = sampling.draw_noise(generators, (3, size_px, size_px))  # (b, 3, h, w)
        return sampling.sample(
            sampling.unconditional(loaded.unet),
            noise.to(device),
            sampling.make_scheduler(
                loaded.scheduler_config,
                solver=self.method.solver,
                num_inference_steps=settings.num_inference_steps,
                device=device,
            ),
            prediction_type=loaded.scheduler_config["prediction_type"],
            eta=self.eta,
            generators=generators,
            guide=guide,
        )

    def note(self, guided: sampling.SampleStep, unguided: _Plain) -> None:
        """Adds the losses of one step."""
        self.losses.append(self._loss(guided.x0_network).tolist())
        self.unguided_losses.append(self._loss(unguided.x0_network).tolist())
        if guided.failed is not None and bool(guided.failed.any()):
            self.failed_steps.append(guided.index + 1)


class _Memory:
    """The last unguided runs, so that moving a slider draws only the guided ones anew."""

    def __init__(self, max_bytes: int):
        self._max_bytes = max_bytes
        self._runs: OrderedDict[tuple, list[_Plain]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple) -> list[_Plain] | None:
        with self._lock:
            if key in self._runs:
                self._runs.move_to_end(key)
            return self._runs.get(key)

    def put(self, key: tuple, steps: list[_Plain]) -> None:
        with self._lock:
            self._runs[key] = steps
            while len(self._runs) > 1 and self._bytes() > self._max_bytes:
                self._runs.popitem(last=False)

    def _bytes(self) -> int:
        return sum(step.x0.nbytes * 2 for steps in self._runs.values() for step in steps)


_memory = _Memory(_REMEMBERED_BYTES)
