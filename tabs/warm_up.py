"""Measures the device when the app starts, to tell even the first visitor how long runs take.

It also loads the models, which makes the first run as fast as the others.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from typing import Any

from pipelines.core import devices
from pipelines.products.settings import ColorSettings, DigitsSettings, TextSettings
from pipelines.runs.timing import estimator
from tabs import color, digits, text
from tabs.results import Product

logger = logging.getLogger("studio")

_STEPS = 4
_RUNS: Sequence[tuple[Product, Any]] = (
    (color.PRODUCT, ColorSettings(num_inference_steps=_STEPS)),
    (text.PRODUCT, TextSettings(num_inference_steps=_STEPS)),
    (digits.PRODUCT, DigitsSettings(num_inference_steps=_STEPS)),
)


def start() -> None:
    """Measures in a thread of its own, unless `STUDIO_WARM_UP` is 0 or the device is only lent."""
    if os.environ.get("STUDIO_WARM_UP") != "0" and not devices.ZERO_GPU:
        estimator.measuring = True
        threading.Thread(target=measure, daemon=True).start()


def measure() -> None:
    """Draws a little of everything, twice: the first time much else happens too.

    What goes wrong is logged, and told to whoever runs it.
    """
    try:
        for product, settings in _RUNS:
            for _ in range(2):
                for _ in product.run(settings):
                    pass
    except Exception:
        logger.exception("the device could not be measured")
    finally:
        estimator.measuring = False
