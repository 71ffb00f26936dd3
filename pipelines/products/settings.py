"""The settings of all products, as notebooks and version 0.2 import them."""

from pipelines.products.color import ColorSettings
from pipelines.products.digits import MAX_DIGITS, DigitsSettings
from pipelines.products.guided_settings import (
    MAX_IMAGES,
    SYMMETRIES,
    GuidedSettings,
    NoisySettings,
    check_guidance,
    check_start_stop,
    method_of,
)
from pipelines.products.text import MAX_TRIES, TextSettings

__all__ = [
    "MAX_DIGITS",
    "MAX_IMAGES",
    "MAX_TRIES",
    "SYMMETRIES",
    "ColorSettings",
    "DigitsSettings",
    "GuidedSettings",
    "NoisySettings",
    "TextSettings",
    "check_guidance",
    "check_start_stop",
    "method_of",
]
