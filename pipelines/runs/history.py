"""What a run went through: moments to look back at, and frames of an animation."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace

import torch
from PIL import Image
from torch import Tensor

from pipelines.core import images
from pipelines.diffusion.sampling import SampleStep
from pipelines.diffusion.tensors import rms

MOST_MOMENTS = 10
MOST_FRAMES = 40
FRAME_MILLISECONDS = 90
_LAST_FRAME_MILLISECONDS = 1600
_SIDE_PX = 512  # of an animation, about

# From nothing through violet and orange to light yellow: brightness rises all the way, so that it
# can be read without seeing colours.
_HEAT = torch.tensor(
    [
        (0, 0, 4),
        (31, 12, 72),
        (85, 15, 109),
        (136, 34, 106),
        (186, 54, 85),
        (227, 89, 51),
        (249, 140, 10),
        (249, 201, 50),
        (252, 255, 164),
    ],
    dtype=torch.float32,
)


@dataclass(frozen=True)
class Moment:
    """One step of a run, to look back at; one picture per image in each list.

    Attributes:
        step: from 1.
        t: training timestep that the step started from, 999 is pure noise.
        noisy: what the step started from.
        predicted: the clean picture that the network saw in it, after the last step the result.
        change: what guidance changed in that, as a heat map.
    """

    step: int
    t: int
    noisy: list[Image.Image]
    predicted: list[Image.Image]
    change: list[Image.Image]


@dataclass
class History:
    """Grows with a run.

    Attributes:
        gradients: per step done, one value per image, see `SampleStep.gradient`; empty where the
            step was not guided.
        moments: filled when the run has ended.
        largest_change: the change that is brightest in the heat maps, of the whole range of a
            pixel: root mean square over the channels, 0 to 1.
        frames: the predicted pictures of some steps, `(b, c, h, w)` 8 bits each.
    """

    gradients: list[list[float]] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    largest_change: float = 0.0
    frames: list[Tensor] = field(default_factory=list)
    _kept: list[tuple[Moment, Tensor]] = field(default_factory=list)

    def add(self, step: SampleStep) -> None:
        """Takes note of a step; the last one completes the moments."""
        self.gradients.append([] if step.gradient is None else step.gradient.tolist())
        if step.index in spread(step.total, MOST_FRAMES):
            self.frames.append(images.to_uint8(step.preview.cpu()))
        if step.index in spread(step.total, MOST_MOMENTS):
            change = step.change.square().mean(dim=1).sqrt().cpu() / 2  # (b, h, w)
            self._kept.append((_seen_in(step), change))
        if step.index + 1 == step.total:
            self._complete()

    def _complete(self) -> None:
        self.largest_change = max(float(change.max()) for _, change in self._kept)
        for moment, change in self._kept:
            share = change / self.largest_change if self.largest_change else change
            heat_map = images.to_pil(images.from_uint8(heat(share)))
            self.moments.append(replace(moment, change=heat_map))
        self._kept.clear()


def _seen_in(step: SampleStep) -> Moment:
    """The moment without its heat map, for whose scale all steps must be known."""
    return Moment(
        step=step.index + 1,
        t=step.t,
        noisy=images.to_pil(_within_range(step)),
        predicted=images.to_pil(step.preview),
        change=[],
    )


def _within_range(step: SampleStep) -> Tensor:
    """Noise reaches beyond [-1, 1]; the noisier a picture, the more it is toned down to be seen."""
    noise = step.x_t - step.x0_network.clamp(-1, 1)
    return step.x_t / (2 * rms(noise)).clamp(1, 2)


def spread(total: int, most: int) -> list[int]:
    """Up to `most` of the numbers below `total`, evenly spread, the first and the last included."""
    if total <= most + 2:  # leaving out one or two would save nothing
        return list(range(total))
    return [round(i * (total - 1) / (most - 1)) for i in range(most)]


def heat(share: Tensor) -> Tensor:
    """A heat map, 8 bits, `(b, 3, h, w)`, of values `(b, h, w)` in [0, 1]."""
    place = share.clamp(0, 1) * (len(_HEAT) - 1)
    below = place.floor().long().clamp(max=len(_HEAT) - 2)
    part = (place - below)[..., None]
    colors = _HEAT[below] * (1 - part) + _HEAT[below + 1] * part  # (b, h, w, 3)
    return colors.round().to(torch.uint8).permute(0, 3, 1, 2)


def animation(history: History, *, columns: int) -> bytes:
    """A run as an animated WebP that repeats: the predicted pictures, resting on the result."""
    sheets = [_sheet(frame, columns) for frame in history.frames]
    waits = [FRAME_MILLISECONDS] * (len(sheets) - 1) + [_LAST_FRAME_MILLISECONDS]
    buffer = io.BytesIO()
    first, *others = sheets
    first.save(
        buffer,
        format="WEBP",
        save_all=True,
        append_images=others,
        duration=waits,
        loop=0,
        quality=82,
        method=0,  # the fastest; the others save little
    )
    return buffer.getvalue()


def _sheet(frame: Tensor, columns: int) -> Image.Image:
    pictures = images.to_pil(images.from_uint8(frame))
    across = min(columns, len(pictures)) * pictures[0].width
    scale = max(1, round(_SIDE_PX / across))
    return images.grid(pictures, columns=columns, scale=scale).convert("RGB")
