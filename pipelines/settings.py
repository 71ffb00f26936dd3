"""The settings, for notebooks and model cards written for version 0.2."""

from pipelines.core.rules import *  # noqa: F403
from pipelines.models.names import *  # noqa: F403
from pipelines.products.settings import *  # noqa: F403
