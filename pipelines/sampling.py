"""The sampler and what it needs, for notebooks written for version 0.2."""

from pipelines.diffusion.denoisers import *  # noqa: F403
from pipelines.diffusion.noise import *  # noqa: F403
from pipelines.diffusion.sampling import *  # noqa: F403
from pipelines.diffusion.solvers import SOLVERS as SOLVERS
from pipelines.diffusion.solvers import make_schedule as make_scheduler  # noqa: F401
from pipelines.diffusion.solvers.ddim import ddim_step as ddim_step
from pipelines.diffusion.tensors import *  # noqa: F403
