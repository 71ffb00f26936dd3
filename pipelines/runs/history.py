"""The history of a run: moments for the filmstrip, and frames of an animation."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from PIL import Image
from torch import Tensor

from pipelines.core import images
from pipelines.core.later import Later
from pipelines.diffusion.sampling import SampleStep
from pipelines.diffusion.tensors import rms

MOST_MOMENTS = 10
MOST_FRAMES = 40
FRAME_MILLISECONDS = 90
_LAST_FRAME_MILLISECONDS = 1600
_SIDE_PX = 512  # approximate side of an animation

# From black through violet and orange to light yellow. Brightness rises monotonically, so that
# colour-blind people can read it too.
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
    """One step of a run in the filmstrip; each list has one picture per image.

    Attributes:
        step: from 1.
        t: training timestep at the start of the step; 999 is pure noise.
        noisy: the noisy pictures at the start of the step.
        predicted: the clean pictures that the network predicted; after the last step, the result.
        change: the change by guidance, as heat maps.
    """

    step: int
    t: int
    noisy: list[Image.Image]
    predicted: list[Image.Image]
    change: list[Image.Image]


@dataclass(frozen=True)
class _Kept:
    """What a moment is made of: its numbers, and tensors `(b, c, h, w)`, the change `(b, h, w)`."""

    step: int
    t: int
    x_t: Tensor
    x0: Tensor
    preview: Tensor
    change: Tensor


@dataclass
class History:
    """The history of a run; grows with each step.

    Attributes:
        gradients: per finished step, one value per image, see `SampleStep.gradient`; empty if the
            step was not guided.
        frames: the predicted pictures of some steps, 8 bits, `(b, c, h, w)` each.
        moments: filled after the last step; a run does not wait for their pictures.
        largest_change: the change that is brightest in the heat maps, as a share of the range of a
            pixel, 0 to 1: root mean square over the channels.
    """

    gradients: list[list[float]] = field(default_factory=list)
    frames: list[Tensor] = field(default_factory=list)
    moments: Sequence[Moment] = field(default_factory=list)
    largest_change: float = 0.0
    _kept: list[_Kept] = field(default_factory=list)

    @property
    def num_bytes(self) -> int:
        """The memory of all frames and moments."""
        shown = (m.noisy + m.predicted + m.change for m in self.moments)
        pictures = sum(images.num_bytes(picture) for of_moment in shown for picture in of_moment)
        return pictures + sum(frame.nbytes for frame in self.frames)

    def add(self, step: SampleStep) -> None:
        """Adds a step; the last step completes the moments."""
        self.gradients.append([] if step.gradient is None else step.gradient.tolist())
        if step.index in spread(step.total, MOST_FRAMES):
            self.frames.append(images.to_uint8(step.preview.cpu()))
        if step.index in spread(step.total, MOST_MOMENTS):
            tensors = (step.x_t, step.x0_network, step.preview, _change(step))
            self._kept.append(_Kept(step.index + 1, step.t, *(x.cpu() for x in tensors)))
        if step.index + 1 == step.total:
            kept, self._kept = self._kept, []
            largest = max(float(of_step.change.max()) for of_step in kept)
            self.moments = Later.of(lambda of_step: _moment(of_step, largest), kept)
            self.largest_change = largest


def _moment(kept: _Kept, largest_change: float) -> Moment:
    """Returns the pictures of a moment; the scale of its heat map depends on all steps."""
    share = kept.change / largest_change if largest_change else kept.change
    return Moment(
        step=kept.step,
        t=kept.t,
        noisy=images.to_pil(_within_range(kept.x_t, kept.x0)),
        predicted=images.to_pil(kept.preview),
        change=images.to_pil(images.from_uint8(heat(share))),
    )


def _change(step: SampleStep) -> Tensor:
    """Returns the change by guidance as a share of the range of a pixel, `(b, h, w)`."""
    return step.change.square().mean(dim=1).sqrt() / 2


def _within_range(x_t: Tensor, x0: Tensor) -> Tensor:
    """Returns the noisy images, scaled down: noise exceeds [-1, 1]; the more, the noisier."""
    return x_t / (2 * rms(x_t - x0.clamp(-1, 1))).clamp(1, 2)


def spread(total: int, most: int) -> list[int]:
    """Returns up to `most` numbers below `total`, evenly spread, including first and last."""
    if total <= most + 2:  # omitting one or two would save nothing
        return list(range(total))
    return [round(i * (total - 1) / (most - 1)) for i in range(most)]


def heat(share: Tensor) -> Tensor:
    """Returns the heat map, 8 bits, `(b, 3, h, w)`, of values `(b, h, w)` in [0, 1]."""
    position = share.clamp(0, 1) * (len(_HEAT) - 1)
    below = position.floor().long().clamp(max=len(_HEAT) - 2)
    fraction = (position - below)[..., None]
    colors = _HEAT[below] * (1 - fraction) + _HEAT[below + 1] * fraction  # (b, h, w, 3)
    return colors.round().to(torch.uint8).permute(0, 3, 1, 2)


def animation(history: History, *, columns: int) -> bytes:
    """Returns a looping animated WebP of the predicted pictures; the result stays the longest."""
    sheets = [_sheet(frame, columns) for frame in history.frames]
    durations = [FRAME_MILLISECONDS] * (len(sheets) - 1) + [_LAST_FRAME_MILLISECONDS]
    buffer = io.BytesIO()
    first, *others = sheets
    first.save(
        buffer,
        format="WEBP",
        save_all=True,
        append_images=others,
        duration=durations,
        loop=0,
        quality=82,
        method=0,  # the fastest; slower methods save few bytes
    )
    return buffer.getvalue()


def _sheet(frame: Tensor, columns: int) -> Image.Image:
    pictures = images.to_pil(images.from_uint8(frame))
    width_px = min(columns, len(pictures)) * pictures[0].width
    scale = max(1, round(_SIDE_PX / width_px))
    return images.grid(pictures, columns=columns, scale=scale).convert("RGB")
