"""Measures the device after the first page, so that the first visitor gets an estimate too.

This also loads the models, so that the first run is as fast as the others. Before somebody looks at
the page, it would only delay the start and take memory.
"""

from __future__ import annotations

import logging
import os
import threading

from pipelines.core import devices
from pipelines.models import trials
from pipelines.products import PRODUCTS
from pipelines.runs.timing import estimator
from tabs.any_picture import with_any_pictures

logger = logging.getLogger("studio")

_STEPS = 4
_prepared, _lock = threading.Event(), threading.Lock()


def prepare() -> None:
    """Lets the next page measure, unless `STUDIO_WARM_UP` is 0 or the app runs on ZeroGPU."""
    if is_wanted() and not devices.ZERO_GPU:
        _prepared.set()


def page_opened() -> None:
    """Begins to measure, in a thread, if that was prepared and has not begun."""
    with _lock:
        begins = _prepared.is_set()
        _prepared.clear()
    if begins:
        estimator.measuring = True
        threading.Thread(target=measure, daemon=True).start()


def is_wanted() -> bool:
    """Returns whether `STUDIO_WARM_UP` is 1, as without it.

    Raises:
        ValueError: if it is neither 0 nor 1.
    """
    value = os.environ.get("STUDIO_WARM_UP", "").strip() or "1"
    if value not in ("0", "1"):
        raise ValueError(f"STUDIO_WARM_UP must be 0 or 1, got {value!r}")
    return value == "1"


def measure() -> None:
    """Runs every product twice with few steps, because the first run includes loading.

    Before that, on the first start on a machine, the ways to compute a network are timed. Errors
    are only logged; a visitor who causes the same error sees it.
    """
    try:
        trials.measure()
        for product in PRODUCTS.values():
            settings = with_any_pictures(product.settings(num_inference_steps=_STEPS))
            for _ in range(2):
                for _ in product.run(settings):
                    pass
    except Exception:
        logger.exception("the device could not be measured")
    finally:
        estimator.measuring = False
