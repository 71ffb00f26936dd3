"""Measures the device once when the app starts, so that the first visitor is told how long runs take.

It also loads the models, which makes the first run as fast as the others.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

from pipelines.settings import ColorSettings, DigitsSettings, TextSettings
from tabs import color, digits, text
from tabs.results import Product

logger = logging.getLogger("studio")

_STEPS = 4
_RUNS: Sequence[tuple[Product, Any]] = (
    (color.PRODUCT, ColorSettings(num_inference_steps=_STEPS)),
    (text.PRODUCT, TextSettings(num_inference_steps=_STEPS)),
    (digits.PRODUCT, DigitsSettings(num_inference_steps=_STEPS)),
)


def measure() -> None:
    """Draws a little of everything, twice: the first time much else happens too.

    `STUDIO_WARM_UP=0` leaves it. What goes wrong is logged; whoever runs it is told then.
    """
    if os.environ.get("STUDIO_WARM_UP") == "0":
        return
    for product, settings in _RUNS:
        try:
            for _ in range(2):
                for _ in product.run(settings):
                    pass
        except Exception:
            logger.exception("%s could not be measured", product.name)
            return
