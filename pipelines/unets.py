"""The networks, for model cards written for version 0.2."""

from pipelines.diffusion.unets import *  # noqa: F403
