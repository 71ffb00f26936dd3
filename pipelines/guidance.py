"""Guidance and its methods, for notebooks written for version 0.2."""

from pipelines.diffusion.guidance import *  # noqa: F403
from pipelines.diffusion.methods import *  # noqa: F403
