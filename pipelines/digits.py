"""The digits, for notebooks and model cards written for version 0.2."""

from pipelines.products.digits import *  # noqa: F403
