"""What to pull towards: losses of the predicted clean picture, one value per image.

Every loss takes `x0` `(b, c, h, w)` in about [-1, 1] and answers `(b,)`, so that the strength of
guidance depends neither on the batch nor, since all are means over pixels, on the size. Losses
whose minimum can be reached in closed form also say how (`project`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in luma (ITU-R BT.601)."""

REGIONS = ("all", "top", "bottom", "left", "right", "centre")

_FARTHEST = math.pi**2 / 2
_BISECTIONS = 40
_NUM_DIRECTIONS = 64  # with 16, nearly a third of the pixels stays far from every colour


class Loss(Protocol):
    """A loss that guidance can follow.

    Attributes:
        polyak: how far Newton's method would go, in units of `loss / |gradient|`: 2 for squared
            residuals, at most 1 for anything else; infinite where 0 is out of reach, so that steps
            always go to the edge of the trust region.
    """

    @property
    def polyak(self) -> float: ...

    def __call__(self, x0: Tensor) -> Tensor:
        """`(b, c, h, w)` to `(b,)`, 0 or more."""
        ...


@runtime_checkable
class Projectable(Protocol):
    """A loss whose nearest minimum is known in closed form."""

    def project(self, x0: Tensor) -> Tensor:
        """The nearest pictures `(b, c, h, w)` on which the loss is 0, or as near 0 as can be."""
        ...


@dataclass(frozen=True)
class Term:
    """A loss and its weight among others: 1 counts in full, 0 not at all."""

    loss: Loss
    weight: float = 1.0


@dataclass(frozen=True)
class TargetColor:
    """Mean absolute error of every pixel to one colour: the course's `color_loss`, per image.

    It is smallest for a flat field of that colour.

    Attributes:
        color: `(c,)` in [-1, 1].
    """

    color: Tensor
    polyak: float = 1.0

    def __call__(self, x0: Tensor) -> Tensor:
        return (x0 - _spread(self.color, x0)).abs().mean(dim=(1, 2, 3))


@dataclass(frozen=True)
class MeanColor:
    """Squared error of the mean colour, of the picture or of a region.

    It leaves the picture free to be anything that has this colour on average.

    Attributes:
        color: `(c,)` in [-1, 1].
        mask: `(h, w)` in [0, 1], how much each pixel belongs to the region; None is all of it.
        box: the range of pixel values that `project` stays in; None is no limit.
    """

    color: Tensor
    mask: Tensor | None = None
    box: tuple[float, float] | None = (-1.0, 1.0)
    polyak: float = 2.0

    def __call__(self, x0: Tensor) -> Tensor:
        return (self.mean(x0) - self.color.to(x0)).square().mean(dim=1)

    def mean(self, x0: Tensor) -> Tensor:
        """The mean colour `(b, c)`."""
        weights = self._weights(x0)  # (h, w), sums to 1
        return (x0 * weights).sum(dim=(2, 3))

    def _weights(self, x0: Tensor) -> Tensor:
        height, width = x0.shape[-2:]
        mask = x0.new_ones(height, width) if self.mask is None else self.mask.to(x0)
        return mask / mask.sum()

    def project(self, x0: Tensor) -> Tensor:
        """The nearest picture with the wanted mean.

        Without a box that adds one constant per channel (times the mask). With one, it is
        `clamp(x0 + shift * mask)` for the shift that gives the mean: the exact projection onto the
        pictures that are inside the box and have the mean. Bisection finds the shift.
        """
        weights = self._weights(x0)  # (h, w)
        mask = weights / weights.amax()
        if self.box is None:
            missing = self.color.to(x0) - self.mean(x0)
            return x0 + (missing / (weights * mask).sum())[:, :, None, None] * mask
        shift = self._shift_inside(x0, mask, self.box)
        return torch.where(mask > 0, (x0 + shift * mask).clamp(*self.box), x0)

    def _shift_inside(self, x0: Tensor, mask: Tensor, box: tuple[float, float]) -> Tensor:
        """`(b, c, 1, 1)`, so that the mean of `clamp(x0 + shift * mask)` is the wanted one."""
        least = mask[mask > 0].amin()  # the pixel that moves least
        low = (box[0] - x0.amax(dim=(2, 3))) / least  # (b, c); moves every pixel to a bound
        high = (box[1] - x0.amin(dim=(2, 3))) / least
        wanted = self.color.to(x0)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            too_low = self.mean((x0 + middle[:, :, None, None] * mask).clamp(*box)) < wanted
            low, high = torch.where(too_low, middle, low), torch.where(too_low, high, middle)
        return ((low + high) / 2)[:, :, None, None]


