"""Where notebooks and cards written for version 0.2 find the digits."""

from pipelines.products.digits import *  # noqa: F403
