"""Where notebooks and cards written for version 0.2 find the settings."""

from pipelines.core.rules import *  # noqa: F403