@dataclass(frozen=True)
class Palette:
    """Squared sliced Wasserstein distance of all pixels' colours to a palette (arXiv:1804.01947).

    Along each of some directions in colour space the pixels are sorted and compared with the
    palette's colours, each repeated according to its share.

    Attributes:
        colors: `(k, c)` in [-1, 1].
        shares: `(k,)`, above 0, sum 1.
        mask: `(h, w)` in [0, 1]; pixels of at least one half count. None is all of them.
    """

    colors: Tensor
    shares: Tensor
    mask: Tensor | None = None
    polyak: float = 2.0

    def __call__(self, x0: Tensor) -> Tensor:
        pixels = x0.flatten(2)  # (b, c, n)
        if self.mask is not None:
            pixels = pixels[:, :, (self.mask >= 0.5).flatten().to(x0.device)]
        directions = _directions(x0.shape[1]).to(x0)  # (d, c)
        found = (directions @ pixels).sort(dim=-1).values  # (b, d, n)
        wanted = self._quantiles(directions, pixels.shape[-1])  # (d, n)
        # The mean over directions is 1/c of the squared length that it stands for.
        return (found - wanted).square().mean(dim=(1, 2))

    def _quantiles(self, directions: Tensor, count: int) -> Tensor:
        """The palette along each direction, sorted, as `count` values: `(d, count)`."""
        counts = _apportioned(self.shares, count)
        pixels = self.colors.to(directions).repeat_interleave(counts.to(directions.device), dim=0)
        return (directions @ pixels.T).sort(dim=-1).values


@dataclass(frozen=True)
class Brightness:
    """Squared error of the mean luma, from -1 (black) to 1 (white).

    Attributes:
        target: wanted mean luma in [-1, 1].
    """

    target: float
    polyak: float = 2.0

    def __call__(self, x0: Tensor) -> Tensor:
        return (luma(x0).mean(dim=(1, 2)) - self.target).square()


@dataclass(frozen=True)
class Contrast:
    """Squared error of the standard deviation of luma.

    Attributes:
        target: wanted standard deviation on the scale of [-1, 1]: 0 is flat, 1 the most there is.
    """

    target: float
    polyak: float = 2.0

    def __call__(self, x0: Tensor) -> Tensor:
        return (
            luma(x0).flatten(1).var(dim=1, correction=0).add(1e-8).sqrt() - self.target
        ).square()


@dataclass(frozen=True)
class Symmetry:
    """Mean squared difference of a picture and its mirror image, divided by 4.

    Attributes:
        axis: "left-right" or "top-bottom".
    """

    axis: str = "left-right"
    polyak: float = 2.0

    def __call__(self, x0: Tensor) -> Tensor:
        return (x0 - self._mirrored(x0)).square().mean(dim=(1, 2, 3)) / 4

    def _mirrored(self, x0: Tensor) -> Tensor:
        return x0.flip(-1 if self.axis == "left-right" else -2)

    def project(self, x0: Tensor) -> Tensor:
        """The mean of both."""
        return (x0 + self._mirrored(x0)) / 2


