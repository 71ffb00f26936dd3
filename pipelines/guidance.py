"""Where notebooks written for version 0.2 find guidance and its methods."""

from pipelines.diffusion.guidance import *  # noqa: F403
from pipelines.diffusion.methods import *  # noqa: F403
