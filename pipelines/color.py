"""The colour product, for notebooks written for version 0.2."""

from pipelines.products.color import *  # noqa: F403
