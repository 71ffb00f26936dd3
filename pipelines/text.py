"""The text product, for notebooks written for version 0.2."""

from pipelines.products.text import *  # noqa: F403
