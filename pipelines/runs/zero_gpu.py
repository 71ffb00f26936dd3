"""Runs on ZeroGPU: in another process with a lent graphics card, which sends previews back."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from pipelines.core import devices
from pipelines.core.errors import UserError
from pipelines.models import checkpoints, clip
from pipelines.runs import history, timing

_MIN_SECONDS, MAX_SECONDS = 10, 120
# Seconds per evaluation, and per picture in it, before any was measured.
_UNKNOWN_SECONDS, _UNKNOWN_SECONDS_PER_IMAGE = 0.13, 0.02


def run(
    generate: Callable[..., Iterator[Any]], settings: Any, compare: bool, work: timing.Work
) -> Iterator[Any]:
    """Yields the previews of a run on a lent card.

    Args:
        generate: maps settings to previews; must be importable by name in another process.
        settings: checked.
        compare: whether to draw the unguided pictures too.
        work: of the run, from which the time on the card is estimated.

    Raises:
        Exception: the error of the run.
    """
    return unpacked(on_lent_gpu(generate, settings, compare, work))


def lent_seconds(_generate: Any, _settings: Any, _compare: bool, work: timing.Work) -> int:
    """Returns the seconds to request a card for: twice the estimate, plus time for loading."""
    seconds = timing.estimator.estimate(work)
    if seconds is None:
        per_evaluation = _UNKNOWN_SECONDS + _UNKNOWN_SECONDS_PER_IMAGE * work.num_images
        seconds = work.evaluations * per_evaluation
    return round(min(_MIN_SECONDS + 2 * seconds, MAX_SECONDS))


def _unload() -> None:
    """Drops the models that were loaded without a graphics card."""
    checkpoints.unload_all()
    clip.unload_all()


@devices.on_lent_gpu(lent_seconds, prepare=_unload)
def on_lent_gpu(
    generate: Callable[..., Iterator[Any]], settings: Any, compare: bool, work: timing.Work
) -> Iterator[bytes]:
    """Runs in another process; yields pickled previews, or the error of the run, for `unpacked`.

    All previews but the last have a short history. `pickle` packs them here, because PyTorch would
    send tensors through shared memory, of which there may be little.
    """
    try:
        for preview in generate(settings, compare=compare):
            short = history.History(gradients=preview.history.gradients)
            yield pickle.dumps(preview if preview.finished else replace(preview, history=short))
        return
    except Exception as error:
        packed, is_expected = _packed(error)
        devices.free_memory(error)
    yield packed
    if not is_expected:  # the process may be in a bad state, so it must not be used again
        raise RuntimeError("a run failed")


def _packed(error: Exception) -> tuple[bytes, bool]:
    """Returns a pickled error (an unexpected one as traceback), and whether it is expected."""
    if devices.is_out_of_memory(error):
        return pickle.dumps(MemoryError(str(error))), True
    if isinstance(error, UserError):
        return pickle.dumps(error), True
    return pickle.dumps(RuntimeError("".join(traceback.format_exception(error)))), False


def unpacked(stream: Iterator[bytes]) -> Iterator[Any]:
    """Yields the previews of `on_lent_gpu`.

    Raises:
        Exception: the error of the run.
    """
    for packed in stream:
        preview_or_error = pickle.loads(packed)
        if isinstance(preview_or_error, Exception):
            raise preview_or_error
        yield preview_or_error
