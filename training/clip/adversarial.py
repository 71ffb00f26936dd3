"""Pictures moved a little to where a model misreads them, to train it on (Madry et al. 2018).

Guidance follows a CLIP's gradient. Where that is noise to the eye, the CLIP is soon pleased and
nothing is seen. A model trained on the pictures that fool it (arXiv:1706.06083) has gradients of
what can be seen (Santurkar et al. 2019, arXiv:1906.09453), which guide a diffusion model better
(Kawar et al. 2023, arXiv:2208.08664).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

STEPS = 2
_STEP_SHARE = 0.75  # of the radius, so that two steps can turn once


def worst_within(pictures: Tensor, loss_of: Callable[[Tensor], Tensor], radii: Tensor) -> Tensor:
    """Each picture moved uphill by at most its radius: `STEPS` steps of projected gradient ascent.

    Args:
        pictures: `(b, c, h, w)`.
        loss_of: of pictures like them, `()`.
        radii: `(b,)`, Euclidean, in units of the pictures; 0 leaves a picture as it is.

    Returns:
        `(b, c, h, w)`, without a graph.
    """
    reach = radii.view(-1, 1, 1, 1)
    moved = torch.zeros_like(pictures)
    for _ in range(STEPS):
        moved.requires_grad_(True)
        (uphill,) = torch.autograd.grad(loss_of(pictures + moved), moved)
        moved = moved.detach() + _STEP_SHARE * reach * uphill / _length(uphill)
        moved = moved * (reach / _length(moved)).clamp(max=1)
    return pictures + moved


def _length(x: Tensor) -> Tensor:
    """Euclidean, of each picture, `(b, 1, 1, 1)`."""
    return x.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
