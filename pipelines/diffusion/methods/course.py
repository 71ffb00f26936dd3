"""The course's own recipes, as its notebook has them, with all their faults.

Unit 2 of the Hugging Face diffusion course guides by adding a gradient to x_t and predicting again.
This is the one place that knows what is wrong with it:

- Timesteps leave out the noisiest (`ddim-leading`).
- The solver goes on with the network's old eps (`keep_eps`).
- The loss is of the clamped x0, so that saturated pixels have no gradient (`clamped`).
- The loss is averaged over the batch, so that guidance is weaker in larger ones (`batch_mean`).
- Its strength is in units of the loss, so that each loss and size needs another (`max_scale`).
- With CLIP it takes alpha by the number of the step, not by its timestep (`over_alpha_of_step`).
- CLIP is shown pictures in [-1, 1], though its statistics are those of pictures in [0, 1]
  (`shows_signed_range`).
- There is one loss: every pixel one colour, or words (`is_bare`).
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from pipelines.diffusion.methods.method import Method, Pull, over_alpha_bar
from pipelines.diffusion.sampling import StepContext
from pipelines.diffusion.views import Views

VIEWS = Views(count=4, least_side=0.28, max_angle=0.087, mirrored=True, noise=0.0)
"""A crop of 0.08 to 1 of the area, turned by up to 5 degrees."""


def over_alpha_of_step(pull: Pull, context: StepContext, scale: float) -> Tensor:
    """What adding `-scale * alpha * dL/dx_t` to x_t comes to in the notebook on CLIP.

    It reads alpha from the schedule by the number of the step, not by its timestep, so that the
    first steps, which should be the weakest, are the strongest by far.
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