@dataclass(frozen=True)
class EmbeddingDistance:
    """Squared great-circle distance of what a network sees in a picture to what it should see.

    The course's `clip_loss`, with weights. A negative weight pushes away: its part is the distance
    to the far side of the sphere.

    Attributes:
        look: `x0` to embeddings of length 1, `(k, b, d)`, for k views of each picture.
        targets: `(p, d)`, of length 1.
        weights: `(p,)`, not all 0.
    """

    look: Callable[[Tensor], Tensor]
    targets: Tensor
    weights: Tensor
    polyak: float = math.inf  # no picture is ever quite what words say

    def __call__(self, x0: Tensor) -> Tensor:
        distance = great_circle(self.look(x0)[:, :, None], self.targets)  # (k, b, p)
        wanted = torch.where(self.weights < 0, _FARTHEST - distance, distance)
        share = self.weights.abs() / self.weights.abs().sum()
        return (wanted * share).sum(dim=-1).mean(dim=0)


def great_circle(a: Tensor, b: Tensor) -> Tensor:
    """Half the squared angle between vectors `(..., d)` of length 1, `(...)`: the course's measure.

    The angle is taken from half the chord, which is exact for small ones too; its gradient is
    finite even where both are the same or opposite.
    """
    chord = (a - b).square().sum(dim=-1).clamp(min=1e-12).sqrt()
    return 2 * (chord / 2).clamp(max=1 - 1e-6).arcsin().square()


def luma(x0: Tensor) -> Tensor:
    """`(b, c, h, w)` to `(b, h, w)`, on the same scale; grey pictures are their own luma."""
    if x0.shape[1] == 1:
        return x0[:, 0]
    return torch.einsum("bchw,c->bhw", x0, x0.new_tensor(LUMINANCE))


def region_mask(region: str, height: int, width: int) -> Tensor | None:
    """`(h, w)` of 0 and 1 for a named region; None for all of the picture.

    Halves of the picture; the centre is half of its height and width.

    Raises:
        ValueError: for another name.
    """
    if region == "all":
        return None
    mask = torch.zeros(height, width)
    match region:
        case "top":
            mask[: height // 2] = 1
        case "bottom":
            mask[height - height // 2 :] = 1
        case "left":
            mask[:, : width // 2] = 1
        case "right":
            mask[:, width - width // 2 :] = 1
        case "centre":
            mask[height // 4 : height - height // 4, width // 4 : width - width // 4] = 1
        case _:
            raise ValueError(f"region must be one of {', '.join(REGIONS)}, got {region!r}")
    return mask


def resized_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """A mask `(h, w)` in [0, 1] of any size, averaged or repeated to the size of the picture."""
    return F.interpolate(mask[None, None].float(), (height, width), mode="area")[0, 0]


def _spread(color: Tensor, x0: Tensor) -> Tensor:
    return color.to(x0)[None, :, None, None]


def _directions(channels: int) -> Tensor:
    """Unit vectors `(d, c)` spread over half of the sphere; for one channel, the one there is."""
    if channels == 1:
        return torch.ones(1, 1)
    generator = torch.Generator().manual_seed(0)
    free = torch.randn(_NUM_DIRECTIONS, channels, generator=generator)
    return torch.cat([torch.eye(channels), F.normalize(free, dim=1)])


def _apportioned(shares: Tensor, count: int) -> Tensor:
    """Whole numbers `(k,)` in the ratio of `shares` that sum to `count` (largest remainders)."""
    exact = shares.double() / shares.double().sum() * count
    whole = exact.floor().long()
    left = count - int(whole.sum())
    whole[(exact - whole).argsort(descending=True)[:left]] += 1
    return whole


def total(terms: Sequence[Term]) -> Callable[[Tensor], Tensor]:
    """The weighted sum of several losses, `(b, c, h, w)` to `(b,)`."""

    def loss(x0: Tensor) -> Tensor:
        return torch.stack([term.weight * term.loss(x0) for term in terms]).sum(dim=0)

    return loss
