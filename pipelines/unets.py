"""Where cards written for version 0.2 find the networks."""

from pipelines.diffusion.unets import *  # noqa: F403
