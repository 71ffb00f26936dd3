"""What is still undecided of a picture, and how its pixels hang together.

A noisy picture leaves the clean one undecided, and its pixels do not vary alone: neighbours go
together, the more so the noisier it is. If natural pictures were Gaussian, with the power spectrum
that they have (it falls with the square of the frequency: Field 1987), the clean picture would be a
Gaussian too, of covariance

    C_t = (C^-1 + snr I)^-1,  snr = alpha^2 / sigma^2

which cosines diagonalise. What is known of a picture, `Q x = y`, then moves all of it: to the
nearest picture that agrees, in the metric of C_t,

    x0 + C_t Q (Q C_t Q)^-1 (y - Q x0)

and not only the pixels that are known. So a fill continues its surroundings from the first step on.
It is the posterior mean of PiGDM (Song et al. 2023, "Pseudoinverse-guided diffusion models") with
this covariance in place of a multiple of the identity, and needs no gradient of the network.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.diffusion.tensors import rms

LOWEST, FALL = 6e-4, 2.0
"""The spectrum of paintings and photographs, as variance of each cosine of a picture in [-1, 1]:
`power / (L + LOWEST) / (1 + L / FALL)`, where L is the eigenvalue of its negative Laplacian."""

AXES = {"grey": (1.0, 1.0, 1.0), "warm": (1.0, 0.0, -1.0), "green": (-1.0, 2.0, -1.0)}
POWERS = (0.6, 0.066, 0.018)
"""The axes of natural colours, orthogonal, and the power along each (Ruderman et al. 1998)."""

_MOST_ITERATIONS = 12
_TOLERANCE = 0.03  # of what is known, as a share


@dataclass(frozen=True)
class Undecided:
    """The covariance of the clean picture, given the noisy one.

    Attributes:
        variances: `(c, h, w)`, of each cosine, along each axis of the colours.
    """

    variances: Tensor

    def spread(self, x: Tensor) -> Tensor:
        """Returns pictures `(b, c, h, w)` multiplied by the covariance."""
        return _filtered(x, self.variances)

    def moved(self, onto: Callable[[Tensor], Tensor], residual: Tensor) -> Tensor:
        """Returns how pictures move, `(b, c, h, w)`, so that a part of them moves by `residual`.

        Solved by conjugate gradients, with the inverse covariance as preconditioner. Each direction
        is made conjugate to all before it: rounding would undo that within a few iterations, and
        a picture would depend on its batch.

        Args:
            onto: projection to what is known, pictures to pictures; linear.
            residual: `(b, c, h, w)`, what is missing there, with `onto(residual) == residual`.
        """
        stiffness = 1 / self.variances
        multiplier, left, enough = torch.zeros_like(residual), residual, _TOLERANCE * rms(residual)
        done: list[tuple[Tensor, Tensor]] = []
        for _ in range(_MOST_ITERATIONS):
            is_open = rms(left) > enough  # (b, 1, 1, 1); each picture as if it were alone
            if not bool(is_open.any()):
                break
            left = is_open * left
            direction = onto(_filtered(left, stiffness))
            for earlier, image in done:
                direction = direction - _dot(direction, image) * earlier
            image = onto(self.spread(direction))
            energy = _dot(direction, image).clamp(min=1e-20)
            step = _dot(left, direction) / energy
            multiplier, left = multiplier + step * direction, left - step * image
            done.append((direction, image / energy))
        return self.spread(multiplier)


def undecided(shape: Sequence[int], alpha: Tensor, sigma: Tensor) -> Undecided:
    """Returns what is undecided of pictures at a noise level.

    Args:
        shape: `(c, h, w)` of a picture, with 1 channel or 3.
        alpha: signal level `()`.
        sigma: noise level `()`, above 0.
    """
    snr = float(alpha / sigma) ** 2
    return Undecided(1 / (1 / _spectrum(*shape) + snr))


@functools.lru_cache(maxsize=8)
def _spectrum(channels: int, height: int, width: int) -> Tensor:
    """Returns the variance `(c, h, w)` of each cosine of natural pictures, along each axis."""
    rows, columns = (2 - 2 * torch.cos(math.pi * torch.arange(n) / n) for n in (height, width))
    laplacian = rows[:, None] + columns  # (h, w), 0 to 8
    powers = torch.tensor(POWERS[:channels]) / (3 if channels == 1 else 1)
    return powers[:, None, None] / (laplacian + LOWEST) / (1 + laplacian / FALL)


@functools.lru_cache(maxsize=8)
def _cosines(side: int) -> Tensor:
    """Returns the orthonormal cosines `(side, side)`, one per row (DCT-II)."""
    frequency, place = torch.arange(side)[:, None], torch.arange(side) + 0.5
    cosines = torch.cos(math.pi * frequency * place / side) * math.sqrt(2 / side)
    cosines[0] /= math.sqrt(2)
    return cosines


def _filtered(x: Tensor, factors: Tensor) -> Tensor:
    """Returns pictures `(b, c, h, w)` with each cosine multiplied by its factor `(c, h, w)`."""
    rows, columns = (_cosines(side).to(x) for side in x.shape[-2:])
    axes = _axes(x.shape[1]).to(x)
    along = torch.einsum("ac,bchw->bahw", axes, x)
    filtered = rows.T @ (factors.to(x) * (rows @ along @ columns.T)) @ columns
    return torch.einsum("ac,bahw->bchw", axes, filtered)


@functools.cache
def _axes(channels: int) -> Tensor:
    """Returns the axes of the colours as orthonormal rows, `(c, c)`."""
    return torch.eye(1) if channels == 1 else F.normalize(torch.tensor([*AXES.values()]), dim=1)


def _dot(first: Tensor, second: Tensor) -> Tensor:
    """Returns the inner product of each pair of pictures, `(b, 1, 1, 1)`."""
    return (first * second).sum(dim=(1, 2, 3), keepdim=True)
