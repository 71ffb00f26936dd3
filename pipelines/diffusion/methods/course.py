"""The course's own methods, exactly as in its notebook, with all their faults.

Unit 2 of the Hugging Face diffusion course guides by adding a gradient to x_t and predicting again.
All that is wrong with it is in this module:

- The timesteps leave out the noisiest one (`ddim-leading`).
- The solver uses the network's old eps (`keep_eps`).
- The loss takes the clamped x0, so that saturated pixels have no gradient (`clamped`).
- The loss is averaged over the batch, so that guidance is weaker in larger ones (`batch_mean`).
- The scale is in units of the loss, so that each loss and size needs another one (`max_scale`).
- With CLIP it looks up alpha by the step's index, not by its timestep (`over_alpha_of_step`).
- CLIP gets pictures in [-1, 1], although it normalises with the statistics of pictures in [0, 1]
  (`shows_signed_range`).
- There is only one loss: every pixel one colour, or words (`is_bare`).
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from pipelines.diffusion.methods.method import Method, Pull, over_alpha_bar
from pipelines.diffusion.sampling import StepContext
from pipelines.diffusion.views import Views

VIEWS = Views(count=4, least_side=0.28, max_angle=0.087, mirrored=True, noise=0.0)
"""Crops of 0.08 to 1 of the area, rotated by up to 5 degrees."""


def over_alpha_of_step(pull: Pull, context: StepContext, scale: float) -> Tensor:
    """Returns the displacement of x0 when the CLIP notebook adds `-scale * alpha * dL/dx_t` to x_t.

    The notebook looks up alpha by the step's index, not by its timestep. So the first steps, which
    should be the weakest, are by far the strongest.
    """
    alpha_of_step = context.schedule.alpha_bar[context.index] ** 0.5
    return scale * alpha_of_step / context.alpha**2 * pull.gradient


COLOR = Method(
    "the notebook of the course as it is, faults included",
    solver="ddim-leading",
    eta=0,
    step=over_alpha_bar,
    keep_eps=True,
    exact=False,
    clamped=True,
    batch_mean=True,
    max_scale=1000.0,
    default_scale=40.0,
    is_bare=True,
)

TEXT = replace(
    COLOR,
    step=over_alpha_of_step,
    default_scale=8.0,
    views=VIEWS,
    shows_signed_range=True,
)

THROUGH_THE_NETWORK = replace(
    COLOR, summary="the course's second variant", through_network=True, max_scale=1e6
)
