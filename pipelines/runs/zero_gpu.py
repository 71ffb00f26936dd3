"""A run on a graphics card that is lent for it: in another process, its previews brought back."""

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

_MIN_SECONDS, _MAX_SECONDS = 10, 120
# Of one evaluation, where none was measured yet, and of every picture in it.
_UNKNOWN_SECONDS, _UNKNOWN_SECONDS_PER_IMAGE = 0.13, 0.02


def run(
    generate: Callable[..., Iterator[Any]], settings: Any, compare: bool, work: timing.Work
) -> Iterator[Any]:
    """The previews of a run on a lent card.

    Args:
        generate: settings to previews; importable by name, for it goes to another process.
        settings: checked ones.
        compare: whether to draw the unguided pictures too.
        work: what the run will compute, which tells how long the card is needed.

    Raises:
        Exception: the error of the run.
    """
    return unpacked(on_lent_gpu(generate, settings, compare, work))


def lent_seconds(_generate: Any, _settings: Any, _compare: bool, work: timing.Work) -> int:
    """How long to ask for a graphics card: twice what the run should take, with loading."""
    seconds = timing.estimator.estimate(work)
    if seconds is None:
        each = _UNKNOWN_SECONDS + _UNKNOWN_SECONDS_PER_IMAGE * work.num_images
        seconds = work.evaluations * each
    return round(min(_MIN_SECONDS + 2 * seconds, _MAX_SECONDS))


def _unload() -> None:
    """Forgets the models that were loaded without a graphics card."""
    checkpoints.unload_all()
    clip.unload_all()


@devices.on_lent_gpu(lent_seconds, prepare=_unload)
def on_lent_gpu(
    generate: Callable[..., Iterator[Any]], settings: Any, compare: bool, work: timing.Work
) -> Iterator[bytes]:
    """A run in another process: its previews, or the error that ends it, for `unpacked`.

    Previews are without what only the last one needs, and packed by `pickle` itself: between
    processes, PyTorch would have tensors in shared memory, of which there may be little.
    """
    try:
        for preview in generate(settings, compare=compare):
            light = history.History(gradients=preview.history.gradients)
            yield pickle.dumps(preview if preview.finished else replace(preview, history=light))
        return
    except Exception as error:
        packed, told = _packed(error)
        devices.free_memory(error)
    yield packed
    if not told:  # the process may be beyond repair, so that it must not be used again
        raise RuntimeError("a run failed")


def _packed(error: Exception) -> tuple[bytes, bool]:
    """An error, or what there is to log of it, and whether it is one that is expected."""
    if devices.is_out_of_memory(error):
        return pickle.dumps(MemoryError(str(error))), True
    if isinstance(error, UserError):
        return pickle.dumps(error), True
    return pickle.dumps(RuntimeError("".join(traceback.format_exception(error)))), False


def unpacked(stream: Iterator[bytes]) -> Iterator[Any]:
    """The previews of `on_lent_gpu`.

    Raises:
        Exception: the error of the run.
    """
    for packed in stream:
        found = pickle.loads(packed)
        if isinstance(found, Exception):
            raise found
        yield found
